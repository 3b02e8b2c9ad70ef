//! `[match]`: which devices something is for.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;
use xenpcid_policy::policy::DeviceMatch;

use crate::error::Mistake;
use crate::toml_table::{self, Table, number, one_or_more, string};

/// Reads the table.
pub(super) fn read<'t>(value: &'t Spanned<DeValue<'t>>, mistakes: &mut Vec<Mistake>) -> DeviceMatch {
    let Some(mut table) = toml_table::table(value, mistakes) else { return DeviceMatch::default() };
    if table.is_empty() {
        let mistake = Mistake::new(table.span.clone(), "the match names nothing, so every device would fit");
        mistakes.push(mistake.help("write vendor, device, class or another key, or remove it"));
    }
    let found = DeviceMatch {
        vendor: identifiers(&mut table, "vendor", mistakes),
        device: identifiers(&mut table, "device", mistakes),
        subsystem_vendor: identifiers(&mut table, "subsystem_vendor", mistakes),
        subsystem: identifiers(&mut table, "subsystem", mistakes),
        class: list(&mut table, "class", mistakes, |value, mistakes| {
            let digits = string(value, mistakes)?;
            class(&digits.value).or_else(|| {
                mistakes.push(wrong_class(digits.span, &digits.value));
                None
            })
        }),
        revision: list(&mut table, "revision", mistakes, |value, mistakes| {
            number(value, 0xff, mistakes).map(|number| number.value.to_le_bytes()[0])
        }),
        name: list(&mut table, "name", mistakes, |value, mistakes| {
            let name = string(value, mistakes)?;
            let before_star = name.value.strip_suffix('*').unwrap_or(&name.value);
            if name.value.is_empty() || before_star.contains('*') {
                let message = format!("\"{}\" is no name to look for", name.value.escape_debug());
                let help = "write the `name` of the device in xenpcid.toml; * at the end stands for any rest";
                mistakes.push(Mistake::new(name.span, message).help(help));
                return None;
            }
            Some(name.value)
        }),
    };
    table.finish(mistakes);
    found
}

fn identifiers(table: &mut Table<'_>, key: &'static str, mistakes: &mut Vec<Mistake>) -> Vec<u16> {
    list(table, key, mistakes, |value, mistakes| {
        let [low, high, ..] = number(value, 0xffff, mistakes)?.value.to_le_bytes();
        Some(u16::from_le_bytes([low, high]))
    })
}

fn list<'t, T>(
    table: &mut Table<'t>,
    key: &'static str,
    mistakes: &mut Vec<Mistake>,
    read: impl Fn(&'t Spanned<DeValue<'t>>, &mut Vec<Mistake>) -> Option<T>,
) -> Vec<T> {
    table.get(key).map(|value| one_or_more(value, mistakes, read)).unwrap_or_default()
}

/// The digits as `lspci -n` prints them become a value and a mask of the 24 bits of a class code.
fn class(digits: &str) -> Option<(u32, u32)> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u32::from_str_radix(digits, 16).ok()?;
    match digits.len() {
        2 => Some((value << 16, 0xff_0000)),
        4 => Some((value << 8, 0xff_ff00)),
        6 => Some((value, 0xff_ffff)),
        _ => None,
    }
}

fn wrong_class(span: Range<usize>, digits: &str) -> Mistake {
    Mistake::new(span, format!("\"{}\" is not a class", digits.escape_debug())).help(
        "write two, four or six hexadecimal digits: base class, sub-class, programming interface, such as \"02\", \
         \"0200\" or \"0c0330\"; `lspci -nn` shows the first four in brackets",
    )
}
