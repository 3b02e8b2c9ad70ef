//! The pages beside the shipped policies.

use std::path::Path;
use std::{env, fs};

use xenpcid_config::Policies;
use xenpcid_config::policy::guarded_page;

#[test]
fn policy_pages_say_what_the_policies_say() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"));
    let policies = Policies::shipped().unwrap();
    let mut pages: Vec<_> = policies.names().map(|name| (format!("{name}.md"), policies.page(name).unwrap())).collect();
    pages.push(("guarded.md".to_owned(), guarded_page()));
    let written: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();

    let mut stale = Vec::new();
    for (file, page) in &pages {
        if env::var_os("XENPCID_BLESS").is_some() {
            fs::write(folder.join(file), page).unwrap();
        } else if fs::read_to_string(folder.join(file)).ok().as_ref() != Some(page) {
            stale.push(file);
        }
    }
    let others = written.iter().map(|file| file.to_string_lossy()).filter(|file| file.ends_with(".md"));
    let others: Vec<_> = others.filter(|file| !pages.iter().any(|(page, _)| page == file)).collect();

    assert!(
        stale.is_empty() && others.is_empty(),
        "config/policies: {stale:?} are stale, {others:?} are of no policy; \
         `XENPCID_BLESS=1 cargo test -p xenpcid-config --test pages` writes the pages anew"
    );
}

#[test]
fn page_of_an_operators_policy_names_what_it_extends_and_keeps_its_table_whole() {
    let text = r#"name = "mine"
description = "For | cards."
extends = "default"
match = { vendor = 0x8086, class = ["0200", "0c0330"], name = "uplink*" }
show = [{ capability = "sriov", why = "a | b" }]
[[rule]]
offset = 0xe8
width = 2
mask = 0x00ff
write = "emulate"
reset_value = 1
match = { revision = 3 }
why = "c | d"
"#;
    let policies = Policies::with([("mine.toml".into(), text.to_owned())]).unwrap();
    assert_eq!(
        policies.page("mine").unwrap(),
        "<!-- Generated from the policy and the tables of registers. -->
# Policy `mine`

For | cards.

**For** devices of vendor 8086, class 0200 or 0c0330, name uplink*.

**Extends** [`default`](default.md): what is not said here is said there.

What no guest may ever write, whatever its policy, is in [guarded registers](guarded.md).

## Capabilities

Hidden, as the extended policy says: `mriov`, `ats`, `pri`, `pasid`, `acs`, `rebar`, `vf-rebar`, `dpc`, `mcast`, `pmux`, `doe`, `ide`.

| capability | name | | why |
|---|---|---|---|
| `sriov` | Single Root I/O Virtualization | shown | a \\| b |

## Registers

Only on devices of revision 03:

| register | bits | read | write | why | specification |
|---|---|---|---|---|---|
| 0xe8 (2 bytes) | 0x00ff | emulate, at first 0x0001 | emulate | c \\| d |  |

## Everything else

As the extended policy says.
"
    );
    assert_eq!(policies.page("yours"), None);
}
