//! What the files declare, put together: who has what, and what is there twice or not at all.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::ops::Range;

use xenpcid_address::Sbdf;

use super::device::{DeviceTable, PoolTable};
use super::domain::{DomainTable, Entry, EntryTable};
use super::{File, Tables};
use crate::error::{Mistake, line_of};
use crate::nearest::did_you_mean;
use crate::toml_table::Written;
use crate::{Config, Device, Domain, DomainDevice, DomainSelector, Identity, Pool, Source};

/// The configuration, as far as there are no mistakes; these are put to those of their files.
pub(super) fn config(files: &[File], all: Vec<Tables>, mistakes: &mut [Vec<Mistake>]) -> Config {
    let unread = all.iter().any(|tables| tables.unread);
    let mut resolver = Resolver { unread, ..Resolver::new(files, mistakes) };
    let mut domains = Vec::new();
    // All devices and pools come before the first domain, so that domains may name those of later files.
    for (file, tables) in all.into_iter().enumerate() {
        tables.settings.apply(&mut resolver.config.settings);
        for table in tables.devices {
            resolver.declare(file, table);
        }
        for table in tables.pools {
            resolver.pool(file, table);
        }
        domains.extend(tables.domains.into_iter().map(|table| (file, table)));
    }
    for (file, table) in domains {
        resolver.domain(file, table);
    }
    resolver.config
}

/// Where something was written.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    line: usize,
}

/// Who a device was declared as.
#[derive(Clone, Copy)]
enum Declared {
    /// Its place in [`Config::devices`].
    Device(usize),
    /// The physical function of a pool, by its place in [`Config::pools`].
    PhysicalFunction(usize),
}

struct Resolver<'f> {
    files: &'f [File],
    mistakes: &'f mut [Vec<Mistake>],
    config: Config,
    /// What a file declares that could not be read is not known to be missing.
    unread: bool,
    by_address: HashMap<Sbdf, (Declared, Place)>,
    by_identity: HashMap<Identity, (Declared, Place)>,
    by_name: HashMap<String, (usize, Place)>,
    pools: HashMap<String, (usize, Place)>,
    domains: HashMap<DomainSelector, ((), Place)>,
    /// Devices that a domain has.
    given: HashMap<usize, ((), Place)>,
    macs: HashMap<[u8; 6], ((), Place)>,
}

impl<'f> Resolver<'f> {
    fn new(files: &'f [File], mistakes: &'f mut [Vec<Mistake>]) -> Self {
        Self {
            files,
            mistakes,
            config: Config::default(),
            unread: false,
            by_address: HashMap::new(),
            by_identity: HashMap::new(),
            by_name: HashMap::new(),
            pools: HashMap::new(),
            domains: HashMap::new(),
            given: HashMap::new(),
            macs: HashMap::new(),
        }
    }

    /// Takes in a device; its place in [`Config::devices`].
    fn declare(&mut self, file: usize, table: DeviceTable) -> usize {
        let DeviceTable { span, name, mut device, terms: _ } = table;
        let index = self.config.devices.len();
        self.identify(file, &span, &device.identity, Declared::Device(index));
        if let Some(name) = name {
            let place = self.place(file, &name.span);
            match first(&mut self.by_name, name.value.clone(), index, place) {
                None => device.name = Some(name.value),
                Some(first) => {
                    let message = format!("another device is called {}, {}", name.value, self.whereabouts(file, first));
                    let help = "give each device a name of its own; policies can match `name*`";
                    self.mistake(file, name.span, message, help);
                }
            }
        }
        self.config.devices.push(device);
        index
    }

    /// Takes in a pool.
    fn pool(&mut self, file: usize, table: PoolTable) {
        let index = self.config.pools.len();
        let PoolTable { name, physical_function, count, device } = table;
        if let Some(name) = &name {
            let place = self.place(file, &name.span);
            if let Some(first) = first(&mut self.pools, name.value.clone(), index, place) {
                let message = format!("another pool is called {}, {}", name.value, self.whereabouts(file, first));
                self.mistake(file, name.span.clone(), message, "give each pool a name of its own");
            }
        }
        let physical_function = physical_function.map(|Written { value, span }| {
            self.identify(file, &span, &value, Declared::PhysicalFunction(index));
            value
        });
        let Device { policy, reset, allow, .. } = device;
        let (name, physical_function) =
            (name.map(|name| name.value).unwrap_or_default(), physical_function.unwrap_or_default());
        self.config.pools.push(Pool { name, physical_function, count, policy, reset, allow });
    }

    /// Remembers by what a device is found, which no other is.
    fn identify(&mut self, file: usize, span: &Range<usize>, identity: &Identity, declared: Declared) {
        // An identity with mistakes.
        if identity.is_empty() {
            return;
        }
        let place = self.place(file, span);
        let by_address = identity.bdf.and_then(|address| first(&mut self.by_address, address, declared, place));
        let by_identity = first(&mut self.by_identity, identity.clone(), declared, place);
        if let Some(first) = by_address.or(by_identity) {
            let title = identity.bdf.map_or_else(|| identity.to_string(), |address| address.to_string());
            let message = format!("device {title} is declared twice, first {}", self.whereabouts(file, first));
            let help = "keep one of the two, and write in it all that is to be said about the device";
            self.mistake(file, span.clone(), message, help);
        }
    }

    /// Takes in a domain.
    fn domain(&mut self, file: usize, table: DomainTable) {
        let DomainTable { selector, vectors, hold, devices } = table;
        if let Some(selector) = &selector {
            let place = self.place(file, &selector.span);
            if let Some(first) = first(&mut self.domains, selector.value.clone(), (), place) {
                let message =
                    format!("domain {} is there twice, first {}", selector.value, self.whereabouts(file, first));
                self.mistake(file, selector.span.clone(), message, "put all its devices below one [[domain]]");
            }
        }
        let selector = selector.map(|selector| selector.value);
        let mut slots = HashMap::new();
        let mut given = Vec::new();
        for entry in devices {
            given.extend(self.entry(file, selector.as_ref(), entry, &mut slots));
        }
        if let Some(selector) = selector {
            self.config.domains.push(Domain { selector, vectors, hold, devices: given });
        }
    }

    /// A device of a domain whose devices have taken `slots` so far.
    fn entry(
        &mut self,
        file: usize,
        domain: Option<&DomainSelector>,
        table: EntryTable,
        slots: &mut HashMap<u8, ((), Place)>,
    ) -> Option<DomainDevice> {
        let EntryTable { entry: Written { value: entry, span }, slot, vectors } = table;
        if let Some(slot) = &slot {
            let place = self.place(file, &slot.span);
            if let Some(first) = first(slots, slot.value, (), place) {
                let message = format!("slot {} has a device already, {}", slot.value, self.whereabouts(file, first));
                let help = "give each device of the domain a slot of its own, or leave the choice to xenpcid";
                self.mistake(file, slot.span.clone(), message, help);
            }
        }
        let source = match entry {
            Entry::Named(name) => Source::Device(self.named(file, &span, &name)?),
            Entry::Address(address) => Source::Device(self.addressed(file, &span, address)?),
            Entry::Inline(table) => Source::Device(self.inline(file, &span, *table)?),
            Entry::FromPool { pool, mac, vlan } => {
                if let Some(mac) = &mac {
                    self.mac(file, domain, mac);
                }
                Source::Pool { pool: self.pool_named(file, &span, &pool)?, mac: mac.map(|mac| mac.value), vlan }
            }
        };
        Some(DomainDevice { source, slot: slot.map(|slot| slot.value), vectors })
    }

    /// A device that is declared, by its name.
    fn named(&mut self, file: usize, span: &Range<usize>, name: &str) -> Option<usize> {
        if let Some(&(index, _)) = self.by_name.get(name) {
            return self.give(file, span, index);
        }
        match name.parse::<Sbdf>() {
            // Rather an address with a mistake than a name.
            Err(error) if name.contains(':') => {
                self.mistake(file, span.clone(), error.to_string(), "`lspci -D` lists the addresses of this host");
            }
            _ if self.pools.contains_key(name) => {
                let message = format!("{name} is a pool, not a device");
                let help = format!("write {{ from = \"{name}\" }} for any free device of it");
                self.mistake(file, span.clone(), message, help);
            }
            _ => {
                let meant = did_you_mean(name, self.by_name.keys().map(String::as_str));
                let message = format!("there is no device {}{meant}", name.escape_debug());
                let help = "write the name of a [[device]], or an address such as \"0000:03:00.0\"";
                self.missing(file, span, message, help);
            }
        }
        None
    }

    /// A device by its address, which need not be declared.
    fn addressed(&mut self, file: usize, span: &Range<usize>, address: Sbdf) -> Option<usize> {
        match self.by_address.get(&address) {
            Some(&(Declared::Device(index), _)) => self.give(file, span, index),
            Some(&(Declared::PhysicalFunction(pool), _)) => {
                let pool = self.config.pools.get(pool).map(|pool| pool.name.clone()).unwrap_or_default();
                let message =
                    format!("device {address} has the virtual functions of the pool {pool}, and stays in dom0");
                let help =
                    format!("write {{ from = \"{pool}\" }} for one of its virtual functions, or remove the pool");
                self.mistake(file, span.clone(), message, help);
                None
            }
            None => {
                let table =
                    DeviceTable { span: span.clone(), name: None, device: Device::new(address), terms: Vec::new() };
                let index = self.declare(file, table);
                self.give(file, span, index)
            }
        }
    }

    /// A device that is declared with its domain; one with nothing but an address may be declared elsewhere.
    fn inline(&mut self, file: usize, span: &Range<usize>, table: DeviceTable) -> Option<usize> {
        let says_nothing_else = table.name.is_none() && table.terms.is_empty();
        match table.device.identity.bdf {
            Some(address) if says_nothing_else && table.device.identity == address.into() => {
                self.addressed(file, span, address)
            }
            _ => {
                let index = self.declare(file, table);
                self.give(file, span, index)
            }
        }
    }

    fn pool_named(&mut self, file: usize, span: &Range<usize>, name: &str) -> Option<usize> {
        if let Some(&(index, _)) = self.pools.get(name) {
            return Some(index);
        }
        if self.by_name.contains_key(name) {
            let message = format!("{name} is a device, not a pool");
            self.mistake(file, span.clone(), message, format!("write name = \"{name}\" for that device"));
        } else {
            let meant = did_you_mean(name, self.pools.keys().map(String::as_str));
            let message = format!("there is no pool {}{meant}", name.escape_debug());
            self.missing(file, span, message, "write the name of a [[pool]]");
        }
        None
    }

    /// A device is one domain's.
    fn give(&mut self, file: usize, span: &Range<usize>, index: usize) -> Option<usize> {
        let place = self.place(file, span);
        let Some(first) = first(&mut self.given, index, (), place) else { return Some(index) };
        let title = self.config.devices.get(index).map(title).unwrap_or_default();
        let message = format!("device {title} is there twice, first {}", self.whereabouts(file, first));
        self.mistake(file, span.clone(), message, "a device belongs to one domain: remove one of the two");
        None
    }

    /// An Ethernet address is one interface's.
    fn mac(&mut self, file: usize, domain: Option<&DomainSelector>, mac: &Written<[u8; 6]>) {
        if let Some(DomainSelector::Glob(glob)) = domain {
            let message = format!("several domains can be like {glob}, and an Ethernet address is one device's");
            let help = "remove the address, which leaves the choice to the device's driver, or name one domain";
            self.mistake(file, mac.span.clone(), message, help);
        }
        let place = self.place(file, &mac.span);
        if let Some(first) = first(&mut self.macs, mac.value, (), place) {
            let message = format!("another device has this Ethernet address, {}", self.whereabouts(file, first));
            self.mistake(file, mac.span.clone(), message, "give each device an address of its own");
        }
    }

    fn place(&self, file: usize, span: &Range<usize>) -> Place {
        Place { file, line: self.files.get(file).map_or(0, |file| line_of(&file.text, span)) }
    }

    /// Where `place` is, for a mistake in `file`.
    fn whereabouts(&self, file: usize, place: Place) -> impl Display + use<> {
        match self.files.get(place.file) {
            Some(other) if place.file != file => format!("in {}:{}", other.name, place.line),
            _ => format!("in line {}", place.line),
        }
    }

    fn missing(&mut self, file: usize, span: &Range<usize>, message: String, help: &'static str) {
        if !self.unread {
            self.mistake(file, span.clone(), message, help);
        }
    }

    fn mistake(
        &mut self,
        file: usize,
        span: Range<usize>,
        message: String,
        help: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        if let Some(mistakes) = self.mistakes.get_mut(file) {
            mistakes.push(Mistake::new(span, message).help(help));
        }
    }
}

/// Remembers what is new; where it was first, if it is not.
fn first<K: Eq + Hash, V>(seen: &mut HashMap<K, (V, Place)>, key: K, value: V, place: Place) -> Option<Place> {
    match seen.entry(key) {
        std::collections::hash_map::Entry::Occupied(entry) => Some(entry.get().1),
        std::collections::hash_map::Entry::Vacant(entry) => {
            entry.insert((value, place));
            None
        }
    }
}

/// What a device is called in messages.
fn title(device: &Device) -> String {
    device.name.clone().unwrap_or_else(|| device.identity.to_string())
}
