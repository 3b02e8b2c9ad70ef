//! The PV guest that this program runs in: a page and a port of its own, and its connection to xenstore.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Instant;

use pcifront_shim::{Connection, SharedPage};
use xenpcid_address::DomainId;
use xenpcid_host::{EventDevice, EventPort, GrantAllocator, GrantedOwnPage, GrantedPage, HostError, Wakeup};
use xenstore_protocol::client::Endpoint;
use xenstore_protocol::pci_nodes::RingNodes;
use xenstore_protocol::{Client, Path};

use crate::Error;

/// The devices that are needed, and the kernel module that makes each.
const DEVICES: [(&str, &str); 2] = [("dev/xen/gntalloc", "xen-gntalloc"), ("dev/xen/evtchn", "xen-evtchn")];

/// Where the kernel's pcifront shows when it has the bus.
const KERNEL_FRONTEND: &str = "sys/bus/xen/devices/pci-0/driver";

/// Name of the socket that only one process has; it vanishes with the process.
const LOCK: &[u8] = b"pcifront-shim";

/// Whether a frontend can run here, by the files below `root`, normally `/`.
///
/// # Errors
/// [`Error::NotAGuest`] with the remedy.
pub fn check(root: &FilePath) -> Result<(), Error> {
    let not_a_guest =
        |problem: &str, remedy: &str| Err(Error::NotAGuest { problem: problem.to_owned(), remedy: remedy.to_owned() });
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    if text("sys/hypervisor/type").trim() != "xen" {
        return not_a_guest(
            "this system does not run on Xen",
            "run this in a PV guest that has a PCI device (pcifront-shim compare runs anywhere)",
        );
    }
    let kind = text("sys/hypervisor/guest_type");
    if !["", "PV"].contains(&kind.trim()) {
        return not_a_guest(
            &format!("this is a {} guest", kind.trim()),
            "PCI devices come over pciif in PV guests only",
        );
    }
    for (device, module) in DEVICES {
        if !root.join(device).exists() {
            return not_a_guest(&format!("there is no /{device}"), &format!("load its module: modprobe {module}"));
        }
    }
    if root.join(KERNEL_FRONTEND).exists() {
        return not_a_guest(
            "the kernel's pcifront has this guest's PCI bus",
            "do not load xen-pcifront, or take the bus from it: echo pci-0 > /sys/bus/xen/drivers/pcifront/unbind (not \
             with xen-pciback, which does not connect again)",
        );
    }
    Ok(())
}

/// A page and a port of this guest, for dom0 to connect to.
pub struct GuestRing {
    page: GrantedOwnPage,
    port: Arc<dyn EventPort>,
    number: u32,
    _lock: UnixListener,
}

impl GuestRing {
    /// Allocates both.
    ///
    /// # Errors
    /// The kernel's devices refuse, or another process has a ring.
    pub fn open() -> Result<Self, Error> {
        let lock = SocketAddr::from_abstract_name(LOCK)
            .and_then(|address| UnixListener::bind_addr(&address))
            .map_err(|_in_use| Error::AnotherRuns)?;
        let page = GrantAllocator::new("/dev/xen/gntalloc").grant(DomainId::DOM0)?;
        let (number, port) = EventDevice::new("/dev/xen/evtchn").open_unbound(DomainId::DOM0)?;
        Ok(Self { page, port, number, _lock: lock })
    }

    /// By what dom0 finds them.
    #[must_use]
    pub fn nodes(&self) -> RingNodes {
        RingNodes { grant_reference: self.page.reference(), event_channel: self.number }
    }
}

impl Connection for GuestRing {
    fn page(&self) -> &SharedPage {
        self.page.page()
    }

    fn ring(&self) -> io::Result<()> {
        self.port.notify().map_err(into_io)
    }

    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.port.wait(Some(left)).map_err(into_io)? {
            Wakeup::Event => self.port.unmask().map_err(into_io),
            Wakeup::Woken | Wakeup::TimedOut => Ok(()),
        }
    }
}

fn into_io(error: HostError) -> io::Error {
    io::Error::from_raw_os_error(error.errno as i32)
}

/// Connects to xenstore, and asks for the number of this domain.
///
/// # Errors
/// There is no xenstore, or it does not say.
pub async fn xenstore() -> Result<(Client, DomainId), Error> {
    let client = Client::connect(Endpoint::from_environment()).await?;
    let path = Path::from_static("domid");
    let text = client.read_string(&path).await?;
    let domain = text.parse().map(DomainId).map_err(|_| Error::NotAGuest {
        problem: format!("xenstore says that this is domain \"{text}\""),
        remedy: "that is no number: is this xenstore the guest's own?".to_owned(),
    })?;
    Ok((client, domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PV: [(&str, &str); 4] = [
        ("sys/hypervisor/type", "xen\n"),
        ("sys/hypervisor/guest_type", "PV\n"),
        ("dev/xen/gntalloc", ""),
        ("dev/xen/evtchn", ""),
    ];

    fn checked<'a>(files: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> String {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        check(root.path()).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn pv_guest_without_pcifront_is_where_it_runs() {
        assert_eq!(checked(&PV), "");
    }

    #[test]
    fn what_is_missing_or_in_the_way_is_named_with_its_remedy() {
        assert!(checked(&[]).starts_with("this system does not run on Xen; run this in a PV guest"));
        assert!(checked(&[PV[0], ("sys/hypervisor/guest_type", "HVM")]).starts_with("this is a HVM guest; "));
        assert_eq!(checked(&PV[..2]), "there is no /dev/xen/gntalloc; load its module: modprobe xen-gntalloc");
        assert_eq!(checked(&PV[..3]), "there is no /dev/xen/evtchn; load its module: modprobe xen-evtchn");
        let loaded = PV.iter().chain(&[("sys/bus/xen/devices/pci-0/driver/unbind", "")]);
        assert!(
            checked(loaded).starts_with("the kernel's pcifront has this guest's PCI bus; do not load xen-pcifront, or")
        );
    }
}
