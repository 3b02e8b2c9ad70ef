//! Physdev operations by the hypercall ioctl of `/dev/xen/privcmd` (xen/include/public/physdev.h).
#![expect(unsafe_code, reason = "hypercalls take addresses of memory")]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use xenpcid_address::{DomainId, Sbdf};

use crate::{HostError, MsiVector, Pirq};

/// `__HYPERVISOR_physdev_op`.
const HYPERVISOR_PHYSDEV_OP: u64 = 33;
const PHYSDEVOP_MAP_PIRQ: u64 = 13;
const PHYSDEVOP_UNMAP_PIRQ: u64 = 14;
const PHYSDEVOP_PREPARE_MSIX: u64 = 30;
const PHYSDEVOP_RELEASE_MSIX: u64 = 31;
const MAP_PIRQ_TYPE_GSI: i32 = 1;
/// MSI with the segment in the upper half of `bus`; MSI-X if `table_base` is not 0.
const MAP_PIRQ_TYPE_MSI_SEGMENT: i32 = 3;
/// Let Xen choose.
const ANY: i32 = -1;
const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// `struct privcmd_hypercall`.
#[repr(C)]
struct PrivcmdHypercall {
    operation: u64,
    arguments: [u64; 5],
}

nix::ioctl_write_ptr_bad!(
    privcmd_hypercall,
    nix::ioc!(nix::sys::ioctl::NONE, b'P', 0, size_of::<PrivcmdHypercall>()),
    PrivcmdHypercall
);

/// `struct physdev_map_pirq`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MapPirq {
    domain: u16,
    kind: i32,
    index: i32,
    pirq: i32,
    bus: i32,
    devfn: i32,
    entry: i32,
    table_base: u64,
}

/// `struct physdev_unmap_pirq`.
#[repr(C)]
#[derive(Clone, Copy)]
struct UnmapPirq {
    domain: u16,
    pirq: i32,
}

/// `struct physdev_pci_device`.
#[repr(C)]
#[derive(Clone, Copy)]
struct PciDevice {
    segment: u16,
    bus: u8,
    devfn: u8,
}

const _: () = {
    assert!(size_of::<PrivcmdHypercall>() == 48);
    assert!(size_of::<MapPirq>() == 40);
    assert!(std::mem::offset_of!(MapPirq, table_base) == 32);
    assert!(size_of::<UnmapPirq>() == 8);
    assert!(size_of::<PciDevice>() == 4);
};

/// The privileged command device, and the page through which arguments are passed.
pub struct Physdev {
    privcmd: File,
    buffer: Mutex<HypercallPage>,
}

impl Physdev {
    pub fn open() -> Result<Self, HostError> {
        Ok(Self { privcmd: open("/dev/xen/privcmd")?, buffer: Mutex::new(HypercallPage::open()?) })
    }

    /// One operation. Its argument is copied into the page that Xen can reach, and back from it.
    fn call<T: Copy>(&self, operation: u64, argument: &mut T) -> Result<(), Errno> {
        const { assert!(size_of::<T>() <= PAGE_SIZE.get()) };
        // A panic elsewhere cannot leave the page in a state that matters: each call writes it first.
        let buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = buffer.address.cast::<T>();
        // SAFETY: the page is ours, mapped, large enough and page-aligned, and the lock makes us its only user.
        unsafe { slot.write(*argument) };
        let hypercall = PrivcmdHypercall {
            operation: HYPERVISOR_PHYSDEV_OP,
            arguments: [operation, slot.as_ptr() as u64, 0, 0, 0],
        };
        // SAFETY: the descriptor is open; Xen reads and writes only the struct in the page, whose layout is asserted above.
        unsafe { privcmd_hypercall(self.privcmd.as_raw_fd(), &raw const hypercall) }?;
        // SAFETY: as for the write; every bit pattern is valid for these structs of integers.
        *argument = unsafe { slot.read() };
        Ok(())
    }

    pub fn map_gsi(&self, domain: DomainId, gsi: u32) -> Result<Pirq, HostError> {
        let failed = |errno| HostError::new("map_gsi", format_args!("GSI {gsi} for domain {domain}"), errno);
        let gsi = i32::try_from(gsi).map_err(|_| failed(Errno::EINVAL))?;
        self.map(MapPirq {
            domain: domain.0,
            kind: MAP_PIRQ_TYPE_GSI,
            index: gsi,
            pirq: gsi,
            bus: 0,
            devfn: 0,
            entry: 0,
            table_base: 0,
        })
        .map_err(failed)
    }

    pub fn map_msi(&self, domain: DomainId, function: Sbdf, vector: MsiVector) -> Result<Pirq, HostError> {
        let (entry, table_base) = match vector {
            MsiVector::Msi => (0, 0),
            MsiVector::Msix { entry, table_bar } => (i32::from(entry), table_bar),
        };
        let [bus_high, bus_low] = function.segment().to_be_bytes();
        self.map(MapPirq {
            domain: domain.0,
            kind: MAP_PIRQ_TYPE_MSI_SEGMENT,
            index: ANY,
            pirq: ANY,
            bus: i32::from_be_bytes([bus_high, bus_low, 0, function.bus()]),
            devfn: i32::from(function.devfn()),
            entry,
            table_base,
        })
        .map_err(|errno| HostError::new("map_msi", format_args!("{vector:?} of {function} for domain {domain}"), errno))
    }

    fn map(&self, mut request: MapPirq) -> Result<Pirq, Errno> {
        self.call(PHYSDEVOP_MAP_PIRQ, &mut request)?;
        u32::try_from(request.pirq).map(Pirq).map_err(|_| Errno::EINVAL)
    }

    pub fn unmap_pirq(&self, domain: DomainId, pirq: Pirq) -> Result<(), HostError> {
        let failed = |errno| HostError::new("unmap_pirq", format_args!("pirq {} of domain {domain}", pirq.0), errno);
        let pirq = i32::try_from(pirq.0).map_err(|_| failed(Errno::EINVAL))?;
        self.call(PHYSDEVOP_UNMAP_PIRQ, &mut UnmapPirq { domain: domain.0, pirq }).map_err(failed)
    }

    pub fn prepare_msix(&self, function: Sbdf) -> Result<(), HostError> {
        self.call(PHYSDEVOP_PREPARE_MSIX, &mut device(function))
            .map_err(|errno| HostError::new("prepare_msix", function, errno))
    }

    pub fn release_msix(&self, function: Sbdf) -> Result<(), HostError> {
        self.call(PHYSDEVOP_RELEASE_MSIX, &mut device(function))
            .map_err(|errno| HostError::new("release_msix", function, errno))
    }
}

fn device(function: Sbdf) -> PciDevice {
    PciDevice { segment: function.segment(), bus: function.bus(), devfn: function.devfn() }
}

fn open(path: &str) -> Result<File, HostError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_CLOEXEC.bits())
        .open(path)
        .map_err(|error| HostError::from_io("open", path, &error))
}

/// A page of `/dev/xen/hypercall`, which stays where it is while Xen uses it. Memory of the heap may not: Xen answers `EFAULT`
/// when Linux moves it or makes it copy-on-write.
struct HypercallPage {
    address: NonNull<c_void>,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for HypercallPage {}

impl HypercallPage {
    fn open() -> Result<Self, HostError> {
        const PATH: &str = "/dev/xen/hypercall";
        let device = open(PATH)?;
        // SAFETY: a new mapping at an address of the kernel's choice changes no memory of this process.
        let address = unsafe {
            mmap(None, PAGE_SIZE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &device, 0)
        }
        .map_err(|errno| HostError::new("mmap", PATH, errno))?;
        Ok(Self { address })
    }
}

impl Drop for HypercallPage {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this size; no reference into it outlives a call. Failure would mean a wrong address.
        let _ = unsafe { munmap(self.address, PAGE_SIZE.get()) };
    }
}
