//! Configuration registers behave as those of hardware.

use std::sync::Arc;

use proptest::prelude::*;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{ConfigSpace, DomainInfo, MsiVector, ReservedMemory};
use xenpcid_policy::{Access, ConfigSize, Width};
use xenpcid_simhost::{DomainOptions, SimDevice, World};

use super::{NIC, NVME, OLD_NIC, PHYSICAL, VIRTUAL, world};

/// Power Management and its Control/Status of the NVMe controller, MSI-X, PCI Express.
const PMCSR: Access = Access::word(0x44);
const MSIX: u16 = 0x50;
const DEVICE_CONTROL: Access = Access::word(0x68);
const INITIATE_FLR: u32 = 0x8000;

fn config(world: &World, function: Sbdf) -> Arc<dyn ConfigSpace> {
    world.host().pci.open_config(function).unwrap()
}

/// Writes and reads back.
fn write(config: &dyn ConfigSpace, access: Access, value: u32) -> u32 {
    config.write(access, value).unwrap();
    config.read(access).unwrap()
}

#[test]
fn each_bar_answers_a_write_of_ones_with_its_size_and_type() {
    let world = world();
    let ones = |function, offset| write(config(&world, function).as_ref(), Access::dword(offset), u32::MAX);

    assert_eq!(ones(NIC, 0x10), 0xfffe_0000);
    assert_eq!(ones(NIC, 0x18), 0xffff_ffe1);
    assert_eq!(ones(NIC, 0x1c), 0xffff_c000);
    assert_eq!(ones(NIC, 0x20), 0);
    assert_eq!(ones(NIC, 0x30), 0xfffc_0001);
    assert_eq!((ones(NVME, 0x10), ones(NVME, 0x14)), (0xffff_c004, 0xffff_ffff));
    assert_eq!(ones(OLD_NIC, 0x14), 0xffff_ffc1);
    assert_eq!(ones(VIRTUAL, 0x10), 0, "a virtual function's BARs are in its physical function");
}

#[test]
fn command_keeps_the_bits_that_the_function_implements() {
    let world = world();
    let ones = |function| write(config(&world, function).as_ref(), Access::COMMAND, 0xffff);

    assert_eq!(ones(NIC), 0x0547);
    assert_eq!(ones(NVME), 0x0546, "no I/O");
    assert_eq!(ones(OLD_NIC), 0x0557, "conventional: Memory Write and Invalidate");
    assert_eq!(ones(VIRTUAL), 0x0004, "bus mastering only");
}

#[test]
fn status_bits_are_cleared_by_ones_and_by_nothing_else() {
    let world = World::new();
    world.add_device(SimDevice::nvme(NVME).with_config(0x06, &[0x10, 0x28]));
    let config = config(&world, NVME);
    const STATUS: Access = Access::word(0x06);

    assert_eq!(write(config.as_ref(), STATUS, 0), 0x2810);
    assert_eq!(write(config.as_ref(), STATUS, 0x2000), 0x0810);
    assert_eq!(write(config.as_ref(), STATUS, 0xffff), 0x0010);
}

#[test]
fn leaving_d3hot_resets_a_function_unless_it_says_that_it_keeps_its_state() {
    let registers = |world: &World| (world.resets(NVME), config(world, NVME).read(Access::dword(0x14)).unwrap());
    let forgets = world();
    let keeps = World::new();
    keeps.add_device(SimDevice::nvme(NVME).with_config(0x44, &[0x08]));

    for world in [&forgets, &keeps] {
        let config = config(world, NVME);
        assert_eq!(write(config.as_ref(), PMCSR, 3) & 3, 3);
        assert_eq!(write(config.as_ref(), PMCSR, 0) & 3, 0);
    }

    assert_eq!(registers(&forgets), (1, 0));
    assert_eq!(registers(&keeps), (0, 0x38));
}

#[test]
fn power_state_that_is_not_implemented_is_no_change() {
    let world = world();
    let config = config(&world, NVME);

    assert_eq!(write(config.as_ref(), PMCSR, 1) & 3, 0);
    config.write(PMCSR, 3).unwrap();
    assert_eq!(write(config.as_ref(), PMCSR, 2) & 3, 3);
}

#[test]
fn function_level_reset_clears_bars_and_command_and_leaves_sticky_bits() {
    let world = world();
    let config = config(&world, NVME);
    const AER_MASK: Access = Access::dword(0x108);
    config.write(AER_MASK, 0x0010_0000).unwrap();

    config.write(DEVICE_CONTROL, INITIATE_FLR).unwrap();

    let read = |access| config.read(access).unwrap();
    assert_eq!((read(Access::dword(0x10)), read(Access::dword(0x14)), read(Access::COMMAND)), (0x4, 0, 0));
    assert_eq!(read(DEVICE_CONTROL), 0x2810, "as after power-on, and the trigger reads 0");
    assert_eq!(read(AER_MASK), 0x0010_0000);
    assert_eq!(world.resets(NVME), 1);
}

#[test]
fn function_without_flr_ignores_its_bit() {
    let world = world();
    // Device Control of the recorded NIC, whose Device Capabilities do not have FLR.
    config(&world, NIC).write(Access::word(0xe8), INITIATE_FLR).unwrap();

    assert_eq!(world.resets(NIC), 0);
}

#[test]
fn vital_product_data_is_read_and_written_through_its_two_registers() {
    let world = World::new();
    // The capability stands first in the list, in front of Power Management.
    let device = SimDevice::nvme(NVME).with_config(0x34, &[0xb0]).with_config(0xb0, &[0x03, 0x40]);
    world.add_device(device.with_vital_product_data(b"\x82\x04\x00NVMe\x78\x00\x00\x00\x00"));
    let config = config(&world, NVME);
    const ADDRESS: Access = Access::word(0xb2);
    const DATA: Access = Access::dword(0xb4);

    let flag = write(config.as_ref(), ADDRESS, 4) & 0x8000;
    let word = config.read(DATA).unwrap();
    config.write(DATA, u32::from_le_bytes(*b"SATA")).unwrap();
    let done = write(config.as_ref(), ADDRESS, 0x8000 | 8) & 0x8000;
    config.write(ADDRESS, 8).unwrap();

    assert_eq!((flag, word.to_le_bytes()), (0x8000, *b"VMe\x78"));
    assert_eq!((done, config.read(DATA).unwrap().to_le_bytes()), (0, *b"SATA"));
}

#[test]
fn xen_drops_all_writes_to_msix_but_16_bits_at_message_control() {
    let world = world();
    let config = config(&world, NVME);
    let control = Access::word(MSIX + 2);

    config.write(Access::dword(MSIX), 0xc000_0000).unwrap();
    config.write(Access::byte(MSIX + 3), 0xc0).unwrap();
    config.write(Access::dword(MSIX + 4), u32::MAX).unwrap();
    let dropped = config.read(control).unwrap();
    let passed = write(config.as_ref(), control, 0x8000);

    assert_eq!((dropped, passed), (0x0040, 0x8040));
}

#[tokio::test]
async fn xen_drops_writes_to_msi_with_masks_while_a_vector_is_mapped() {
    let world = world();
    let domain = world.create_domain("web1", [1; 16], DomainOptions::default()).await.unwrap();
    let host = world.host();
    let config = config(&world, PHYSICAL);
    const ADDRESS: Access = Access::dword(0x54);
    const MASK: Access = Access::dword(0x60);
    let before = write(config.as_ref(), ADDRESS, 0xfee0_0000);
    host.hypervisor.assign_device(domain, PHYSICAL, ReservedMemory::Refuse).unwrap();
    host.hypervisor.map_msi(domain, PHYSICAL, MsiVector::Msi).unwrap();

    let after = write(config.as_ref(), ADDRESS, 0xfee0_1000);
    let mask = write(config.as_ref(), MASK, 1);
    let half = write(config.as_ref(), Access::word(0x60), 0);

    assert_eq!((before, after), (0xfee0_0000, 0xfee0_0000));
    assert_eq!((mask, half), (1, 1));
    assert!(matches!(host.hypervisor.domain(domain), Ok(Some(DomainInfo { domain: DomainId(1), .. }))));
}

/// Any access to a space of 4096 bytes.
fn accesses() -> impl Strategy<Value = Access> {
    (0i32..4096, prop::sample::select(vec![1, 2, 4]))
        .prop_map(|(offset, size)| Access::new(offset / size * size, size, ConfigSize::Express).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written, a function stays the one it is, and bytes that were not written change only by a reset.
    #[test]
    fn any_writes_leave_identity_and_neighbours_alone(
        writes in prop::collection::vec((accesses(), any::<u32>()), 1..40),
        function in prop::sample::select(vec![NIC, NVME, PHYSICAL, VIRTUAL]),
    ) {
        let world = world();
        let config = config(&world, function);
        let identity = [Access::dword(0x00), Access::dword(0x08), Access::byte(0x0e), Access::dword(0x2c), Access::word(0x3d & !1)];
        let read_all = || identity.map(|access| config.read(access).unwrap() & if access.offset() == 0x3c { 0xff00 } else { u32::MAX });
        let before = read_all();
        for (access, value) in writes {
            let (bytes, resets) = (world.hardware(function), world.resets(function));
            config.write(access, value).unwrap();
            let written = usize::from(access.offset())..usize::from(access.offset() + access.width().bytes());
            let now = world.hardware(function);
            let others = (0..now.len()).filter(|offset| !written.contains(offset) && now[*offset] != bytes[*offset]);
            prop_assert!(world.resets(function) > resets || others.count() == 0, "{access} = {value:#x}");
            prop_assert_eq!(read_all(), before);
        }
    }

    /// An access of 4 bytes reads what its halves and its bytes read.
    #[test]
    fn widths_agree(access in accesses(), function in prop::sample::select(vec![NIC, NVME, PHYSICAL])) {
        let world = world();
        let config = config(&world, function);
        let start = access.offset() & !3;
        let read = |offset: u16, width: Width| {
            let access = Access::new(i32::from(offset), i32::from(width.bytes()), ConfigSize::Express).unwrap();
            config.read(access).unwrap()
        };
        let words = read(start, Width::Word) | read(start + 2, Width::Word) << 16;
        let bytes = (0..4).fold(0, |value, lane| value | read(start + lane, Width::Byte) << (8 * lane));
        prop_assert_eq!((words, bytes), (read(start, Width::Dword), read(start, Width::Dword)));
    }
}

#[test]
fn capabilities_that_do_not_fit_are_no_more_than_wrong_bytes() {
    for id in [0x01, 0x03, 0x05, 0x10, 0x11, 0x13] {
        let world = World::new();
        let device = SimDevice::e1000(OLD_NIC).with_config(0x06, &[0x10]).with_config(0x34, &[0xfc]);
        world.add_device(device.with_config(0xfc, &[id, 0x00, 0xff, 0xff]));
        let config = config(&world, OLD_NIC);

        for offset in (0xf0..0x100).step_by(4) {
            config.write(Access::dword(offset), u32::MAX).unwrap();
        }

        assert_eq!(config.read(Access::byte(0xfc)).unwrap(), u32::from(id));
        assert!(world.host().pci.describe(OLD_NIC).is_ok());
    }
}
