//! How registers are described: data, checked when the crate is compiled.

use crate::access::Width;

/// A register of the header or of a capability: what a guest reads there, bit by bit, and what becomes of its writes.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// Short name, after the specification's: `command`, `pm.control_status`.
    pub name: &'static str,
    /// Offset from the start of the space or of the capability, a multiple of the width.
    pub offset: u16,
    /// Its width, in which the hardware is accessed.
    pub width: Width,
    /// Each bit of the register in exactly one mask.
    pub bits: &'static [(u32, Class)],
    /// Why it is so.
    pub why: &'static str,
    /// Where the register is specified.
    pub spec: &'static str,
}

/// What a guest's access does to bits of a register.
///
/// | class | a read gives | a write |
/// |---|---|---|
/// | `HardwareReadOnly` | hardware | discard |
/// | `HardwareReadWrite` | hardware | pass |
/// | `HardwareWriteOneToClear` | hardware | pass; 0 where the guest writes other bytes of the register |
/// | `HardwareZeroOnly` | hardware | 0 passes, 1 refuses the whole access; 0 where the guest writes other bytes |
/// | `BusMaster` | hardware | pass, with an effect when it changes |
/// | `Shadow` | what the guest last wrote | emulate |
/// | `PowerState` | the state the guest last entered | emulate, with an effect when it changes |
/// | `BaseAddress` | address or size | emulate |
/// | `Enabled` | whether the daemon set up these interrupts | discard |
/// | `Fixed` | a value known since the claim | discard |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The device's own, not to be changed.
    HardwareReadOnly,
    /// The device's own.
    HardwareReadWrite,
    /// Status that the device sets and software clears by writing 1 (RW1C).
    HardwareWriteOneToClear,
    /// A command to the device that a guest must not give.
    HardwareZeroOnly,
    /// Bus Master Enable: the guest's switch for its DMA.
    BusMaster,
    /// Kept by us, starting with these bits for each guest.
    Shadow(u32),
    /// The two power state bits of the Power Management Control/Status register.
    PowerState,
    /// The BAR of that number (6 is the expansion ROM), from the resource table.
    BaseAddress(u8),
    /// 1 while the guest's interrupts are of this kind.
    Enabled(InterruptMode),
    /// A value that does not change.
    Fixed(Value),
}

/// Where the value of a [`Class::Fixed`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The table: these bits, in the register's position.
    Constant(u32),
    /// The configuration space at the time of the claim.
    Claimed,
    /// Vendor ID as the host's kernel knows it.
    Vendor,
    /// Device ID as the host's kernel knows it.
    Device,
    /// The INTx pirq.
    InterruptLine,
    /// The interrupt pin at the time of the claim; 0 without an INTx pirq.
    InterruptPin,
    /// The last index of the part of the MSI-X table that a guest is shown.
    MsixTableSize,
}

/// The kind of interrupts that a guest has enabled through the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InterruptMode {
    /// None, or INTx.
    #[default]
    None,
    /// MSI.
    Msi,
    /// MSI-X.
    Msix,
}

/// Every bit of a register, whatever its width.
pub(crate) const ALL: u32 = u32::MAX;

/// Stops the compiler at a table that is not exact: registers in order, without gap or overlap, up to `length` bytes;
/// every bit of each in exactly one class; constants inside their mask.
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "only run by the compiler, which stops")]
pub(crate) const fn check(table: &[Register], length: u16) {
    let mut end = 0;
    let mut i = 0;
    while i < table.len() {
        let register = &table[i];
        assert!(register.offset == end, "a register does not start where the one before it ends");
        assert!(register.offset % register.width.bytes() == 0, "a register is not aligned to its width");
        assert!(!register.why.is_empty() && !register.spec.is_empty(), "a register has no reason or no source");
        check_bits(register);
        end += register.width.bytes();
        i += 1;
    }
    assert!(end == length, "the registers do not add up to the length of the table");
}

#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "only run by the compiler, which stops")]
const fn check_bits(register: &Register) {
    let width = register.width.mask();
    let mut seen = 0;
    let mut i = 0;
    while i < register.bits.len() {
        let (mask, class) = register.bits[i];
        assert!(mask == ALL || mask & !width == 0, "a mask is wider than its register");
        assert!(seen & mask & width == 0, "a bit has two classes");
        if let Class::Shadow(value) | Class::Fixed(Value::Constant(value)) = class {
            assert!(value & !(mask & width) == 0, "a value has bits outside of its mask");
        }
        if let Class::BaseAddress(_) = class {
            assert!(mask == ALL && width == ALL, "a base address is a whole dword");
        }
        seen |= mask & width;
        i += 1;
    }
    assert!(seen == width, "a bit has no class");
}
