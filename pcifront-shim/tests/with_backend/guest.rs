//! The model of a Linux guest, held against a recording of a real one and against hostile configuration spaces.

use std::cell::RefCell;

use pcifront_shim::abi::{ErrorCode, Operation};
use pcifront_shim::guest::{Bar, BarKind, Capability, Driver, DriverError, enumerate};
use pcifront_shim::trace::Trace;
use pcifront_shim::{Connection, Frontend, Request, Width};
use proptest::prelude::*;
use xenpcid_address::Sbdf;

use crate::connection::{Reply, frontend_served_by};
use crate::recorded_device::RecordedDevice;

const RECORDED: &str = include_str!("../fixtures/pcifront-6.1-e1000e.trace");

fn frontend_of(device: &RefCell<RecordedDevice>) -> Frontend<impl Connection> {
    frontend_served_by(|request| device.borrow_mut().answer(request))
}

#[test]
fn enumeration_finds_what_the_recorded_device_has() {
    let device = RefCell::new(RecordedDevice::e1000e());
    let functions = enumerate(&mut frontend_of(&device), 0, 0).unwrap();

    let [function] = functions.as_slice() else { panic!("{functions:?}") };
    assert_eq!(function.address, Sbdf::from_devfn(0, 0, 0));
    assert_eq!((function.vendor, function.device), (0x8086, 0x10d3));
    assert_eq!((function.subsystem_vendor, function.subsystem), (0x8086, 0));
    assert_eq!((function.class, function.revision, function.header_type), (0x02_0000, 0, 0));
    assert_eq!(function.config_size, 4096);
    assert_eq!((function.interrupt_pin, function.interrupt_line), (1, 0x15));
    let memory = BarKind::Memory32 { prefetchable: false };
    assert_eq!(
        function.bars,
        [
            Bar { index: 0, address: 0xfeb8_0000, size: 0x2_0000, kind: memory },
            Bar { index: 1, address: 0xfeba_0000, size: 0x2_0000, kind: memory },
            Bar { index: 2, address: 0xc060, size: 0x20, kind: BarKind::Io },
            Bar { index: 3, address: 0xfebd_4000, size: 0x4000, kind: memory },
            Bar { index: 6, address: 0xfeb0_0000, size: 0x4_0000, kind: BarKind::ExpansionRom { enabled: false } },
        ]
    );
    let list =
        |pairs: &[(u16, u16)]| pairs.iter().map(|(id, offset)| Capability { id: *id, offset: *offset }).collect();
    let expected: Vec<Capability> = list(&[(0x01, 0xc8), (0x05, 0xd0), (0x10, 0xe0), (0x11, 0xa0)]);
    assert_eq!(function.capabilities, expected);
    let expected: Vec<Capability> = list(&[(0x0001, 0x100), (0x0003, 0x140)]);
    assert_eq!(function.extended_capabilities, expected);
    assert_eq!(device.borrow().command(), 0x103, "decoding is on again");
}

#[test]
fn enumeration_makes_the_accesses_that_linux_made() {
    let recorded: Trace = RECORDED.parse().unwrap();
    let up_to_subsystem = recorded.0.iter().position(|access| access.offset == 0x2e).unwrap();
    let device = RefCell::new(RecordedDevice::e1000e());
    enumerate(&mut frontend_of(&device), 0, 0).unwrap();
    assert_eq!(device.borrow().log[..=up_to_subsystem], recorded.0[..=up_to_subsystem]);
}

#[test]
fn driver_enables_decoding_bus_mastering_and_msix_and_disables_msix_as_linux_does() {
    let device = RefCell::new(RecordedDevice::e1000e());
    let mut frontend = frontend_of(&device);
    let function = enumerate(&mut frontend, 0, 0).unwrap().remove(0);
    let mut driver = Driver::new(&mut frontend, &function);

    driver.enable().unwrap();
    driver.set_bus_master(true).unwrap();
    let vectors = driver.enable_msix(64).unwrap();

    assert_eq!(vectors, [70, 71, 72, 73, 74], "the table of an 82574L has five entries");
    assert_eq!(device.borrow().command(), 0x507, "decoding, bus master, interrupt disable");
    driver.disable_msix().unwrap();
    driver.set_bus_master(false).unwrap();
    assert_eq!(device.borrow().command(), 0x103);
    assert_eq!(device.borrow().operations, [Operation::ENABLE_MSIX, Operation::DISABLE_MSI]);
}

#[test]
fn driver_takes_fewer_vectors_if_the_backend_has_fewer() {
    let device = RefCell::new(RecordedDevice::e1000e());
    device.borrow_mut().vectors_available = 2;
    let mut frontend = frontend_of(&device);
    let function = enumerate(&mut frontend, 0, 0).unwrap().remove(0);
    assert_eq!(Driver::new(&mut frontend, &function).enable_msix(5).unwrap(), [70, 71]);
}

#[test]
fn driver_uses_msi_and_intx() {
    let device = RefCell::new(RecordedDevice::e1000e());
    let mut frontend = frontend_of(&device);
    let function = enumerate(&mut frontend, 0, 0).unwrap().remove(0);
    let mut driver = Driver::new(&mut frontend, &function);
    assert_eq!(driver.intx().unwrap(), Some(0x15));
    assert_eq!(driver.enable_msi().unwrap(), 60);
    driver.disable_msi().unwrap();
    assert_eq!(device.borrow().operations, [Operation::ENABLE_MSI, Operation::DISABLE_MSI]);
    assert_eq!(device.borrow().command(), 0x103);
}

#[test]
fn driver_is_told_what_is_missing() {
    let device = RefCell::new(RecordedDevice::e1000e());
    let mut frontend = frontend_of(&device);
    let mut function = enumerate(&mut frontend, 0, 0).unwrap().remove(0);
    function.capabilities.clear();
    let error = Driver::new(&mut frontend, &function).enable_msix(1).unwrap_err();
    assert_eq!(error.to_string(), "0000:00:00.0 has no MSI-X capability");
}

#[test]
fn failed_msix_leaves_the_control_register_as_it_was_and_gives_the_backends_error() {
    let device = RefCell::new(RecordedDevice::e1000e());
    let mut frontend = frontend_served_by(|request| match request.operation {
        Operation::ENABLE_MSIX => Reply::error(ErrorCode::OP_FAILED),
        _ => device.borrow_mut().answer(request),
    });
    let function = enumerate(&mut frontend, 0, 0).unwrap().remove(0);
    let error = Driver::new(&mut frontend, &function).enable_msix(2).unwrap_err();
    assert!(matches!(error, DriverError::Request(_)));
    assert!(error.to_string().ends_with("op_failed (-5)"), "{error}");
    assert_eq!(device.borrow().command(), 0x103);
}

/// A function of which only BAR 0 and 1 are there: a 64-bit one above 4 GiB, as long as `mask` says.
fn with_64_bit_bar(mask: u64) -> impl FnMut(&Request) -> Option<Reply> {
    let value = 0x0000_0038_0000_000c_u64;
    let mut registers = [value, value];
    move |request| {
        let half =
            |number: u64, offset| u32::try_from(if offset == 0x14 { number >> 32 } else { number & 0xffff_ffff });
        match (request.operation, request.devfn, request.offset) {
            (Operation::CONFIG_READ, 0, 0) => Reply::success(0x0001_1af4),
            (Operation::CONFIG_READ, 0, offset @ (0x10 | 0x14)) => {
                Reply::success(half(registers[usize::from(offset == 0x14)], offset).unwrap())
            }
            (Operation::CONFIG_WRITE, 0, offset @ (0x10 | 0x14)) => {
                registers[usize::from(offset == 0x14)] = if request.value == u32::MAX { mask } else { value };
                Reply::success(0)
            }
            (_, 0, _) => Reply::success(0),
            _ => Reply::error(ErrorCode::DEV_NOT_FOUND),
        }
    }
}

#[test]
fn bar_of_64_bits_is_one_range_even_if_it_is_4_gib_or_longer() {
    for size in [0x4000_u64, 1 << 31, 1 << 32, 1 << 38] {
        let mut frontend = frontend_served_by(with_64_bit_bar(size.wrapping_neg() | 0xc));
        let functions = enumerate(&mut frontend, 0, 0).unwrap();
        let kind = BarKind::Memory64 { prefetchable: true };
        assert_eq!(functions[0].bars, [Bar { index: 0, address: 0x38_0000_0000, size, kind }]);
    }
}

#[test]
fn bus_whose_backend_refuses_everything_is_empty() {
    let mut requests = 0;
    let functions = enumerate(
        &mut frontend_served_by(|_| {
            requests += 1;
            Reply::error(ErrorCode::DEV_NOT_FOUND)
        }),
        0,
        0,
    );
    assert_eq!(functions.unwrap(), []);
    assert_eq!(requests, 256);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Capability lists that go in circles, BARs that change their mind: enumeration ends, with any answers.
    #[test]
    fn enumeration_ends_whatever_the_backend_answers(seed: u32, answers in prop::collection::vec(any::<u32>(), 1..300)) {
        let mut next = 0;
        let mut frontend = frontend_served_by(|request| {
            next += 1;
            let answer = answers[(usize::try_from(seed).unwrap() + next) % answers.len()];
            match request.devfn {
                0..4 if answer % 7 == 0 => Reply::error(ErrorCode::INVALID_OFFSET),
                0..4 => Reply::success(answer),
                _ => Reply::error(ErrorCode::DEV_NOT_FOUND),
            }
        });
        let functions = enumerate(&mut frontend, 0, 0).unwrap();
        for bar in functions.iter().flat_map(|function| &function.bars) {
            prop_assert!(bar.size.is_power_of_two());
        }
    }
}

#[test]
fn refused_read_is_all_ones_as_in_linux() {
    let mut frontend = frontend_served_by(|request| match (request.devfn, request.offset) {
        (0, 0) => Reply::success(0x1234_5678),
        _ => Reply::error(ErrorCode::ACCESS_DENIED),
    });
    let functions = enumerate(&mut frontend, 0, 0).unwrap();
    assert_eq!(functions[0].class, 0xff_ffff);
    assert_eq!(functions[0].capabilities, []);
    assert_eq!(functions[0].bars, []);
    assert!(frontend.config_read(functions[0].address, 8, Width::Dword).is_err());
}
