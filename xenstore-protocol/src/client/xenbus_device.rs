use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path as FilePath;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::libc;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// The kernel's xenbus device as a byte stream.
///
/// The kernel takes whole messages and never makes a writer wait for readiness: the device polls as readable only, so
/// waiting for it to become writable would never end. Each message is written by one call.
pub(super) struct XenbusDevice {
    file: AsyncFd<File>,
}

impl XenbusDevice {
    pub(super) fn open(path: &FilePath) -> io::Result<Self> {
        Self::new(OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?)
    }

    /// `file` must be non-blocking.
    #[expect(
        deprecated,
        reason = "the replacement is unsafe, for types that change their descriptor; a File never does, and unsafe is \
                  forbidden in this crate"
    )]
    fn new(file: File) -> io::Result<Self> {
        Ok(Self { file: AsyncFd::with_interest(file, Interest::READABLE)? })
    }
}

impl AsyncRead for XenbusDevice {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.file.poll_read_ready(cx))?;
            match ready.try_io(|fd| fd.get_ref().read(buffer.initialize_unfilled())) {
                Ok(result) => return Poll::Ready(result.map(|length| buffer.advance(length))),
                Err(_not_ready_after_all) => {}
            }
        }
    }
}

impl AsyncWrite for XenbusDevice {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.file.get_ref().write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
