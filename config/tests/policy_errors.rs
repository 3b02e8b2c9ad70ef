//! What an operator sees when a policy is wrong.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use xenpcid_config::Policies;

/// What is said of `policy.toml`, the only file beside the shipped ones.
fn refusal(text: &str) -> String {
    Policies::with([("policy.toml".into(), text.to_owned())]).unwrap_err().to_string()
}

/// The same for some keys of a rule.
fn rule_refusal(keys: &str) -> String {
    refusal(&format!("name = \"policy\"\ndescription = \"A test.\"\n[[rule]]\nwhy = \"Because.\"\n{keys}"))
}

#[test]
fn head_of_a_policy_is_checked() {
    let cases = [
        (
            "",
            r#"policy.toml:1:1: there is no `name`
  |
1 | 
  | ^
  = help: name = "...", the name of the file without .toml

policy.toml:1:1: there is no `description`
  |
1 | 
  | ^
  = help: description = "...": what the policy is for, in a sentence or more"#,
        ),
        (
            "name = \"other\"\ndescription = \"\"\nextend = \"strict\"\n",
            r#"policy.toml:1:8: the policy other is in the file policy.toml
  |
1 | name = "other"
  |        ^^^^^^^
  = help: rename the file to other.toml, or write name = "policy"

policy.toml:2:15: the text is empty
  |
2 | description = ""
  |               ^^
  = help: write a sentence

policy.toml:3:1: unknown key `extend`; did you mean `extends`?
  |
3 | extend = "strict"
  | ^^^^^^
  = help: the keys here are `name`, `description`, `extends`, `match`, `otherwise`, `rule`, `hide`, `show`"#,
        ),
        (
            "name = \"a b\"\ndescription = 7\n[rule]\n",
            r#"policy.toml:1:8: "a b" is not a name
  |
1 | name = "a b"
  |        ^^^^^
  = help: a name has letters, digits, "-", "_" and "."

policy.toml:2:15: this has to be a string in quotation marks, and is a whole number
  |
2 | description = 7
  |               ^

policy.toml:3:1: `rule` is a list of tables, and this is a table
  |
3 | [rule]
  | ^^^^^^
  = help: write [[rule]], with two brackets"#,
        ),
        (
            "name = \"policy\"\nname = \"policy\"\ndescription = policy\n",
            r#"policy.toml:2:1: duplicate key
  |
2 | name = "policy"
  | ^^^^

policy.toml:3:15: string values must be quoted, expected literal string
  |
3 | description = policy
  |               ^^^^^^"#,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn match_is_checked() {
    let text = r#"name = "policy"
description = "A test."
[match]
vendor = 0x18086
device = []
class = ["2", "02000", "zz", "0200"]
revision = "1"
name = ["", "a*b", "up*"]
vendors = 1
[[rule]]
register = "latency_timer"
match = {}
why = "Because."
"#;
    assert_eq!(
        refusal(text),
        r#"policy.toml:4:10: the number is not from 0 to 0xffff
  |
4 | vendor = 0x18086
  |          ^^^^^^^

policy.toml:5:10: the list is empty, so nothing would fit
  |
5 | device = []
  |          ^^
  = help: write the values that fit, or remove the key

policy.toml:6:10: "2" is not a class
  |
6 | class = ["2", "02000", "zz", "0200"]
  |          ^^^
  = help: write two, four or six hexadecimal digits: base class, sub-class, programming interface, such as "02", "0200" or "0c0330"; `lspci -nn` shows the first four in brackets

policy.toml:6:15: "02000" is not a class
  |
6 | class = ["2", "02000", "zz", "0200"]
  |               ^^^^^^^
  = help: write two, four or six hexadecimal digits: base class, sub-class, programming interface, such as "02", "0200" or "0c0330"; `lspci -nn` shows the first four in brackets

policy.toml:6:24: "zz" is not a class
  |
6 | class = ["2", "02000", "zz", "0200"]
  |                        ^^^^
  = help: write two, four or six hexadecimal digits: base class, sub-class, programming interface, such as "02", "0200" or "0c0330"; `lspci -nn` shows the first four in brackets

policy.toml:7:12: this has to be a number, such as 0x0010, and is a string
  |
7 | revision = "1"
  |            ^^^

policy.toml:8:9: "" is no name to look for
  |
8 | name = ["", "a*b", "up*"]
  |         ^^
  = help: write the `name` of the device in xenpcid.toml; * at the end stands for any rest

policy.toml:8:13: "a*b" is no name to look for
  |
8 | name = ["", "a*b", "up*"]
  |             ^^^^^
  = help: write the `name` of the device in xenpcid.toml; * at the end stands for any rest

policy.toml:9:1: unknown key `vendors`; did you mean `vendor`?
  |
9 | vendors = 1
  | ^^^^^^^
  = help: the keys here are `vendor`, `device`, `subsystem_vendor`, `subsystem`, `class`, `revision`, `name`

policy.toml:12:9: the match names nothing, so every device would fit
   |
12 | match = {}
   |         ^^
   = help: write vendor, device, class or another key, or remove it"#
    );
}

#[test]
fn place_of_a_rule_is_checked() {
    let cases = [
        (
            "",
            r#"policy.toml:3:1: the rule does not say which register it is for
  |
3 | [[rule]]
  | ^^^^^^^^
  = help: write register = "..."; or capability = "...", offset = ..., width = ...; or offset = ..., width = ... from the start of the configuration space"#,
        ),
        (
            "register = \"pcie.devctrl\"",
            r#"policy.toml:5:12: there is no register pcie.devctrl; did you mean pcie.devctl?
  |
5 | register = "pcie.devctrl"
  |            ^^^^^^^^^^^^^^"#,
        ),
        (
            "register = \"command\"\noffset = 4",
            r#"policy.toml:6:10: the rule names a register and also says where it is
  |
6 | offset = 4
  |          ^
  = help: remove one of the two"#,
        ),
        (
            "capability = \"vendr\"\noffset = 4\nwidth = 2",
            r#"policy.toml:5:14: there is no capability vendr; did you mean vendor?
  |
5 | capability = "vendr"
  |              ^^^^^^^
  = help: "0x09" is a conventional capability by its number, "0x0023" with four digits an extended one"#,
        ),
        (
            "offset = 0xe9\nwidth = 2",
            r#"policy.toml:5:10: 2 bytes at 0xe9 are no register: the width is 1, 2 or 4, the offset a multiple of it, and the end at most 0x1000
  |
5 | offset = 0xe9
  |          ^^^^"#,
        ),
        (
            "offset = 0x1000\nwidth = 8",
            r#"policy.toml:5:10: the number is not from 0 to 0xfff
  |
5 | offset = 0x1000
  |          ^^^^^^

policy.toml:6:9: the number is not from 0 to 0x4
  |
6 | width = 8
  |         ^"#,
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(rule_refusal(keys), expected);
    }
}

#[test]
fn reading_and_writing_have_to_go_together() {
    let cases = [
        (
            "register = \"latency_timer\"\nread = \"discard\"",
            r#"policy.toml:6:8: a read cannot be discarded, since the guest gets some value
  |
6 | read = "discard"
  |        ^^^^^^^^^
  = help: for zero: read = "emulate" with reset_value = 0; to refuse the read: read = "deny""#,
        ),
        (
            "register = \"latency_timer\"\nread = \"yes\"",
            r#"policy.toml:6:8: reads are not treated with "yes"
  |
6 | read = "yes"
  |        ^^^^^
  = help: write "pass", "emulate" or "deny""#,
        ),
        (
            "register = \"latency_timer\"\nwrite = \"no\"",
            r#"policy.toml:6:9: writes are not treated with "no"
  |
6 | write = "no"
  |         ^^^^
  = help: write "pass", "emulate", "discard" or "deny""#,
        ),
        (
            "register = \"latency_timer\"\nread = \"pass\"\nwrite = \"emulate\"",
            r#"policy.toml:7:9: writes are kept but reads are not emulated, so the guest would never see what it wrote: read = "emulate", or write = "discard"
  |
7 | write = "emulate"
  |         ^^^^^^^^^"#,
        ),
        (
            "register = \"latency_timer\"\nread = \"emulate\"\nwrite = \"pass\"",
            r#"policy.toml:7:9: writes reach the device but reads do not, so the guest would never see what it wrote: read = "pass", or write = "emulate"
  |
7 | write = "pass"
  |         ^^^^^^"#,
        ),
        (
            "register = \"latency_timer\"\nwrite = \"emulate\"\nundo = false",
            r#"policy.toml:7:8: undo is about writes that pass, and these do not
  |
7 | undo = false
  |        ^^^^^
  = help: remove it, or write write = "pass""#,
        ),
        (
            "register = \"latency_timer\"\nwrite = \"pass\"\nundo = \"no\"",
            r#"policy.toml:7:8: undo is true or false
  |
7 | undo = "no"
  |        ^^^^
  = help: false leaves the next guest what this one wrote, where writing the old value would do something; true is what happens if nothing is said"#,
        ),
        (
            "register = \"latency_timer\"\nreset_value = 0x40",
            r#"policy.toml:6:15: a reset value is what emulated bits read at first: read = "emulate"
  |
6 | reset_value = 0x40
  |               ^^^^"#,
        ),
        (
            "register = \"latency_timer\"\nmask = 0x0f\nwrite = \"emulate\"\nreset_value = 0x40",
            r#"policy.toml:8:15: the reset value 0x40 has bits outside of the mask 0xf
  |
8 | reset_value = 0x40
  |               ^^^^"#,
        ),
        (
            "register = \"latency_timer\"\nmask = 0x100",
            r#"policy.toml:6:8: the mask 0x100 has bits that latency_timer, of 1 bytes, has not
  |
6 | mask = 0x100
  |        ^^^^^"#,
        ),
        (
            "register = \"latency_timer\"\nmask = 0",
            r#"policy.toml:6:8: the mask is empty, so the rule says nothing
  |
6 | mask = 0
  |        ^"#,
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(rule_refusal(keys), expected);
    }
}

#[test]
fn what_no_guest_may_have_is_refused_with_what_would_be_left() {
    let cases = [
        (
            "register = \"command\"\nwrite = \"pass\"",
            r#"policy.toml:6:9: no guest may write command (0x3 of the register): a device that stops decoding while its guest has the memory mapped answers with errors that can stop the host (XSA-120)
  |
6 | write = "pass"
  |         ^^^^^^
  = help: leave out bits 0x0403: mask = 0xfbfc"#,
        ),
        (
            "offset = 4\nwidth = 4\nmask = 0xffff0002\nwrite = \"pass\"",
            r#"policy.toml:8:9: no guest may write command (0x2 of the register): a device that stops decoding while its guest has the memory mapped answers with errors that can stop the host (XSA-120)
  |
8 | write = "pass"
  |         ^^^^^^
  = help: leave out bits 0x00100002: mask = 0xffef0000"#,
        ),
        (
            "register = \"msi.address\"\nwrite = \"pass\"",
            r#"policy.toml:6:9: no guest may write msi.address (0xffffffff of the register): the hypervisor programs it: it names the host's processors and vectors, and a guest that wrote it could interrupt any of them
  |
6 | write = "pass"
  |         ^^^^^^
  = help: remove the rule"#,
        ),
        (
            "register = \"pm.pmcsr\"\nread = \"pass\"",
            r#"policy.toml:6:8: pm.pmcsr (0x3 of the register) is always emulated: a device in D3 does not answer for memory that its guest has mapped, and comes back without its BARs: the guest sees the state it asked for, the hardware stays in D0
  |
6 | read = "pass"
  |        ^^^^^^
  = help: leave out bits 0x0003: mask = 0xfffc; or write read = "emulate" without a reset_value"#,
        ),
        (
            "register = \"bar0\"\nread = \"deny\"",
            r#"policy.toml:6:8: bar0 (0xffffffff of the register) is always emulated: addresses stay where the host put them, since the hypervisor's permissions and other devices stand on them; only the size can be asked for, with a dword of ones
  |
6 | read = "deny"
  |        ^^^^^^
  = help: remove the rule"#,
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(rule_refusal(keys), expected);
    }
}

#[test]
fn otherwise_is_checked() {
    let refusal = |keys: &str| {
        refusal(&format!("name = \"policy\"\ndescription = \"A test.\"\n[otherwise]\nwhy = \"Because.\"\n{keys}"))
    };
    let cases = [
        (
            "read = \"deny\"",
            r#"policy.toml:5:8: reads that no rule names cannot all be refused: a guest could not even find its device
  |
5 | read = "deny"
  |        ^^^^^^
  = help: read = "pass", or read = "emulate" for the value at the time of the claim"#,
        ),
        (
            "read = \"emulate\"\nwrite = \"pass\"",
            r#"policy.toml:6:9: writes reach the device but reads do not, so the guest would never see what it wrote
  |
6 | write = "pass"
  |         ^^^^^^
  = help: read = "pass", or write = "emulate""#,
        ),
        (
            "read = \"pass\"\nwrite = \"emulate\"",
            r#"policy.toml:6:9: writes are kept but reads are not emulated, so the guest would never see what it wrote
  |
6 | write = "emulate"
  |         ^^^^^^^^^
  = help: read = "emulate", or write = "discard""#,
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(refusal(keys), expected);
    }
}

#[test]
fn what_contradicts_within_a_file_is_shown_at_the_second_with_the_line_of_the_first() {
    let text = r#"name = "policy"
description = "A test."
match = { vendor = 0x8086 }

[[rule]]
register = "command"
mask = 0x0014
write = "pass"
why = "The first."

[[rule]]
offset = 0x04
width = 4
mask = 0x00f0
write = "emulate"
why = "The second."

[[rule]]
register = "command"
mask = 0x0004
match = { vendor = 0x10de }
why = "Of other devices."

[[hide]]
capability = "vpd"
why = "Hidden."

[[rule]]
register = "vpd.address"
mask = 0x7fff
why = "Of no use."

[[show]]
capability = "vpd"
why = "Shown."

[[hide]]
capability = "0x0003"
why = "Another: dsn."

[[hide]]
capability = "dsn"
why = "The same."
"#;
    assert_eq!(
        refusal(text),
        r#"policy.toml:12:10: bits 0x10 of 0x04 (4 bytes) are also in the rule of line 6
   |
12 | offset = 0x04
   |          ^^^^
   = help: leave them out of one of the two masks: the order of rules says nothing

policy.toml:19:12: the rule is for devices that the policy is not for
   |
19 | register = "command"
   |            ^^^^^^^^^
   = help: change its match, or that of the policy

policy.toml:29:12: capability vpd has a rule here, and is hidden in line 25
   |
29 | register = "vpd.address"
   |            ^^^^^^^^^^^^^
   = help: remove one of the two: what is hidden reads zero and discards writes

policy.toml:34:14: capability vpd is shown here, and hidden in line 25
   |
34 | capability = "vpd"
   |              ^^^^^
   = help: remove one of the two

policy.toml:42:14: capability dsn is hidden here, and hidden in line 38
   |
42 | capability = "dsn"
   |              ^^^^^
   = help: remove one of the two"#
    );
}

#[test]
fn rule_and_hide_without_a_reason_are_refused() {
    let text = "name = \"policy\"\ndescription = \"A test.\"\n[[rule]]\nregister = \"command\"\n[[hide]]\ncapability = \"vpd\"\nwhy = 1\n";
    assert_eq!(
        refusal(text),
        r#"policy.toml:3:1: there is no `why`
  |
3 | [[rule]]
  | ^^^^^^^^
  = help: why = "...": the reason, for whoever asks why a device does not work, or is safe

policy.toml:7:7: this has to be a string in quotation marks, and is a whole number
  |
7 | why = 1
  |       ^"#
    );
}

#[test]
fn policy_has_at_most_1024_rules() {
    let head = "name = \"policy\"\ndescription = \"A test.\"\n";
    let rule = |n: usize| format!("[[rule]]\noffset = {}\nwidth = 1\nwhy = \"One of many.\"\n", 0x100 + n);
    let text = |count| (0..count).fold(head.to_owned(), |text, n| text + &rule(n));
    assert!(Policies::with([("policy.toml".into(), text(1024))]).is_ok());
    assert_eq!(
        refusal(&text(1025)),
        "policy.toml:4099:1: the policy has 1025 rules, and at most 1024 are possible\n     |\n4099 | [[rule]]\n     | \
         ^^^^^^^^\n     = help: remove some"
    );
}
