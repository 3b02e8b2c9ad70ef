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

/// Lines of a piece of Xen's log that must not be there, each with what it is. dom0's kernel writes on the same serial
/// line; its lines do not begin with `(XEN)` and are not looked at.
#[must_use]
pub fn faults(log: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains("(XEN)")).filter_map(fault).collect()
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
