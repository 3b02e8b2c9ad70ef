//! A service of recorded answers behind a real socket, for tests of clients.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use xenpcid_address::Sbdf;

use crate::dispatch::Service;
use crate::interface::DeniedReply;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::types::{Denied, Device, DeviceDescription, Status};

/// A service that answers what it was given.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Answer to `GetStatus`; none is a failure.
    pub status: Option<Status>,
    /// Answer to `ListDevices`.
    pub devices: Vec<Device>,
    /// Claimed devices.
    pub descriptions: BTreeMap<Sbdf, DeviceDescription>,
    /// Answers to `ListDenied`, one after the other. The last one stays.
    pub denied: Mutex<VecDeque<Vec<Denied>>>,
}

impl Recorded {
    fn declared(&self, device: Sbdf) -> Result<(), Refusal> {
        let is_declared = self.devices.iter().any(|declared| declared.address == device);
        if is_declared { Ok(()) } else { Err(Refusal::DeviceNotFound { device }) }
    }
}

impl Service for Recorded {
    async fn status(&self) -> Result<Status, Refusal> {
        self.status.clone().ok_or_else(|| Refusal::Failed { reason: "no status was recorded".to_owned() })
    }

    async fn devices(&self) -> Result<Vec<Device>, Refusal> {
        Ok(self.devices.clone())
    }

    async fn denied(&self, device: Option<Sbdf>) -> Result<DeniedReply, Refusal> {
        if let Some(device) = device {
            self.declared(device)?;
        }
        let mut answers = self.denied.lock().map_err(|error| Refusal::Failed { reason: error.to_string() })?;
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let mut denied = answer.unwrap_or_default();
        denied.retain(|entry| device.is_none_or(|device| entry.device == device));
        Ok(DeniedReply { denied, uncounted: 0 })
    }

    async fn describe(&self, device: Sbdf) -> Result<DeviceDescription, Refusal> {
        self.declared(device)?;
        self.descriptions.get(&device).cloned().ok_or(Refusal::DeviceNotClaimed { device })
    }
}

/// A server in a thread of its own. Dropped, it is ended, and the socket removed.
#[derive(Debug)]
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves `recorded` on a socket at `path`; it can be connected to when this returns.
///
/// # Errors
/// What kept the thread, its runtime or the socket from being.
pub fn serve(path: impl AsRef<Path>, recorded: Recorded) -> io::Result<Serving> {
    let path = path.as_ref().to_owned();
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            // Nobody waits for it but the caller below, who waits as long as there is a sender.
            Err(error) => return ready.send(Err(error)).unwrap_or_default(),
        };
        LocalSet::new().block_on(&runtime, async {
            match Server::bind(&path) {
                Ok(server) => {
                    ready.send(Ok(())).unwrap_or_default();
                    tokio::select! {
                        () = server.run(recorded) => {}
                        _ = stopped => {}
                    }
                }
                Err(error) => ready.send(Err(io::Error::other(error))).unwrap_or_default(),
            }
        });
    })?;
    is_ready.recv().map_err(io::Error::other)??;
    Ok(Serving { stop: Some(stop), thread: Some(thread) })
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed there.
            let _ = thread.join();
        }
    }
}
