//! What a host gets beside the binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(packaging().join(path)).unwrap()
}

/// What a program says on standard error; nothing if it is not installed.
fn complaints(command: &mut Command) -> String {
    match command.output() {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{command:?}");
            String::new()
        }
    }
}

#[test]
fn systemd_has_nothing_to_say_against_the_unit_where_it_is_installed() {
    // Its programs are not installed here; any other will do.
    let program = env!("CARGO_BIN_EXE_xenpci");
    let unit = read("systemd/xenpcid.service");
    let unit = unit.replace("/usr/sbin/xenpcid", program).replace("/usr/bin/xenpci ", &format!("{program} "));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("xenpcid.service");
    std::fs::write(&file, unit).unwrap();
    assert_eq!(complaints(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file)), "");
}

#[test]
fn unit_hides_nothing_that_safety_checks_look_at() {
    let unit = read("systemd/xenpcid.service");
    for setting in
        ["ProtectHome", "PrivateTmp", "InaccessiblePaths", "PrivateNetwork", "PrivateDevices", "ProtectKernelTunables"]
    {
        assert!(!unit.lines().any(|line| line.starts_with(&format!("{setting}="))), "{setting}");
    }
}

#[test]
fn man_pages_are_well_formed_where_man_is_installed() {
    for entry in std::fs::read_dir(packaging().join("man")).unwrap() {
        let page = entry.unwrap().path();
        let said = complaints(
            Command::new("man").args(["--warnings=mac,font,number", "-l"]).arg(&page).env("LC_ALL", "C.UTF-8"),
        );
        assert_eq!(said, "", "{}", page.display());
    }
}

#[test]
fn page_of_the_configuration_has_every_key_of_the_example() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples/xenpcid.toml");
    let example: toml::Value = toml::from_str(&std::fs::read_to_string(example).unwrap()).unwrap();
    let page = read("man/xenpcid.toml.5");
    let mut keys = Vec::new();
    collect(&example, &mut keys);
    assert!(keys.len() > 20, "{keys:?}");
    let keys = keys.into_iter().map(|key| key.replace('-', "\\-"));
    let told =
        page.lines().filter(|line| line.starts_with(".B ") || line.starts_with(".BR ") || line.starts_with(".SH "));
    let told: Vec<&str> = told.flat_map(|line| line.split([' ', ',', '"', '[', ']'])).collect();
    let missing: Vec<String> = keys.filter(|key| !told.contains(&key.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for key in xenpcid_config::Override::ALL {
        assert!(told.contains(&key.as_str().replace('-', "\\-").as_str()), "{key}");
    }
}

fn collect(value: &toml::Value, keys: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
            keys.push(key.clone());
            collect(value, keys);
        }),
        toml::Value::Array(array) => array.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}
