//! A guest that writes what it must not write.
//!
//! With memory decoding off, a guest's access to memory that it has mapped ends in an Unsupported Request, which can take
//! the host down (XSA-120). With its own MSI address in a device, it can send any interrupt to any CPU; with its own BAR,
//! take over the addresses of another device.

use std::ops::Range;

use crate::error::{Result, expect};
use crate::machine::devices::{E1000, E1000E, Model, NVME};
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::config_space::{self, ConfigSpace, MSI, MSIX};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{in_guest, network, nvme};

/// Offsets of the header that nobody but the host may change.
const COMMAND: Range<usize> = 0x04..0x06;
const BARS: Range<usize> = 0x10..0x28;
const ROM: Range<usize> = 0x30..0x34;

/// What a guest may switch in the command register: it harms nobody but itself. Bus Master, Special Cycles, Memory Write and
/// Invalidate, VGA Palette Snoop, Wait Cycles (PCI Local Bus Specification 3.0, 6.2.2).
const COMMAND_OF_GUEST: u8 = 0xbc;
/// The same in the register's upper half: Fast Back-to-Back.
const COMMAND_OF_GUEST_HIGH: u8 = 0x02;

/// Stays on, for the driver works all the while.
const BUS_MASTER: u8 = 0x04;

/// Values that are written, in every byte of an access. The middle one is neither all nor nothing anywhere.
const PATTERNS: [u8; 3] = [0x00, 0x5a, 0xff];

/// With its driver at work, each device's registers are written by every size of access; nothing of it arrives, and the
/// device works on, and works for a driver that starts anew.
pub fn decode_is_safe(machine: &mut Machine) -> Result<()> {
    let models = [NVME, E1000E, E1000];
    let addresses = models.iter().map(|model| machine.find(*model, 0)).collect::<Result<Vec<_>>>()?;
    let devices = addresses.iter().map(Declared::without_reset).collect::<Vec<_>>();
    machine.start_daemon(&configuration::text(&[("hostile", &devices)]))?;
    let guest = machine.start_guest(&GuestConfiguration::new("hostile"))?;

    for (model, address) in models.into_iter().zip(&addresses) {
        expect_working(&guest, model)?;
        attack(machine, &guest, model, address)?;
        expect_working(&guest, model)?;
        in_guest::unbind(&guest, model)?;
        in_guest::bind(&guest, model)?;
        expect_working(&guest, model)?;
        if model != NVME {
            network::take_down(&guest)?;
        }
    }
    Ok(())
}

fn expect_working(guest: &Guest, model: Model) -> Result<()> {
    match model {
        NVME => nvme::expect_queues(guest).and_then(|()| nvme::expect_content(guest)),
        E1000E => network::expect_e1000e(guest),
        _ => network::expect_e1000(guest),
    }
}

/// Writes each register that is the host's in every way there is, and compares the hardware with what it was after each.
fn attack(machine: &Machine, guest: &Guest, model: Model, address: &str) -> Result<()> {
    let before = ConfigSpace::read(machine.dom0(), address)?;
    let sbdf = in_guest::wait_for_device(guest, model)?;
    let file = config_space::file(&sbdf);
    guest.channel().sh(&format!("cat {file} > /tmp/seen"))?;
    for size in [1, 2, 4] {
        for pattern in PATTERNS {
            let command = pattern | BUS_MASTER;
            let script = format!(
                "tr '\\0' '\\{pattern:03o}' < /dev/zero | head -c 256 > /tmp/values
                 printf '\\{command:03o}' | dd of=/tmp/values bs=1 seek={} conv=notrunc 2> /dev/null\n",
                COMMAND.start
            );
            guest.channel().sh(&(script + &copies("/tmp/values", &file, &targets(&before), size)))?;
            let after = ConfigSpace::read(machine.dom0(), address)?;
            let differences = before.differences(&after, relevant);
            let list: Vec<String> = differences.iter().map(ToString::to_string).collect();
            expect(
                list.is_empty(),
                format!("the hardware of {model} as it was, after writes of {size} bytes of {pattern:02x}"),
                list.join(", "),
            )?;
        }
    }
    // What the guest believes is put right: its BARs from sizing back to their addresses.
    let script = copies("/tmp/seen", &file, &[COMMAND], 2) + &copies("/tmp/seen", &file, &[BARS, ROM], 4);
    guest.channel().sh(&script).map(drop)
}

/// The ranges of bytes that a guest must not change.
fn targets(hardware: &ConfigSpace) -> Vec<Range<usize>> {
    let mut ranges = vec![COMMAND, BARS, ROM];
    if let Some(at) = hardware.capability(MSI) {
        // Control and a 32-bit address, more of the address, data with what fills it up to 4 bytes, masks with pending bits.
        let is_64_bit = hardware.byte(at + 2) & 0x80 != 0;
        let has_masks = hardware.byte(at + 3) & 0x01 != 0;
        ranges.push(at..at + 0x0c + if is_64_bit { 4 } else { 0 } + if has_masks { 8 } else { 0 });
    }
    if let Some(at) = hardware.capability(MSIX) {
        ranges.push(at..at + 0x0c);
    }
    ranges
}

/// A shell script that copies these ranges from one file to another, by a write for each `size` bytes.
fn copies(from: &str, to: &str, ranges: &[Range<usize>], size: usize) -> String {
    let copy = |range: &Range<usize>| {
        let (at, count) = (range.start / size, range.len().div_ceil(size));
        format!(
            "dd if={from} of={to} bs={size} skip={at} seek={at} count={count} conv=notrunc 2> /dev/null || exit 1\n"
        )
    };
    ranges.iter().map(copy).collect()
}

/// The bits that must not change, by offset. The status register is the device's own to change.
fn relevant(offset: usize) -> u8 {
    match offset {
        0x04 => !COMMAND_OF_GUEST,
        0x05 => !COMMAND_OF_GUEST_HIGH,
        0x06 | 0x07 => 0,
        _ => 0xff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_copied_in_whole_accesses() {
        let script = copies("/a", "/b", &[COMMAND, BARS], 4);
        let expected = "dd if=/a of=/b bs=4 skip=1 seek=1 count=1 conv=notrunc 2> /dev/null || exit 1\n\
                        dd if=/a of=/b bs=4 skip=4 seek=4 count=6 conv=notrunc 2> /dev/null || exit 1\n";
        assert_eq!(script, expected);
    }

    #[test]
    fn decoding_counts_and_bus_mastering_does_not() {
        assert_eq!(relevant(0x04) & 0x07, 0x03);
        assert_eq!(relevant(0x05) & 0x04, 0x04, "INTx Disable");
    }
}
