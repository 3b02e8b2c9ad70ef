//! Opening the character devices that carry the protocol.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

/// Opens a device for reading and writing. A terminal is put in raw mode: no echo, no line editing, no translation of
/// newlines, no length limit for a line.
pub fn open(path: &Path) -> io::Result<File> {
    let device = OpenOptions::new().read(true).write(true).open(path)?;
    if let Ok(mut settings) = tcgetattr(&device) {
        cfmakeraw(&mut settings);
        tcsetattr(&device, SetArg::TCSANOW, &settings)?;
    }
    Ok(device)
}
