//! What the commands do, as a client of the daemon.

use std::path::Path;
use std::process::ExitCode;

use xenpcid_control::{
    Attach, Claim, Client, ClientError, Detach, Device, DeviceState, Domain, ListDevices, ListDomains, ListFunctions,
    Method, Refusal, Release, Step,
};

use super::options::Given;
use super::spec::{Bdf, Defaults, Malformed, Spec};
use crate::failure::Failure;
use crate::operation;

/// Exit status of a command line that is wrong.
pub const USAGE: u8 = 2;

/// What xenstore calls dom0.
const DOM0: &str = "Domain-0";

/// Most bytes of a name of a device.
const LONGEST_NAME: usize = 64;

/// An end that is not a success.
#[derive(Debug)]
pub enum Ended {
    /// It did not work; said as xl says it, and the exit status.
    Said(String, u8),
    /// It did not work; said in our own words.
    Failed(Failure),
}

impl Ended {
    /// The command line is wrong.
    pub fn usage(text: String) -> Self {
        Self::Said(text, USAGE)
    }

    /// Says it on standard error.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Said(text, status) => {
                anstream::eprintln!("{text}");
                ExitCode::from(status)
            }
            // xl has no status of its own for a host where it can do nothing.
            Self::Failed(failure) => {
                failure.report();
                ExitCode::FAILURE
            }
        }
    }
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.into())
    }
}

/// Carries out the command of that name. What is to be printed on success.
pub fn carry_out(name: &str, socket: &Path, given: &Given) -> Result<String, Ended> {
    let mut client = Client::connect(socket)?;
    match (name, given.operands.as_slice()) {
        ("pci-attach", [domain, spec, ..]) => attach(&mut client, domain, spec),
        ("pci-detach", [domain, spec, ..]) => detach(&mut client, domain, spec, given.has('f')),
        ("pci-list", [domain, ..]) => list(&mut client, domain),
        ("pci-assignable-add", [bdf, ..]) => assignable_add(&mut client, bdf, given.value('n')),
        ("pci-assignable-remove", [device, ..]) => assignable_remove(&mut client, device, given.has('r')),
        ("pci-assignable-list", _) => assignable_list(&mut client, given.has('n')),
        _ => Err(Ended::usage(format!("{name}: command not implemented"))),
    }
}

fn attach(client: &mut Client, domain: &str, text: &str) -> Result<String, Ended> {
    let domain = find_domain(client, domain)?;
    let spec = parse("pci-attach", text)?;
    let attach = Attach { domain, devices: vec![spec.to_attach()], timeout: None, wait: true };
    operate(client, &attach)
}

fn detach(client: &mut Client, domain: &str, text: &str, force: bool) -> Result<String, Ended> {
    let domain = find_domain(client, domain)?;
    let spec = parse("pci-detach", text)?;
    let detach = Detach { domain, devices: vec![spec.device.to_string()], force, timeout: None, wait: true };
    match operate(client, &detach) {
        // As xl, for whom a device that is not there is as gone as it can be.
        Err(Ended::Failed(Failure::Client(ClientError::Refused(refusal @ Refusal::NotAttached { .. })))) if force => {
            note(&refusal)
        }
        other => other,
    }
}

/// The devices on the domain's bus, where its guest sees them.
fn list(client: &mut Client, domain: &str) -> Result<String, Ended> {
    let id = find_domain(client, domain)?;
    let domains = client.call(&ListDomains {})?.domains;
    let bus =
        domains.into_iter().find(|domain| domain.id.to_string() == id).map(|domain| domain.bus).unwrap_or_default();
    if bus.is_empty() {
        return Ok(String::new());
    }
    let mut text = "Vdev Device\n".to_owned();
    for device in bus {
        // Until it has a slot, as xl prints what it knows no slot of.
        let guest_address = device.guest_address.as_deref().unwrap_or("00.0");
        text.push_str(&format!("{guest_address} {}\n", device.device));
    }
    Ok(text)
}

fn assignable_add(client: &mut Client, text: &str, name: Option<&str>) -> Result<String, Ended> {
    let Some(bdf) = Bdf::parse(text) else {
        return Err(Ended::usage(format!("pci-assignable-add: malformed BDF \"{text}\"")));
    };
    let name = name.filter(|name| !name.is_empty());
    if let Some(name) = name.filter(|name| !is_name(name)) {
        let text =
            format!("pci-assignable-add: \"{name}\" is no name: at most {LONGEST_NAME} letters, digits and signs");
        return Err(Ended::Said(text, 1));
    }
    let claim = Claim { device: bdf.to_string(), name: name.map(str::to_owned), allow: Vec::new(), reset: None };
    operate(client, &claim)
}

fn assignable_remove(client: &mut Client, text: &str, rebind: bool) -> Result<String, Ended> {
    let devices = client.call(&ListDevices {})?.devices;
    let is_named = devices.iter().any(|device| device.name.as_deref() == Some(text));
    let bdf = Bdf::parse(text).filter(|_| !is_named);
    if !is_named && bdf.is_none() {
        return Err(Ended::usage(format!("pci-assignable-remove: malformed BDF '{text}'")));
    }
    let device = bdf.map_or_else(|| text.to_owned(), |bdf| bdf.to_string());
    match operate(client, &Release { device, rebind }) {
        Err(Ended::Failed(Failure::Client(ClientError::Refused(refusal)))) => match (refusal, bdf) {
            // It is dom0's already.
            (refusal @ (Refusal::DeviceNotClaimed { .. } | Refusal::NotAssignable { .. }), _) => note(&refusal),
            (refusal @ Refusal::DeviceNotFound { .. }, Some(bdf)) if is_present(client, bdf)? => note(&refusal),
            (refusal, _) => Err(ClientError::Refused(refusal).into()),
        },
        other => other,
    }
}

/// Nothing had to be done, which is a success.
fn note(why: &Refusal) -> Result<String, Ended> {
    anstream::eprintln!("xenpci: nothing to do: {why}");
    Ok(String::new())
}

fn is_present(client: &mut Client, bdf: Bdf) -> Result<bool, Ended> {
    let functions = client.call(&ListFunctions {})?.functions;
    Ok(functions.iter().any(|function| function.address == bdf.address))
}

/// Devices that a guest could be given.
fn assignable_list(client: &mut Client, with_names: bool) -> Result<String, Ended> {
    let devices = client.call(&ListDevices {})?.devices;
    let assignable = devices.iter().filter(|device| device.state == DeviceState::Quarantined);
    Ok(assignable.filter_map(|device| assignable_line(device, with_names)).collect())
}

fn assignable_line(device: &Device, with_names: bool) -> Option<String> {
    let name = device.name.as_deref().filter(|_| with_names).unwrap_or_default();
    Some(format!("{} {name}\n", device.address?))
}

/// The number of the domain, as xl finds it: text of nothing but digits is one, whether there is such a domain or not.
fn find_domain(client: &mut Client, text: &str) -> Result<String, Ended> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.trim_start_matches('0');
        return Ok(if number.is_empty() { "0".to_owned() } else { number.to_owned() });
    }
    if text == DOM0 {
        return Ok("0".to_owned());
    }
    let domains = client.call(&ListDomains {})?.domains;
    let named = |domain: &&Domain| domain.name.as_deref() == Some(text);
    match domains.iter().find(named) {
        Some(domain) => Ok(domain.id.to_string()),
        None => Err(Ended::Said(format!("{text} is an invalid domain identifier (rc=-6)"), 1)),
    }
}

fn parse(command: &str, text: &str) -> Result<Spec, Ended> {
    Spec::parse(text, Defaults::default()).map_err(|error| {
        let complaint = format!("{command}: malformed PCI_SPEC_STRING \"{text}\"");
        Ended::usage(match error {
            Malformed::Form => complaint,
            error => format!("{error}\n{complaint}"),
        })
    })
}

/// Silent when it works, as xl is, but for a terminal.
fn operate<M: Method<Reply = Step<T>>, T>(client: &mut Client, method: &M) -> Result<String, Ended> {
    operation::carry_out(client, method).map_err(Ended::Failed)?;
    Ok(String::new())
}

/// Whether a device may be called so.
fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.bytes().all(|byte| byte.is_ascii_graphic())
}
