use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::interface::Method;
use crate::message::{Call, Inbox, Reply, frame};
use crate::operations::Step;
use crate::refusal::Refusal;

/// Bytes of the longest reply that is read.
const LONGEST_REPLY: usize = 64 << 20;

/// How long the daemon may take to answer a call that replies once: it may have to wait for the host.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket.
    #[error(
        "there is no control socket {}: is xenpcid running? Start it with `systemctl start xenpcid`, or name its socket with --socket",
        .0.display()
    )]
    NoSocket(PathBuf),
    /// The socket of a daemon that has ended.
    #[error(
        "nobody answers on the control socket {}: xenpcid has ended; `journalctl -u xenpcid` says why, `systemctl start xenpcid` starts it",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error("the control socket {} is not for this user: run as root", .0.display())]
    NotPermitted(PathBuf),
    /// The daemon takes its time.
    #[error("xenpcid does not answer on {}: `journalctl -u xenpcid` may say what it is at", .0.display())]
    NoAnswer(PathBuf),
    /// The caller's time is up.
    #[error("it is not done yet, and goes on: `xenpci watch` and `xenpci status` show how")]
    GaveUp,
    /// The connection was closed.
    #[error("xenpcid closed the connection before it answered: did it end? See `journalctl -u xenpcid`")]
    Closed,
    /// Something else did not work.
    #[error("the control socket {} failed", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What came is no reply to the call.
    #[error("xenpcid's answer to {method} is not understood; do xenpci and xenpcid have the same version?")]
    Malformed {
        /// What was called.
        method: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What came is too long.
    #[error("xenpcid's answer is longer than {LONGEST_REPLY} bytes; is it xenpcid that serves {}?", .0.display())]
    TooLong(PathBuf),
    /// The daemon says no.
    #[error("xenpcid says: {0}")]
    Refused(Refusal),
    /// The daemon says no, in words that are not known here.
    #[error("xenpcid says {error} {parameters}; do xenpci and xenpcid have the same version?")]
    RefusedOtherwise {
        /// The error's name.
        error: String,
        /// Its parameters.
        parameters: Value,
    },
}

impl ClientError {
    /// Whether there was no daemon to be talked to.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::NoSocket(_) | Self::NotRunning(_) | Self::NotPermitted(_) | Self::NoAnswer(_) => true,
            Self::Closed | Self::Io { .. } | Self::Refused(Refusal::PermissionDenied {}) => true,
            Self::GaveUp
            | Self::Malformed { .. }
            | Self::TooLong(_)
            | Self::Refused(_)
            | Self::RefusedOtherwise { .. } => false,
        }
    }
}

/// A connection to the daemon. Calls block.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    /// What was received of replies that were not taken yet.
    received: Inbox,
    /// How long a reply may take; any time if `None`.
    patience: Option<Duration>,
    deadline: Option<Instant>,
}

impl Client {
    /// Connects to the daemon's socket, normally [`SOCKET`](crate::SOCKET).
    ///
    /// # Errors
    /// [`ClientError::NoSocket`], [`ClientError::NotRunning`], [`ClientError::NotPermitted`], [`ClientError::Io`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref().to_owned();
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) => return Err(failed(path, error)),
        };
        match stream.set_write_timeout(Some(PATIENCE)) {
            Ok(()) => Ok(Self { stream, path, received: Inbox::default(), patience: Some(PATIENCE), deadline: None }),
            Err(error) => Err(failed(path, error)),
        }
    }

    /// From that moment on every call ends with [`ClientError::GaveUp`], also one that is waited for then.
    pub fn give_up_at(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Calls a method that replies once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn call<M: Method>(&mut self, parameters: &M) -> Result<M::Reply, ClientError> {
        self.send(parameters, false)?;
        Ok(self.receive::<M>()?.0)
    }

    /// Calls a method that tells its progress, and waits for its result as long as it takes; `None` if the call said that
    /// it does not want to wait for one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn operate<M, T>(&mut self, parameters: &M, mut progress: impl FnMut(&str)) -> Result<Option<T>, ClientError>
    where
        M: Method<Reply = Step<T>>,
    {
        let mut last = None;
        for step in self.call_more(parameters)? {
            let Step { progress: line, result } = step?;
            if let Some(line) = line {
                progress(&line);
            }
            last = result;
        }
        Ok(last)
    }

    /// Calls a method that replies as often as there is something to tell, with any time in between.
    ///
    /// # Errors
    /// [`ClientError`], also in place of a reply; then that was the last.
    pub fn call_more<M: Method>(&mut self, parameters: &M) -> Result<Replies<'_, M>, ClientError> {
        self.send(parameters, true)?;
        Ok(Replies { client: Some(self), method: PhantomData })
    }

    fn send<M: Method>(&mut self, parameters: &M, more: bool) -> Result<(), ClientError> {
        self.patience = (!more).then_some(PATIENCE);
        let malformed = |source| ClientError::Malformed { method: M::NAME, source };
        let parameters = Some(serde_json::to_value(parameters).map_err(malformed)?);
        let call = Call { method: M::NAME.to_owned(), parameters, oneway: false, more, upgrade: false };
        let bytes = frame(&call).map_err(malformed)?;
        match self.stream.write_all(&bytes) {
            // A daemon that closes the connection has said why, which is read next.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(self.path.clone(), error)),
            _ => Ok(()),
        }
    }

    /// The next reply, and whether more follow.
    fn receive<M: Method>(&mut self) -> Result<(M::Reply, bool), ClientError> {
        let malformed = |source| ClientError::Malformed { method: M::NAME, source };
        let reply: Reply = serde_json::from_slice(&self.next_message()?).map_err(malformed)?;
        let (continues, error, parameters) = (reply.continues, reply.error.clone(), reply.parameters.clone());
        match reply.result() {
            Ok(result) => Ok((serde_json::from_value(result).map_err(malformed)?, continues)),
            Err(Some(refusal)) => Err(ClientError::Refused(refusal)),
            Err(None) => Err(ClientError::RefusedOtherwise {
                error: error.unwrap_or_default(),
                parameters: parameters.unwrap_or_default(),
            }),
        }
    }

    fn next_message(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            if let Some(message) = self.received.take() {
                return Ok(message);
            }
            if self.received.len() > LONGEST_REPLY {
                return Err(ClientError::TooLong(self.path.clone()));
            }
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ClientError::GaveUp);
            }
            let timeout = left.into_iter().chain(self.patience).min();
            self.stream.set_read_timeout(timeout).map_err(|error| failed(self.path.clone(), error))?;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(length) => self.received.bytes().extend(chunk.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The deadline, which is looked at above.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && timeout == left => {}
                Err(error) => return Err(failed(self.path.clone(), error)),
            }
        }
    }
}

fn failed(path: PathBuf, source: io::Error) -> ClientError {
    match source.kind() {
        io::ErrorKind::NotFound => ClientError::NoSocket(path),
        io::ErrorKind::ConnectionRefused => ClientError::NotRunning(path),
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted(path),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::NoAnswer(path),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::Closed,
        _ => ClientError::Io { path, source },
    }
}

/// The replies to [`Client::call_more`].
#[derive(Debug)]
pub struct Replies<'c, M> {
    /// Until the last reply.
    client: Option<&'c mut Client>,
    method: PhantomData<M>,
}

impl<M: Method> Iterator for Replies<'_, M> {
    type Item = Result<M::Reply, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        let client = self.client.take()?;
        Some(client.receive::<M>().map(|(reply, continues)| {
            if continues {
                self.client = Some(client);
            }
            reply
        }))
    }
}
