//! What the frontend makes of each kind of answer.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use pcifront_shim::abi::{ErrorCode, Operation};
use pcifront_shim::{
    Answer, BackendEnd, Connection, Delivery, Frontend, FrontendEnd, MsixOutcome, Request, RequestError, SharedPage,
    Width,
};
use xenpcid_address::Sbdf;

use crate::connection::{Reply, frontend_served_by};

const ADDRESS: Sbdf = Sbdf::from_devfn(0, 0, 0x09);

#[test]
fn each_operation_reaches_the_backend_with_the_fields_that_the_protocol_has_for_it() {
    let mut seen = Vec::new();
    {
        let mut frontend = frontend_served_by(|request| {
            seen.push(request.to_string());
            let vectors = vec![50; request.entries.as_slice().len()];
            let value = if request.operation == Operation::ENABLE_MSI { 49 } else { 0 };
            Some(Reply { error: ErrorCode::SUCCESS, value, vectors })
        });
        frontend.config_read(ADDRESS, 0x3d, Width::Byte).unwrap();
        frontend.config_write(ADDRESS, 0x10, Width::Dword, 0xffff_ffff).unwrap();
        assert_eq!(frontend.enable_msi(ADDRESS).unwrap(), 49);
        frontend.disable_msi(ADDRESS).unwrap();
        assert_eq!(frontend.enable_msix(ADDRESS, &[0, 3]).unwrap(), MsixOutcome::Enabled(vec![50, 50]));
        frontend.disable_msix(ADDRESS).unwrap();
    }
    assert_eq!(
        seen,
        [
            "conf_read 0000:00:01.1 offset 0x3d size 1",
            "conf_write 0000:00:01.1 offset 0x10 size 4 value 0xffffffff",
            "enable_msi 0000:00:01.1",
            "disable_msi 0000:00:01.1",
            "enable_msix 0000:00:01.1 2 vectors, entries [0, 3]",
            "disable_msix 0000:00:01.1",
        ]
    );
}

#[test]
fn value_of_a_narrow_read_is_cut_to_its_width() {
    let mut frontend = frontend_served_by(|_| Reply::success(0x1234_5678));
    assert_eq!(frontend.config_read(ADDRESS, 0, Width::Byte).unwrap(), 0x78);
    assert_eq!(frontend.config_read(ADDRESS, 0, Width::Word).unwrap(), 0x5678);
    assert_eq!(frontend.config_read(ADDRESS, 0, Width::Dword).unwrap(), 0x1234_5678);
}

#[test]
fn refusal_names_the_request_and_the_error_of_the_header() {
    let mut frontend = frontend_served_by(|_| Reply::error(ErrorCode::ACCESS_DENIED));
    let error = frontend.config_write(ADDRESS, 0x52, Width::Word, 0x81).unwrap_err();
    assert_eq!(
        error.to_string(),
        "conf_write 0000:00:01.1 offset 0x52 size 2 value 0x81: the backend answered access_denied (-3)"
    );
}

#[test]
fn backend_that_does_not_answer_costs_the_time_and_the_request_is_withdrawn() {
    let mut frontend = frontend_served_by(|_| None);
    let error = frontend.config_read(ADDRESS, 0, Width::Dword).unwrap_err();
    assert_eq!(
        error.to_string(),
        "conf_read 0000:00:01.1 offset 0x0 size 4: no answer from the backend within 0 ms; is it running?"
    );
    assert_eq!(BackendEnd::new(frontend.connection().page()).take(), None);
}

#[test]
fn msi_without_a_pirq_is_an_error() {
    for value in [0, u32::MAX] {
        let mut frontend = frontend_served_by(|_| Reply::success(value));
        assert!(matches!(frontend.enable_msi(ADDRESS), Err(RequestError::BadPirq { .. })), "{value:#x}");
    }
}

#[test]
fn msix_vector_that_was_not_given_is_an_error() {
    let mut frontend =
        frontend_served_by(|_| Some(Reply { error: ErrorCode::SUCCESS, value: 0, vectors: vec![17, 0] }));
    assert!(matches!(frontend.enable_msix(ADDRESS, &[0, 1]), Err(RequestError::BadPirq { pirq: 0, .. })));
}

#[test]
fn fewer_msix_vectors_than_asked_for_are_an_offer_and_no_error() {
    let mut frontend = frontend_served_by(|_| Reply::success(3));
    assert_eq!(frontend.enable_msix(ADDRESS, &[0, 1, 2, 3]).unwrap(), MsixOutcome::Available(3));
}

#[test]
fn more_msix_vectors_than_a_request_carries_are_refused_without_asking() {
    let mut frontend = frontend_served_by(|_| unreachable!("nothing is sent"));
    let entries: Vec<u16> = (0..129).collect();
    let error = frontend.enable_msix(ADDRESS, &entries).unwrap_err();
    assert_eq!(error.to_string(), "129 MSI-X vectors asked for, a request carries at most 128");
}

#[test]
fn backend_gets_all_128_entries_and_gives_all_128_vectors() {
    let mut frontend = frontend_served_by(|request| {
        let vectors = request.entries.as_slice().iter().map(|index| index + 1000).collect();
        Some(Reply { error: ErrorCode::SUCCESS, value: 0, vectors })
    });
    let entries: Vec<u16> = (0..128).rev().collect();
    let expected = entries.iter().map(|index| index + 1000).collect();
    assert_eq!(frontend.enable_msix(ADDRESS, &entries).unwrap(), MsixOutcome::Enabled(expected));
}

/// A doorbell that wakes the frontend twice for nothing, then answers, or fails.
struct Slow {
    page: SharedPage,
    waits: Cell<u32>,
    fails: bool,
}

impl Connection for Slow {
    fn page(&self) -> &SharedPage {
        &self.page
    }

    fn ring(&self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&self, _deadline: Instant) -> io::Result<()> {
        self.waits.set(self.waits.get() + 1);
        if self.waits.get() == 3 && self.fails {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        if self.waits.get() == 3 {
            let end = BackendEnd::new(&self.page);
            assert_eq!(end.answer(&end.take().unwrap(), &Answer::success(5)), Delivery::Delivered);
        }
        Ok(())
    }
}

#[test]
fn spurious_wakeups_only_make_the_frontend_look_again() {
    let slow = Slow { page: SharedPage::zeroed(), waits: Cell::new(0), fails: false };
    let mut frontend = Frontend::giving_up_after(slow, Duration::from_secs(3600));
    assert_eq!(frontend.config_read(ADDRESS, 0, Width::Byte).unwrap(), 5);
    assert_eq!(frontend.connection().waits.get(), 3);
}

#[test]
fn failing_event_channel_ends_the_request_and_withdraws_it() {
    let slow = Slow { page: SharedPage::zeroed(), waits: Cell::new(0), fails: true };
    let mut frontend = Frontend::giving_up_after(slow, Duration::from_secs(3600));
    let error = frontend.config_read(ADDRESS, 0, Width::Byte).unwrap_err();
    assert!(matches!(&error, RequestError::EventChannel { source, .. } if source.kind() == io::ErrorKind::BrokenPipe));
    assert_eq!(BackendEnd::new(frontend.connection().page()).take(), None);
}

#[test]
fn answer_to_one_request_is_not_given_to_another() {
    let page = SharedPage::zeroed();
    let (frontend, backend) = (FrontendEnd::new(&page), BackendEnd::new(&page));
    let first = Request::config_read(ADDRESS, 0, Width::Dword);
    let second = Request::config_write(ADDRESS, 4, Width::Word, 6);
    frontend.post(&first);
    let late = backend.take().unwrap();
    frontend.give_up();
    assert_eq!(backend.answer(&late, &Answer::success(1)), Delivery::Stale, "given up");
    frontend.post(&second);
    assert_eq!(backend.answer(&late, &Answer::success(1)), Delivery::Stale, "another is posted");
    assert_eq!(backend.take(), Some(second));
    assert_eq!(frontend.poll(), None);
}
