//! What each check asks, and how it says what it found: object, reason, remedy.

use xenpcid_address::Sbdf;
use xenpcid_host::Errno;
use xenpcid_policy::{Resource, Snapshot};

use super::picture::{Picture, Registers, Seen};
use super::{Owner, Severity};
use crate::claim::FRAME;

type Found = Vec<(Severity, String)>;

fn refusal(message: String) -> (Severity, String) {
    (Severity::Refusal, message)
}

pub(super) fn header(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    let found = match picture.registers().and_then(|registers| registers.header) {
        Some(0) => None,
        Some(1) => Some(format!(
            "{function} is a bridge; bridges stay with dom0, and what is behind them can be given to guests instead"
        )),
        Some(other) => Some(format!(
            "{function} has a header of type {other:#04x}, and only devices (type 0) can be given to guests"
        )),
        None => Some(format!(
            "{function} does not answer: its configuration space reads as ones; is it powered down or broken? \
             A power cycle of the host may bring it back"
        )),
    };
    found.into_iter().map(refusal).collect()
}

pub(super) fn ownership(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    match picture.device().map(|device| device.owner) {
        Some(Owner::Guest(guest)) if Some(guest) != picture.domain => {
            vec![refusal(format!("{function} is assigned to domain {guest} already; detach it from there first"))]
        }
        _ => Vec::new(),
    }
}

pub(super) fn known_to_xen(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    let is_assigned = matches!(picture.device().map(|device| device.owner), Some(Owner::Guest(_)));
    if picture.assignable != Err(Errno::EINVAL) || is_assigned {
        return Vec::new();
    }
    vec![refusal(format!(
        "{function} cannot be assigned: Xen does not know it, or has it with a domain that xenpcid does not know of; \
         `xl debug-keys Q; xl dmesg` lists what Xen knows, and a device that was plugged in must be reported to Xen by dom0's \
         kernel: write 1 to /sys/bus/pci/devices/{function}/remove and then to /sys/bus/pci/rescan"
    ))]
}

pub(super) fn io_mmu(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    if picture.assignable != Err(Errno::EOPNOTSUPP) {
        return Vec::new();
    }
    let message = match picture.domain {
        Some(domain) => format!(
            "{function} cannot be given to domain {domain}, which was created without an IOMMU: put passthrough=\"enabled\" \
             into its xl.cfg and create it again"
        ),
        None => format!(
            "{function} cannot be given to any guest, as Xen uses no IOMMU: switch VT-d or AMD-Vi on in the firmware's setup, \
             and look for iommu= on Xen's command line"
        ),
    };
    vec![refusal(message)]
}

pub(super) fn host_use(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    let found = picture.uses.iter().map(|host_use| {
        format!(
            "{function} is in use by dom0: {host_use}; move that elsewhere first, or accept that dom0 loses it: allow = [\"host-use\"]"
        )
    });
    found.map(refusal).collect()
}

pub(super) fn virtual_functions(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    let enabled =
        picture.device().and_then(|device| device.description.virtual_functions).map_or(0, |some| some.enabled);
    if enabled == 0 {
        return Vec::new();
    }
    vec![refusal(format!(
        "{function} has {enabled} virtual functions, which vanish with its driver in dom0, from guests, too; give virtual \
         functions to guests instead, or write 0 to /sys/bus/pci/devices/{function}/sriov_numvfs; allow = [\"virtual-functions\"] \
         accepts it"
    ))]
}

pub(super) fn reset(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    if picture.has_reset {
        return Vec::new();
    }
    vec![refusal(format!(
        "{function} has no reset method, so what one guest leaves in it would reach the next; reset = \"best-effort\" in its \
         configuration accepts that"
    ))]
}

/// Memory is given to guests in pages of 4 KiB, so a BAR that does not fill its pages brings its neighbours with it (XSA-461).
pub(super) fn shared_pages(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    let pages = |resource: &Resource| resource.start / FRAME..=resource.end / FRAME;
    let memory = |resource: &&Resource| resource.is_present() && !resource.is_io();
    let partial = |resource: &&Resource| resource.start % FRAME != 0 || resource.end % FRAME != FRAME - 1;
    let bars = picture.device().map(|device| &device.description.resources);
    let own: Vec<_> =
        bars.into_iter().flatten().take(Snapshot::ROM).filter(memory).filter(partial).map(pages).collect();
    let shared = |(other, seen): (&Sbdf, &Seen)| {
        let theirs: Vec<_> = seen.description.resources.iter().filter(memory).map(pages).collect();
        let is_shared = |page: &u64| theirs.iter().any(|pages| pages.contains(page));
        // A partial page is the first or the last one of a BAR.
        let page = own.iter().flat_map(|pages| [*pages.start(), *pages.end()]).find(is_shared)?;
        Some(refusal(format!(
            "{function} shares the page {page:#x} of its memory with {other}, which a guest would reach with it; give both \
             to dom0, or have firmware or Linux (pci=resource_alignment={function}) place it on a page of its own; \
             allow = [\"shared-page\"] accepts it"
        )))
    };
    picture.others().filter_map(shared).collect()
}

/// In quarantine a device reaches nothing, so its group matters only when a guest gets it.
pub(super) fn split_group(picture: &Picture<'_>) -> Found {
    let Some(domain) = picture.domain else { return Vec::new() };
    let function = picture.function;
    let group = picture.groups().of(function);
    let split = |(other, seen, registers): (&Sbdf, &Seen, &Registers)| {
        let is_device = registers.header == Some(0);
        let holder = picture.elsewhere(seen).filter(|_| is_device && group.contains(other))?;
        Some(refusal(format!(
            "{function} is not isolated from {other}: {}, and {holder}; each could reach the other's registers and memory past \
             the IOMMU; give both to domain {domain}, or accept it: allow = [\"split-group\"]",
            why_together(function, *other)
        )))
    };
    picture.others_in_depth().filter_map(split).collect()
}

fn why_together(function: Sbdf, other: Sbdf) -> &'static str {
    if function.is_in_slot_of(other) {
        "they are functions of one device without access control (ACS)"
    } else {
        "both are behind bridges or ports without access control (ACS)"
    }
}

/// The line is masked in quarantine, and shared only when a guest has the device.
pub(super) fn shared_interrupt(picture: &Picture<'_>) -> Found {
    let (Some(domain), Some(device)) = (picture.domain, picture.device()) else { return Vec::new() };
    let (function, line) = (picture.function, device.description.interrupt);
    let has_line = picture.registers().is_some_and(|registers| registers.has_line);
    // 0 and 255 are lines that are not connected.
    if !has_line || line == 0 || line == 255 {
        return Vec::new();
    }
    let shared = |(other, seen, registers): (&Sbdf, &Seen, &Registers)| {
        // The number of one whose driver uses MSI is not that of its line.
        let holder = picture.elsewhere(seen).filter(|_| registers.has_line && seen.description.interrupt == line)?;
        Some(if picture.messages.any {
            let message = format!(
                "{function} shares INTx line {line} with {other}, and {holder}; that matters only if its driver in domain \
                 {domain} does not use its MSI or MSI-X"
            );
            (Severity::Note, message)
        } else {
            refusal(format!(
                "{function} has only its INTx line {line}, which it shares with {other}, and {holder}; each of them could keep \
                 the line busy for the other; put it into another slot, give both to domain {domain}, or accept it: \
                 allow = [\"shared-interrupt\"]"
            ))
        })
    };
    picture.others_in_depth().filter_map(shared).collect()
}

pub(super) fn reserved_memory(picture: &Picture<'_>) -> Found {
    let function = picture.function;
    if !picture.reserved_memory || picture.domain.is_none() {
        return Vec::new();
    }
    vec![refusal(format!(
        "firmware reserves memory for {function} (RMRR), to which it may write at any time, whoever has it; switch off what uses \
         it in the firmware's setup (legacy USB support, remote management), or accept it: allow = [\"reserved-memory\"]"
    ))]
}

pub(super) fn interrupts(picture: &Picture<'_>) -> Found {
    let Some(domain) = picture.domain else { return Vec::new() };
    let (function, available) = (picture.function, picture.extra_guest_irqs);
    let messages = &picture.messages;
    let wanted = messages.msix_entries.map_or(u32::from(messages.any), |entries| entries.min(picture.vectors).into());
    if wanted <= available {
        return Vec::new();
    }
    let raise = format!("raise extra_guest_irqs= on Xen's command line (it is {available})");
    if available == 0 {
        vec![refusal(format!("{function} needs interrupts, and domain {domain} can have none: {raise}"))]
    } else {
        let message = format!(
            "{function} shows {wanted} MSI-X vectors, and domain {domain} can have {available} with all of its devices; drivers \
             that take as many as they get work with fewer; {raise}, or set vectors = {available} in the configuration"
        );
        vec![(Severity::Note, message)]
    }
}
