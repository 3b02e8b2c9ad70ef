//! What an operator sees when a device is there twice, or not at all.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use expect_test::{Expect, expect};
use xenpcid_config::Config;

/// The mistakes of a file, without the policies.
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&Config::parse(text, "xenpcid.toml").unwrap_err().to_string());
}

#[test]
fn device_that_is_found_by_nothing_is_refused() {
    check(
        r#"
[[device]]
name = "uplink"

[[device]]
device = "10d3"
"#,
        expect![[r#"
            xenpcid.toml:2:1: the table does not say which device it is for
              |
            2 | [[device]]
              | ^^^^^^^^^^
              = help: say by what it is found: bdf, serial, path, port, or vendor, device and subsystem

            xenpcid.toml:6:10: a device ID means nothing without its vendor's
              |
            6 | device = "10d3"
              |          ^^^^^^
              = help: add vendor = "..."; `lspci -nn` shows both in brackets"#]],
    );
}

#[test]
fn device_that_is_declared_twice_is_shown_where() {
    check(
        r#"
[[device]]
bdf = "03:00.0"
name = "uplink"

[[device]]
serial = "00-11-22-ff-ff-33-44-55"

[[device]]
serial = "00-11-22-FF-FF-33-44-55"
name = "uplink"

[[pool]]
name = "lan"
physical-function = "0000:03:00.0"
count = 2

[[domain]]
name = "web1"
devices = [{ bdf = "03:00.0", policy = "network" }]
"#,
        expect![[r#"
            xenpcid.toml:9:1: device serial 00-11-22-ff-ff-33-44-55 is declared twice, first in line 6
              |
            9 | [[device]]
              | ^^^^^^^^^^
              = help: keep one of the two, and write in it all that is to be said about the device

            xenpcid.toml:11:8: another device is called uplink, in line 4
               |
            11 | name = "uplink"
               |        ^^^^^^^^
               = help: give each device a name of its own; policies can match `name*`

            xenpcid.toml:15:21: device 0000:03:00.0 is declared twice, first in line 3
               |
            15 | physical-function = "0000:03:00.0"
               |                     ^^^^^^^^^^^^^^
               = help: keep one of the two, and write in it all that is to be said about the device

            xenpcid.toml:20:20: device 0000:03:00.0 is declared twice, first in line 3
               |
            20 | devices = [{ bdf = "03:00.0", policy = "network" }]
               |                    ^^^^^^^^^
               = help: keep one of the two, and write in it all that is to be said about the device"#]],
    );
}

#[test]
fn device_of_two_domains_is_shown_whatever_it_is_called_there() {
    check(
        r#"
[[device]]
bdf = "03:00.0"
name = "uplink"

[[domain]]
name = "web1"
devices = ["uplink", "03:00.0"]

[[domain]]
name = "web2"
devices = [{ name = "uplink" }, { port = "slot 3" }, { port = "slot 3" }]
"#,
        expect![[r#"
            xenpcid.toml:8:22: device uplink is there twice, first in line 8
              |
            8 | devices = ["uplink", "03:00.0"]
              |                      ^^^^^^^^^
              = help: a device belongs to one domain: remove one of the two

            xenpcid.toml:12:21: device uplink is there twice, first in line 8
               |
            12 | devices = [{ name = "uplink" }, { port = "slot 3" }, { port = "slot 3" }]
               |                     ^^^^^^^^
               = help: a device belongs to one domain: remove one of the two

            xenpcid.toml:12:54: device port "slot 3" is declared twice, first in line 12
               |
            12 | devices = [{ name = "uplink" }, { port = "slot 3" }, { port = "slot 3" }]
               |                                                      ^^^^^^^^^^^^^^^^^^^
               = help: keep one of the two, and write in it all that is to be said about the device"#]],
    );
}

#[test]
fn devices_and_pools_that_are_not_there_are_named_with_what_is_almost_it() {
    check(
        r#"
[[device]]
bdf = "03:00.0"
name = "uplink"

[[pool]]
name = "lan"
physical-function = { bdf = "04:00.0" }
count = 2

[[domain]]
name = "web1"
devices = [
    "uplnk",
    "disk",
    "lan",
    "04:00.0",
    "0000:05",
    { from = "lann" },
    { from = "uplink" },
    { slot = 3 },
    { name = "uplink", policy = "network" },
    { bdf = "05:00.0", vlan = 3 },
    { from = "lan", policy = "network" },
]
"#,
        expect![[r#"
            xenpcid.toml:14:5: there is no device uplnk; did you mean uplink?
               |
            14 |     "uplnk",
               |     ^^^^^^^
               = help: write the name of a [[device]], or an address such as "0000:03:00.0"

            xenpcid.toml:15:5: there is no device disk
               |
            15 |     "disk",
               |     ^^^^^^
               = help: write the name of a [[device]], or an address such as "0000:03:00.0"

            xenpcid.toml:16:5: lan is a pool, not a device
               |
            16 |     "lan",
               |     ^^^^^
               = help: write { from = "lan" } for any free device of it

            xenpcid.toml:17:5: device 0000:04:00.0 has the virtual functions of the pool lan, and stays in dom0
               |
            17 |     "04:00.0",
               |     ^^^^^^^^^
               = help: write { from = "lan" } for one of its virtual functions, or remove the pool

            xenpcid.toml:18:5: "0000:05" is not a PCI address: there is no "." before the function; write SEGMENT:BUS:DEVICE.FUNCTION in hexadecimal, such as 0000:03:00.0
               |
            18 |     "0000:05",
               |     ^^^^^^^^^
               = help: `lspci -D` lists the addresses of this host

            xenpcid.toml:19:14: there is no pool lann; did you mean lan?
               |
            19 |     { from = "lann" },
               |              ^^^^^^
               = help: write the name of a [[pool]]

            xenpcid.toml:20:14: uplink is a device, not a pool
               |
            20 |     { from = "uplink" },
               |              ^^^^^^^^
               = help: write name = "uplink" for that device

            xenpcid.toml:21:5: this does not say which device it is
               |
            21 |     { slot = 3 },
               |     ^^^^^^^^^^^^
               = help: add bdf = "..." or another key of [[device]], name = "..." of one that is declared, or from = "..." for one of a pool

            xenpcid.toml:22:5: `policy` is said where a device is declared, and this only names one
               |
            22 |     { name = "uplink", policy = "network" },
               |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
               = help: move it to the [[device]] of that name, or say here by what the device is found, such as bdf = "..."

            xenpcid.toml:23:31: `vlan` is for a device from a pool
               |
            23 |     { bdf = "05:00.0", vlan = 3 },
               |                               ^
               = help: add from = "...", the name of a [[pool]], or remove it: a whole device is the guest's to set up

            xenpcid.toml:24:21: unknown key `policy`
               |
            24 |     { from = "lan", policy = "network" },
               |                     ^^^^^^
               = help: the keys here are `from`, `mac`, `vlan`, `slot`, `vectors`"#]],
    );
}
