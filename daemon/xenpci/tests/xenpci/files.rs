//! `xenpci policies` and `xenpci check`.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::{own, xenpci};

#[test]
fn policies_lists_the_shipped_and_the_operators() {
    let folder = own("policies");
    let list = xenpci(["policies", "--policies", folder.to_str().unwrap()]).good();
    for name in ["default", "strict", "pciback", "permissive", "network", "sample"] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {list}");
    }
    let sample = list.lines().position(|line| line.starts_with("sample ")).unwrap();
    let sample = list.lines().skip(sample).take(2).collect::<Vec<_>>().join("\n");
    assert!(sample.starts_with("sample          One of everything that a policy can say\n"), "{sample}");
    assert!(sample.contains("for any device; "), "{sample}");
    assert!(list.contains("extends default; for class 02; comes with xenpcid"), "{list}");
}

#[test]
fn policies_as_json_have_their_files_and_what_they_extend() {
    let folder = own("policies");
    let json = xenpci(["policies", "--json", "--policies", folder.to_str().unwrap()]).good();
    let list: Value = serde_json::from_str(&json).unwrap();
    let named = |name: &str| list.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone();
    assert_eq!(named("network")["extends"], "default");
    assert_eq!(named("network")["file"], Value::Null);
    assert_eq!(named("sample")["file"], folder.join("sample.toml").to_str().unwrap());
}

#[test]
fn one_policy_is_shown_whole() {
    let folder = own("policies");
    let page = xenpci(["policies", "sample", "--policies", folder.to_str().unwrap()]).good();
    assert!(page.starts_with("# Policy `sample`\n"), "{page}");
    let policy = fs::read_to_string(folder.join("sample.toml")).unwrap();
    for why in policy.lines().filter_map(|line| line.strip_prefix("why = \"")?.strip_suffix('"')) {
        assert!(page.contains(why), "{why}: {page}");
    }
    let error = xenpci(["policies", "non"]).bad(1);
    assert!(error.starts_with("xenpci: there is no policy non; there are default, "), "{error}");
}

/// A folder with a configuration and a policy.
fn folder(config: &str, policy: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("xenpcid.toml"), config).unwrap();
    fs::write(folder.path().join("policies/mine.toml"), policy).unwrap();
    folder
}

fn check(folder: &TempDir, files: &[&str]) -> crate::Ended {
    let config = folder.path().join("xenpcid.toml");
    let policies = folder.path().join("policies");
    let places = ["check", "--config", config.to_str().unwrap(), "--policies", policies.to_str().unwrap()];
    let files: Vec<String> = files.iter().map(|file| folder.path().join(file).display().to_string()).collect();
    xenpci(places.into_iter().map(str::to_owned).chain(files))
}

const CONFIG: &str = "[[domain]]\nname = \"web1\"\ndevices = [{ bdf = \"0000:01:00.0\", policy = \"mine\" }]\n";
const POLICY: &str = "name = \"mine\"\ndescription = \"Mine.\"\nextends = \"strict\"\n";

#[test]
fn good_files_are_said_to_be_good() {
    let folder = folder(CONFIG, POLICY);
    let root = folder.path().display();
    assert_eq!(
        check(&folder, &[]).good(),
        format!("policies, with those of {root}/policies: good\n{root}/xenpcid.toml: good\n")
    );
    assert_eq!(
        check(&folder, &["policies/mine.toml", "xenpcid.toml"]).good(),
        format!("{root}/policies/mine.toml: good\n{root}/xenpcid.toml: good\n")
    );
}

#[test]
fn file_beside_the_configuration_is_checked_with_it() {
    let folder = folder("[[device]]\nserial = \"00-11-22-ff-ff-33-44-55\"\nname = \"uplink\"\n", POLICY);
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    let domain = |device: &str| format!("[[domain]]\nname = \"web1\"\ndevices = [\"{device}\"]\n");
    fs::write(folder.path().join("conf.d/web1.toml"), domain("uplink")).unwrap();
    for files in [&[][..], &["xenpcid.toml"], &["conf.d/web1.toml"]] {
        check(&folder, files).good();
    }
    fs::write(folder.path().join("conf.d/web1.toml"), domain("uplnk")).unwrap();
    for files in [&[][..], &["xenpcid.toml"], &["conf.d/web1.toml"]] {
        let ended = check(&folder, files);
        let expected = "conf.d/web1.toml:3:12: there is no device uplnk; did you mean uplink?";
        assert!(ended.status == 1 && ended.stderr.contains(expected), "{ended:?}");
    }
}

#[test]
fn each_mistake_is_told_with_its_place_and_the_rest_is_checked_all_the_same() {
    let folder = folder(
        "[[domain]]\nname = \"web1\"\ndevices = [\"00:1f\"]\n",
        "name = \"mine\"\ndescription = \"\"\nextend = 1\n",
    );
    let ended = check(&folder, &[]);
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains("policies/mine.toml:3:1: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("xenpcid.toml:3:12: \"00:1f\" is not a PCI address"), "{}", ended.stderr);
    assert!(ended.stderr.contains("= help:"), "{}", ended.stderr);
}

#[test]
fn configuration_that_names_no_policy_that_there_is_is_wrong() {
    let folder = folder(CONFIG, &POLICY.replace("mine", "other"));
    fs::rename(folder.path().join("policies/mine.toml"), folder.path().join("policies/other.toml")).unwrap();
    let ended = check(&folder, &["xenpcid.toml"]);
    assert!(ended.status == 1 && ended.stderr.contains("mine"), "{ended:?}");
}

#[test]
fn file_that_is_not_there_is_named() {
    let folder = folder(CONFIG, POLICY);
    let error = check(&folder, &["absent.toml"]).bad(1);
    assert!(error.contains("absent.toml") && error.contains("No such file or directory"), "{error}");
}
