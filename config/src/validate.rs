//! What types cannot say: addresses that are addresses, domains and devices that are there only once.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use uuid::Uuid;
use xenpcid_address::Sbdf;

use crate::error::{Mistake, line_of};
use crate::schema::{DeviceEntry, DeviceTable, DomainTable, File};
use crate::{Config, DEVICES_MAX, Device, Domain, DomainSelector, ResetRequirement};

/// The configuration, or every mistake in it.
pub(crate) fn config(file: File, text: &str) -> Result<Config, Vec<Mistake>> {
    let mut check = Check { text, mistakes: Vec::new(), domains: HashMap::new(), devices: HashMap::new() };
    let domains = file.domain.0.into_iter().filter_map(|table| check.domain(table)).collect();
    if check.mistakes.is_empty() { Ok(Config { domains }) } else { Err(check.mistakes) }
}

struct Check<'t> {
    text: &'t str,
    mistakes: Vec<Mistake>,
    /// Line of the first mention of each domain.
    domains: HashMap<DomainSelector, usize>,
    /// Line of the first mention of each device.
    devices: HashMap<Sbdf, usize>,
}

impl Check<'_> {
    fn domain(&mut self, table: Spanned<DomainTable>) -> Option<Domain> {
        let header = table.span();
        let DomainTable { name, uuid, devices } = table.into_inner();
        let selector = self.selector(header, name, uuid);
        if let Some(surplus) = devices.get(DEVICES_MAX) {
            let message =
                format!("the domain has {} devices, and its virtual bus only {DEVICES_MAX} slots", devices.len());
            self.mistake(surplus.span(), message, "remove some, or give them to other domains");
        }
        let devices = devices.into_iter().filter_map(|entry| self.device(entry)).collect();
        Some(Domain { selector: selector?, devices })
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

    fn device(&mut self, entry: Spanned<DeviceEntry>) -> Option<Device> {
        let (span, address, reset) = match (entry.span(), entry.into_inner()) {
            (span, DeviceEntry::Address(address)) => (span, address, ResetRequirement::default()),
            (_, DeviceEntry::Table(DeviceTable { bdf, reset })) => (bdf.span(), bdf.into_inner(), reset),
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
        Some(Device { sbdf, reset })
    }

    fn mistake(&mut self, span: Range<usize>, message: impl Into<String>, help: &'static str) {
        self.mistakes.push(Mistake::new(span, message).help(help));
    }
}
