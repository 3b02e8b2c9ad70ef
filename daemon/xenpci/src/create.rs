//! `xenpci create`: a domain with the devices that its xl.cfg lists, or none at all.
//!
//! ```text
//!   FILE ──► XlCfg ──► copy without pci= ──► xl create -p ──► paused domain
//!               │                                                  │
//!               └── pci= ──────────────────► Attach, all or none ──┤
//!                                                                  ├─ worked ──► xl unpause
//!                                                                  └─ not ─────► xl destroy
//! ```

mod domain;
mod xl_cfg;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use tempfile::NamedTempFile;
use xenpcid_control::{Attach, AttachDevice, Attached, Client, ClientError, Options};

use self::domain::{Xl, XlError};
use self::xl_cfg::{WrongKind, XlCfg, XlCfgError};
use crate::arguments::{Create, Places};
use crate::failure::Failure;
use crate::operation;
use crate::screen;
use crate::xl::{Defaults, Malformed, Spec};

/// Options of `xl create` that make no sense for a domain that stays paused until it has its devices, and why.
const NOT_TAKEN: [(&str, &str, &str); 4] = [
    ("-c", "--console", "connect to the console afterwards, with `xl console`"),
    ("-F", "--foreground", "xl would not return before the domain ends"),
    ("-n", "--dryrun", "use `xl create -n FILE` itself"),
    ("-h", "--help", "see `xl create --help`"),
];

/// Why there is no such domain.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The file is not there.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is wrong.
    #[error("{} is not understood", .0.display())]
    Syntax(PathBuf, #[source] XlCfgError),
    /// A setting in it is wrong.
    #[error("{} is not understood", .0.display())]
    Kind(PathBuf, #[source] WrongKind),
    /// A device in it is wrong.
    #[error("unable to parse PCI_SPEC_STRING `{0}' for passthrough: {1}; see xl-pci-configuration(5)")]
    Device(String, String),
    /// The domain has no name.
    #[error("{} does not name the domain: add name = \"...\"", .0.display())]
    NoName(PathBuf),
    /// The domain is of a kind that is not served.
    #[error("{} is of type {kind}: xenpcid gives devices to PV guests only, with type = \"pv\"", .path.display())]
    NotPv {
        /// The file.
        path: PathBuf,
        /// What it says.
        kind: String,
    },
    /// The domain would have no IOMMU.
    #[error("passthrough disabled but devices are specified in {}: remove passthrough = \"disabled\"", .0.display())]
    Disabled(PathBuf),
    /// An option that goes against what is to be done.
    #[error("{option} is not for `xenpci create`: {remedy}")]
    NotTaken {
        /// The option.
        option: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The copy could not be written.
    #[error("cannot write a copy of the configuration for xl")]
    Copy(#[source] std::io::Error),
    /// xl did not do it.
    #[error(transparent)]
    Xl(#[from] XlError),
    /// The devices were not attached.
    #[error("its devices were not attached: {0}")]
    Attach(#[source] ClientError),
    /// Somebody does not want it any more.
    #[error("interrupted")]
    Interrupted,
    /// It was created, and could not be completed.
    #[error("{cause}; domain {name} was destroyed again")]
    Undone {
        /// Its name.
        name: String,
        /// Why.
        cause: Box<CreateError>,
    },
    /// It was created, could not be completed, and is still there.
    #[error("{cause}; and domain {name} could not be destroyed again: {why}; it is paused: `xl destroy {name}`")]
    NotUndone {
        /// Its name.
        name: String,
        /// Why.
        cause: Box<CreateError>,
        /// Why not.
        why: XlError,
    },
}

/// What is to be made.
#[derive(Debug)]
struct Wanted {
    name: String,
    devices: Vec<AttachDevice>,
    /// For xl.
    configuration: String,
}

/// Creates the domain, attaches its devices, and lets it run.
pub fn run(places: &Places, arguments: &Create) -> Result<(), Failure> {
    let (settings, options) = split(&arguments.xl)?;
    let wanted = Wanted::read(&arguments.file, &settings)?;
    // Before anything is done: without the daemon there is nothing to be done.
    let client = Client::connect(&places.socket)?;
    let (events, interrupted) = mpsc::channel();
    let on_interrupt = events.clone();
    // A receiver that has gone means that it is done.
    ctrlc::set_handler(move || on_interrupt.send(Event::Interrupted).unwrap_or_default())?;
    let xl = Xl::find(&wanted.name).map_err(CreateError::Xl)?;
    let copy = wanted.copy()?;
    let attached = match complete(&xl, &wanted, copy.path(), &options, client, (events, interrupted)) {
        Ok(attached) => attached,
        Err(cause) => return Err(undo(&xl, cause).into()),
    };
    let name = screen::harmless(&wanted.name);
    let lines =
        attached.iter().map(|Attached { device, guest_address }| format!("{device} is {guest_address} in {name}\n"));
    screen::print(&lines.collect::<String>())
}

fn complete(
    xl: &Xl,
    wanted: &Wanted,
    copy: &Path,
    options: &[String],
    client: Client,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
) -> Result<Vec<Attached>, CreateError> {
    xl.create_paused(copy, options)?;
    let attached = match wanted.devices.as_slice() {
        [] => Vec::new(),
        devices => {
            let attach = Attach { domain: xl.number()?, devices: devices.to_vec(), timeout: None, wait: true };
            wait_for(attach, client, events)?
        }
    };
    xl.unpause()?;
    Ok(attached)
}

/// The domain is destroyed, if it came to be one.
fn undo(xl: &Xl, cause: CreateError) -> CreateError {
    if !xl.exists() {
        return cause;
    }
    let (name, cause) = (xl.name().to_owned(), Box::new(cause));
    match xl.destroy() {
        Ok(()) => CreateError::Undone { name, cause },
        Err(why) => CreateError::NotUndone { name, cause, why },
    }
}

enum Event {
    Progress(String),
    Done(Result<Option<Vec<Attached>>, ClientError>),
    Interrupted,
}

/// Attaches, until that has ended or somebody interrupts it. The daemon gives up when the domain is gone.
fn wait_for(
    attach: Attach,
    mut client: Client,
    (events, received): (mpsc::Sender<Event>, mpsc::Receiver<Event>),
) -> Result<Vec<Attached>, CreateError> {
    std::thread::spawn(move || {
        let progress = |text: &str| events.send(Event::Progress(text.to_owned())).unwrap_or_default();
        let done = client.operate(&attach, progress);
        // Nobody waits after an interrupt.
        events.send(Event::Done(done)).unwrap_or_default();
    });
    let bar = operation::progress();
    let outcome = loop {
        match received.recv() {
            Ok(Event::Progress(line)) => bar.set_message(screen::harmless(&line)),
            Ok(Event::Done(done)) => break done.map(Option::unwrap_or_default).map_err(CreateError::Attach),
            Ok(Event::Interrupted) | Err(mpsc::RecvError) => break Err(CreateError::Interrupted),
        }
    };
    bar.finish_and_clear();
    outcome
}

/// What is a setting among the arguments for xl, and what is not.
fn split(arguments: &[String]) -> Result<(Vec<String>, Vec<String>), CreateError> {
    for argument in arguments {
        let is_this = |(short, long, _): &&(&str, &str, _)| argument == short || argument == long;
        if let Some((_, _, remedy)) = NOT_TAKEN.iter().find(is_this) {
            return Err(CreateError::NotTaken { option: argument.clone(), remedy });
        }
    }
    // As xl tells them apart.
    Ok(arguments.iter().cloned().partition(|argument| !argument.starts_with('-') && argument.contains('=')))
}

impl Wanted {
    fn read(path: &Path, settings: &[String]) -> Result<Self, CreateError> {
        let read = |source| CreateError::Read(path.to_owned(), source);
        let mut text = std::fs::read_to_string(path).map_err(read)?;
        for setting in settings {
            text.push('\n');
            text.push_str(setting);
        }
        let file = XlCfg::parse(&text).map_err(|source| CreateError::Syntax(path.to_owned(), source))?;
        Self::from_file(path, &file)
    }

    fn from_file(path: &Path, file: &XlCfg) -> Result<Self, CreateError> {
        let kind = |source| CreateError::Kind(path.to_owned(), source);
        let name = file.text("name").map_err(kind)?.ok_or_else(|| CreateError::NoName(path.to_owned()))?;
        let defaults = defaults(file).map_err(kind)?;
        let specs = file.texts("pci").map_err(kind)?;
        let devices = specs.iter().map(|text| device(text, defaults)).collect::<Result<Vec<_>, _>>()?;
        if devices.is_empty() {
            return Ok(Self { name, devices, configuration: file.without(&["pci"]) });
        }
        let builder = || file.text("builder").map(|text| text.filter(|text| text == "hvm"));
        let of_type =
            file.text("type").and_then(|text| if text.is_some() { Ok(text) } else { builder() }).map_err(kind)?;
        if let Some(kind) = of_type.filter(|kind| kind != "pv") {
            return Err(CreateError::NotPv { path: path.to_owned(), kind });
        }
        // An IOMMU cannot be added later; and the devices' memory must not be where the guest's is.
        let mut configuration = file.without(&["pci", "passthrough", "e820_host"]);
        let passthrough = match file.text("passthrough").map_err(kind)?.as_deref() {
            None | Some("default") => "enabled".to_owned(),
            Some("disabled") => return Err(CreateError::Disabled(path.to_owned())),
            Some(other) => other.to_owned(),
        };
        configuration.push_str(&format!("\npassthrough = \"{passthrough}\"\ne820_host = 1\n"));
        Ok(Self { name, devices, configuration })
    }

    /// A copy that only this user can read, and that is gone when it is dropped.
    fn copy(&self) -> Result<NamedTempFile, CreateError> {
        let mut file =
            tempfile::Builder::new().prefix("xenpci-").suffix(".cfg").tempfile().map_err(CreateError::Copy)?;
        file.write_all(self.configuration.as_bytes()).map_err(CreateError::Copy)?;
        Ok(file)
    }
}

/// `pci_permissive` and the like.
fn defaults(file: &XlCfg) -> Result<Defaults, WrongKind> {
    let flag = |key| Ok(file.flag(key)?.unwrap_or_default());
    let options = Options {
        msitranslate: flag("pci_msitranslate")?,
        power_mgmt: flag("pci_power_mgmt")?,
        permissive: flag("pci_permissive")?,
        ..Options::default()
    };
    Ok(Defaults { seize: flag("pci_seize")?, options })
}

fn device(text: &str, defaults: Defaults) -> Result<AttachDevice, CreateError> {
    match Spec::parse(text, defaults) {
        Ok(spec) => Ok(spec.to_attach()),
        Err(Malformed::Form) => Err(CreateError::Device(text.to_owned(), "it is malformed".to_owned())),
        Err(error) => Err(CreateError::Device(text.to_owned(), error.to_string())),
    }
}
