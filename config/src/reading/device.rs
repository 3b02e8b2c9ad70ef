//! `[[device]]` and `[[pool]]`: devices of the host, and by what they are found.

use std::ops::Range;

use toml::de::DeValue;
use xenpcid_address::Sbdf;

use super::value::{self, Value};
use crate::error::Mistake;
use crate::toml_table::{self, Table, Written, string};
use crate::{Device, Identity, Policies};

const WHICH_HELP: &str = "say by what it is found: bdf, serial, path, port, or vendor, device and subsystem";
const NAME_HELP: &str =
    "write a word for what the device is for, not an address; policies look for it, with * for any rest";

/// A device as one file declares it.
pub(super) struct DeviceTable {
    /// Where it is said by what it is found.
    pub(super) span: Range<usize>,
    pub(super) name: Option<Written<String>>,
    /// All but the name, which may be somebody else's. Its identity is empty if there is none, or a wrong one.
    pub(super) device: Device,
    /// Keys that say more than which device it is and what it is called.
    pub(super) terms: Vec<&'static str>,
}

/// A pool as one file declares it.
pub(super) struct PoolTable {
    pub(super) name: Option<Written<String>>,
    pub(super) physical_function: Option<Written<Identity>>,
    pub(super) count: u16,
    /// Policy and the like of each virtual function.
    pub(super) device: Device,
}

/// Reads a table of `[[device]]`, which has to say by what the device is found.
pub(super) fn device(mut table: Table<'_>, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) -> DeviceTable {
    let declared = device_keys(&mut table, policies, mistakes);
    if !has_identity_key(&table) {
        mistakes
            .push(Mistake::new(table.span.clone(), "the table does not say which device it is for").help(WHICH_HELP));
    }
    table.finish(mistakes);
    declared
}

/// Reads what `[[device]]` and the devices of a domain have in common.
pub(super) fn device_keys<'t>(
    table: &mut Table<'t>,
    policies: Option<&Policies>,
    mistakes: &mut Vec<Mistake>,
) -> DeviceTable {
    let span = table.get("bdf").map_or_else(|| table.span.clone(), Value::span);
    let identity = identity(table, mistakes);
    let name = table.get("name").and_then(|value| name(value, mistakes));
    let mut device = Device::identified(identity);
    terms(table, &mut device, policies, mistakes);
    device.start = table.get("start").and_then(|value| value::word(value, mistakes)).unwrap_or_default();
    let terms = TERMS.iter().copied().filter(|key| table.has(key)).collect();
    DeviceTable { span, name, device, terms }
}

/// The keys that say more than which device it is and what it is called.
const TERMS: &[&str] = &["policy", "reset", "allow", "start"];

/// Reads what devices and pools have in common.
fn terms(table: &mut Table<'_>, device: &mut Device, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) {
    device.policy = table.get("policy").and_then(|value| value::policy(value, policies, mistakes));
    device.reset = table.get("reset").and_then(|value| value::word(value, mistakes)).unwrap_or_default();
    device.allow =
        table.get("allow").map(|value| value::words(value, mistakes)).unwrap_or_default().into_iter().collect();
}

/// Reads a table of `[[pool]]`.
pub(super) fn pool(mut table: Table<'_>, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) -> PoolTable {
    let name_help = "name = \"...\": what domains call the pool";
    let name = table.require("name", name_help, mistakes).and_then(|value| value::name(value, name_help, mistakes));
    let physical_help =
        "physical-function = { ... }: the device that has the virtual functions, by bdf, serial, path or port";
    let physical_function = table
        .require("physical-function", physical_help, mistakes)
        .and_then(|value| physical_function(value, mistakes));
    let count_help = "count = ...: how many virtual functions it is to have, 1 to 65535; `lspci -v` shows as Total VFs how many \
                      it can have";
    let count = table
        .require("count", count_help, mistakes)
        .and_then(|value| value::number(value, 1..=u16::MAX, "a number of virtual functions", count_help, mistakes));
    let mut device = Device::identified(Identity::default());
    terms(&mut table, &mut device, policies, mistakes);
    table.finish(mistakes);
    PoolTable { name, physical_function, count: count.map_or(1, |count| count.value), device }
}

fn physical_function<'t>(value: &'t Value<'t>, mistakes: &mut Vec<Mistake>) -> Option<Written<Identity>> {
    let span = value.span();
    if matches!(value.get_ref(), DeValue::String(_)) {
        return address(value, mistakes).map(|address| Written { value: address.value.into(), span });
    }
    let mut table = toml_table::table(value, mistakes)?;
    let identity = identity(&mut table, mistakes);
    if !has_identity_key(&table) {
        mistakes.push(Mistake::new(span.clone(), "this does not say which device it is").help(WHICH_HELP));
    }
    table.finish(mistakes);
    (!identity.is_empty()).then_some(Written { value: identity, span })
}

/// The keys of an identity.
const IDENTITY: &[&str] = &["bdf", "vendor", "device", "subsystem", "serial", "path", "port"];

/// Whether a table says by what a device is found, be it wrong.
pub(super) fn has_identity_key(table: &Table<'_>) -> bool {
    IDENTITY.iter().any(|key| table.has(key))
}

fn identity(table: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Identity {
    let bdf = table.get("bdf").and_then(|value| address(value, mistakes)).map(|address| address.value);
    let vendor = table.get("vendor").and_then(|value| value::id(value, mistakes));
    let device = table.get("device");
    if let Some(device) = device.filter(|_| !table.has("vendor")) {
        let mistake = Mistake::new(device.span(), "a device ID means nothing without its vendor's");
        mistakes.push(mistake.help("add vendor = \"...\"; `lspci -nn` shows both in brackets"));
    }
    let port_help = "write what the firmware calls the device or its slot; `xenpci tree` shows it";
    Identity {
        bdf,
        vendor,
        device: device.and_then(|value| value::id(value, mistakes)),
        subsystem: table.get("subsystem").and_then(|value| value::id_pair(value, mistakes)),
        serial: table.get("serial").and_then(|value| value::serial(value, mistakes)),
        path: table.get("path").and_then(|value| value::path(value, mistakes)),
        port: table.get("port").and_then(|value| value::name(value, port_help, mistakes)).map(|port| port.value),
    }
}

fn name(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<Written<String>> {
    value::parsed(value, "a name of a device", NAME_HELP, mistakes, |text| {
        let is_name = !text.trim().is_empty() && !text.contains('*') && text.parse::<Sbdf>().is_err();
        is_name.then(|| text.to_owned())
    })
}

/// An address.
pub(super) fn address(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<Written<Sbdf>> {
    let text = string(value, mistakes)?;
    match text.value.parse() {
        Ok(value) => Some(Written { value, span: text.span }),
        Err(error) => {
            let mistake = Mistake::new(text.span, error.to_string());
            mistakes.push(mistake.help("`lspci -D` lists the addresses of this host"));
            None
        }
    }
}
