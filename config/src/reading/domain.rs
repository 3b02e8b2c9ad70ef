//! `[[domain]]`: how a domain is found, and its devices.

use std::time::Duration;

use toml::de::DeValue;
use uuid::Uuid;
use xenpcid_address::Sbdf;

use super::device::{DeviceTable, device_keys, has_identity_key};
use super::value::{self, Value};
use crate::error::Mistake;
use crate::toml_table::{self, Table, Written, string};
use crate::{DEVICES_MAX, DomainSelector, Policies, VECTORS_MAX};

/// The last slot of a virtual bus.
const SLOT_MAX: u16 = 31;

/// A domain as one file declares it.
pub(super) struct DomainTable {
    pub(super) selector: Option<Written<DomainSelector>>,
    pub(super) vectors: u16,
    pub(super) hold: Option<Option<Duration>>,
    pub(super) devices: Vec<EntryTable>,
}

/// A device of a domain.
pub(super) struct EntryTable {
    pub(super) entry: Written<Entry>,
    pub(super) slot: Option<Written<u8>>,
    pub(super) vectors: Option<u16>,
}

/// Which device it is.
pub(super) enum Entry {
    /// One that is declared, by its name.
    Named(String),
    /// One that may be declared, by its address.
    Address(Sbdf),
    /// One that is declared here.
    Inline(Box<DeviceTable>),
    /// Of a pool.
    FromPool { pool: String, mac: Option<Written<[u8; 6]>>, vlan: Option<u16> },
}

/// Reads a table of `[[domain]]`.
pub(super) fn read<'t>(mut table: Table<'t>, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) -> DomainTable {
    let selector = selector(&mut table, mistakes);
    let vectors = vectors(&mut table, mistakes).unwrap_or(VECTORS_MAX);
    let hold = table.get("hold").and_then(|value| value::hold(value, mistakes));
    let devices_help =
        "devices = [...]: addresses, names of devices, or tables such as { from = \"...\" } for one of a pool";
    let devices = table.require("devices", devices_help, mistakes);
    table.finish(mistakes);
    let devices = devices.map(|value| entries(value, policies, mistakes)).unwrap_or_default();
    DomainTable { selector, vectors, hold, devices }
}

fn selector(table: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Option<Written<DomainSelector>> {
    match (table.get("name"), table.get("uuid")) {
        (Some(name), None) => {
            let name = string(name, mistakes)?;
            if name.value.is_empty() {
                let mistake = Mistake::new(name.span, "the name of the domain is empty");
                mistakes.push(mistake.help("write the name as `xl list` shows it"));
                return None;
            }
            Some(Written { value: DomainSelector::named(name.value), span: name.span })
        }
        (None, Some(uuid)) => {
            let help = "write 32 hexadecimal digits in the groups 8-4-4-4-12, as `xl vm-list` shows them";
            let uuid = value::parsed(uuid, "a UUID", help, mistakes, |text| Uuid::parse_str(text).ok())?;
            Some(Written { value: DomainSelector::Uuid(uuid.value), span: uuid.span })
        }
        (Some(_), Some(uuid)) => {
            let mistake = Mistake::new(uuid.span(), "the domain has both a name and a uuid");
            mistakes.push(mistake.help("keep the one by which the domain is to be found, and remove the other"));
            None
        }
        (None, None) => {
            let mistake = Mistake::new(table.span.clone(), "the domain has neither a name nor a uuid");
            let help = "add name = \"...\" as `xl list` shows it, or uuid = \"...\" as `xl vm-list` shows it";
            mistakes.push(mistake.help(help));
            None
        }
    }
}

fn vectors(table: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Option<u16> {
    let help = "write 1 to 128: what a guest can ask for at once; without the key it is 128";
    let value = table.get("vectors")?;
    value::number(value, 1..=VECTORS_MAX, "a number of MSI-X vectors", help, mistakes).map(|vectors| vectors.value)
}

fn entries<'t>(value: &'t Value<'t>, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) -> Vec<EntryTable> {
    let DeValue::Array(list) = value.get_ref() else {
        let mistake = Mistake::new(value.span(), "the devices of a domain are a list");
        mistakes.push(mistake.help("write them in square brackets, even one: [\"0000:03:00.0\"]"));
        return Vec::new();
    };
    if let Some(surplus) = list.get(DEVICES_MAX) {
        let message = format!("the domain has {} devices, and its virtual bus only {DEVICES_MAX} slots", list.len());
        mistakes.push(Mistake::new(surplus.span(), message).help("remove some, or give them to other domains"));
    }
    list.iter().filter_map(|value| entry(value, policies, mistakes)).collect()
}

fn entry<'t>(value: &'t Value<'t>, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) -> Option<EntryTable> {
    let span = value.span();
    match value.get_ref() {
        DeValue::String(text) => {
            let entry = text.parse().map_or_else(|_| Entry::Named(text.clone().into_owned()), Entry::Address);
            Some(EntryTable { entry: Written { value: entry, span }, slot: None, vectors: None })
        }
        DeValue::Table(_) => table_entry(toml_table::table(value, mistakes)?, policies, mistakes),
        _ => {
            let mistake = Mistake::new(span, "this is not a device");
            let help = "write an address such as \"0000:03:00.0\", the name of a device, or a table such as \
                        { bdf = \"0000:03:00.0\", slot = 3 }";
            mistakes.push(mistake.help(help));
            None
        }
    }
}

fn table_entry(mut table: Table<'_>, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) -> Option<EntryTable> {
    let entry = match table.get("from") {
        Some(pool) => from_pool(pool, &mut table, mistakes),
        None => of_its_own(&mut table, policies, mistakes),
    };
    let help = "write 0 to 31, the slots of the domain's virtual bus; without the key it is the first that is free";
    let slot = table
        .get("slot")
        .and_then(|value| value::number(value, 0..=SLOT_MAX, "a slot of a virtual bus", help, mistakes))
        .and_then(|slot| Some(Written { value: u8::try_from(slot.value).ok()?, span: slot.span }));
    let vectors = vectors(&mut table, mistakes);
    table.finish(mistakes);
    Some(EntryTable { entry: entry?, slot, vectors })
}

fn from_pool(pool: &Value<'_>, table: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Option<Written<Entry>> {
    let mac = table.get("mac").and_then(|value| value::mac(value, mistakes));
    let help = "write 1 to 4094 (IEEE 802.1Q); without the key the frames are in none";
    let vlan = table
        .get("vlan")
        .and_then(|value| value::number(value, 1..=4094, "a VLAN", help, mistakes))
        .map(|vlan| vlan.value);
    let pool = string(pool, mistakes)?;
    Some(Written { value: Entry::FromPool { pool: pool.value, mac, vlan }, span: pool.span })
}

fn of_its_own(
    table: &mut Table<'_>,
    policies: Option<&Policies>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Written<Entry>> {
    for key in ["mac", "vlan"] {
        if let Some(value) = table.get(key) {
            let mistake = Mistake::new(value.span(), format!("`{key}` is for a device from a pool"));
            mistakes.push(mistake.help(
                "add from = \"...\", the name of a [[pool]], or remove it: a whole device is the guest's to set up",
            ));
        }
    }
    let declared = device_keys(table, policies, mistakes);
    if has_identity_key(table) {
        return Some(Written { span: declared.span.clone(), value: Entry::Inline(Box::new(declared)) });
    }
    if !table.has("name") {
        let mistake = Mistake::new(table.span.clone(), "this does not say which device it is");
        let help = "add bdf = \"...\" or another key of [[device]], name = \"...\" of one that is declared, or from = \"...\" \
                    for one of a pool";
        mistakes.push(mistake.help(help));
        return None;
    }
    if let Some(term) = declared.terms.first() {
        let mistake = Mistake::new(
            table.span.clone(),
            format!("`{term}` is said where a device is declared, and this only names one"),
        );
        mistakes.push(mistake.help(
            "move it to the [[device]] of that name, or say here by what the device is found, such as bdf = \"...\"",
        ));
        return None;
    }
    let name = declared.name?;
    Some(Written { value: Entry::Named(name.value), span: name.span })
}
