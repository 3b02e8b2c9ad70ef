//! What xl calls BDF and PCI_SPEC_STRING (xl-pci-configuration(5)), read as leniently and as strictly as xl reads them.
//!
//! ```text
//! BDF              [DDDD:]BB:SS.F      hexadecimal, with as many digits as there are; F may be *
//! PCI_SPEC_STRING  BDF[@VSLOT][,KEY=VALUE]*
//!                  KEY=VALUE[,KEY=VALUE]*     with one of bdf= and name=
//! ```

use std::fmt;

use xenpcid_address::Sbdf;
use xenpcid_control::{AttachDevice, Options, ReservedMemory};

use super::scan::{hexadecimal, is_true};

/// Slots of a bus.
const SLOTS: u32 = 32;

/// Functions of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bdf {
    /// The function; function 0 if all are meant.
    pub address: Sbdf,
    /// Whether all functions of its slot are meant.
    pub all: bool,
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.all {
            return self.address.fmt(f);
        }
        write!(f, "{:04x}:{:02x}:{:02x}.*", self.address.segment(), self.address.bus(), self.address.device())
    }
}

/// What a PCI_SPEC_STRING names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By address.
    Bdf(Bdf),
    /// By the name that it got when it was made assignable.
    Name(String),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bdf(bdf) => bdf.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A PCI_SPEC_STRING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The device, or devices.
    pub device: Named,
    /// Where the guest is to see it.
    pub slot: Option<u8>,
    /// Whether dom0 is to give it up for that.
    pub seize: bool,
    /// The rest.
    pub options: Options,
}

/// Text that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not have the form.
    #[error("")]
    Form,
    /// A key that there is not. Says it as xl does.
    #[error("Unknown PCI_SPEC_STRING option: {0}")]
    UnknownKey(String),
    /// A value of `rdm_policy` that there is not. Says it as xl does.
    #[error("Unknown RDM policy: {0}")]
    UnknownReservedMemory(String),
}

/// Settings that hold for devices which do not say otherwise: `pci_permissive` and the like of xl.cfg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Of [`Spec::seize`].
    pub seize: bool,
    /// Of [`Spec::options`].
    pub options: Options,
}

impl Bdf {
    /// Reads one. What follows the function is not looked at, as xl does not.
    pub fn parse(text: &str) -> Option<Self> {
        Self::scan(text).map(|(bdf, _)| bdf)
    }

    /// One at the beginning of `text`, and what follows it.
    fn scan(text: &str) -> Option<(Self, &str)> {
        let (first, rest) = plain_before_colon(text)?;
        let (segment, bus, rest) = match plain_before_colon(rest) {
            Some((second, rest)) => (first, second, rest),
            None => (0, first, rest),
        };
        let (device, rest) = hexadecimal(rest)?;
        let rest = rest.strip_prefix('.')?;
        let (function, all, rest) = match rest.strip_prefix('*') {
            Some(rest) => (0, true, rest),
            None => {
                let (function, rest) = hexadecimal(rest)?;
                (function, false, rest)
            }
        };
        let segment = u16::try_from(segment).ok()?;
        let (bus, device) = (u8::try_from(bus).ok()?, u8::try_from(device).ok()?);
        let address = Sbdf::new(segment, bus, device, u8::try_from(function).ok()?)?;
        Some((Self { address, all }, rest))
    }
}

/// A number of nothing but digits, and what follows the colon after it. Before the slot xl takes no other.
fn plain_before_colon(text: &str) -> Option<(u32, &str)> {
    let (number, rest) = text.split_once(':')?;
    if !number.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((hexadecimal(number)?.0, rest))
}

impl Spec {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`], where xl ends with 2.
    pub fn parse(text: &str, defaults: Defaults) -> Result<Self, Malformed> {
        let mut reading = Reading { bdf: None, name: None, slot: None, defaults };
        let pairs = match Bdf::scan(text) {
            Some((bdf, rest)) => {
                reading.bdf = Some(bdf);
                reading.positional(rest)?
            }
            None => text,
        };
        reading.pairs(pairs)?;
        let device = match (reading.bdf, reading.name) {
            (Some(bdf), None) => Named::Bdf(bdf),
            (None, Some(name)) => Named::Name(name),
            _ => return Err(Malformed::Form),
        };
        let Defaults { seize, options } = reading.defaults;
        Ok(Self { device, slot: reading.slot, seize, options })
    }

    /// As the daemon is asked for it.
    pub fn to_attach(&self) -> AttachDevice {
        AttachDevice {
            device: self.device.to_string(),
            slot: self.slot,
            seize: self.seize,
            options: self.options,
            ..AttachDevice::default()
        }
    }
}

/// What was read so far.
struct Reading {
    bdf: Option<Bdf>,
    name: Option<String>,
    slot: Option<u8>,
    defaults: Defaults,
}

impl Reading {
    /// What follows the address: `[@VSLOT]`, and a comma if there is more, which is returned.
    fn positional<'t>(&mut self, text: &'t str) -> Result<&'t str, Malformed> {
        let (before, pairs) = text.split_once(',').unwrap_or((text, ""));
        match before.strip_prefix('@') {
            Some(slot) => match parse_slot(slot)? {
                (slot, "") => self.slot = Some(slot),
                _ => return Err(Malformed::Form),
            },
            None if before.is_empty() => {}
            None => return Err(Malformed::Form),
        }
        Ok(pairs)
    }

    /// `KEY=VALUE`, with commas between them and, if one likes, after the last.
    fn pairs(&mut self, mut text: &str) -> Result<(), Malformed> {
        while !text.is_empty() {
            let (key, rest) = text.split_once('=').ok_or(Malformed::Form)?;
            let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
            self.pair(key, value)?;
            text = rest;
        }
        Ok(())
    }

    fn pair(&mut self, key: &str, value: &str) -> Result<(), Malformed> {
        let options = &mut self.defaults.options;
        match key {
            "bdf" => self.bdf = Some(Bdf::parse(value).ok_or(Malformed::Form)?),
            "name" => self.name = Some(value.to_owned()),
            // As xl, which does not look at what follows the number here.
            "vslot" => self.slot = Some(parse_slot(value)?.0),
            "seize" => self.defaults.seize = is_true(value),
            "permissive" => options.permissive = is_true(value),
            "msitranslate" => options.msitranslate = is_true(value),
            "power_mgmt" => options.power_mgmt = is_true(value),
            "rdm_policy" => options.rdm_policy = parse_reserved_memory(value)?,
            _ => return Err(Malformed::UnknownKey(key.to_owned())),
        }
        Ok(())
    }
}

/// A slot, and what follows it.
fn parse_slot(text: &str) -> Result<(u8, &str), Malformed> {
    let (slot, rest) = hexadecimal(text).filter(|(slot, _)| *slot < SLOTS).ok_or(Malformed::Form)?;
    Ok((u8::try_from(slot).map_err(|_| Malformed::Form)?, rest))
}

fn parse_reserved_memory(text: &str) -> Result<ReservedMemory, Malformed> {
    match text.to_ascii_lowercase().as_str() {
        // What "invalid" stands for is not said anywhere; xl takes it for the default.
        "strict" | "invalid" => Ok(ReservedMemory::Strict),
        "relaxed" => Ok(ReservedMemory::Relaxed),
        _ => Err(Malformed::UnknownReservedMemory(text.to_owned())),
    }
}

#[cfg(test)]
mod tests;
