//! Guests: a ring each, and a socket through which a test uses it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;

use crate::ring::Ring;
use crate::{in_rundir, tell_xenstored};

/// The rings that xenstored was given.
static RINGS: LazyLock<Mutex<HashMap<u16, Arc<Ring>>>> = LazyLock::new(Mutex::default);

/// A domain's ring.
pub fn ring(domain: u16) -> Option<Arc<Ring>> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner).get(&domain).cloned()
}

/// Makes a domain's ring, and the socket that leads to it.
pub fn introduce(domain: u16) -> Option<Arc<Ring>> {
    let ring = Arc::new(Ring::new()?);
    let path = in_rundir(&format!("domain-{domain}.socket"));
    // That of an earlier domain with this number.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).ok()?;
    RINGS.lock().unwrap_or_else(PoisonError::into_inner).insert(domain, ring.clone());
    let served = ring.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            serve(domain, &served, &stream);
        }
    });
    Some(ring)
}

/// Carries bytes both ways until the client closes its socket.
fn serve(domain: u16, ring: &Ring, stream: &UnixStream) {
    let closed = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            answers(domain, ring, stream, &closed);
            // Ends the other direction as well.
            let _ = stream.shutdown(Shutdown::Both);
        });
        requests(domain, ring, stream);
        closed.store(true, Ordering::Relaxed);
        ring.wake();
    });
}

fn requests(domain: u16, ring: &Ring, mut stream: &UnixStream) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let count = ring.wait_for(|| Some(ring.put_request(rest)).filter(|count| *count > 0));
            rest = rest.get(count..).unwrap_or_default();
            tell_xenstored(domain);
        }
    }
}

fn answers(domain: u16, ring: &Ring, mut stream: &UnixStream, closed: &AtomicBool) {
    loop {
        let bytes = ring.wait_for(|| {
            let bytes = ring.take_answers();
            (!bytes.is_empty() || closed.load(Ordering::Relaxed)).then_some(bytes)
        });
        if bytes.is_empty() || stream.write_all(&bytes).is_err() {
            return;
        }
        tell_xenstored(domain);
    }
}
