//! Recorded traces: text form and replay.

use std::cell::RefCell;

use pcifront_shim::Width;
use pcifront_shim::abi::ErrorCode;
use pcifront_shim::trace::{Direction, Trace, TracedAccess};
use proptest::prelude::*;
use xenpcid_address::Sbdf;

use crate::connection::{Reply, frontend_served_by};
use crate::recorded_device::RecordedDevice;

const RECORDED: &str = include_str!("../fixtures/pcifront-6.1-e1000e.trace");
const ADDRESS: Sbdf = Sbdf::from_devfn(0, 0, 0);

#[test]
fn trace_of_a_linux_guest_replays_against_the_same_device_without_a_difference() {
    let trace: Trace = RECORDED.parse().unwrap();
    assert_eq!(trace.0.len(), 170);
    let device = RefCell::new(RecordedDevice::e1000e());
    let mut frontend = frontend_served_by(|request| device.borrow_mut().answer(request));
    assert_eq!(trace.replay(&mut frontend, ADDRESS).unwrap(), []);
    assert_eq!(device.borrow().log, trace.0);
}

#[test]
fn replay_shows_other_values_and_errors() {
    let trace: Trace = "# comment\n\nR 4 0x0 10d38086\nW 2 0x4 103\n  R 1 3d 1\n".parse().unwrap();
    let mut frontend = frontend_served_by(|request| match request.offset {
        0 => Reply::success(0x10d3_8086),
        4 => Reply::error(ErrorCode::ACCESS_DENIED),
        _ => Reply::success(2),
    });
    let differences = trace.replay(&mut frontend, ADDRESS).unwrap();
    let text: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["access 1 (W 2 0x4 103): answered access_denied (-3)", "access 2 (R 1 0x3d 1): answered 2"]);
}

#[test]
fn what_is_not_a_trace_is_refused_with_line_and_reason() {
    let error = "R 4 0 0\nX 4 0 0".parse::<Trace>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2 of the trace, \"X 4 0 0\": the direction is not R or W; \
         write R or W, size, offset and value, such as R 4 0x10 febc0000"
    );
    for text in ["R", "R 3 0 0", "R 4 10000 0", "R 1 0 100", "R 2 0 g", "R 4 0 0 0", "R 4 0 100000000"] {
        assert!(text.parse::<Trace>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn text_form_of_any_trace_parses_back(accesses in prop::collection::vec(access(), 0..20)) {
        let trace = Trace(accesses);
        prop_assert_eq!(trace.to_string().parse(), Ok(trace));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text: String) {
        let _either = text.parse::<Trace>();
    }
}

fn access() -> impl Strategy<Value = TracedAccess> {
    let width = prop_oneof![Just(Width::Byte), Just(Width::Word), Just(Width::Dword)];
    let direction = prop_oneof![Just(Direction::Read), Just(Direction::Write)];
    (direction, width, any::<u16>(), any::<u32>()).prop_map(|(direction, width, offset, value)| TracedAccess {
        direction,
        width,
        offset,
        value: value & width.all_ones(),
    })
}
