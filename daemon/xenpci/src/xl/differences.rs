//! What is not as xl does it: one table, which the man page prints.

/// Something that xl does otherwise.
#[derive(Debug)]
pub struct Difference {
    /// What it is called in tests and reports.
    pub key: &'static str,
    /// What xl 4.17 does.
    pub xl: &'static str,
    /// What is done here.
    pub here: &'static str,
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        key: "program-name",
        xl: "Help and complaints name xl and its global options.",
        here: "They name the program as it was called: xenpci pci-attach, xl-pci attach or xl-pci-attach. There are no global \
               options -v, -t, -T, -f and -N, and names of commands are written out.",
    },
    Difference {
        key: "no-daemon",
        xl: "Nothing works without Xen, not even help. Without xen-pciback pci-assignable-list prints nothing and ends with 0.",
        here: "Help always works. Without xenpcid all else ends with 1 and says what to do.",
    },
    Difference {
        key: "all-functions",
        xl: "BB:SS.* attaches only the function with the highest number, and wants a VSLOT; pci-assignable-add and \
             pci-assignable-remove act on function 0 only.",
        here: "All functions of the slot are meant, as the manual says. The guest sees them in one slot, with their own \
               function numbers; without VSLOT in a free one.",
    },
    Difference {
        key: "crash",
        xl: "pci-assignable-add of an address without a function, and pci-detach of a name that no device has, may end by signal 11.",
        here: "They are refused, with 2 and with 1.",
    },
    Difference {
        key: "rollback",
        xl: "What was done before something fails stays: permissions, interrupts, the IOMMU's tables, the driver that a device \
             was taken from.",
        here: "After a failed pci-attach or pci-detach all is as it was before.",
    },
    Difference {
        key: "slot",
        xl: "A PV guest sees the device in any slot, whatever VSLOT says.",
        here: "It sees it in that slot, 0 included. If the slot is taken the command fails.",
    },
    Difference {
        key: "list-slot",
        xl: "pci-list prints the slot that was asked for, 00.0 for most devices of PV guests.",
        here: "It prints where the guest sees the device; 00.0 only as long as it does not see it.",
    },
    Difference {
        key: "assignable-list",
        xl: "pci-assignable-list prints the devices of xen-pciback, in no order.",
        here: "It prints the devices of xenpcid, in the order of their addresses, and leaves out those that it does not give to \
               guests because they could not be reset.",
    },
    Difference {
        key: "assignable-remove",
        xl: "pci-assignable-remove fails for a device that is dom0's already.",
        here: "It ends with 0, as the manual says.",
    },
    Difference {
        key: "in-use",
        xl: "pci-assignable-add and seize=1 take a device from dom0 whatever depends on it.",
        here: "A device that holds a mounted file system, swap, the console or the default route, or that shares something with a \
               device that belongs elsewhere, is refused with the reason. `xenpci claim --allow` overrides.",
    },
    Difference {
        key: "reset",
        xl: "A device that cannot be reset, or whose reset fails, is given to the guest as its last user left it.",
        here: "It is refused, unless its entry in the configuration says reset = \"best-effort\".",
    },
    Difference {
        key: "detach",
        xl: "pci-detach takes memory and interrupts away before it asks the guest, and may end with 0 for a guest that never \
             answers.",
        here: "It asks the guest first. If that does not let go in time the device stays with it and the command fails; with -f it is \
               taken all the same.",
    },
    Difference {
        key: "permissive",
        xl: "permissive=1 lets the guest write all of the device's configuration space.",
        here: "It selects the policy permissive, under which BARs, MSI addresses and the decoding of memory are out of reach all the \
               same. A policy for the one register that a driver needs is better: see `xenpci suggest`.",
    },
    Difference {
        key: "long-numbers",
        xl: "Of a number in an address only the lowest 32 bits count.",
        here: "A number of more than 32 bits is malformed.",
    },
    Difference {
        key: "pv-only",
        xl: "HVM guests get devices by way of QEMU.",
        here: "They are refused: only PV guests are served.",
    },
    Difference {
        key: "names",
        xl: "A device has the name that the last pci-assignable-add gave it, and none if that gave none.",
        here: "Or that its entry in the configuration gives it. It keeps its name until pci-assignable-add gives it another.",
    },
    Difference {
        key: "messages",
        xl: "What goes wrong is told in libxl's log lines.",
        here: "It is told in one line, with what to do. Complaints about malformed arguments are xl's.",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_key_of_its_own() {
        let keys: BTreeSet<_> = DIFFERENCES.iter().map(|difference| difference.key).collect();
        assert_eq!(keys.len(), DIFFERENCES.len());
    }
}
