//! Policies that extend each other, folders of them, and which of them a device gets.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use std::fs;
use std::path::PathBuf;

use xenpcid_config::{ChoiceError, ConfigError, Policies};
use xenpcid_policy::policy::DeviceIdentity;

fn policy(name: &str, keys: &str) -> (PathBuf, String) {
    (format!("{name}.toml").into(), format!("name = \"{name}\"\ndescription = \"A test.\"\n{keys}\n"))
}

fn refusal(files: &[(PathBuf, String)]) -> String {
    Policies::with(files.to_vec()).unwrap_err().to_string()
}

fn nic() -> DeviceIdentity {
    DeviceIdentity {
        vendor: 0x8086,
        device: 0x10d3,
        subsystem_vendor: 0x8086,
        subsystem: 0,
        class: 0x02_0000,
        revision: 0,
        name: Some("uplink1".to_owned()),
    }
}

#[test]
fn extending_policy_lies_on_top_of_those_that_it_extends() {
    let files = [
        policy("bottom", "[[rule]]\nregister = \"command\"\nwhy = \"Bottom.\""),
        policy("middle", "extends = \"bottom\"\n[[rule]]\nregister = \"command\"\nwhy = \"Middle.\""),
        policy("a-top", "extends = \"middle\"\n[[rule]]\nregister = \"command\"\nwhy = \"Top.\""),
    ];
    let policies = Policies::with(files).unwrap();

    let top = policies.get("a-top").unwrap();
    let reasons: Vec<&str> = top.layers.iter().map(|layer| layer.rules[0].why.as_ref()).collect();
    let origins: Vec<String> = top.layers.iter().map(|layer| layer.rules[0].origin.to_string()).collect();
    assert_eq!(reasons, ["Bottom.", "Middle.", "Top."]);
    assert_eq!(origins, ["policy bottom line 3", "policy middle line 4", "policy a-top line 4"]);
    assert_eq!(policies.extended_by("a-top"), Some("middle"));
    assert_eq!(policies.extended_by("bottom"), None);
}

#[test]
fn mistakes_of_all_files_are_shown() {
    let files = [
        policy("default", ""),
        policy("typo", "extends = \"defualt\""),
        policy("of-a-bad-one", "extends = \"bad\""),
        policy("bad", "[[hide]]\ncapability = \"sriovv\"\nwhy = \"Because.\""),
    ];
    assert_eq!(
        refusal(&files),
        r#"bad.toml:4:14: there is no capability sriovv; did you mean sriov?
  |
4 | capability = "sriovv"
  |              ^^^^^^^^
  = help: "0x09" is a conventional capability by its number, "0x0023" with four digits an extended one

default.toml:1:8: default is a policy of xenpcid's own
  |
1 | name = "default"
  |        ^^^^^^^^^
  = help: give it another name, and extends = "default"

typo.toml:3:11: there is no policy defualt
  |
3 | extends = "defualt"
  |           ^^^^^^^^^
  = help: there are default, gpu, network, of-a-bad-one, pciback, permissive, storage, strict, typo, usb-controller, wifi"#
    );
}

#[test]
fn policies_that_extend_each_other_in_a_circle_are_refused() {
    let files = [
        policy("a", "extends = \"b\""),
        policy("b", "extends = \"a\""),
        policy("outside", "extends = \"a\""),
        policy("self", "extends = \"self\""),
    ];
    assert_eq!(
        refusal(&files),
        r#"a.toml:3:11: a extends itself: a extends b extends a
  |
3 | extends = "b"
  |           ^^^
  = help: one of them must not extend another

b.toml:3:11: b extends itself: b extends a extends b
  |
3 | extends = "a"
  |           ^^^
  = help: one of them must not extend another

self.toml:3:11: self extends itself: self extends self
  |
3 | extends = "self"
  |           ^^^^^^
  = help: one of them must not extend another"#
    );
}

#[test]
fn at_most_sixteen_policies_lie_on_top_of_each_other() {
    let tower = |height: usize| -> Vec<_> {
        let floor =
            |n| policy(&format!("p{n}"), &if n > 1 { format!("extends = \"p{}\"", n - 1) } else { String::new() });
        (1..=height).map(floor).collect()
    };
    assert_eq!(Policies::with(tower(16)).unwrap().get("p16").unwrap().layers.len(), 16);
    assert_eq!(
        refusal(&tower(17)),
        r#"p17.toml:3:11: more than 16 policies extend each other
  |
3 | extends = "p16"
  |           ^^^^^
  = help: write rules of several of them into one"#
    );
}

#[test]
fn folder_gives_the_policies_of_its_toml_files() {
    let folder = tempfile::tempdir().unwrap();
    let shipped: Vec<String> = Policies::shipped().unwrap().names().map(str::to_owned).collect();
    let names = |policies: &Policies| policies.names().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&Policies::load(folder.path().join("missing")).unwrap()), shipped);

    let (file, text) = policy("mine", "extends = \"default\"");
    fs::write(folder.path().join(&file), text).unwrap();
    for other in [".#mine.toml", "mine.toml~", "README"] {
        fs::write(folder.path().join(other), "no policy").unwrap();
    }
    let policies = Policies::load(folder.path()).unwrap();
    assert_eq!(names(&policies).len(), shipped.len() + 1);
    assert_eq!(policies.file("mine"), Some(folder.path().join(file).as_path()));
    assert_eq!(policies.file("default"), None);

    fs::create_dir(folder.path().join("folder.toml")).unwrap();
    let error = Policies::load(folder.path()).unwrap_err();
    let expected = format!("cannot read the configuration {}", folder.path().join("folder.toml").display());
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, ConfigError::Read { source, .. } if source.kind() == std::io::ErrorKind::IsADirectory));
}

#[test]
fn device_gets_the_policy_that_is_named_or_the_operators_that_fits_or_the_default() {
    let policies = Policies::with([
        policy("any", ""),
        policy("disks", "match = { class = \"01\" }"),
        policy("uplinks", "match = { vendor = 0x8086, class = [\"0200\"], name = \"uplink*\" }"),
    ])
    .unwrap();
    let chosen = |explicit, device: &DeviceIdentity| policies.for_device(explicit, device).unwrap().name.to_string();

    assert_eq!(chosen(None, &nic()), "uplinks");
    assert_eq!(chosen(Some("strict"), &nic()), "strict");
    // Whether it is for the device is found when it is compiled.
    assert_eq!(chosen(Some("disks"), &nic()), "disks");
    for other in [
        DeviceIdentity { name: None, ..nic() },
        DeviceIdentity { name: Some("downlink".to_owned()), ..nic() },
        DeviceIdentity { vendor: 0x10ec, ..nic() },
        // A shipped policy for the class is never chosen by itself.
        DeviceIdentity { class: 0x02_8000, ..nic() },
    ] {
        assert_eq!(chosen(None, &other), "default");
    }
    assert_eq!(
        policies.for_device(Some("uplink"), &nic()).unwrap_err().to_string(),
        "there is no policy uplink; there are any, default, disks, gpu, network, pciback, permissive, storage, strict, \
         uplinks, usb-controller, wifi"
    );
}

#[test]
fn two_policies_that_fit_a_device_are_an_error_that_names_both() {
    let policies = Policies::with([
        policy("cards", "match = { class = \"02\" }"),
        policy("intel", "match = { vendor = 0x8086 }"),
        policy("nvidia", "match = { vendor = 0x10de }"),
    ])
    .unwrap();

    let error = policies.for_device(None, &nic()).unwrap_err();

    assert!(matches!(&error, ChoiceError::Ambiguous { names, .. } if names == &["cards", "intel"]));
    assert_eq!(
        error.to_string(),
        "the policies cards, intel are all for 8086:10d3: write policy = \"cards\" or another in its entry of \
         xenpcid.toml, or let all but one [match] name other devices"
    );
}
