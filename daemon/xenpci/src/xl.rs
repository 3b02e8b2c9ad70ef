//! The commands that xl has for PCI devices, with its grammar, its output and its exit statuses.
//!
//! They are read here and not by clap: xl's options end at the first operand, its help is on standard output even for a
//! command line that is wrong, and scripts depend on both. clap knows of them, by [`Listed`], for its help, the completions
//! and the man pages.
//!
//! ```text
//!   xenpci [--socket PATH] pci-attach ...  ┐
//!   xl-pci attach ...     (a symlink)      ├─► Invocation ─► options ─► carried out over the control socket
//!   xl-pci-attach ...     (a symlink)      ┘
//! ```
//! What is not as xl does it is in [`differences`].

mod carry_out;
mod command;
pub mod differences;
mod listed;
mod options;
mod scan;
mod spec;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use self::listed::Listed;
pub use self::spec::{Defaults, Malformed, Spec};

use self::carry_out::Ended;
use self::command::{COMMANDS, Command};
use crate::screen;

/// Environment variable with the path of the control socket.
pub const SOCKET_VARIABLE: &str = "XENPCID_SOCKET";

/// Symlinks to this program begin with it.
const SYMLINK: &str = "xl-pci";

/// A command line with one of these commands.
#[derive(Debug)]
pub struct Invocation {
    command: &'static Command,
    /// How it was called, for its messages: `xenpci pci-attach`.
    called: String,
    socket: PathBuf,
    /// After the command.
    arguments: Vec<String>,
}

/// A symlink that there is no command for.
#[derive(Debug)]
pub struct NoCommand(String);

impl Invocation {
    /// One of these commands, if `arguments`, which begin with the name of the program, are one. `globals` are the options
    /// that may stand before it, all of which have a value.
    ///
    /// # Errors
    /// [`NoCommand`].
    pub fn find(arguments: &[OsString], globals: &[String]) -> Result<Option<Self>, NoCommand> {
        let arguments: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let Some((program, rest)) = arguments.split_first() else {
            return Ok(None);
        };
        let program =
            Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let socket = std::env::var_os(SOCKET_VARIABLE).map_or_else(|| xenpcid_control::SOCKET.into(), PathBuf::from);
        match program.strip_prefix(SYMLINK) {
            Some("") => {
                let Some((word, rest)) = rest.split_first() else {
                    return Err(NoCommand(program));
                };
                let called = format!("{program} {word}");
                let command = command::find(word).or_else(|| command::find(&format!("pci-{word}")));
                let command = command.ok_or_else(|| NoCommand(called.clone()))?;
                Ok(Some(Self { command, called, socket, arguments: rest.to_vec() }))
            }
            Some(_) => {
                let command = program.strip_prefix("xl-").and_then(command::find);
                let command = command.ok_or_else(|| NoCommand(program.clone()))?;
                Ok(Some(Self { command, called: program, socket, arguments: rest.to_vec() }))
            }
            None => Ok(Self::after_globals(rest, globals, socket)),
        }
    }

    fn after_globals(mut rest: &[String], globals: &[String], mut socket: PathBuf) -> Option<Self> {
        loop {
            let (word, after) = rest.split_first()?;
            rest = after;
            let Some(option) = word.strip_prefix("--") else {
                let command = command::find(word)?;
                let called = format!("xenpci {word}");
                return Some(Self { command, called, socket, arguments: rest.to_vec() });
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, value),
                None => {
                    let (value, after) = rest.split_first()?;
                    rest = after;
                    (option, value.as_str())
                }
            };
            // What else stands before a command, clap reads.
            globals.iter().find(|global| *global == name)?;
            if name == "socket" {
                socket = value.into();
            }
        }
    }

    /// Carries it out.
    pub fn run(self) -> ExitCode {
        let Self { command, called, socket, arguments } = self;
        let ended = match options::read(&arguments, command.switches) {
            Err(options::Stop::Help) => return print(&command.help(&called), ExitCode::SUCCESS),
            Err(options::Stop::NotSupported(option)) => Err(Ended::usage(format!("option `{option}' not supported."))),
            Ok(given) if given.operands.len() < command.operands => {
                let (count, plural) = (command.operands, if command.operands == 1 { "" } else { "s" });
                anstream::eprintln!("'{called}' requires at least {count} argument{plural}.\n");
                return print(&command.help(&called), ExitCode::from(carry_out::USAGE));
            }
            Ok(given) => carry_out::carry_out(command.name, &socket, &given),
        };
        match ended {
            Ok(text) => print(&text, ExitCode::SUCCESS),
            Err(ended) => ended.report(),
        }
    }
}

impl NoCommand {
    /// Says so.
    pub fn report(self) -> ExitCode {
        let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        anstream::eprintln!("{}: command not implemented; there are {}", self.0, names.join(", "));
        ExitCode::FAILURE
    }
}

fn print(text: &str, status: ExitCode) -> ExitCode {
    match screen::print(text) {
        Ok(()) => status,
        Err(failure) => failure.report(),
    }
}
