use std::cell::Cell;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admission::{Admission, Rights};
use crate::dispatch::{self, Answer, Service};
use crate::events::Watcher;
use crate::message::{Call, Inbox, Reply, frame};
use crate::progress::{News, Running};
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

/// At most one refused connection in this time is logged.
const COMPLAINTS: Duration = Duration::from_secs(1);

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
    /// When a refused connection was last logged: anybody can be refused as often as he likes.
    complained: Cell<Option<Instant>>,
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
        Ok(Self {
            listener,
            path: path.to_owned(),
            admission: Admission::default(),
            limits: Limits::default(),
            complained: Cell::default(),
        })
    }

    /// With other callers than root and this process' own user: the socket becomes the group's whose members may read.
    ///
    /// # Errors
    /// [`BindError::Io`]: its permissions could not be changed.
    pub fn with_admission(mut self, admission: Admission) -> Result<Self, BindError> {
        let failed = |operation, source| BindError::Io { operation, path: self.path.clone(), source };
        if let Some(group) = admission.readers() {
            chown(&self.path, None, Some(group)).map_err(|source| failed("give to the read-only group", source))?;
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o660))
                .map_err(|source| failed("set the permissions of", source))?;
        }
        self.admission = admission;
        Ok(self)
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
        let mut readers = 0_usize;
        loop {
            let is_full = connections.len() >= self.limits.connections;
            tokio::select! {
                Some(ended) = connections.join_next() => {
                    // One that ended in a panic is taken for a reader: they get a place too many, and nobody one too few.
                    readers = readers.saturating_sub(usize::from(ended.is_ok_and(|rights| rights == Rights::Reads)));
                }
                accepted = self.listener.accept(), if !is_full => match accepted {
                    Ok((stream, _)) => {
                        if let Some(rights) = self.admit(&stream, readers) {
                            readers += usize::from(rights == Rights::Reads);
                            let (limits, service) = (self.limits, service.clone());
                            let connection = Connection { stream, received: Inbox::default(), limits, rights };
                            connections.spawn_local(async move {
                                connection.serve(service).await;
                                rights
                            });
                        }
                    }
                    // Out of file descriptors, most likely: what helps is that a connection ends.
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the control socket cannot be accepted");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }
    }

    /// What the client may do; if that is nothing, it is told why. Those who may only read have half of the connections at
    /// most, so that they cannot keep root out.
    fn admit(&self, stream: &UnixStream, readers: usize) -> Option<Rights> {
        let peer = stream.peer_cred();
        let refusal = match peer.as_ref().ok().and_then(|peer| self.admission.rights(peer)) {
            Some(Rights::Reads) if readers >= self.limits.connections / 2 => {
                let reason = "too many members of the read-only group are connected: try again later".to_owned();
                Refusal::Failed { reason }
            }
            Some(rights) => return Some(rights),
            None => Refusal::PermissionDenied {},
        };
        if self.complained.get().is_none_or(|last| last.elapsed() >= COMPLAINTS) {
            tracing::warn!(?peer, %refusal, "a connection to the control socket is refused");
            self.complained.set(Some(Instant::now()));
        }
        refuse(stream, &refusal);
        None
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
    rights: Rights,
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
    async fn serve<S: Service + 'static>(mut self, service: Rc<S>) {
        loop {
            if let Err(ended) = self.answer_next(&service).await {
                if let Ended::Because(refusal) = ended {
                    tracing::debug!(%refusal, "a connection to the control socket is closed");
                    refuse(&self.stream, &refusal);
                }
                return;
            }
        }
    }

    async fn answer_next<S: Service + 'static>(&mut self, service: &Rc<S>) -> Result<(), Ended> {
        let Ok(message) = timeout(self.limits.idle, self.next_message()).await else {
            return Err(Ended::Silently);
        };
        let call: Call = serde_json::from_slice(&message?).map_err(not_a_message)?;
        let (oneway, more) = (call.oneway, call.more);
        match dispatch::answer(service, call, self.rights).await {
            // What was begun goes on.
            _ if oneway => Ok(()),
            Ok(Answer::Once(result)) => self.send(&Reply::with(result, false)).await,
            Ok(Answer::Operation(running)) => self.follow(running, more).await,
            Ok(Answer::Events(watcher)) => self.watch(watcher).await,
            // Written out, a refusal is a reply.
            Err(refusal) => self.send(&refusal).await,
        }
    }

    /// Replies with what an operation tells.
    async fn follow(&mut self, mut running: Running, more: bool) -> Result<(), Ended> {
        loop {
            match running.next().await {
                News::Line(line) if more => {
                    self.send(&Reply::with(json!({ "progress": line, "result": null }), true)).await?;
                }
                News::Line(_) => {}
                News::Answer(Ok(result)) => {
                    return self.send(&Reply::with(json!({ "progress": null, "result": result }), false)).await;
                }
                News::Answer(Err(refusal)) => return self.send(&refusal).await,
            }
        }
    }

    /// Replies with what happens until the client goes away. Calls that it sends meanwhile wait.
    async fn watch(&mut self, mut watcher: Watcher) -> Result<(), Ended> {
        self.send(&Reply::with(json!({ "event": null }), true)).await?;
        loop {
            let has_room = self.received.len() < self.limits.message;
            tokio::select! {
                event = watcher.next() => match event {
                    Some(event) => self.send(&Reply::with(json!({ "event": event }), true)).await?,
                    None => return self.send(&Reply::with(json!({ "event": null }), false)).await,
                },
                length = self.stream.read_buf(self.received.bytes()), if has_room => if length? == 0 {
                    return Err(Ended::Silently);
                }
            }
        }
    }

    async fn send(&mut self, message: &impl Serialize) -> Result<(), Ended> {
        let bytes = frame(message).map_err(not_a_message)?;
        match timeout(self.limits.idle, self.stream.write_all(&bytes)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Ended::Silently),
        }
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

#[expect(clippy::needless_pass_by_value, reason = "how map_err calls it")]
fn not_a_message(error: serde_json::Error) -> Ended {
    Ended::Because(Refusal::BadMessage { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use nix::unistd::getegid;
    use tokio::task::{LocalSet, spawn_blocking};

    use super::*;
    use crate::memory::Recorded;
    use crate::{Apply, Client, ClientError, DescribeDevice, ListDevices};

    /// What `client` makes of a server with these limits and this admission, on a socket of its path.
    fn under<T: Send + 'static>(
        admission: Admission,
        limits: Limits,
        client: impl FnOnce(PathBuf) -> T + Send + 'static,
    ) -> T {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("control");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let server = Server::bind(&path).unwrap().with_admission(admission).unwrap().with_limits(limits);
            tokio::select! {
                () = server.run(Recorded::default()) => unreachable!(),
                outcome = spawn_blocking(move || client(path)) => outcome.unwrap(),
            }
        })
    }

    fn is_denied<T>(result: Result<T, ClientError>) -> bool {
        matches!(result, Err(ClientError::Refused(Refusal::PermissionDenied {})))
    }

    #[test]
    fn connection_of_a_user_who_is_not_admitted_is_told_so_and_closed() {
        under(Admission::nobody_but(None), Limits::default(), |path| {
            let mut client = Client::connect(&path).unwrap();
            assert!(is_denied(client.call(&ListDevices {})));
            assert!(matches!(client.call(&ListDevices {}), Err(ClientError::Closed)));
        });
    }

    #[test]
    fn member_of_the_read_only_group_may_list_and_not_change() {
        let readers = Admission::nobody_but(Some(getegid().as_raw()));
        under(readers, Limits::default(), |path| {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            let mut client = Client::connect(&path).unwrap();
            assert!(client.call(&ListDevices {}).is_ok());
            assert!(is_denied(client.call(&DescribeDevice { device: xenpcid_address::Sbdf::from_devfn(0, 0, 0) })));
            assert!(is_denied(client.operate(&Apply { wait: true }, |_| ())));
            assert!(client.call(&ListDevices {}).is_ok());
            assert_eq!(mode & 0o7777, 0o660);
        });
    }

    #[test]
    fn readers_have_half_of_the_connections_and_each_place_again_that_one_leaves() {
        let readers = Admission::nobody_but(Some(getegid().as_raw()));
        under(readers, Limits { connections: 3, ..Limits::default() }, |path| {
            let mut first = Client::connect(&path).unwrap();
            assert!(first.call(&ListDevices {}).is_ok());
            let error = Client::connect(&path).unwrap().call(&ListDevices {}).unwrap_err();
            assert!(matches!(error, ClientError::Refused(Refusal::Failed { .. })), "{error}");
            drop(first);
            // The server notices in its own time.
            while Client::connect(&path).unwrap().call(&ListDevices {}).is_err() {}
        });
    }
}
