//! What an operator sees when the file is wrong.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use proptest::prelude::*;
use xenpcid_config::{Config, ConfigError, Policies};

fn refusal(text: &str) -> String {
    Config::parse(text, "xenpcid.toml").unwrap_err().to_string()
}

#[test]
fn every_mistake_is_shown_where_it_is_and_with_its_remedy() {
    let text = r#"
[[domain]]
name = "web1"
uuid = "5a1f9f3e-8f57-4a0c-9d7c-0d4b7f1a2c33"
devices = ["0000:01:00.0", { bdf = "00:07", reset = "best-effort" }]

[[domain]]
name = "web2"
devices = [
	"01:00.0",
]

[[domain]]
devices = []

[[domain]]
name = "web2"
devices = []

[[domain]]
name = ""
devices = []

[[domain]]
uuid = "5a1f9f3e"
devices = []
"#;
    assert_eq!(
        refusal(text),
        r#"xenpcid.toml:4:8: the domain has both a name and a uuid
  |
4 | uuid = "5a1f9f3e-8f57-4a0c-9d7c-0d4b7f1a2c33"
  |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: keep the one by which the domain is to be found, and remove the other

xenpcid.toml:5:36: "00:07" is not a PCI address: there is no "." before the function; write SEGMENT:BUS:DEVICE.FUNCTION in hexadecimal, such as 0000:03:00.0
  |
5 | devices = ["0000:01:00.0", { bdf = "00:07", reset = "best-effort" }]
  |                                    ^^^^^^^
  = help: `lspci -D` lists the addresses of this host

xenpcid.toml:10:2: device 0000:01:00.0 is there twice, first in line 5
   |
10 | 	"01:00.0",
   | 	^^^^^^^^^
   = help: a device belongs to one domain: remove one of the two

xenpcid.toml:13:1: the domain has neither a name nor a uuid
   |
13 | [[domain]]
   | ^^^^^^^^^^
   = help: add name = "..." as `xl list` shows it, or uuid = "..." as `xl vm-list` shows it

xenpcid.toml:17:8: domain web2 is there twice, first in line 8
   |
17 | name = "web2"
   |        ^^^^^^
   = help: put all its devices below one [[domain]]

xenpcid.toml:21:8: the name of the domain is empty
   |
21 | name = ""
   |        ^^
   = help: write the name as `xl list` shows it

xenpcid.toml:25:8: "5a1f9f3e" is not a UUID
   |
25 | uuid = "5a1f9f3e"
   |        ^^^^^^^^^^
   = help: write 32 hexadecimal digits in the groups 8-4-4-4-12, as `xl vm-list` shows them"#
    );
}

#[test]
fn same_uuid_in_another_spelling_is_the_same_domain() {
    let text = r#"
domain = [
    { uuid = "5a1f9f3e-8f57-4a0c-9d7c-0d4b7f1a2c33", devices = [] },
    { uuid = "5A1F9F3E8F574A0C9D7C0D4B7F1A2C33", devices = [] },
]
"#;
    assert_eq!(
        refusal(text),
        r#"xenpcid.toml:4:14: domain 5a1f9f3e-8f57-4a0c-9d7c-0d4b7f1a2c33 is there twice, first in line 3
  |
4 |     { uuid = "5A1F9F3E8F574A0C9D7C0D4B7F1A2C33", devices = [] },
  |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: put all its devices below one [[domain]]"#
    );
}

#[test]
fn thirty_third_device_of_a_domain_is_one_too_many() {
    let devices = |count| (0..count).map(|n| format!("\"00:{:02x}.{}\"", n / 8, n % 8)).collect::<Vec<_>>().join(",\n");
    let text = |count| format!("[[domain]]\nname = \"web1\"\ndevices = [\n{}]\n", devices(count));
    assert!(Config::parse(&text(32), "xenpcid.toml").is_ok());
    assert_eq!(
        refusal(&text(33)),
        r#"xenpcid.toml:36:1: the domain has 33 devices, and its virtual bus only 32 slots
   |
36 | "00:04.0"]
   | ^^^^^^^^^
   = help: remove some, or give them to other domains"#
    );
}

#[test]
fn names_policies_and_vectors_are_checked_where_they_are() {
    let text = r#"[[domain]]
name = "web1"
vectors = 0
devices = [
    { bdf = "01:00.0", name = "uplink", policy = "netwerk" },
    { bdf = "01:00.1", name = "uplink" },
    { bdf = "01:00.2", name = "" },
]
"#;
    let policies = Policies::shipped().unwrap();
    let there_are = policies.names().collect::<Vec<_>>().join(", ");
    assert_eq!(
        Config::parse_with(text, "xenpcid.toml", &policies).unwrap_err().to_string(),
        format!(
            r#"xenpcid.toml:3:11: 0 is not a number of MSI-X vectors
  |
3 | vectors = 0
  |           ^
  = help: write 1 to 128: what a guest can ask for at once; without the key it is 128

xenpcid.toml:5:50: there is no policy netwerk; did you mean network?
  |
5 |     {{ bdf = "01:00.0", name = "uplink", policy = "netwerk" }},
  |                                                  ^^^^^^^^^
  = help: there are {there_are}

xenpcid.toml:6:31: another device is called uplink, in line 5
  |
6 |     {{ bdf = "01:00.1", name = "uplink" }},
  |                               ^^^^^^^^
  = help: give each device a name of its own; policies can match `name*`

xenpcid.toml:7:31: "" is not a name of a device
  |
7 |     {{ bdf = "01:00.2", name = "" }},
  |                               ^^
  = help: write a word for what the device is for, not an address; policies look for it, with * for any rest"#
        )
    );
}

#[test]
fn what_the_schema_does_not_have_is_shown_in_the_same_form() {
    let cases = [
        (
            "[domain]\nname = \"web1\"\n",
            r#"xenpcid.toml:1:1: `domain` is a list of tables, and this is a table
  |
1 | [domain]
  | ^^^^^^^^
  = help: write [[domain]], with two brackets"#,
        ),
        (
            "[[domain]]\nname = \"web1\"\ndevice = [\"00:01.0\"]\ndevices = []\n",
            r#"xenpcid.toml:3:1: unknown key `device`; did you mean `devices`?
  |
3 | device = ["00:01.0"]
  | ^^^^^^
  = help: the keys here are `name`, `uuid`, `vectors`, `hold`, `devices`"#,
        ),
        (
            "[[domain]]\nname = \"web1\"\n",
            r#"xenpcid.toml:1:1: there is no `devices`
  |
1 | [[domain]]
  | ^^^^^^^^^^
  = help: devices = [...]: addresses, names of devices, or tables such as { from = "..." } for one of a pool"#,
        ),
        (
            "[[domain]]\nname = \"web1\"\ndevices = [{ bdf = \"00:01.0\", reset = \"never\" }]\n",
            r#"xenpcid.toml:3:39: "never" is no requirement of a reset: write required or best-effort
  |
3 | devices = [{ bdf = "00:01.0", reset = "never" }]
  |                                       ^^^^^^^"#,
        ),
        (
            "[[domain]]\nname = \"web1\"\ndevices = [{ bdf = \"00:01.0\", permissive = true }]\n",
            r#"xenpcid.toml:3:31: unknown key `permissive`
  |
3 | devices = [{ bdf = "00:01.0", permissive = true }]
  |                               ^^^^^^^^^^
  = help: the keys here are `from`, `mac`, `vlan`, `bdf`, `vendor`, `device`, `subsystem`, `serial`, `path`, `port`, `name`, `policy`, `reset`, `allow`, `start`, `slot`, `vectors`"#,
        ),
        (
            "[[domain]]\nname = \"web1\"\ndevices = [1]\n",
            r#"xenpcid.toml:3:12: this is not a device
  |
3 | devices = [1]
  |            ^
  = help: write an address such as "0000:03:00.0", the name of a device, or a table such as { bdf = "0000:03:00.0", slot = 3 }"#,
        ),
        (
            "[[domain]]\nname = web1\n",
            r#"xenpcid.toml:2:8: string values must be quoted, expected literal string
  |
2 | name = web1
  |        ^^^^"#,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xenpcid.toml");
    let error = Config::load(&path, None).unwrap_err();
    let expected = format!("cannot read the configuration {}", path.display());
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, ConfigError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
}

proptest! {
    /// Includes multi-byte characters, which columns and carets have to count right.
    #[test]
    fn any_text_is_a_configuration_or_has_a_mistake_inside_of_it(text in r#"(\[\[domain\]\]|name = |devices = |uuid = |"|é|\t|\n|\r\n|\[|\]|,|00:01\.0|#|[ -~]){0,40}"#) {
        if let Err(ConfigError::Invalid { problems }) = Config::parse(&text, "f") {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!((1..=text.lines().count() + 1).contains(&problem.line));
                prop_assert!(problem.column >= 1);
                prop_assert!(problem.to_string().contains('^'));
            }
        }
    }
}
