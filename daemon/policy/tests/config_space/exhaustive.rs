//! Every offset, every width and a set of values, against a model written from the description.

use proptest::prelude::*;
use xenpcid_policy::{Access, InterruptMode, Snapshot, Width};

use crate::machine::{Machine, accesses};
use crate::made_up::made_up;
use crate::model::{Bar, Layout, Model, ROM};
use crate::recorded::e1000e;

const E1000E: Layout = Layout {
    bars: &[
        Bar { offset: 0x10, address: 0xfeb8_0000, size: 0xfffe_0000, low_bits: 0xf },
        Bar { offset: 0x14, address: 0xfeba_0000, size: 0xfffe_0000, low_bits: 0xf },
        Bar { offset: 0x18, address: 0x0000_c061, size: 0xffff_ffe1, low_bits: 0x3 },
        Bar { offset: 0x1c, address: 0xfebd_4000, size: 0xffff_c000, low_bits: 0xf },
        Bar { offset: ROM, address: 0xfeb0_0000, size: 0xfffc_0000, low_bits: 0x7ff },
    ],
    conventional: &[0xc8, 0xd0, 0xe0, 0xa0],
    extended: &[0x100, 0x140],
    power_management: 0xc8,
    power_states: &[3],
    vital_product_data: None,
    msi: (0xd0, 0xe0),
    msix: 0xa0,
    msix_table_size: 4,
};

const MADE_UP: Layout = Layout {
    bars: &[
        Bar { offset: 0x10, address: 0x0000_000c, size: 0x0000_000c, low_bits: 0xf },
        Bar { offset: 0x14, address: 0x0000_0038, size: 0xffff_fffe, low_bits: 0x0 },
        Bar { offset: 0x18, address: 0x0000_e001, size: 0xffff_ffe1, low_bits: 0x3 },
        Bar { offset: 0x1c, address: 0xf000_0000, size: 0xffff_0000, low_bits: 0xf },
        Bar { offset: 0x20, address: 0x0000_0004, size: 0xffff_f004, low_bits: 0xf },
        Bar { offset: 0x24, address: 0x0000_003a, size: 0xffff_ffff, low_bits: 0x0 },
        Bar { offset: ROM, address: 0xf100_0000, size: 0xffff_0000, low_bits: 0x7ff },
    ],
    conventional: &[0x40, 0x48, 0x50, 0x64, 0x70],
    extended: &[],
    power_management: 0x40,
    power_states: &[1, 2, 3],
    vital_product_data: Some(0x48),
    msi: (0x50, 0x64),
    msix: 0x70,
    msix_table_size: 127,
};

/// Patterns that set, clear and alternate bits, single bits that have a meaning somewhere, and sizing writes.
const VALUES: [u32; 16] = [
    0x0000_0000,
    0xffff_ffff,
    0xffff_fff0,
    0xffff_fffc,
    0xffff_f800,
    0xffff_f801,
    0x5555_5555,
    0xaaaa_aaaa,
    0x0000_0001,
    0x0000_0002,
    0x0000_0004,
    0x0010_0003,
    0x8000_8000,
    0x7fff_7fff,
    0x0014_0407,
    0xc001_c001,
];

const MODES: [InterruptMode; 3] = [InterruptMode::None, InterruptMode::Msi, InterruptMode::Msix];

fn every_read_agrees(snapshot: &Snapshot, layout: &Layout) {
    for mode in MODES {
        for flip in [0x00, 0xff] {
            let mut machine = Machine::new(snapshot);
            let mut model = Model::new(layout, snapshot);
            machine.hardware.iter_mut().for_each(|byte| *byte ^= flip);
            model.hardware.iter_mut().for_each(|byte| *byte ^= flip);
            machine.view.set_interrupt_mode(mode);
            model.mode = mode;
            for access in accesses(snapshot) {
                let (offset, bytes) = (access.offset(), access.width().bytes());
                assert_eq!(machine.read(access), model.read(offset, bytes), "{mode:?} {access} {flip:#x}");
            }
        }
    }
}

fn every_write_agrees(snapshot: &Snapshot, layout: &Layout) {
    let fresh = Machine::new(snapshot);
    let fresh_model = Model::new(layout, snapshot);
    let mut machine = Machine::new(snapshot);
    for access in accesses(snapshot) {
        let (offset, bytes) = (access.offset(), access.width().bytes());
        for value in VALUES {
            machine.view.reset();
            machine.hardware.copy_from_slice(&fresh.hardware);
            let mut model = fresh_model.clone();

            let outcome = machine.write(access, value);

            let context = || format!("{value:#x} to {access}");
            assert_eq!(outcome, model.write(offset, bytes, value), "{}", context());
            assert_eq!(machine.hardware, model.hardware, "{}", context());
            let dword = Access::dword(offset & !3);
            assert_eq!(machine.read(dword), model.read(offset & !3, 4), "{}", context());
        }
    }
}

#[test]
fn every_read_of_the_recorded_device_agrees_with_the_model() {
    every_read_agrees(&e1000e(), &E1000E);
}

#[test]
fn every_read_of_the_made_up_device_agrees_with_the_model() {
    every_read_agrees(&made_up(), &MADE_UP);
}

#[test]
fn every_write_to_the_recorded_device_agrees_with_the_model() {
    every_write_agrees(&e1000e(), &E1000E);
}

#[test]
fn every_write_to_the_made_up_device_agrees_with_the_model() {
    every_write_agrees(&made_up(), &MADE_UP);
}

/// An access of the first 256 bytes and a value, both drawn from those that matter.
fn guest_write() -> impl Strategy<Value = (Access, u32)> {
    let offset = prop_oneof![0u16..64, 64u16..256];
    let width = prop::sample::select(&Width::ALL[..]);
    let value = prop_oneof![any::<u32>(), prop::sample::select(&VALUES[..])];
    (offset, width, value).prop_map(|(offset, width, value)| {
        let access = match width {
            Width::Byte => Access::byte(offset),
            Width::Word => Access::word(offset & !1),
            Width::Dword => Access::dword(offset & !3),
        };
        (access, value)
    })
}

proptest! {
    #[test]
    fn any_sequence_of_writes_leaves_the_whole_space_as_the_model_has_it(
        writes in prop::collection::vec(guest_write(), 1..60),
        mode in prop::sample::select(&MODES[..]),
    ) {
        for (snapshot, layout) in [(e1000e(), &E1000E), (made_up(), &MADE_UP)] {
            let mut machine = Machine::new(&snapshot);
            let mut model = Model::new(layout, &snapshot);
            machine.view.set_interrupt_mode(mode);
            model.mode = mode;

            for &(access, value) in &writes {
                let expected = model.write(access.offset(), access.width().bytes(), value);
                prop_assert_eq!(machine.write(access, value), expected);
            }

            prop_assert_eq!(&machine.hardware, &model.hardware);
            for access in accesses(&snapshot).filter(|access| access.width() == Width::Dword) {
                prop_assert_eq!(machine.read(access), model.read(access.offset(), 4), "{}", access);
            }
        }
    }

    #[test]
    fn a_reset_makes_the_view_a_new_guest_s_whatever_the_last_one_wrote(
        writes in prop::collection::vec(guest_write(), 1..60),
    ) {
        let snapshot = made_up();
        let fresh = Machine::new(&snapshot);
        let mut used = Machine::new(&snapshot);
        for (access, value) in writes {
            used.write(access, value);
        }
        used.view.set_interrupt_mode(InterruptMode::Msix);

        used.view.reset();

        for access in accesses(&snapshot) {
            prop_assert_eq!(used.view.read(access), fresh.view.read(access));
        }
    }
}

#[test]
fn registers_are_found_by_any_of_their_bytes_and_only_by_those() {
    let view = Machine::new(&made_up()).view;
    let name = |offset| view.register(Access::byte(offset)).map(|register| register.name);
    assert_eq!([0x04, 0x05].map(name), [Some("command"); 2]);
    assert_eq!([0x10, 0x13, 0x3f].map(name), [Some("bar0"), Some("bar0"), Some("maximum_latency")]);
    assert_eq!([0x44, 0x45].map(name), [Some("pm.control_status"); 2]);
    assert_eq!([0x60, 0x63].map(name), [Some("msi.pending"); 2]);
    assert_eq!([0x64, 0x65, 0x66, 0x6b].map(name), [Some("capability_header"), Some("capability_header"), None, None]);
    assert_eq!([0x7b, 0x7c, 0xff].map(name), [Some("msix.pending"), None, None]);
}
