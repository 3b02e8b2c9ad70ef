use std::env;
use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::xenbus_device::XenbusDevice;
use crate::Error;

/// A byte stream to a server.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections, again and again.
pub trait Connector: Send + Sync + 'static {
    /// Makes one connection.
    ///
    /// # Errors
    /// It could not be made; the client tries again later, unless this was its first.
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, Error>>;
}

/// Where a server is reached: a unix socket, or the kernel's xenbus device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Tried in this order at each connection.
    candidates: Vec<PathBuf>,
}

/// How often a server is asked that has a connection waiting already, and how long to wait each time: 5 s in all.
const BUSY_ATTEMPTS: u32 = 1000;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Socket of a server on the same machine.
const DEFAULT_SOCKET: &str = "/run/xenstored/socket";
/// The kernel's own connection, which works in every domain.
const DEVICES: [&str; 2] = ["/dev/xen/xenbus", "/proc/xen/xenbus"];

impl Endpoint {
    /// The socket or the xenbus device at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { candidates: vec![path.into()] }
    }

    /// As libxenstore finds the server: `$XENSTORED_PATH` alone if it is set; else the socket
    /// `$XENSTORED_RUNDIR/socket` (`/run/xenstored/socket` by default), then `/dev/xen/xenbus`, then
    /// `/proc/xen/xenbus`.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(env::var_os("XENSTORED_PATH"), env::var_os("XENSTORED_RUNDIR"))
    }

    fn from_variables(path: Option<impl Into<PathBuf>>, rundir: Option<impl Into<PathBuf>>) -> Self {
        if let Some(path) = path {
            return Self::at(path);
        }
        let socket = rundir.map_or_else(|| PathBuf::from(DEFAULT_SOCKET), |rundir| rundir.into().join("socket"));
        Self { candidates: std::iter::once(socket).chain(DEVICES.map(PathBuf::from)).collect() }
    }

    async fn open_any(&self) -> Result<Box<dyn Stream>, Error> {
        let mut tried = Vec::new();
        let mut kind = io::ErrorKind::NotFound;
        for candidate in &self.candidates {
            match open(candidate).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    tried.push(format!("{}: {error}", candidate.display()));
                    kind = error.kind();
                }
            }
        }
        Err(Error::Connect { tried: tried.join("; "), kind })
    }
}

async fn open(path: &FilePath) -> io::Result<Box<dyn Stream>> {
    if std::fs::metadata(path)?.file_type().is_socket() {
        Ok(Box::new(connect(path).await?))
    } else {
        Ok(Box::new(XenbusDevice::open(path)?))
    }
}

/// Connects to a socket. xenstored lets one connection wait to be accepted; the next one is refused with EAGAIN, and has
/// to come again.
async fn connect(path: &FilePath) -> io::Result<UnixStream> {
    for _ in 0..BUSY_ATTEMPTS {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(BUSY_PAUSE).await,
            other => return other,
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the server takes no connections"))
}

impl Connector for Endpoint {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, Error>> {
        Box::pin(self.open_any())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let candidates: Vec<_> = self.candidates.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&candidates.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixSocket;

    use super::*;

    const UNSET: Option<&str> = None;

    #[test]
    fn variables_come_before_the_default_socket_and_that_before_the_device() {
        assert_eq!(Endpoint::from_variables(Some("/s"), Some("/r")).to_string(), "/s");
        assert_eq!(
            Endpoint::from_variables(UNSET, Some("/r")).to_string(),
            "/r/socket or /dev/xen/xenbus or /proc/xen/xenbus"
        );
        assert_eq!(
            Endpoint::from_variables(UNSET, UNSET).to_string(),
            "/run/xenstored/socket or /dev/xen/xenbus or /proc/xen/xenbus"
        );
    }

    #[tokio::test]
    async fn connections_that_come_at_once_are_all_made_however_few_may_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let listener = socket.listen(1).unwrap();

        let accepting = tokio::spawn(async move {
            let mut accepted = Vec::new();
            while let Ok(connection) = listener.accept().await {
                accepted.push(connection);
                // Lets others come before the next is taken.
                tokio::task::yield_now().await;
            }
        });
        let connected = futures::future::join_all((0..10).map(|_| connect(&path))).await;
        accepting.abort();

        assert!(connected.iter().all(Result::is_ok), "{connected:?}");
    }

    #[tokio::test]
    async fn error_names_each_place_that_was_tried() {
        let endpoint = Endpoint { candidates: vec!["/nonexistent/a".into(), "/nonexistent/b".into()] };
        let error = endpoint.open_any().await.err().unwrap().to_string();
        assert!(error.contains("/nonexistent/a: ") && error.contains("/nonexistent/b: "), "{error}");
        assert!(error.contains("is xenstored running?"), "{error}");
    }
}
