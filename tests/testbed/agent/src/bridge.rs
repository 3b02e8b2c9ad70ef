//! Copies bytes between two character devices until one of them goes away.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use crate::device;

/// Copies both ways; returns when either direction ends, which for a console is the end of its guest.
pub fn bridge(one: &Path, other: &Path) -> io::Result<()> {
    let one = device::open(one)?;
    let other = device::open(other)?;
    let (ended, first_end) = mpsc::channel();
    for (from, to) in [(one.try_clone()?, other.try_clone()?), (other, one)] {
        let ended = ended.clone();
        thread::spawn(move || ended.send(copy(from, to)));
    }
    first_end.recv().map_err(io::Error::other)?
}

/// `std::io::copy` would hold bytes back in its buffer; a console's bytes are wanted at once.
fn copy(mut from: File, mut to: File) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
