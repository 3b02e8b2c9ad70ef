//! The server behind a unix socket.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};

use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use xenpcid_address::DomainId;

use super::Server;

/// A socket that is being served. Dropped, it takes no more connections and the socket is removed; open connections
/// stay.
#[derive(Debug)]
pub struct UnixServer {
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl UnixServer {
    pub(super) fn bind(server: Server, path: &FilePath) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                server.serve(DomainId::DOM0, stream);
            }
        });
        Ok(Self { path: path.to_owned(), accepting })
    }

    /// Path of the socket.
    #[must_use]
    pub fn path(&self) -> &FilePath {
        &self.path
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        self.accepting.abort();
        // Somebody else may have removed it already.
        let _ = fs::remove_file(&self.path);
    }
}
