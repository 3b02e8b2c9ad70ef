//! What an operator sees when keys or values are wrong.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use expect_test::{Expect, expect};
use xenpcid_config::{Config, Policies};

/// The mistakes of a file, without the policies.
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&Config::parse(text, "xenpcid.toml").unwrap_err().to_string());
}

#[test]
fn values_of_an_identity_are_checked_one_by_one() {
    check(
        r#"
[[device]]
bdf = "3:00"
vendor = 8086
device = "10d3z"
subsystem = "8086"
serial = "00-11-22-ff-ff-33-44"
path = "0000:00/1c.0"
port = " "
"#,
        expect![[r#"
            xenpcid.toml:3:7: "3:00" is not a PCI address: there is no "." before the function; write SEGMENT:BUS:DEVICE.FUNCTION in hexadecimal, such as 0000:03:00.0
              |
            3 | bdf = "3:00"
              |       ^^^^^^
              = help: `lspci -D` lists the addresses of this host

            xenpcid.toml:4:10: this number is not an ID
              |
            4 | vendor = 8086
              |          ^^^^
              = help: write up to four hexadecimal digits in quotation marks, such as "8086"; `lspci -nn` shows them in brackets

            xenpcid.toml:5:10: "10d3z" is not an ID
              |
            5 | device = "10d3z"
              |          ^^^^^^^
              = help: write up to four hexadecimal digits in quotation marks, such as "8086"; `lspci -nn` shows them in brackets

            xenpcid.toml:6:13: "8086" is not the ID of a subsystem
              |
            6 | subsystem = "8086"
              |             ^^^^^^
              = help: write the IDs of the subsystem's vendor and of the subsystem, such as "8086:a01f"; `lspci -nnv` shows them

            xenpcid.toml:7:10: "00-11-22-ff-ff-33-44" is not a serial number
              |
            7 | serial = "00-11-22-ff-ff-33-44"
              |          ^^^^^^^^^^^^^^^^^^^^^^
              = help: write eight pairs of hexadecimal digits, such as "00-11-22-ff-ff-33-44-55"; `lspci -v` shows it as Device Serial Number

            xenpcid.toml:8:8: "0000:00/1c.0" is not a way to a device
              |
            8 | path = "0000:00/1c.0"
              |        ^^^^^^^^^^^^^^
              = help: write pci, segment and bus of the host bridge, then device and function of each step, such as "pci0000:00/1c.0/00.0"; `xenpci tree` shows it

            xenpcid.toml:9:8: " " is not a name
              |
            9 | port = " "
              |        ^^^
              = help: write what the firmware calls the device or its slot; `xenpci tree` shows it"#]],
    );
}

#[test]
fn paths_that_lead_nowhere_are_refused() {
    for path in ["pci0000:00", "pci0000:00/", "pci0000:00/20.0", "pci0000:00/1c.8", "pci0000:00/+1.0", "pci00:00/1c.0"]
    {
        let error = Config::parse(&format!("[[device]]\npath = '{path}'\n"), "xenpcid.toml").unwrap_err();
        assert!(error.to_string().contains(&format!("\"{path}\" is not a way to a device")), "{error}");
    }
}

#[test]
fn words_that_are_almost_right_are_named() {
    check(
        r#"
[daemon]
holds = "60s"

[[device]]
bdf = "03:00.0"
strat = "claim"
start = "on-demnd"
reset = "besteffort"
allow = ["host-use", "shared-pages", "iommu"]

[[devices]]
bdf = "03:00.1"
"#,
        expect![[r#"
            xenpcid.toml:3:1: unknown key `holds`; did you mean `hold`?
              |
            3 | holds = "60s"
              | ^^^^^
              = help: the keys here are `hold`, `detach-timeout`, `read-only-group`

            xenpcid.toml:7:1: unknown key `strat`; did you mean `start`?
              |
            7 | strat = "claim"
              | ^^^^^
              = help: the keys here are `bdf`, `vendor`, `device`, `subsystem`, `serial`, `path`, `port`, `name`, `policy`, `reset`, `allow`, `start`

            xenpcid.toml:8:9: "on-demnd" is no time to take a device; did you mean on-demand?
              |
            8 | start = "on-demnd"
              |         ^^^^^^^^^^

            xenpcid.toml:9:9: "besteffort" is no requirement of a reset; did you mean best-effort?
              |
            9 | reset = "besteffort"
              |         ^^^^^^^^^^^^

            xenpcid.toml:10:22: "shared-pages" is no key of a safety check; did you mean shared-page?
               |
            10 | allow = ["host-use", "shared-pages", "iommu"]
               |                      ^^^^^^^^^^^^^^

            xenpcid.toml:10:38: "iommu" is no key of a safety check: write host-use, split-group, shared-page, shared-interrupt, reserved-memory or virtual-functions
               |
            10 | allow = ["host-use", "shared-pages", "iommu"]
               |                                      ^^^^^^^

            xenpcid.toml:12:3: unknown key `devices`; did you mean `device`?
               |
            12 | [[devices]]
               |   ^^^^^^^
               = help: the keys here are `daemon`, `device`, `pool`, `domain`"#]],
    );
}

#[test]
fn settings_are_checked() {
    check(
        r#"
[daemon]
hold = 60
detach-timeout = false
read-only-group = "pci:watchers"
"#,
        expect![[r#"
            xenpcid.toml:3:8: a number without a unit is not a time
              |
            3 | hold = 60
              |        ^^
              = help: write a number and its unit, such as "60s", at most an hour, or false to let the domain run at once

            xenpcid.toml:4:18: this is not a time to wait
              |
            4 | detach-timeout = false
              |                  ^^^^^
              = help: write a number and its unit, such as "60s" or "2min": more than nothing, and at most an hour

            xenpcid.toml:5:19: "pci:watchers" is not a name of a group
              |
            5 | read-only-group = "pci:watchers"
              |                   ^^^^^^^^^^^^^^
              = help: write the name of a group of dom0, as `getent group` lists them"#]],
    );
    check(
        "[daemon]\nhold = \"0s\"\ndetach-timeout = \"2h\"\n",
        expect![[r#"
            xenpcid.toml:2:8: "0s" is not a time to wait
              |
            2 | hold = "0s"
              |        ^^^^
              = help: write a number and its unit, such as "60s", at most an hour, or false to let the domain run at once

            xenpcid.toml:3:18: "2h" is not a time to wait
              |
            3 | detach-timeout = "2h"
              |                  ^^^^
              = help: write a number and its unit, such as "60s" or "2min": more than nothing, and at most an hour"#]],
    );
    check(
        "[[daemon]]\nhold = false\n",
        expect![[r#"
        xenpcid.toml:1:1: this has to be a table, and is a list
          |
        1 | [[daemon]]
          | ^^^^^^^^^^"#]],
    );
}

#[test]
fn pool_is_checked() {
    check(
        r#"
[[pool]]
name = "lan"
physical-function = { }
count = 0

[[pool]]
name = "lan"
physical-function = 3
count = "4"

[[pool]]
"#,
        expect![[r#"
            xenpcid.toml:4:21: this does not say which device it is
              |
            4 | physical-function = { }
              |                     ^^^
              = help: say by what it is found: bdf, serial, path, port, or vendor, device and subsystem

            xenpcid.toml:5:9: 0 is not a number of virtual functions
              |
            5 | count = 0
              |         ^
              = help: count = ...: how many virtual functions it is to have, 1 to 65535; `lspci -v` shows as Total VFs how many it can have

            xenpcid.toml:8:8: another pool is called lan, in line 3
              |
            8 | name = "lan"
              |        ^^^^^
              = help: give each pool a name of its own

            xenpcid.toml:9:21: this has to be a table, and is a whole number
              |
            9 | physical-function = 3
              |                     ^

            xenpcid.toml:10:9: "4" is not a number of virtual functions
               |
            10 | count = "4"
               |         ^^^
               = help: count = ...: how many virtual functions it is to have, 1 to 65535; `lspci -v` shows as Total VFs how many it can have

            xenpcid.toml:12:1: there is no `name`
               |
            12 | [[pool]]
               | ^^^^^^^^
               = help: name = "...": what domains call the pool

            xenpcid.toml:12:1: there is no `physical-function`
               |
            12 | [[pool]]
               | ^^^^^^^^
               = help: physical-function = { ... }: the device that has the virtual functions, by bdf, serial, path or port

            xenpcid.toml:12:1: there is no `count`
               |
            12 | [[pool]]
               | ^^^^^^^^
               = help: count = ...: how many virtual functions it is to have, 1 to 65535; `lspci -v` shows as Total VFs how many it can have"#]],
    );
}

#[test]
fn slots_vectors_addresses_and_vlans_are_checked() {
    check(
        r#"
[[pool]]
name = "lan"
physical-function = "04:00.0"
count = 8

[[domain]]
name = "web1"
hold = "soon"
vectors = "many"
devices = [
    { bdf = "03:00.0", slot = 3 },
    { bdf = "03:00.1", slot = 3, vectors = 129 },
    { bdf = "03:00.2", slot = 32 },
    { from = "lan", mac = "00:16:3e:12:34:56" },
    { from = "lan", mac = "00:16:3E:12:34:56", vlan = 0 },
    { from = "lan", mac = "01:00:5e:00:00:01", vlan = 4095 },
    { from = "lan", mac = "00:00:00:00:00:00" },
    { from = "lan", mac = "00:16:3e:12:34" },
]

[[domain]]
name = "worker-*"
devices = [{ from = "lan", mac = "00:16:3e:12:34:57" }]

[[domain]]
name = "disk"
devices = "03:00.3"
"#,
        expect![[r#"
            xenpcid.toml:9:8: "soon" is not a time to wait
              |
            9 | hold = "soon"
              |        ^^^^^^
              = help: write a number and its unit, such as "60s", at most an hour, or false to let the domain run at once

            xenpcid.toml:10:11: "many" is not a number of MSI-X vectors
               |
            10 | vectors = "many"
               |           ^^^^^^
               = help: write 1 to 128: what a guest can ask for at once; without the key it is 128

            xenpcid.toml:13:31: slot 3 has a device already, in line 12
               |
            13 |     { bdf = "03:00.1", slot = 3, vectors = 129 },
               |                               ^
               = help: give each device of the domain a slot of its own, or leave the choice to xenpcid

            xenpcid.toml:13:44: 129 is not a number of MSI-X vectors
               |
            13 |     { bdf = "03:00.1", slot = 3, vectors = 129 },
               |                                            ^^^
               = help: write 1 to 128: what a guest can ask for at once; without the key it is 128

            xenpcid.toml:14:31: 32 is not a slot of a virtual bus
               |
            14 |     { bdf = "03:00.2", slot = 32 },
               |                               ^^
               = help: write 0 to 31, the slots of the domain's virtual bus; without the key it is the first that is free

            xenpcid.toml:16:27: another device has this Ethernet address, in line 15
               |
            16 |     { from = "lan", mac = "00:16:3E:12:34:56", vlan = 0 },
               |                           ^^^^^^^^^^^^^^^^^^^
               = help: give each device an address of its own

            xenpcid.toml:16:55: 0 is not a VLAN
               |
            16 |     { from = "lan", mac = "00:16:3E:12:34:56", vlan = 0 },
               |                                                       ^
               = help: write 1 to 4094 (IEEE 802.1Q); without the key the frames are in none

            xenpcid.toml:17:27: this is an address of a group of interfaces (multicast), not of one
               |
            17 |     { from = "lan", mac = "01:00:5e:00:00:01", vlan = 4095 },
               |                           ^^^^^^^^^^^^^^^^^^^
               = help: the first pair is even for one interface; 00:16:3e is Xen's, any other three pairs may follow

            xenpcid.toml:17:55: 4095 is not a VLAN
               |
            17 |     { from = "lan", mac = "01:00:5e:00:00:01", vlan = 4095 },
               |                                                       ^^^^
               = help: write 1 to 4094 (IEEE 802.1Q); without the key the frames are in none

            xenpcid.toml:18:27: 00:00:00:00:00:00 is no address of an interface
               |
            18 |     { from = "lan", mac = "00:00:00:00:00:00" },
               |                           ^^^^^^^^^^^^^^^^^^^
               = help: the first pair is even for one interface; 00:16:3e is Xen's, any other three pairs may follow

            xenpcid.toml:19:27: "00:16:3e:12:34" is not an Ethernet address
               |
            19 |     { from = "lan", mac = "00:16:3e:12:34" },
               |                           ^^^^^^^^^^^^^^^^
               = help: write six pairs of hexadecimal digits, such as "00:16:3e:12:34:56"

            xenpcid.toml:24:34: several domains can be like worker-*, and an Ethernet address is one device's
               |
            24 | devices = [{ from = "lan", mac = "00:16:3e:12:34:57" }]
               |                                  ^^^^^^^^^^^^^^^^^^^
               = help: remove the address, which leaves the choice to the device's driver, or name one domain

            xenpcid.toml:28:11: the devices of a domain are a list
               |
            28 | devices = "03:00.3"
               |           ^^^^^^^^^
               = help: write them in square brackets, even one: ["0000:03:00.0"]"#]],
    );
}

#[test]
fn policies_are_looked_for_wherever_they_are_named() {
    let text = r#"
[[device]]
bdf = "03:00.0"
policy = "strickt"

[[pool]]
name = "lan"
physical-function = "04:00.0"
count = 8
policy = "lan"
"#;
    let error = Config::parse_with(text, "xenpcid.toml", &Policies::shipped().unwrap()).unwrap_err();
    expect![[r#"
        xenpcid.toml:4:10: there is no policy strickt; did you mean strict?
          |
        4 | policy = "strickt"
          |          ^^^^^^^^^
          = help: there are default, gpu, network, pciback, permissive, storage, strict, usb-controller, wifi

        xenpcid.toml:10:10: there is no policy lan
           |
        10 | policy = "lan"
           |          ^^^^^
           = help: there are default, gpu, network, pciback, permissive, storage, strict, usb-controller, wifi"#]]
    .assert_eq(&error.to_string());
}
