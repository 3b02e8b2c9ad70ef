//! Reads requests from a device for ever, one thread for each command that runs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use xenpcid_testbed_agent::{Reply, Request, RequestId, decode_request, encode_reply};

use crate::{device, run};

/// The writing side of the device; a line is written whole.
#[derive(Clone)]
pub struct Replies(Arc<Mutex<File>>);

impl Replies {
    /// Sends one line.
    pub fn send(&self, id: RequestId, reply: &Reply) -> io::Result<()> {
        let mut device = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        device.write_all(encode_reply(id, reply).as_bytes())
    }
}

/// Serves a device. A virtio port reads as ended while nobody is connected on the host, so the end of the stream means
/// "open it again", not "stop".
pub fn serve(path: &Path) -> io::Result<()> {
    loop {
        let device = device::open(path)?;
        let replies = Replies(Arc::new(Mutex::new(device.try_clone()?)));
        let mut lines = BufReader::new(device);
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => accept(&String::from_utf8_lossy(&line), &replies),
            }
        }
        // There is no event for "the host connected again"; this only paces the attempts.
        thread::sleep(Duration::from_millis(100));
    }
}

fn accept(line: &str, replies: &Replies) {
    let Some((id, request)) = decode_request(line) else { return };
    let replies = replies.clone();
    match request {
        // A reply that cannot be written has nobody to be told to: the host has gone, and will ask again.
        Request::Ping => drop(replies.send(id, &Reply::Pong)),
        Request::Run { deadline, command } => {
            thread::spawn(move || run::run(id, &command, deadline, &replies));
        }
    }
}
