//! What must never be in Xen's log.

/// One kind of line that is a fault, whoever caused it: the words that it has, in lower case.
struct Fault {
    what: &'static str,
    words: &'static [&'static str],
}

const FAULTS: &[Fault] = &[
    Fault { what: "DMA fault", words: &["[vt-d]", "fault"] },
    Fault { what: "DMA fault", words: &["dmar", "reason"] },
    Fault { what: "interrupt without a handler", words: &["no irq handler"] },
    Fault { what: "guest fault", words: &["unhandled", "fault"] },
    Fault { what: "guest fault", words: &["unhandled", "trap"] },
    Fault { what: "guest fault", words: &["gpf ("] },
    Fault { what: "guest fault", words: &["general protection"] },
    Fault { what: "guest crash", words: &["domain_crash"] },
    Fault { what: "guest crash", words: &["crashed on cpu"] },
    Fault { what: "guest crash", words: &["reported crashed"] },
    Fault { what: "refused memory mapping", words: &["attempt to map i/o"] },
    Fault { what: "refused page table entry", words: &["bad l1 flags"] },
    Fault { what: "fault in Xen", words: &["xen bug at"] },
    Fault { what: "fault in Xen", words: &["xen warn at"] },
    Fault { what: "fault in Xen", words: &["panic on cpu"] },
];

/// A DMA that reached nothing, since its device belonged to nobody: for a moment, while Xen moves a device from a guest into
/// quarantine. `xl destroy` has that done while the guest still uses the device, with xenpcid as with xen-pciback.
const BELONGS_TO_NOBODY: &str = "reason 02 - present bit in context entry is clear";

/// Lines of a piece of Xen's log that must not be there, each with what it is. dom0's kernel writes on the same serial
/// line; its lines do not begin with `(XEN)` and are not looked at.
#[must_use]
pub fn faults(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("(XEN)")).collect();
    let is_of_nobody = |line: &str| line.to_ascii_lowercase().contains(BELONGS_TO_NOBODY);
    // The reason stands in the line after the one with the device.
    let next = lines.iter().skip(1).copied().chain([""]);
    let all = lines.iter().copied().zip(next);
    all.filter(|(line, next)| !is_of_nobody(line) && !is_of_nobody(next)).filter_map(|(line, _)| fault(line)).collect()
}

fn fault(line: &str) -> Option<String> {
    let lower = line.to_ascii_lowercase();
    let fault = FAULTS.iter().find(|fault| fault.words.iter().all(|word| lower.contains(word)))?;
    Some(format!("{}: {}", fault.what, line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_and_named() {
        // As Xen 4.17 prints them.
        let log = "\
(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:02:00.0] fault addr 3a001000
(XEN) [VT-D]DMAR: reason 06 - PTE Read access is not set
(XEN) CPU1: No irq handler for vector 39 (IRQ -2147483648)
(XEN) d1v0 Unhandled page fault fault/trap [#14, ec=0003]
(XEN) domain_crash_sync called from entry.S: fault at ffff82d040204f0c
(XEN) Domain 1 (vcpu#0) crashed on cpu#1:
(XEN) traps.c:1514: GPF (0000): ffff82d0bffff041 [ffff82d0bffff041] -> ffff82d04037b2a0
(XEN) Xen BUG at drivers/passthrough/vtd/iommu.c:1234
";
        let found = faults(log);
        assert_eq!(found.len(), log.lines().count(), "{found:#?}");
        assert!(found[0].starts_with("DMA fault: (XEN) [VT-D]DMAR:[DMA Read]"));
    }

    #[test]
    fn dma_of_a_device_that_belongs_to_nobody_for_a_moment_is_no_fault_and_the_next_one_is() {
        let log = "\
(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:03:00.0] fault addr 13650d000
(XEN) [VT-D]DMAR: reason 02 - Present bit in context entry is clear
(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:03:00.0] fault addr 13650d000
(XEN) [VT-D]DMAR: reason 05 - PTE Write access is not set
";
        let found = faults(log);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("DMA Write") && found[1].contains("reason 05"), "{found:#?}");
    }

    #[test]
    fn ordinary_lines_are_no_faults() {
        let log = "\
(XEN) [VT-D]d0:PCIe: unmap 0000:02:00.0
(XEN) [VT-D]d1:PCIe: map 0000:02:00.0
(XEN) [VT-D]iommu_enable_translation: iommu->reg = ffff82c000205000
(XEN) Dom0 has maximum 1 VCPUs
(XEN) d1: Forcing write emulation on MFNs fe000-fe003
(XEN) PCI add device 0000:05:00.0
[   12.3] traps: program[12] general protection fault
";
        assert_eq!(faults(log), Vec::<String>::new());
    }
}
