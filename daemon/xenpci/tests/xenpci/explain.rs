//! `xenpci explain`. Golden files are written anew with UPDATE_EXPECT=1.

use std::fs;

use expect_test::expect_file;
use serde_json::Value;

use crate::{own, recording, recordings, xenpci};

const POLICIES: [&str; 9] =
    ["default", "strict", "pciback", "permissive", "network", "storage", "wifi", "usb-controller", "gpu"];

/// The options that explain a device under the policy of these tests.
fn sample(device: &str, form: &[&str]) -> String {
    let (policies, file) = (own("policies"), format!("{device}.txt"));
    let options = ["explain", "--policy", "sample", "--policies", policies.to_str().unwrap(), "--from", &file];
    xenpci(options.iter().chain(form)).good()
}

#[test]
fn text_says_of_each_register_what_and_why() {
    expect_file![own("golden/e1000e.explain")].assert_eq(&sample("e1000e", &[]));
    expect_file![own("golden/igbvf.explain")].assert_eq(&sample("igbvf", &[]));
}

#[test]
fn map_shows_each_byte() {
    expect_file![own("golden/e1000e.map")].assert_eq(&sample("e1000e", &["--map"]));
    expect_file![own("golden/rtl8139.map")].assert_eq(&sample("rtl8139", &["--map"]));
}

#[test]
fn json_has_all_that_the_text_has() {
    expect_file![own("golden/rtl8139.json")].assert_eq(&sample("rtl8139", &["--json"]));
}

#[test]
fn every_recorded_device_is_explained_in_every_form_under_every_shipped_policy_that_is_for_it() {
    let mut explained = 0;
    for entry in fs::read_dir(recordings()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        for policy in POLICIES {
            let options = ["explain", "--policy", policy, "--from", file.to_str().unwrap()];
            let text = xenpci(options);
            if text.status == 1 {
                assert!(text.stderr.contains("is not for"), "{}", text.stderr);
                continue;
            }
            let json: Value = serde_json::from_str(&xenpci(options.iter().chain(&["--json"])).good()).unwrap();
            let map = xenpci(options.iter().chain(&["--map"])).good();
            every_register_is_shown(&json, &text.good(), &map);
            explained += 1;
        }
    }
    assert!(explained >= 18 * 4, "{explained}");
}

fn every_register_is_shown(json: &Value, text: &str, map: &str) {
    let is_hidden = |register: &&Value| register["bits"][0]["hidden"] == true;
    for register in json["registers"].as_array().unwrap().iter().filter(|register| !is_hidden(register)) {
        let (offset, name) = (register["offset"].as_u64().unwrap(), register["name"].as_str().unwrap());
        assert!(text.contains(&format!("\n  {offset:03x}  {name} ")), "{register}\n{text}");
        let width = register["width"].as_u64().unwrap();
        let bits = register["bits"].as_array().unwrap().iter().map(|bits| bits["mask"].as_u64().unwrap());
        assert_eq!(bits.fold(0, |all, mask| all ^ mask), (1 << (8 * width)) - 1, "each bit once: {register}");
        let passes = register["bits"].as_array().unwrap().iter().any(|bits| bits["write"] == "pass");
        let letters: Vec<char> = (offset..offset + width).map(|offset| letter(map, offset)).collect();
        assert_eq!(letters.contains(&'W'), passes, "{register}\n{map}");
    }
    for capability in json["capabilities"].as_array().unwrap() {
        assert!(text.contains(capability["title"].as_str().unwrap()), "{capability}");
        if capability["hidden"] == true {
            assert_eq!(letter(map, capability["offset"].as_u64().unwrap()), 'h', "{capability}\n{map}");
        }
    }
}

/// What a map has at a byte.
fn letter(map: &str, offset: u64) -> char {
    // The header is in rows that are never left out.
    let per_row = if map.contains("\n  010  ") { 16 } else { 32 };
    let row = offset / per_row * per_row;
    let line = map.lines().find(|line| line.starts_with(&format!("  {row:03x}  ")));
    let cells = line.map(|line| line.chars().skip(7).filter(|c| *c != ' ').collect::<Vec<char>>());
    cells.map_or('.', |cells| cells[usize::try_from(offset % per_row).unwrap()])
}

#[test]
fn device_without_a_policy_of_its_own_has_the_default_one() {
    let of_its_own = xenpci(["explain", "--from", "nvme.txt"]).good();
    let default = xenpci(["explain", "--policy", "default", "--from", "nvme.txt"]).good();
    assert_eq!(of_its_own, default);
    assert!(of_its_own.lines().next().unwrap().ends_with("under policy default"));
}

#[test]
fn policy_can_be_a_file_that_is_nowhere_else() {
    let policy = own("policies/sample.toml");
    let text = xenpci(["explain", "--policy", policy.to_str().unwrap(), "--from", "e1000e.txt"]).good();
    assert_eq!(text, sample("e1000e", &[]));
}

#[test]
fn recording_without_sizes_is_explained_and_says_that_they_are_guessed() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("bare.txt");
    let full = recording("e1000e");
    let is_bare = |line: &&str| !line.starts_with('\t');
    fs::write(&file, full.lines().filter(is_bare).collect::<Vec<_>>().join("\n")).unwrap();

    let text = xenpci(["explain", "--from", file.to_str().unwrap()]).good();

    assert!(text.contains("which has no sizes of BARs: they are guessed"), "{text}");
    assert!(text.contains("\n  010  bar0 "), "{text}");
}

#[test]
fn one_of_several_recorded_devices_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("two.txt");
    let both = ["e1000e", "nvme"].map(recording);
    fs::write(&file, both.join("\n")).unwrap();
    let file = file.to_str().unwrap();

    let nvme = xenpci(["explain", "1:0.0", "--from", file]).good();
    assert!(nvme.starts_with("0000:01:00.0 1b36:0010 "), "{nvme}");
    let undecided = xenpci(["explain", "--from", file]).bad(1);
    assert_eq!(undecided, format!("xenpci: {file} has several devices: name one of 0000:03:00.0, 0000:01:00.0\n"));
    let absent = xenpci(["explain", "5:0.0", "--from", file]).bad(1);
    assert_eq!(absent, format!("xenpci: {file} has no device 0000:05:00.0; it has 0000:03:00.0, 0000:01:00.0\n"));
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let nvme = "nvme.txt";
    let no_policy = xenpci(["explain", "--policy", "non", "--from", nvme]).bad(1);
    assert!(no_policy.starts_with("xenpci: there is no policy non; there are default, "), "{no_policy}");
    let wrong_class = xenpci(["explain", "--policy", "network", "--from", nvme]).bad(1);
    assert_eq!(
        wrong_class,
        "xenpci: 0000:01:00.0 cannot be given to a guest under policy network: policy network is not for 1b36:0010 of \
         class 010802: its [match] names others; choose another policy, or write one that extends it\n"
    );
    let no_file = xenpci(["explain", "--from", "/nowhere/nic.txt"]).bad(1);
    assert_eq!(no_file, "xenpci: cannot read /nowhere/nic.txt: No such file or directory (os error 2)\n");
    let no_device = own("policies/sample.toml");
    let no_device = xenpci(["explain", "--from", no_device.to_str().unwrap()]).bad(1);
    assert!(
        no_device.contains("sample.toml is no recorded device; `lspci -vv -xxxx -s BDF`, as root, makes one: line 1")
    );
}
