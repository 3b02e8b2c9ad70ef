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

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::wire::{Decoder, Message, PAYLOAD_MAX};
    use crate::{Client, Path};

    /// Sequenced packets keep the bounds of writes, as the device does.
    fn pair() -> (XenbusDevice, File) {
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        (XenbusDevice::new(File::from(near)).unwrap(), File::from(far))
    }

    /// The kernel's side: takes a message from each write, and answers in pieces.
    async fn answer(file: File, requests: usize) -> Vec<usize> {
        let far = XenbusDevice::new(file).unwrap();
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut lengths = Vec::new();
        for _ in 0..requests {
            let mut buffer = [0; 8192];
            let length = reader.read(&mut buffer).await.unwrap();
            lengths.push(length);
            let mut decoder = Decoder::new();
            decoder.push(&buffer[..length]);
            let request = decoder.next_message().unwrap().unwrap();
            let answer = Message { payload: b"OK\0".to_vec(), ..request };
            for piece in answer.encode().unwrap().chunks(7) {
                writer.write_all(piece).await.unwrap();
            }
        }
        lengths
    }

    #[tokio::test]
    async fn each_message_is_written_whole_by_one_call() {
        let (near, far) = pair();
        let kernel = tokio::spawn(answer(far, 3));
        let client = Client::over(near);
        let node = Path::from_static("/n");
        let largest = vec![b'x'; PAYLOAD_MAX - "/n\0".len()];

        let (first, second, third) =
            tokio::join!(client.write(&node, "1"), client.write(&node, &largest), client.write(&node, "3"));

        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        assert_eq!(kernel.await.unwrap(), [16 + 4, 16 + 4096, 16 + 4]);
    }

    #[tokio::test]
    async fn closed_device_ends_the_stream() {
        let (mut near, far) = pair();
        drop(far);
        assert_eq!(near.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn device_that_is_not_there_is_an_error() {
        assert_eq!(
            XenbusDevice::open(FilePath::new("/nonexistent/xenbus")).err().map(|error| error.kind()),
            Some(io::ErrorKind::NotFound)
        );
    }
}
