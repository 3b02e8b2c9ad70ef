//! A shell in dom0 for people.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::Options;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::testbed::Testbed;
use crate::workspace::Program;

/// Ends the session, as in telnet: Ctrl and `]`.
const ESCAPE: u8 = 0x1d;

/// Boots, and connects the terminal with a shell in dom0 until Ctrl-], or until standard input ends.
///
/// # Errors
/// If the machine does not come up.
pub fn run(testbed: &Rc<Testbed>, options: &Options) -> Result<()> {
    let daemon = options.program(Program::Daemon, testbed);
    let mut machine = Machine::boot(testbed, options.verbose)?;
    if options.keep {
        eprintln!("run folder: {}", machine.keep().display());
    }
    match daemon {
        Ok(program) => machine.install(Program::Daemon, &program)?,
        Err(error) => eprintln!("without xenpcid, which cannot be built: {error}"),
    }
    let socket = machine.console();
    let console = UnixStream::connect(&socket).map_err(Error::io("connect to", &socket))?;
    machine.dom0().sh("setsid -c sh -l < /dev/hvc1 > /dev/hvc1 2>&1 &")?;
    eprintln!("dom0's /host is {} here; Ctrl-] ends the machine", machine.share().display());
    let terminal = RawTerminal::enter();
    let result = copy(&console);
    drop(terminal);
    eprintln!();
    result
}

fn copy(console: &UnixStream) -> Result<()> {
    let from_console = console.try_clone().map_err(Error::io("read", "dom0's console"))?;
    thread::spawn(move || std::io::copy(&mut &from_console, &mut std::io::stdout()));
    let mut input = std::io::stdin().lock();
    let mut buffer = [0; 256];
    loop {
        let count = input.read(&mut buffer).map_err(Error::io("read", "standard input"))?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() || bytes.contains(&ESCAPE) {
            return Ok(());
        }
        (&mut &*console).write_all(bytes).map_err(Error::io("write to", "dom0's console"))?;
    }
}

/// Standard input passes each key on at once while this exists, Ctrl-C included.
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    fn enter() -> Self {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Self(None);
        }
        let before = tcgetattr(input.as_fd()).ok();
        if let Some(settings) = &before {
            let mut raw = settings.clone();
            cfmakeraw(&mut raw);
            // Without it keys arrive line by line, which still works.
            let _ = tcsetattr(input.as_fd(), SetArg::TCSANOW, &raw);
        }
        Self(before)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, settings);
        }
    }
}
