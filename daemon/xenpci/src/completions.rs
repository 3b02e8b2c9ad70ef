//! Completions for bash, zsh and fish, which know devices and domains: the shell asks this program at each press of the
//! key, and this program asks the daemon. Without a daemon there is nothing to tell, and no complaint.

mod bash;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::{CommandFactory, ValueEnum};
use clap_complete::env::{EnvCompleter, Fish, Shells, Zsh};
use clap_complete::{CompleteEnv, CompletionCandidate};
use xenpcid_control::{Client, Device, DeviceState, ListDevices, ListDomains, ListFunctions};

use self::bash::Bash;
use crate::arguments::{self, Arguments};
use crate::failure::Failure;
use crate::screen;
use crate::xl::SOCKET_VARIABLE;

/// Environment variable by which a shell asks.
const VARIABLE: &str = "XENPCI_COMPLETE";

const NAME: &str = "xenpci";

const SHELLS: Shells<'static> = Shells(&[&Bash, &Zsh, &Fish]);

/// A shell.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Zsh
    Zsh,
    /// fish
    Fish,
}

/// Answers a shell, if one asks; the process ends then.
pub fn answer() {
    CompleteEnv::with_factory(Arguments::command).var(VARIABLE).shells(SHELLS).complete();
}

/// Prints what makes a shell ask.
pub fn run(arguments: &arguments::Completions) -> Result<(), Failure> {
    let shell: &dyn EnvCompleter = match arguments.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Domains by name, or by number where they have none.
pub fn domains(current: &OsStr) -> Vec<CompletionCandidate> {
    let domains = ask(|client| Some(client.call(&ListDomains {}).ok()?.domains));
    let candidate = |(name, id): (Option<String>, u16)| match name {
        Some(name) => (name, format!("domain {id}")),
        None => (id.to_string(), "domain without a name".to_owned()),
    };
    matching(current, domains.into_iter().map(|domain| candidate((domain.name, domain.id))))
}

/// Devices that are declared or claimed, by address and by name.
pub fn devices(current: &OsStr) -> Vec<CompletionCandidate> {
    by_address_and_name(current, "", |_| true)
}

/// Devices that a domain could get.
pub fn assignable_devices(current: &OsStr) -> Vec<CompletionCandidate> {
    by_address_and_name(current, "", is_assignable)
}

/// Devices that a domain could get, for a PCI_SPEC_STRING.
pub fn assignable_specs(current: &OsStr) -> Vec<CompletionCandidate> {
    by_address_and_name(current, "name=", is_assignable)
}

/// Devices that domains have.
pub fn attached_devices(current: &OsStr) -> Vec<CompletionCandidate> {
    by_address_and_name(current, "", |device| device.guest.is_some())
}

/// Devices that domains have, for a PCI_SPEC_STRING.
pub fn attached_specs(current: &OsStr) -> Vec<CompletionCandidate> {
    by_address_and_name(current, "name=", |device| device.guest.is_some())
}

/// Devices that are claimed and that no domain has.
pub fn claimed(current: &OsStr) -> Vec<CompletionCandidate> {
    by_address_and_name(current, "", |device| matches!(device.state, DeviceState::Quarantined | DeviceState::Broken))
}

fn is_assignable(device: &Device) -> bool {
    matches!(device.state, DeviceState::Quarantined | DeviceState::Unclaimed)
}

/// All functions of the host.
pub fn functions(current: &OsStr) -> Vec<CompletionCandidate> {
    let functions = ask(|client| Some(client.call(&ListFunctions {}).ok()?.functions));
    let candidates = functions.into_iter().map(|function| {
        let driver = function.driver.map(|driver| format!(", {driver}")).unwrap_or_default();
        (function.address.to_string(), format!("{:04x}:{:04x}{driver}", function.vendor, function.device))
    });
    matching(current, candidates)
}

fn by_address_and_name(current: &OsStr, prefix: &str, wanted: impl Fn(&Device) -> bool) -> Vec<CompletionCandidate> {
    let devices = ask(|client| Some(client.call(&ListDevices {}).ok()?.devices));
    let candidates = devices.into_iter().filter(wanted).flat_map(|device| {
        let address = device.address.map(|address| address.to_string());
        let name = device.name.as_ref().map(|name| format!("{prefix}{name}"));
        let help = describe(&device);
        address.into_iter().chain(name).map(move |value| (value, help.clone()))
    });
    matching(current, candidates)
}

fn describe(device: &Device) -> String {
    let what = match (device.vendor, device.device) {
        (Some(vendor), Some(device)) => format!("{vendor:04x}:{device:04x}"),
        _ => device.identity.clone(),
    };
    match &device.guest {
        Some(guest) => format!("{what}, in {}", guest.name),
        None => what,
    }
}

/// What begins with what was typed. An address may be typed without its segment, if that is 0.
fn matching(current: &OsStr, candidates: impl Iterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let matching = candidates.filter_map(|(value, help)| {
        let short = value.strip_prefix("0000:").filter(|short| !current.is_empty() && short.starts_with(&*current));
        let value = short.map(str::to_owned).or_else(|| value.starts_with(&*current).then(|| value.clone()))?;
        let help = StyledStr::from(screen::harmless(&help));
        Some(CompletionCandidate::new(screen::harmless(&value)).help(Some(help)))
    });
    matching.collect()
}

fn ask<T>(question: impl FnOnce(&mut Client) -> Option<Vec<T>>) -> Vec<T> {
    let client = Client::connect(socket()).ok();
    client.and_then(|mut client| question(&mut client)).unwrap_or_default()
}

/// The daemon's socket, if the command line that is being completed names it; or as always.
fn socket() -> PathBuf {
    let words: Vec<OsString> = std::env::args_os().collect();
    let option = words.windows(2).find_map(|pair| match pair {
        [option, value] if option == "--socket" => Some(value.clone()),
        _ => None,
    });
    option.or_else(|| std::env::var_os(SOCKET_VARIABLE)).map_or_else(|| xenpcid_control::SOCKET.into(), PathBuf::from)
}
