//! What types cannot say: addresses that are addresses, domains and devices that are there only once.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use uuid::Uuid;
use xenpcid_address::Sbdf;

use crate::error::{Mistake, line_of};
use crate::schema::{DeviceEntry, DeviceTable, DomainTable, File};
use crate::{Config, DEVICES_MAX, Device, Domain, DomainSelector, Policies, VECTORS_MAX};

/// The configuration, or every mistake in it.
pub(crate) fn config(file: File, text: &str, policies: Option<&Policies>) -> Result<Config, Vec<Mistake>> {
    let mut check = Check {
        text,
        policies,
        mistakes: Vec::new(),
        domains: HashMap::new(),
        devices: HashMap::new(),
        names: HashMap::new(),
    };
    let domains = file.domain.0.into_iter().filter_map(|table| check.domain(table)).collect();
    if check.mistakes.is_empty() { Ok(Config { domains }) } else { Err(check.mistakes) }
}

struct Check<'t> {
    text: &'t str,
    /// Those that there are, if it is to be looked at.
    policies: Option<&'t Policies>,
    mistakes: Vec<Mistake>,
    /// Line of the first mention of each domain.
    domains: HashMap<DomainSelector, usize>,
    /// Line of the first mention of each device.
    devices: HashMap<Sbdf, usize>,
    /// Line of the device that has each name.
    names: HashMap<String, usize>,
}

impl Check<'_> {
    fn domain(&mut self, table: Spanned<DomainTable>) -> Option<Domain> {
        let header = table.span();
        let DomainTable { name, uuid, vectors, devices } = table.into_inner();
        let selector = self.selector(header, name, uuid);
        if let Some(surplus) = devices.get(DEVICES_MAX) {
            let message =
                format!("the domain has {} devices, and its virtual bus only {DEVICES_MAX} slots", devices.len());
            self.mistake(surplus.span(), message, "remove some, or give them to other domains");
        }
        let vectors = vectors.map_or(VECTORS_MAX, |vectors| self.vectors(&vectors));
        let devices = devices.into_iter().filter_map(|entry| self.device(entry)).collect();
        Some(Domain { selector: selector?, vectors, devices })
    }

    fn selector(
        &mut self,
        header: Range<usize>,
        name: Option<Spanned<String>>,
        uuid: Option<Spanned<String>>,
    ) -> Option<DomainSelector> {
        let (span, selector) = match (name, uuid) {
            (Some(name), None) => (name.span(), self.name(name)?),
            (None, Some(uuid)) => (uuid.span(), self.uuid(&uuid)?),
            (Some(_), Some(uuid)) => {
                let help = "keep the one by which the domain is to be found, and remove the other";
                self.mistake(uuid.span(), "the domain has both a name and a uuid", help);
                return None;
            }
            (None, None) => {
                let help = "add name = \"...\" as `xl list` shows it, or uuid = \"...\" as `xl vm-list` shows it";
                self.mistake(header, "the domain has neither a name nor a uuid", help);
                return None;
            }
        };
        let line = line_of(self.text, &span);
        match self.domains.get(&selector) {
            Some(first) => {
                let message = format!("domain {selector} is there twice, first in line {first}");
                self.mistake(span, message, "put all its devices below one [[domain]]");
            }
            None => {
                self.domains.insert(selector.clone(), line);
            }
        }
        Some(selector)
    }

    fn name(&mut self, name: Spanned<String>) -> Option<DomainSelector> {
        if name.get_ref().is_empty() {
            self.mistake(name.span(), "the name of the domain is empty", "write the name as `xl list` shows it");
            return None;
        }
        Some(DomainSelector::Name(name.into_inner()))
    }

    fn uuid(&mut self, uuid: &Spanned<String>) -> Option<DomainSelector> {
        let Ok(parsed) = Uuid::parse_str(uuid.get_ref()) else {
            let message = format!("\"{}\" is not a UUID", uuid.get_ref());
            let help = "write 32 hexadecimal digits in the groups 8-4-4-4-12, as `xl vm-list` shows them";
            self.mistake(uuid.span(), message, help);
            return None;
        };
        Some(DomainSelector::Uuid(parsed))
    }

    fn vectors(&mut self, vectors: &Spanned<i64>) -> u16 {
        match u16::try_from(*vectors.get_ref()) {
            Ok(number) if (1..=VECTORS_MAX).contains(&number) => number,
            _ => {
                let message = format!("{} is not a number of MSI-X vectors", vectors.get_ref());
                let help = "write 1 to 128: what a guest can ask for at once; without the key it is 128";
                self.mistake(vectors.span(), message, help);
                VECTORS_MAX
            }
        }
    }

    fn device(&mut self, entry: Spanned<DeviceEntry>) -> Option<Device> {
        let (span, address, table) = match (entry.span(), entry.into_inner()) {
            (span, DeviceEntry::Address(address)) => (span, address, None),
            (_, DeviceEntry::Table(table)) => (table.bdf.span(), table.bdf.get_ref().clone(), Some(table)),
        };
        let sbdf: Sbdf = match address.parse() {
            Ok(sbdf) => sbdf,
            Err(error) => {
                self.mistake(span, format!("{error}"), "`lspci -D` lists the addresses of this host");
                return None;
            }
        };
        let line = line_of(self.text, &span);
        match self.devices.get(&sbdf) {
            Some(first) => {
                let message = format!("device {sbdf} is there twice, first in line {first}");
                self.mistake(span, message, "a device belongs to one domain: remove one of the two");
            }
            None => {
                self.devices.insert(sbdf, line);
            }
        }
        let mut device = Device::new(sbdf);
        if let Some(DeviceTable { bdf: _, name, policy, reset }) = table {
            device.name = name.and_then(|name| self.device_name(name));
            device.policy = policy.and_then(|policy| self.policy(policy));
            device.reset = reset;
        }
        Some(device)
    }

    fn device_name(&mut self, name: Spanned<String>) -> Option<String> {
        let span = name.span();
        let line = line_of(self.text, &span);
        let name = name.into_inner();
        if name.is_empty() || name.contains('*') {
            let help = "policies look for the name, with * for any rest: write a word for what the device is for";
            self.mistake(span, format!("\"{}\" is not a name of a device", name.escape_debug()), help);
            return None;
        }
        if let Some(first) = self.names.get(&name) {
            let message = format!("another device is called {name}, in line {first}");
            self.mistake(span, message, "give each device a name of its own; policies can match `name*`");
            return None;
        }
        self.names.insert(name.clone(), line);
        Some(name)
    }

    fn policy(&mut self, policy: Spanned<String>) -> Option<String> {
        let missing = self.policies.filter(|policies| policies.get(policy.get_ref()).is_none());
        if let Some(policies) = missing {
            let message = format!("there is no policy {}", policy.get_ref().escape_debug());
            let help = format!("there are {}", policies.names().collect::<Vec<_>>().join(", "));
            self.mistakes.push(Mistake::new(policy.span(), message).help(help));
            return None;
        }
        Some(policy.into_inner())
    }

    fn mistake(&mut self, span: Range<usize>, message: impl Into<String>, help: &'static str) {
        self.mistakes.push(Mistake::new(span, message).help(help));
    }
}
