//! Functions that are refused, and what is shown of those that are only odd.

use xenpcid_policy::{Access, CompileError, ConfigView, Resource, Snapshot, Terms, Unsupported};

use crate::devices;
use crate::made_up::made_up;
use crate::policies::shipped;
use crate::recorded::e1000e;

fn compile(snapshot: &Snapshot) -> Result<ConfigView, CompileError> {
    ConfigView::compile(snapshot, &Terms { policy: &shipped("default"), name: None, vectors: u16::MAX })
}

fn refusal_of(snapshot: &Snapshot) -> Unsupported {
    match compile(snapshot).unwrap_err() {
        CompileError::Unsupported(unsupported) => unsupported,
        other => panic!("{other}"),
    }
}

fn refusal(change: impl FnOnce(&mut Snapshot)) -> Unsupported {
    let mut snapshot = made_up();
    change(&mut snapshot);
    refusal_of(&snapshot)
}

fn range(start: u64, size: u64, flags: u64) -> Resource {
    Resource { start, end: start + size - 1, flags }
}

#[test]
fn bridges_and_absent_devices_are_refused() {
    for (byte, header_type) in [(0x01, 1), (0x81, 1), (0x02, 2), (0xff, 0x7f)] {
        assert_eq!(refusal(|snapshot| snapshot.config[0x0e] = byte), Unsupported::HeaderType { header_type });
    }
}

#[test]
fn a_space_that_was_not_read_whole_is_refused() {
    assert_eq!(refusal(|snapshot| snapshot.config.truncate(64)), Unsupported::ConfigLength { length: 64 });
}

#[test]
fn a_capability_list_that_goes_wrong_is_refused_where_it_does() {
    let at = |offset: usize, byte: u8| match refusal(|snapshot| snapshot.config[offset] = byte) {
        Unsupported::CapabilityList { offset, reason } => (offset, reason),
        other => panic!("{other}"),
    };
    assert_eq!(at(0x71, 0x40), (0x71, "it points back to a capability that came before"));
    assert_eq!(at(0x71, 0x70), (0x71, "it points back to a capability that came before"));
    assert_eq!(at(0x71, 0x3c), (0x71, "it points into the header"));
    assert_eq!(at(0x64, 0x05), (0x64, "a capability that a function has only once is there twice"));
}

#[test]
fn the_two_lowest_bits_of_a_pointer_are_no_part_of_it() {
    let mut snapshot = made_up();
    snapshot.config[0x34] |= 3;
    snapshot.config[0x71] |= 3;
    assert_eq!(snapshot.capabilities(), made_up().capabilities());
}

#[test]
fn capabilities_that_lie_over_one_another_are_refused() {
    let refused = refusal(|snapshot| {
        // The second dword of the MSI capability becomes the last of the list.
        snapshot.config[0x71] = 0x54;
        snapshot.config[0x55] = 0x00;
    });
    assert_eq!(refused, Unsupported::Overlap { capability: 0x54, offset: 0x54 });
}

#[test]
fn a_capability_that_does_not_fit_into_the_space_is_refused() {
    let advanced_features_at_the_end = |snapshot: &mut Snapshot| {
        snapshot.config[0x41] = 0x70;
        snapshot.config[0x71] = 0xfc;
        snapshot.config[0xfc] = 0x13;
    };
    let expected = Unsupported::CapabilityList { offset: 0xfc, reason: "it does not fit into the space" };
    assert_eq!(refusal(advanced_features_at_the_end), expected);
    // Nor does it go on where the extended space begins.
    let in_extended_space = refusal(|snapshot| {
        snapshot.config.resize(4096, 0);
        advanced_features_at_the_end(snapshot);
    });
    assert_eq!(in_extended_space, expected);
}

#[test]
fn an_extended_list_that_goes_wrong_is_refused() {
    for (next, reason) in [
        ([0x02, 0x14], None),
        ([0x02, 0x10], Some("it points back to a capability that came before")),
        ([0x42, 0x00], Some("it points out of the extended space")),
    ] {
        let mut snapshot = e1000e();
        snapshot.config[0x102..0x104].copy_from_slice(&next);
        let refused = compile(&snapshot).err();
        let expected = reason.map(|reason| Unsupported::CapabilityList { offset: 0x100, reason }.into());
        assert_eq!(refused, expected);
    }
}

#[test]
fn an_msix_table_outside_of_its_bar_is_refused() {
    let table = |register: [u8; 4]| match refusal(|snapshot| snapshot.config[0x74..0x78].copy_from_slice(&register)) {
        Unsupported::MsixLocation { what, bir, table_offset } => (what, bir, table_offset),
        other => panic!("{other}"),
    };
    assert_eq!(table([0x0b, 0x80, 0x00, 0x00]), ("table", 3, 0x8008));
    assert_eq!(table([0xfb, 0xff, 0xff, 0xff]), ("table", 3, 0xffff_fff8));
    assert_eq!(table([0x02, 0x00, 0x00, 0x00]), ("table", 2, 0));
    assert_eq!(table([0x01, 0x00, 0x00, 0x00]), ("table", 1, 0));
    assert_eq!(table([0x06, 0x00, 0x00, 0x00]), ("table", 6, 0));
}

#[test]
fn msix_pending_bits_outside_of_their_bar_are_refused() {
    // 2048 bits are 256 bytes: they fit at the end of the 64 KiB, and 8 bytes later no more.
    let mut snapshot = made_up();
    snapshot.config[0x78..0x7a].copy_from_slice(&[0x03, 0xff]);
    assert!(compile(&snapshot).is_ok());
    let refused = refusal(|snapshot| snapshot.config[0x78..0x7a].copy_from_slice(&[0x0b, 0xff]));
    assert_eq!(refused, Unsupported::MsixLocation { what: "pending bit array", bir: 3, table_offset: 0xff08 });
}

#[test]
fn an_msix_table_in_port_space_is_refused() {
    let refused = refusal(|snapshot| {
        snapshot.resources[2] = range(0, 0x1_0000, Resource::IO | 1);
        snapshot.config[0x74] = 0x02;
    });
    assert_eq!(refused, Unsupported::MsixLocation { what: "table", bir: 2, table_offset: 0 });
}

#[test]
fn a_resource_that_no_bar_can_have_is_refused() {
    let wrong = |index: usize, resource| match refusal(|snapshot| snapshot.resources[index] = resource) {
        Unsupported::Resource { register, reason, .. } => (register, reason),
        other => panic!("{other}"),
    };
    let odd = "it is not a power of two in size, too small, or not aligned to its size";
    assert_eq!(wrong(2, range(0xe000, 0x30, Resource::IO | 1)), ("BAR 2", odd));
    assert_eq!(wrong(2, range(0x3f6, 1, Resource::IO | 1)), ("BAR 2", odd));
    assert_eq!(wrong(2, range(0xe010, 0x20, Resource::IO | 1)), ("BAR 2", odd));
    assert_eq!(wrong(6, range(0xf100_0000, 0x400, Resource::MEMORY)), ("the expansion ROM", odd));
    let high = "it is above 4 GiB and the register has 32 bits";
    assert_eq!(wrong(3, range(0x1_0000_0000, 0x1_0000, Resource::MEMORY)), ("BAR 3", high));
    let upper = "it is 64 bits wide and the next register is not free for the upper half";
    assert_eq!(wrong(5, range(0xe000_0000, 0x1_0000, Resource::MEMORY)), ("BAR 4", upper));
    assert_eq!(wrong(1, range(0xe000_0000, 0x1_0000, Resource::MEMORY)), ("BAR 0", upper));
}

#[test]
fn a_virtual_function_has_no_interrupt_pin() {
    let mut snapshot = e1000e();
    let pin = Access::byte(0x3d);
    assert_eq!(compile(&snapshot).unwrap().read(pin).unwrap().value(0), 1);
    snapshot.is_virtual_function = true;
    assert_eq!(compile(&snapshot).unwrap().read(pin).unwrap().value(1), 0);
}

#[test]
fn resources_without_an_address_and_roms_in_host_memory_read_as_not_there() {
    let mut snapshot = made_up();
    snapshot.resources[2].flags |= Resource::UNSET;
    snapshot.resources[6] = range(0xc_0000, 0x2_0000, Resource::MEMORY | Resource::ROM_SHADOW);
    let mut view = compile(&snapshot).unwrap();
    for offset in [0x18, 0x30] {
        let register = Access::dword(offset);
        view.write(register, u32::MAX).unwrap();
        assert_eq!(view.read(register).unwrap().value(u32::MAX), 0);
    }
}

#[test]
fn a_resizable_bar_is_as_long_as_it_says_so_that_another_capability_can_follow() {
    let mut snapshot = devices::named("gpu-rebar-ats").clone();
    let mut put = |at: usize, header: u32| snapshot.config[at..at + 4].copy_from_slice(&header.to_le_bytes());
    put(0x200, 0x2101_0015);
    put(0x210, 0x2701_0004);
    assert_eq!(compile(&snapshot).err(), None);

    snapshot.config[0x208] |= 2 << 5;

    let overlap = Unsupported::Overlap { capability: 0x210, offset: 0x210 };
    assert_eq!(refusal_of(&snapshot), overlap);
}
