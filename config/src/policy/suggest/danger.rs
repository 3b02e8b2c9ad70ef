//! What is known of registers that a guest had better not write, though a policy could let it.

use xenpcid_policy::registers::{self, AnyCapabilityId};
use xenpcid_policy::{Field, Kind};

/// Of capabilities as a whole, by name.
const CAPABILITIES: &[(&str, &str)] = &[
    ("pm", "power states and wake-up events concern the host"),
    ("aer", "which errors are reported, and that they were, is for the host to see"),
    ("acs", "what peers may send to each other is the host's isolation of its devices"),
    ("ari", "which functions of a device belong together is the host's to say"),
    ("ats", "a device that keeps translations of its own reaches memory without the IOMMU's check"),
    ("pri", "a device that asks for pages itself asks the host"),
    ("pasid", "address spaces beside the guest's own are the host's to set up"),
    ("sriov", "virtual functions are the host's to make"),
    ("rebar", "a BAR that grows takes addresses that other devices have"),
    ("vf-rebar", "a BAR that grows takes addresses that other devices have"),
    ("dpc", "cutting off a port is for whoever owns it"),
    ("mcast", "which devices receive copies of a write is the host's address map"),
    ("pmux", "the other end of the link is the host's"),
    ("ide", "the other end of the link is the host's"),
    ("doe", "it leads to the device's management, which outlives this guest"),
    ("ltr", "the port above has to expect latency messages; the host did not set them up for this guest"),
    ("l1ss", "power states of the link need both of its ends, and the other end is the host's"),
    ("dpa", "how much power a device takes is the host's budget"),
    ("npem", "the lights of an enclosure are the host's"),
];

/// Of bits of registers, by the register's name.
const REGISTERS: &[(&str, u32, &str)] = &[
    ("command", u32::MAX, "the bus interface decides how errors and accesses of this device reach the host"),
    ("pcie.devctl", 0x000f, "which errors are reported to the host is the host's to say"),
    ("pcie.devctl", 0x00e0, "packets larger than a port on the way takes are errors that reach the host"),
    ("pcie.devctl", 0x0600, "auxiliary power and the function numbers of requests are the host's"),
    ("pcie.devctl2", 0xec20, "messages and routing that the ports above have to expect; the host did not set them up"),
    (
        "pcie.lnkctl",
        u32::MAX,
        "power states and timing of the link need both of its ends, and the other end is the host's",
    ),
    ("pcie.lnkctl2", u32::MAX, "speed and signals of the link need both of its ends, and the other end is the host's"),
];

/// Why it would be dangerous to let a guest write `bit` of a register; `None` if nothing is known against it.
pub(super) fn of(register: Option<&str>, bit: u32, capability: Option<AnyCapabilityId>) -> Option<&'static str> {
    let named = register.and_then(|name| {
        REGISTERS.iter().find(|(known, mask, _)| *known == name && mask & bit != 0).map(|(.., why)| *why)
    });
    let whole = || {
        let kind = registers::capability(capability?)?;
        CAPABILITIES.iter().find(|(name, _)| *name == kind.name).map(|(_, why)| *why)
    };
    let by_kind = || match field(register?, bit)?.kind {
        Kind::WriteOneToClear => Some("writing clears what the device reports, before the host has seen it"),
        Kind::Command => Some("writing 1 starts something that the policy does not let guests start"),
        _ => None,
    };
    named.or_else(whole).or_else(by_kind)
}

fn field(register: &str, bit: u32) -> Option<&'static Field> {
    registers::named(register).find_map(|(_, register)| register.fields_in(bit).next())
}
