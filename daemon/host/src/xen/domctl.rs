//! Domctls by libxenctrl. This module is the only user of xenctrl-sys and uses nothing of it but these calls.
#![expect(unsafe_code, reason = "libxenctrl is C")]

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc::c_int;
use xenctrl_sys::{
    XEN_DOMCTL_DEV_RDM_RELAXED, xc_assign_device, xc_deassign_device, xc_domain_getinfolist,
    xc_domain_iomem_permission, xc_domain_ioport_permission, xc_domain_irq_permission, xc_domain_pause,
    xc_domain_unpause, xc_domaininfo_t, xc_interface, xc_interface_close, xc_interface_open, xc_physinfo,
    xc_physinfo_t, xc_readconsolering, xc_send_debug_keys, xc_test_assign_device, xc_vcpu_getinfo, xc_vcpuinfo_t,
    xc_version,
};
use xenpcid_address::{DomainId, Sbdf};

use crate::{DomainInfo, HostError, HypervisorInfo, Pirq, ReservedMemory, ShutdownReason, Vcpu};

/// Command of `xc_version` that gives the version as `major << 16 | minor` (`XENVER_version`).
const XENVER_VERSION: c_int = 0;
/// Command of `xc_version` that gives Xen's command line (`XENVER_commandline`).
const XENVER_COMMAND_LINE: c_int = 9;
/// Bytes of `xen_commandline_t`.
const COMMAND_LINE: usize = 1024;
/// `XEN_SYSCTL_PHYSCAP_directio`: an IOMMU is enabled.
const PHYSCAP_DIRECTIO: u32 = 1 << 2;
/// `XEN_DOMINF_dying`.
const DOMINF_DYING: u32 = 1 << 0;
/// `XEN_DOMINF_hvm_guest`.
const DOMINF_HVM: u32 = 1 << 1;
/// `XEN_DOMINF_shutdown`.
const DOMINF_SHUTDOWN: u32 = 1 << 2;
/// `XEN_DOMINF_paused`.
const DOMINF_PAUSED: u32 = 1 << 3;
/// `XEN_DOMINF_shutdownshift`: the reason is the byte from this bit on.
const DOMINF_SHUTDOWN_SHIFT: u32 = 16;
/// Domains asked for in one call.
const DOMAINS_PER_CALL: usize = 128;

/// A handle of libxenctrl.
pub struct Libxenctrl {
    handle: NonNull<xc_interface>,
}

// SAFETY: a handle opened without XC_OPENFLAG_NON_REENTRANT may be used by several threads at once (xenctrl.h).
unsafe impl Send for Libxenctrl {}
// SAFETY: as above.
unsafe impl Sync for Libxenctrl {}

impl Drop for Libxenctrl {
    fn drop(&mut self) {
        // SAFETY: opened by us and not used again. There is nothing to do about an error of close.
        let _ = unsafe { xc_interface_close(self.handle.as_ptr()) };
    }
}

impl Libxenctrl {
    pub fn open() -> Result<Self, HostError> {
        // SAFETY: null loggers mean the library's own, and no flags mean that threads may share the handle.
        let handle = unsafe { xc_interface_open(std::ptr::null_mut(), std::ptr::null_mut(), 0) };
        NonNull::new(handle)
            .map(|handle| Self { handle })
            .ok_or_else(|| HostError::new("open", "libxenctrl", Errno::last()))
    }

    fn done(operation: &'static str, object: impl ToString, result: c_int) -> Result<c_int, HostError> {
        if result < 0 { Err(HostError::new(operation, object, Errno::last())) } else { Ok(result) }
    }

    pub fn info(&self) -> Result<HypervisorInfo, HostError> {
        // SAFETY: the handle is open; XENVER_version takes no argument.
        let version = unsafe { xc_version(self.handle.as_ptr(), XENVER_VERSION, std::ptr::null_mut()) };
        let version = Self::done("info", "Xen", version)?;
        let [major_high, major_low, minor_high, minor_low] = version.to_be_bytes();
        let mut physical = xc_physinfo_t::default();
        // SAFETY: the handle is open and `physical` is the struct that is filled.
        let result = unsafe { xc_physinfo(self.handle.as_ptr(), &raw mut physical) };
        Self::done("info", "Xen", result)?;
        Ok(HypervisorInfo {
            version: (u16::from_be_bytes([major_high, major_low]), u16::from_be_bytes([minor_high, minor_low])),
            iommu: physical.capabilities & PHYSCAP_DIRECTIO != 0,
            command_line: self.command_line()?,
        })
    }

    fn command_line(&self) -> Result<String, HostError> {
        let mut buffer = [0_u8; COMMAND_LINE];
        // SAFETY: the handle is open and the buffer has the size of `xen_commandline_t`, which is what is filled.
        let result = unsafe {
            xc_version(self.handle.as_ptr(), XENVER_COMMAND_LINE, buffer.as_mut_ptr().cast::<c_char>().cast())
        };
        Self::done("info", "Xen's command line", result)?;
        Ok(String::from_utf8_lossy(buffer.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned())
    }

    /// At most `limit` domains with numbers from `first` on.
    pub fn domains(&self, first: DomainId, limit: usize) -> Result<Vec<DomainInfo>, HostError> {
        let mut domains: Vec<DomainInfo> = Vec::new();
        let mut next = u32::from(first.0);
        while domains.len() < limit {
            let mut buffer = vec![xc_domaininfo_t::default(); (limit - domains.len()).min(DOMAINS_PER_CALL)];
            let room = u32::try_from(buffer.len()).unwrap_or(0);
            // SAFETY: the handle is open and `buffer` has room for as many as are asked for.
            let count = unsafe { xc_domain_getinfolist(self.handle.as_ptr(), next, room, buffer.as_mut_ptr()) };
            let count = Self::done("domains", "Xen", count)?;
            buffer.truncate(usize::try_from(count).unwrap_or(0));
            let Some(last) = buffer.last() else { break };
            next = u32::from(last.domain) + 1;
            domains.extend(buffer.iter().map(|info| DomainInfo {
                domain: DomainId(info.domain),
                uuid: info.handle,
                dying: info.flags & DOMINF_DYING != 0,
                shutdown: (info.flags & DOMINF_SHUTDOWN != 0).then(|| {
                    let [code, ..] = (info.flags >> DOMINF_SHUTDOWN_SHIFT).to_le_bytes();
                    ShutdownReason::from_code(code)
                }),
                paused: info.flags & DOMINF_PAUSED != 0,
                hvm: info.flags & DOMINF_HVM != 0,
            }));
        }
        Ok(domains)
    }

    pub fn vcpus(&self, domain: DomainId) -> Result<Vec<Vcpu>, HostError> {
        let mut found = xc_domaininfo_t::default();
        // SAFETY: the handle is open and `found` is room for one.
        let count = unsafe { xc_domain_getinfolist(self.handle.as_ptr(), domain.0.into(), 1, &raw mut found) };
        if Self::done("vcpus", format_args!("domain {domain}"), count)? == 0 || found.domain != domain.0 {
            return Err(HostError::new("vcpus", format_args!("domain {domain}"), Errno::ESRCH));
        }
        let mut vcpus = Vec::new();
        for id in 0..=found.max_vcpu_id {
            let mut vcpu = xc_vcpuinfo_t::default();
            // SAFETY: the handle is open and `vcpu` is the struct that is filled.
            let result = unsafe { xc_vcpu_getinfo(self.handle.as_ptr(), domain.0.into(), id, &raw mut vcpu) };
            match Self::done("vcpus", format_args!("vCPU {id} of domain {domain}"), result) {
                Ok(_) => vcpus.push(Vcpu { id, online: vcpu.online != 0, cpu: vcpu.cpu }),
                // Numbers can have gaps.
                Err(error) if error.errno == Errno::ESRCH => {}
                Err(error) => return Err(error),
            }
        }
        Ok(vcpus)
    }

    /// Presses a key of Xen's console, and gives what Xen wrote to it since.
    pub fn debug_key(&self, key: &CStr) -> Result<String, HostError> {
        let mut position = 0;
        self.console_since(&mut position)?;
        // SAFETY: the handle is open and the key is a string that ends with 0.
        let result = unsafe { xc_send_debug_keys(self.handle.as_ptr(), key.as_ptr()) };
        Self::done("debug_key", key.to_string_lossy(), result)?;
        self.console_since(&mut position)
    }

    /// What is in the ring of Xen's console from `position` on, which is then its end.
    fn console_since(&self, position: &mut u32) -> Result<String, HostError> {
        /// Nothing is cleared, and only what is new since `position` is given.
        const KEEP: c_int = 0;
        const SINCE: c_int = 1;
        let mut text = Vec::new();
        let mut buffer = vec![0_u8; 16384];
        loop {
            let mut length = u32::try_from(buffer.len()).unwrap_or(0);
            // SAFETY: the handle is open, the buffer has room for `length` characters, and both numbers are ours.
            let result = unsafe {
                xc_readconsolering(
                    self.handle.as_ptr(),
                    buffer.as_mut_ptr().cast::<c_char>(),
                    &raw mut length,
                    KEEP,
                    SINCE,
                    &raw mut *position,
                )
            };
            Self::done("console", "Xen's console", result)?;
            let new = buffer.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
            if new.is_empty() {
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            text.extend_from_slice(new);
        }
    }

    pub fn pause(&self, domain: DomainId) -> Result<(), HostError> {
        // SAFETY: the handle is open; the rest is a number.
        let result = unsafe { xc_domain_pause(self.handle.as_ptr(), domain.0.into()) };
        Self::done("pause", format_args!("domain {domain}"), result).map(drop)
    }

    pub fn unpause(&self, domain: DomainId) -> Result<(), HostError> {
        // SAFETY: the handle is open; the rest is a number.
        let result = unsafe { xc_domain_unpause(self.handle.as_ptr(), domain.0.into()) };
        Self::done("unpause", format_args!("domain {domain}"), result).map(drop)
    }

    pub fn test_assign_device(&self, domain: DomainId, function: Sbdf) -> Result<(), HostError> {
        // SAFETY: the handle is open; the rest are numbers.
        let result = unsafe { xc_test_assign_device(self.handle.as_ptr(), domain.0.into(), function.machine_sbdf()) };
        Self::done("test_assign_device", pair(domain, function), result).map(drop)
    }

    pub fn assign_device(&self, domain: DomainId, function: Sbdf, reserved: ReservedMemory) -> Result<(), HostError> {
        let flags = match reserved {
            ReservedMemory::Refuse => 0,
            ReservedMemory::Relaxed => XEN_DOMCTL_DEV_RDM_RELAXED,
        };
        // SAFETY: the handle is open; the rest are numbers.
        let result = unsafe { xc_assign_device(self.handle.as_ptr(), domain.0.into(), function.machine_sbdf(), flags) };
        Self::done("assign_device", pair(domain, function), result).map(drop)
    }

    pub fn deassign_device(&self, domain: DomainId, function: Sbdf) -> Result<(), HostError> {
        // SAFETY: the handle is open; the rest are numbers.
        let result = unsafe { xc_deassign_device(self.handle.as_ptr(), domain.0.into(), function.machine_sbdf()) };
        Self::done("deassign_device", pair(domain, function), result).map(drop)
    }

    pub fn iomem_permission(&self, domain: DomainId, first: u64, frames: u64, allow: bool) -> Result<(), HostError> {
        // SAFETY: the handle is open; the rest are numbers.
        let result = unsafe {
            xc_domain_iomem_permission(self.handle.as_ptr(), domain.0.into(), first, frames, u8::from(allow))
        };
        Self::done("iomem_permission", format_args!("frames {first:#x}+{frames:#x} for domain {domain}"), result)
            .map(drop)
    }

    pub fn ioport_permission(&self, domain: DomainId, first: u32, ports: u32, allow: bool) -> Result<(), HostError> {
        // SAFETY: the handle is open; the rest are numbers.
        let result = unsafe {
            xc_domain_ioport_permission(self.handle.as_ptr(), domain.0.into(), first, ports, u32::from(allow))
        };
        Self::done("ioport_permission", format_args!("ports {first:#x}+{ports:#x} for domain {domain}"), result)
            .map(drop)
    }

    pub fn irq_permission(&self, domain: DomainId, pirq: Pirq, allow: bool) -> Result<(), HostError> {
        // SAFETY: the handle is open; the rest are numbers.
        let result = unsafe { xc_domain_irq_permission(self.handle.as_ptr(), domain.0.into(), pirq.0, allow) };
        Self::done("irq_permission", format_args!("pirq {} for domain {domain}", pirq.0), result).map(drop)
    }
}

fn pair(domain: DomainId, function: Sbdf) -> String {
    format!("{function} for domain {domain}")
}
