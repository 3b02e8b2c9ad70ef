use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admission::Admission;
use crate::dispatch::{self, Service};
use crate::message::{Call, Inbox, frame};
use crate::refusal::Refusal;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// What clients may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one call. A connection that sends more without an end is closed.
    pub message: usize,
    /// Connections at a time. Others wait until one ends.
    pub connections: usize,
    /// How long a connection may send nothing, and take nothing of what it is sent, before it is closed.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 64 << 10, connections: 32, idle: Duration::from_secs(60) }
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers on it.
    #[error("another process serves the control socket {}: stop it, or choose another path", .0.display())]
    InUse(PathBuf),
    /// There is a file.
    #[error("{} is there and is no socket: remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Something did not work.
    #[error("cannot {operation} {}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The socket of the daemon. Dropped, it is removed.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    admission: Admission,
    limits: Limits,
}

impl Server {
    /// Creates the socket, for its owner alone, and its folder if that is missing. A socket that nobody answers on any
    /// more is replaced. Clients can connect from now on, and are answered when the server [runs](Self::run).
    ///
    /// To be called in a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`]; nothing was changed, but for the folder.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let path = path.as_ref();
        let failed = |operation| move |source| BindError::Io { operation, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed("create the folder of"))?;
        }
        remove_stale(path)?;
        let socket = UnixSocket::new_stream().map_err(failed("create"))?;
        socket.bind(path).map_err(failed("bind"))?;
        // Nobody can connect before there is somebody who listens.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed("set the permissions of"))?;
        let listener = socket.listen(BACKLOG).map_err(failed("listen on"))?;
        Ok(Self { listener, path: path.to_owned(), admission: Admission::default(), limits: Limits::default() })
    }

    /// With other users than root and this process' own.
    #[must_use]
    pub fn with_admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// With other limits than the default ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers calls for ever. Dropped, it closes all connections and removes the socket.
    ///
    /// To be run in a `LocalSet`, where each connection is a task.
    pub async fn run(self, service: impl Service + 'static) {
        let service = Rc::new(service);
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= self.limits.connections {
                connections.join_next().await;
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let uid = stream.peer_cred().map(|peer| peer.uid());
                        if uid.as_ref().is_ok_and(|uid| self.admission.admits(*uid)) {
                            let connection = Connection { stream, received: Inbox::default(), limits: self.limits };
                            connections.spawn_local(connection.serve(service.clone()));
                        } else {
                            tracing::warn!(?uid, "a connection to the control socket is refused");
                            refuse(&stream, &Refusal::PermissionDenied {});
                        }
                    }
                    // Out of file descriptors, most likely: what helps is that a connection ends.
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the control socket cannot be accepted");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Somebody else may have removed it already.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket of a process that is gone.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
        Err(_) => return Ok(()),
    }
    let failed = |operation, source| BindError::Io { operation, path: path.to_owned(), source };
    match probe(path) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(|source| failed("remove the stale socket", source)),
        // EAGAIN: somebody listens who has many connections to accept.
        Ok(()) | Err(Errno::EAGAIN) => Err(BindError::InUse(path.to_owned())),
        Err(errno) => Err(failed("connect to the present socket", errno.into())),
    }
}

/// Connects without waiting.
fn probe(path: &Path) -> nix::Result<()> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

/// Says why a connection is closed, as far as the socket takes it at once.
fn refuse(stream: &UnixStream, refusal: &Refusal) {
    if let Ok(bytes) = frame(refusal) {
        // A client that is gone misses nothing.
        let _ = stream.try_write(&bytes);
    }
}

/// One client.
struct Connection {
    stream: UnixStream,
    /// What was received of calls that were not answered yet.
    received: Inbox,
    limits: Limits,
}

/// Why a connection ends.
enum Ended {
    /// The client has closed it, is idle, or does not take its replies.
    Silently,
    /// It sent something else than calls.
    Because(Refusal),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Silently
    }
}

impl Connection {
    async fn serve<S: Service>(mut self, service: Rc<S>) {
        loop {
            if let Err(ended) = self.answer_next(&*service).await {
                if let Ended::Because(refusal) = ended {
                    tracing::debug!(%refusal, "a connection to the control socket is closed");
                    refuse(&self.stream, &refusal);
                }
                return;
            }
        }
    }

    async fn answer_next(&mut self, service: &impl Service) -> Result<(), Ended> {
        let Ok(message) = timeout(self.limits.idle, self.next_message()).await else {
            return Err(Ended::Silently);
        };
        let bad = |error: serde_json::Error| Ended::Because(Refusal::BadMessage { reason: error.to_string() });
        let call: Call = serde_json::from_slice(&message?).map_err(bad)?;
        let oneway = call.oneway;
        let reply = dispatch::reply(service, call).await.map_err(bad)?;
        if oneway {
            return Ok(());
        }
        let Ok(written) = timeout(self.limits.idle, self.stream.write_all(&reply)).await else {
            return Err(Ended::Silently);
        };
        Ok(written?)
    }

    /// The bytes before the next NUL.
    async fn next_message(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(message) = self.received.take() {
                return Ok(message);
            }
            if self.received.len() >= self.limits.message {
                let reason = format!("it is longer than {} bytes", self.limits.message);
                return Err(Ended::Because(Refusal::BadMessage { reason }));
            }
            if self.stream.read_buf(self.received.bytes()).await? == 0 {
                return Err(Ended::Silently);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_blocking};

    use super::*;
    use crate::memory::Recorded;
    use crate::{Client, ClientError, ListDevices};

    #[test]
    fn connection_of_a_user_who_is_not_admitted_is_told_so_and_closed() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("control");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let server = Server::bind(&path).unwrap().with_admission(Admission::nobody());
            let client = spawn_blocking(move || {
                let mut client = Client::connect(&path).unwrap();
                (client.call(&ListDevices {}).unwrap_err(), client.call(&ListDevices {}).unwrap_err())
            });
            tokio::select! {
                () = server.run(Recorded::default()) => unreachable!(),
                errors = client => {
                    let (first, second) = errors.unwrap();
                    assert!(matches!(first, ClientError::Refused(Refusal::PermissionDenied {})), "{first}");
                    assert!(matches!(second, ClientError::Closed), "{second}");
                }
            }
        });
    }
}
