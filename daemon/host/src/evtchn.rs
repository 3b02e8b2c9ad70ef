//! Event channels through `/dev/xen/evtchn` (xen/evtchn.h of Linux' user headers).
#![expect(unsafe_code, reason = "ioctls take and return plain numbers and structs that only unsafe code can hand over")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use xenpcid_address::DomainId;

use crate::{EventChannels, EventPort, HostError, Wakeup};

#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}

#[repr(C)]
struct BindUnboundPort {
    remote_domain: u32,
}

#[repr(C)]
struct Notify {
    port: u32,
}

nix::ioctl_write_ptr_bad!(
    bind_interdomain,
    nix::ioc!(nix::sys::ioctl::NONE, b'E', 1, size_of::<BindInterdomain>()),
    BindInterdomain
);
nix::ioctl_write_ptr_bad!(
    bind_unbound_port,
    nix::ioc!(nix::sys::ioctl::NONE, b'E', 2, size_of::<BindUnboundPort>()),
    BindUnboundPort
);
nix::ioctl_write_ptr_bad!(notify, nix::ioc!(nix::sys::ioctl::NONE, b'E', 4, size_of::<Notify>()), Notify);

/// The event channel device.
pub struct EventDevice {
    path: PathBuf,
}

impl EventDevice {
    /// Ports will be bound on the device at `path`, each on a descriptor of its own.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// A new port that `domain` may bind, for a frontend to publish. Gives its number in this domain, and the port, which can
    /// be used at once: a notification is lost until the other side is bound.
    ///
    /// # Errors
    /// `ENOENT` if the device is not there; `ENOSPC` if this domain has no port left.
    pub fn open_unbound(&self, domain: DomainId) -> Result<(u32, Arc<dyn EventPort>), HostError> {
        let request = BindUnboundPort { remote_domain: u32::from(domain.0) };
        self.open(format!("port for domain {domain}"), |device| {
            // SAFETY: the descriptor is open and `request` is the struct that this ioctl reads.
            unsafe { bind_unbound_port(device.as_raw_fd(), &raw const request) }
        })
    }

    /// Opens the device and has `bind` bind its one port.
    fn open(
        &self,
        name: String,
        bind: impl FnOnce(&File) -> Result<i32, Errno>,
    ) -> Result<(u32, Arc<dyn EventPort>), HostError> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
            .open(&self.path)
            .map_err(|e| HostError::from_io("open", self.path.display(), &e))?;
        let failed = |errno| HostError::new("bind_event_channel", &name, errno);
        let port = u32::try_from(bind(&device).map_err(failed)?).map_err(|_| failed(Errno::EOVERFLOW))?;
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| HostError::new("eventfd", &name, errno))?;
        Ok((port, Arc::new(BoundPort { device, port, wake, name })))
    }
}

impl EventChannels for EventDevice {
    fn bind(&self, domain: DomainId, remote_port: u32) -> Result<Arc<dyn EventPort>, HostError> {
        let request = BindInterdomain { remote_domain: u32::from(domain.0), remote_port };
        let (_, port) = self.open(format!("port {remote_port} of domain {domain}"), |device| {
            // SAFETY: the descriptor is open and `request` is the struct that this ioctl reads.
            unsafe { bind_interdomain(device.as_raw_fd(), &raw const request) }
        })?;
        Ok(port)
    }
}

/// A port bound on its own descriptor; the kernel closes the port with the descriptor.
struct BoundPort {
    device: File,
    port: u32,
    wake: EventFd,
    name: String,
}

impl BoundPort {
    fn error(&self, operation: &'static str, errno: Errno) -> HostError {
        HostError::new(operation, &self.name, errno)
    }
}

impl EventPort for BoundPort {
    fn wait(&self, timeout: Option<Duration>) -> Result<Wakeup, HostError> {
        let timeout = match timeout {
            // Rounded up: a wait that returns early would be a busy loop of its caller's.
            Some(time) => PollTimeout::try_from(time.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        loop {
            let mut descriptors = [
                PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.device.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut descriptors, timeout) {
                Ok(0) => return Ok(Wakeup::TimedOut),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(self.error("wait_event_channel", errno)),
            }
            if self.wake.read().is_ok() {
                return Ok(Wakeup::Woken);
            }
            let mut port = [0; 4];
            match (&self.device).read(&mut port) {
                Ok(_) => return Ok(Wakeup::Event),
                // Woken by the other descriptor, whose count another wait took.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(HostError::from_io("wait_event_channel", &self.name, &error)),
            }
        }
    }

    fn unmask(&self) -> Result<(), HostError> {
        (&self.device)
            .write_all(&self.port.to_ne_bytes())
            .map_err(|error| HostError::from_io("unmask_event_channel", &self.name, &error))
    }

    fn notify(&self) -> Result<(), HostError> {
        let request = Notify { port: self.port };
        // SAFETY: the descriptor is open and `request` is the struct that this ioctl reads.
        unsafe { notify(self.device.as_raw_fd(), &raw const request) }
            .map(drop)
            .map_err(|errno| self.error("notify_event_channel", errno))
    }

    fn wake(&self) -> Result<(), HostError> {
        self.wake.write(1).map(drop).map_err(|errno| self.error("wake_event_channel", errno))
    }
}
