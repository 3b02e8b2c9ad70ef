//! Values of keys: what each kind looks like, and what to do about one that does not.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::error::Mistake;
use crate::toml_table::{Written, string};
use crate::{Policies, Settings, UnknownWord};

/// A value as TOML has it.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// A string that `parse` understands; `what` says what it is not, and `help` how it is written.
pub(super) fn parsed<T>(
    value: &Value<'_>,
    what: &str,
    help: &'static str,
    mistakes: &mut Vec<Mistake>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<Written<T>> {
    let text = string(value, mistakes)?;
    let Some(value) = parse(&text.value) else {
        let message = format!("\"{}\" is not {what}", text.value.escape_debug());
        mistakes.push(Mistake::new(text.span, message).help(help));
        return None;
    };
    Some(Written { value, span: text.span })
}

/// A word of a few.
pub(super) fn word<T: FromStr<Err = UnknownWord>>(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<T> {
    let text = string(value, mistakes)?;
    text.value.parse().map_err(|error: UnknownWord| mistakes.push(Mistake::new(text.span, error.to_string()))).ok()
}

/// Any number of words of a few.
pub(super) fn words<T: FromStr<Err = UnknownWord>>(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Vec<T> {
    match value.get_ref() {
        DeValue::Array(list) => list.iter().filter_map(|value| word(value, mistakes)).collect(),
        _ => word(value, mistakes).into_iter().collect(),
    }
}

/// A whole number in `range`.
pub(super) fn number(
    value: &Value<'_>,
    range: RangeInclusive<u16>,
    what: &str,
    help: &'static str,
    mistakes: &mut Vec<Mistake>,
) -> Option<Written<u16>> {
    let (number, shown) = match value.get_ref() {
        DeValue::Integer(digits) => {
            let number = u16::from_str_radix(digits.as_str(), digits.radix()).ok();
            (number.filter(|number| range.contains(number)), digits.to_string())
        }
        DeValue::String(text) => (None, format!("\"{}\"", text.escape_debug())),
        _ => (None, "this".to_owned()),
    };
    let span = value.span();
    match number {
        Some(value) => Some(Written { value, span }),
        None => {
            mistakes.push(Mistake::new(span, format!("{shown} is not {what}")).help(help));
            None
        }
    }
}

/// A vendor ID or device ID: hexadecimal digits in a string, or a hexadecimal number.
pub(super) fn id(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<u16> {
    let help =
        "write up to four hexadecimal digits in quotation marks, such as \"8086\"; `lspci -nn` shows them in brackets";
    let id = match value.get_ref() {
        DeValue::Integer(digits) if digits.radix() == 16 => u16::from_str_radix(digits.as_str(), 16).ok(),
        // 8086 without quotation marks is not 0x8086.
        DeValue::Integer(_) => None,
        _ => return parsed(value, "an ID", help, mistakes, hexadecimal_id).map(|id| id.value),
    };
    if id.is_none() {
        mistakes.push(Mistake::new(value.span(), "this number is not an ID").help(help));
    }
    id
}

/// Two IDs with a colon between them.
pub(super) fn id_pair(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<(u16, u16)> {
    let help =
        "write the IDs of the subsystem's vendor and of the subsystem, such as \"8086:a01f\"; `lspci -nnv` shows them";
    let pair = parsed(value, "the ID of a subsystem", help, mistakes, |text| {
        let (vendor, device) = text.split_once(':')?;
        Some((hexadecimal_id(vendor)?, hexadecimal_id(device)?))
    });
    pair.map(|pair| pair.value)
}

fn hexadecimal_id(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_id = (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_id.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// A device serial number.
pub(super) fn serial(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<u64> {
    let help = "write eight pairs of hexadecimal digits, such as \"00-11-22-ff-ff-33-44-55\"; `lspci -v` shows it as \
                Device Serial Number";
    parsed(value, "a serial number", help, mistakes, |text| bytes(text, '-').map(u64::from_be_bytes))
        .map(|serial| serial.value)
}

/// The Ethernet address of one interface.
pub(super) fn mac(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<Written<[u8; 6]>> {
    let help = "write six pairs of hexadecimal digits, such as \"00:16:3e:12:34:56\"";
    let address = parsed(value, "an Ethernet address", help, mistakes, |text| bytes(text, ':'))?;
    let [first, ..]: [u8; 6] = address.value;
    // The first bit on the wire (IEEE 802-2014 8.2.2).
    let fault = match address.value {
        [0, 0, 0, 0, 0, 0] => "00:00:00:00:00:00 is no address of an interface",
        _ if first & 1 != 0 => "this is an address of a group of interfaces (multicast), not of one",
        _ => return Some(address),
    };
    let help = "the first pair is even for one interface; 00:16:3e is Xen's, any other three pairs may follow";
    mistakes.push(Mistake::new(address.span, fault).help(help));
    None
}

fn bytes<const N: usize>(text: &str, separator: char) -> Option<[u8; N]> {
    let pair = |pair: &str| {
        let is_pair = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_pair.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
    };
    text.split(separator).map(pair).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// The way to a device from its host bridge, in small letters.
pub(super) fn path(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let help = "write pci, segment and bus of the host bridge, then device and function of each step, such as \
                \"pci0000:00/1c.0/00.0\"; `xenpci tree` shows it";
    parsed(value, "a way to a device", help, mistakes, |text| {
        let text = text.to_ascii_lowercase();
        let mut steps = text.split('/');
        let (segment, bus) = steps.next()?.strip_prefix("pci")?.split_once(':')?;
        let is_hexadecimal = |text: &str| text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let is_bridge = segment.len() >= 4 && is_hexadecimal(segment) && bus.len() == 2 && is_hexadecimal(bus);
        let is_step = |step: &str| {
            let Some((device, function)) = step.split_once('.') else { return false };
            let is_device = u8::from_str_radix(device, 16).is_ok_and(|device| device < 32);
            device.len() == 2 && is_hexadecimal(device) && is_device && matches!(function.as_bytes(), [b'0'..=b'7'])
        };
        let mut steps = steps.peekable();
        (is_bridge && steps.peek().is_some() && steps.all(is_step)).then_some(text)
    })
    .map(|path| path.value)
}

/// How long something may take at most; not nothing, and not for ever.
pub(super) fn deadline(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<Duration> {
    let help = "write a number and its unit, such as \"60s\" or \"2min\": more than nothing, and at most an hour";
    time(value, help, mistakes)
}

/// As [`deadline`], or `false`, which is `None`; `true` is [`Settings::HOLD`].
pub(super) fn hold(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<Option<Duration>> {
    let help = "write a number and its unit, such as \"60s\", at most an hour, or false to let the domain run at once";
    match value.get_ref() {
        DeValue::Boolean(false) => Some(None),
        DeValue::Boolean(true) => Some(Some(Settings::HOLD)),
        _ => time(value, help, mistakes).map(Some),
    }
}

fn time(value: &Value<'_>, help: &'static str, mistakes: &mut Vec<Mistake>) -> Option<Duration> {
    let fault = match value.get_ref() {
        DeValue::String(_) => {
            let is_sensible = |time: &Duration| !time.is_zero() && *time <= Settings::LONGEST;
            let parse = |text: &str| humantime::parse_duration(text).ok().filter(is_sensible);
            return parsed(value, "a time to wait", help, mistakes, parse).map(|time| time.value);
        }
        DeValue::Integer(_) | DeValue::Float(_) => "a number without a unit is not a time",
        _ => "this is not a time to wait",
    };
    mistakes.push(Mistake::new(value.span(), fault).help(help));
    None
}

/// A name that is not empty.
pub(super) fn name(value: &Value<'_>, help: &'static str, mistakes: &mut Vec<Mistake>) -> Option<Written<String>> {
    parsed(value, "a name", help, mistakes, |text| (!text.trim().is_empty()).then(|| text.to_owned()))
}

/// The name of a policy, one of `policies` if these are known.
pub(super) fn policy(value: &Value<'_>, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let policy = string(value, mistakes)?;
    if let Some(policies) = policies.filter(|policies| policies.get(&policy.value).is_none()) {
        let meant = crate::nearest::did_you_mean(&policy.value, policies.names());
        let message = format!("there is no policy {}{meant}", policy.value.escape_debug());
        let help = format!("there are {}", policies.names().collect::<Vec<_>>().join(", "));
        mistakes.push(Mistake::new(policy.span, message).help(help));
        return None;
    }
    Some(policy.value)
}
