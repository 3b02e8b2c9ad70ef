//! How registers are described: data, checked when the crate is compiled.
//!
//! A table says what a register is, after its specification. What a guest may do with it is a
//! [policy](crate::Policy)'s to say, but for [guarded](Kind::Guarded) bits, which no policy gives away.

use crate::access::Width;

/// A register of the header or of a capability.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// Short name, by which policies know it: `command`, `pm.pmcsr`.
    pub name: &'static str,
    /// Offset from the start of the space or of the capability, a multiple of the width.
    pub offset: u16,
    /// Its width, in which the hardware is accessed.
    pub width: Width,
    /// Each bit of the register in exactly one field.
    pub fields: &'static [Field],
    /// Where the register is specified.
    pub spec: &'static str,
}

/// Bits of a register that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Which bits.
    pub mask: u32,
    /// What they are called.
    pub name: &'static str,
    /// How they behave.
    pub kind: Kind,
}

/// How bits behave in hardware, and whether a guest may ever write them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The device's own, not to be changed; also reserved bits.
    ReadOnly,
    /// What is written is kept.
    ReadWrite,
    /// Status that the device sets and software clears by writing 1 (RW1C).
    WriteOneToClear,
    /// Writing 1 starts something.
    Command,
    /// Never written in hardware for a guest, whatever a policy says.
    Guarded {
        /// What the guest finds there unless a policy says otherwise.
        shown: Shown,
        /// What a guest could do with it.
        why: &'static str,
    },
}

/// What a guest finds in bits that it must not write in hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What the device answers.
    Hardware,
    /// What the device answers. A 1 would start something, so they are written 0 with the bits beside them.
    Trigger,
    /// Zero.
    Zero,
    /// What they were at the time of the claim.
    Claimed,
    /// The capability lists at the time of the claim, without the capabilities that are hidden.
    Listed,
    /// What the guest last wrote, and these bits before.
    Kept(u32),
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
    /// 1 while the guest's interrupts are of this kind.
    Enabled(InterruptMode),
    /// The power state that the guest last entered.
    PowerState,
    /// The BAR of that number (6 is the expansion ROM), from the resource table.
    BaseAddress(u8),
    /// Zero; a guest that writes 1 has the daemon reset the function, if the capability says that it can be reset so.
    FunctionReset {
        /// How many bytes before this register the one is that says so.
        distance: u16,
        /// The bit of that register.
        capable: u32,
    },
}

impl Shown {
    /// Whether a policy may say how the bits are read.
    #[must_use]
    pub const fn can_be_read_otherwise(self) -> bool {
        matches!(self, Self::Hardware | Self::Trigger | Self::Zero | Self::Claimed | Self::Kept(_))
    }

    /// Whether a policy may say what becomes of writes, short of passing them.
    #[must_use]
    pub const fn can_be_written_otherwise(self) -> bool {
        self.can_be_read_otherwise() || matches!(self, Self::Enabled(_) | Self::PowerState | Self::FunctionReset { .. })
    }
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

impl Register {
    pub(crate) const fn new(
        name: &'static str,
        offset: u16,
        width: Width,
        fields: &'static [Field],
        spec: &'static str,
    ) -> Self {
        Self { name, offset, width, fields, spec }
    }

    /// Whether a part of it must be where it is for the filter to hold.
    pub(crate) fn is_essential(&self) -> bool {
        self.fields.iter().any(|field| matches!(field.kind, Kind::Guarded { .. } | Kind::Command))
    }

    /// The fields that have bits of `mask`.
    pub fn fields_in(&self, mask: u32) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().filter(move |field| field.mask & mask != 0)
    }
}

impl Field {
    pub(crate) const fn read_only(mask: u32, name: &'static str) -> Self {
        Self { mask, name, kind: Kind::ReadOnly }
    }

    pub(crate) const fn read_write(mask: u32, name: &'static str) -> Self {
        Self { mask, name, kind: Kind::ReadWrite }
    }

    pub(crate) const fn write_one_to_clear(mask: u32, name: &'static str) -> Self {
        Self { mask, name, kind: Kind::WriteOneToClear }
    }

    pub(crate) const fn command(mask: u32, name: &'static str) -> Self {
        Self { mask, name, kind: Kind::Command }
    }

    pub(crate) const fn guarded(mask: u32, name: &'static str, shown: Shown, why: &'static str) -> Self {
        Self { mask, name, kind: Kind::Guarded { shown, why } }
    }
}

/// The registers of `head`, and after them as many like `each` as there is room for, of which `each` is the first.
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "only run by the compiler, which stops")]
pub(crate) const fn followed_by<const ALL: usize>(head: &[Register], each: Register) -> [Register; ALL] {
    let mut table = [each; ALL];
    let mut offset = each.offset;
    let mut i = 0;
    while i < ALL {
        if i < head.len() {
            table[i] = head[i];
        } else {
            table[i].offset = offset;
            offset += each.width.bytes();
        }
        i += 1;
    }
    table
}

/// Stops the compiler at a table that is not exact: registers in order, without gap or overlap, up to `length` bytes;
/// every bit of each in exactly one field; constants inside their mask.
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "only run by the compiler, which stops")]
pub(crate) const fn check(table: &[Register], length: u16) {
    let mut end = 0;
    let mut i = 0;
    while i < table.len() {
        let register = &table[i];
        assert!(register.offset == end, "a register does not start where the one before it ends");
        assert!(register.offset % register.width.bytes() == 0, "a register is not aligned to its width");
        assert!(!register.name.is_empty() && !register.spec.is_empty(), "a register has no name or no source");
        check_fields(register);
        end += register.width.bytes();
        i += 1;
    }
    assert!(end == length, "the registers do not add up to the length of the table");
}

#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "only run by the compiler, which stops")]
const fn check_fields(register: &Register) {
    let width = register.width.mask();
    let mut seen = 0;
    let mut i = 0;
    while i < register.fields.len() {
        let Field { mask, kind, .. } = register.fields[i];
        assert!(mask == ALL || mask & !width == 0, "a mask is wider than its register");
        assert!(seen & mask & width == 0, "a bit is in two fields");
        if let Kind::Guarded { shown, .. } = kind {
            if let Shown::Kept(value) = shown {
                assert!(value & !(mask & width) == 0, "a value has bits outside of its mask");
            }
            if let Shown::BaseAddress(_) = shown {
                assert!(mask == ALL && width == ALL, "a base address is a whole dword");
            }
        }
        seen |= mask & width;
        i += 1;
    }
    assert!(seen == width, "a bit is in no field");
}
