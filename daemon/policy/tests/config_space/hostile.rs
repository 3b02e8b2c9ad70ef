//! Devices that lie about themselves, and guests that try everything.

use proptest::prelude::*;
use xenpcid_policy::{Access, Resource, Snapshot, Width};

use crate::exhaustive::MODES;
use crate::machine::{Machine, access};
use crate::made_up::made_up;
use crate::pair::Pair;
use crate::policies::shipped;
use crate::watch::Watched;

/// A configuration space in which capabilities of known and unknown kinds lie anywhere and end anyhow, with noise or
/// zeros between them, and whose length need not be one that there is.
fn hostile_snapshot() -> impl Strategy<Value = Snapshot> {
    let id = prop_oneof![prop::sample::select(vec![0x01u8, 0x03, 0x05, 0x10, 0x11]), any::<u8>()];
    let end = prop_oneof![4 => Just(0u8), 1 => any::<u8>()];
    let extended =
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec((64u16..1024, any::<u16>(), 0u16..4096), 0..8)];
    let any_resource = any::<(u64, u32, u64)>().prop_map(|(start, log2, flags)| {
        let size = 1 << (log2 % 36);
        let start = start & !(size - 1);
        Resource { start, end: start | (size - 1), flags: flags & 0x14_ffff }
    });
    let resource = prop_oneof![4 => Just(Resource::default()), 1 => any_resource];
    (
        prop_oneof![8 => Just(256usize), 8 => Just(4096), 1 => 0usize..5000],
        prop_oneof![2 => Just(vec![0; 4096]), 1 => prop::collection::vec(any::<u8>(), 4096)],
        prop::collection::vec((16u16..64, id, any::<u16>()), 0..6),
        end,
        extended,
        prop::collection::vec(resource, 6),
    )
        .prop_map(|(length, mut config, capabilities, end, extended, resources)| {
            let mut put = |at: u16, bytes: &[u8]| config[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
            put(0x06, &[0x10]);
            put(0x0e, &[0x80]);
            let mut pointer = 0x34;
            for (dword, id, control) in capabilities {
                let [offset, _] = (dword * 4).to_le_bytes();
                let [low, high] = control.to_le_bytes();
                put(pointer, &[offset]);
                put(dword * 4, &[id, end, low, high]);
                pointer = dword * 4 + 1;
            }
            put(pointer, &[end]);
            put(0x100, &[0; 4]);
            for (dword, id, next) in extended {
                put(dword * 4, &id.to_le_bytes());
                put(dword * 4 + 2, &(next << 4 | 1).to_le_bytes());
            }
            config.resize(length, 0xff);
            // Large enough for an MSI-X table at its start.
            let first = Resource { start: 0x8000_0000, end: 0x8000_ffff, flags: Resource::MEMORY };
            let resources = [vec![first], resources].concat().try_into().unwrap();
            Snapshot { config, resources, vendor: 1, device: 2, interrupt_line: 3, is_virtual_function: false }
        })
}

fn guest_writes() -> impl Strategy<Value = Vec<(u16, Width, u32)>> {
    let offset = prop_oneof![0u16..256, 0u16..4096];
    let value = prop_oneof![Just(0u32), Just(u32::MAX), any::<u32>()];
    prop::collection::vec((offset, prop::sample::select(&Width::ALL[..]), value), 1..60)
}

/// Under the policies that are for every device.
fn writes_are_safe(snapshot: &Snapshot, writes: &[(u16, Width, u32)]) {
    for name in ["default", "strict", "pciback", "permissive"] {
        let mut watched = Watched::new(Pair::new(snapshot, &shipped(name), 128).unwrap(), snapshot);
        for (&(offset, width, value), mode) in writes.iter().zip(MODES.into_iter().cycle()) {
            watched.pair.set_interrupt_mode(mode);
            watched.write(access(offset % watched.pair.machine.view.size().bytes(), width), value);
        }
        watched.check_what_is_shown(name != "pciback");
    }
}

fn made_up_machine() -> Machine {
    Machine::new(&made_up(), &shipped("default")).unwrap()
}

proptest! {
    // The assumption fails the test if hardly any device gets through: it would be testing nothing then.
    #[test]
    fn a_hostile_device_is_refused_or_filtered_like_any_other(
        snapshot in hostile_snapshot(),
        writes in guest_writes(),
    ) {
        prop_assume!(Machine::new(&snapshot, &shipped("default")).is_ok());
        writes_are_safe(&snapshot, &writes);
    }

    #[test]
    fn msi_address_and_data_are_never_shown(hardware in prop::collection::vec(any::<u8>(), 256)) {
        let mut machine = made_up_machine();
        machine.hardware = hardware;
        for offset in 0x54..0x64 {
            prop_assert_eq!(machine.read(Access::byte(offset)), Ok(0));
        }
    }
}

#[test]
fn a_write_of_half_the_vpd_address_does_not_repeat_a_completed_read_as_a_write_command() {
    let mut machine = made_up_machine();
    assert_eq!(machine.hardware[0x4b] & 0x80, 0x80);

    machine.write(Access::byte(0x4a), 0x20).unwrap();

    assert_eq!(machine.hardware[0x4a..0x4c], [0x20, 0x00]);
}

#[test]
fn the_device_is_read_first_only_where_bits_of_it_are_kept() {
    let mut view = made_up_machine().view;
    let mut needs_read = |access| view.write(access, 0).unwrap().hardware.unwrap().needs_read();
    assert!(needs_read(Access::COMMAND));
    assert!(needs_read(Access::byte(0x4a)));
    assert!(!needs_read(Access::byte(0x0c)));
    assert!(!needs_read(Access::word(0x4a)));
}

#[test]
fn an_access_beyond_the_view_s_space_reads_ones_and_is_discarded() {
    let mut machine = made_up_machine();
    let beyond = Access::dword(0x100);
    assert_eq!(machine.view.read(beyond).unwrap().value(0), u32::MAX);
    assert_eq!(machine.view.write(beyond, 0).unwrap().hardware, None);
}
