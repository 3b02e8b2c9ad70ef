//! The backend's end of a page that a hostile guest writes.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use std::sync::atomic::Ordering;
use std::{hint, thread};

use pcifront_shim::abi::{ErrorCode, FLAG_FRONTEND_ACTIVE, MSIX_VECTORS_MAX, Operation};
use pcifront_shim::{Answer, BackendEnd, Delivery, FrontendEnd, MsixEntries, Request, SharedPage};
use proptest::prelude::*;
use xenpcid_address::Sbdf;

const WORDS: usize = 143;

fn page_with(contents: &[u32]) -> SharedPage {
    let page = SharedPage::zeroed();
    for (word, value) in page.words().zip(contents) {
        word.store(*value, Ordering::Relaxed);
    }
    page
}

fn contents_of(page: &SharedPage) -> Vec<u32> {
    page.words().map(|word| word.load(Ordering::Relaxed)).collect()
}

fn any_contents() -> impl Strategy<Value = Vec<u32>> {
    // Small numbers are the interesting ones in each field: operations, sizes, counts around 128.
    prop::collection::vec(prop_oneof![any::<u32>(), 0..12_u32, 120..140_u32], WORDS)
}

proptest! {
    #[test]
    fn any_page_gives_a_bounded_copy_or_nothing(contents in any_contents()) {
        let page = page_with(&contents);
        let taken = BackendEnd::new(&page).take();
        prop_assert_eq!(taken.is_some(), contents[0] & FLAG_FRONTEND_ACTIVE != 0);
        if let Some(request) = taken {
            prop_assert_eq!(request.operation.0, contents[1]);
            prop_assert_eq!([request.domain, request.bus, request.devfn], &contents[3..6]);
            prop_assert_eq!(request.offset.to_le_bytes(), contents[6].to_le_bytes());
            prop_assert_eq!(request.size.to_le_bytes(), contents[7].to_le_bytes());
            prop_assert_eq!(request.value, contents[8]);
            let vectors = usize::try_from(request.value).unwrap().min(MSIX_VECTORS_MAX);
            let expected = if request.operation == Operation::ENABLE_MSIX { vectors } else { 0 };
            prop_assert_eq!(request.entries.as_slice().len(), expected);
            prop_assert!(!request.to_string().is_empty());
        }
        prop_assert_eq!(contents_of(&page), contents, "taking writes nothing");
    }

    #[test]
    fn answer_changes_nothing_but_error_value_vectors_and_the_active_bit(
        mut contents in any_contents(),
        error: i32,
        value: u32,
        vectors in prop::collection::vec(any::<u16>(), 0..200),
    ) {
        contents[0] |= FLAG_FRONTEND_ACTIVE;
        let page = page_with(&contents);
        let end = BackendEnd::new(&page);
        let request = end.take().unwrap();
        let answer = Answer { error: ErrorCode(error), value, vectors: &vectors };
        prop_assert_eq!(end.answer(&request, &answer), Delivery::Delivered);

        let mut expected = contents;
        expected[0] &= !FLAG_FRONTEND_ACTIVE;
        expected[2] = u32::from_ne_bytes(error.to_ne_bytes());
        expected[8] = value;
        if error == 0 {
            for (index, vector) in vectors.iter().take(request.entries.as_slice().len()).enumerate() {
                let entry = &mut expected[10 + index];
                *entry = *entry & 0xffff_0000 | u32::from(*vector);
            }
        }
        prop_assert_eq!(contents_of(&page), expected);
    }

    #[test]
    fn what_the_frontend_posts_is_what_the_backend_takes(request in any_request()) {
        let page = SharedPage::zeroed();
        FrontendEnd::new(&page).post(&request);
        prop_assert_eq!(BackendEnd::new(&page).take(), Some(request));
    }

    #[test]
    fn address_is_given_only_if_it_is_one(domain: u32, bus in 0..300_u32, devfn in 0..300_u32) {
        let domain = domain >> (domain % 32);
        let request = Request { domain, bus, devfn, ..Request::new(Operation::CONFIG_READ, Sbdf::from_devfn(0, 0, 0)) };
        match request.address() {
            Some(address) => prop_assert_eq!(address.machine_sbdf(), domain << 16 | bus << 8 | devfn),
            None => prop_assert!(domain > 0xffff || bus > 0xff || devfn > 0xff),
        }
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let header = (prop_oneof![0..12_u32, any::<u32>()], any::<(u32, u32, u32, i32, i32, u32)>());
    (header, prop::collection::vec(any::<u16>(), 0..=MSIX_VECTORS_MAX)).prop_map(
        |((operation, (domain, bus, devfn, offset, size, value)), indices)| {
            let operation = Operation(operation);
            let entries: MsixEntries = indices.into_iter().collect();
            let (value, entries) = match operation {
                Operation::ENABLE_MSIX => (u32::try_from(entries.as_slice().len()).unwrap(), entries),
                _ => (value, MsixEntries::NONE),
            };
            Request { operation, domain, bus, devfn, offset, size, value, entries }
        },
    )
}

/// XSA-155: what was checked is what is used. A field that were loaded twice would differ from itself.
#[test]
fn request_agrees_with_itself_while_the_guest_scribbles_over_its_page() {
    const ROUNDS: u32 = 20_000;
    let page = SharedPage::zeroed();
    page.words().take(1).for_each(|flags| flags.store(FLAG_FRONTEND_ACTIVE, Ordering::Relaxed));
    thread::scope(|scope| {
        let guest = scope.spawn(|| {
            for round in 0..ROUNDS {
                // Operation and count change in each round; every other operation is enable_msix.
                let operation = if round % 2 == 0 { Operation::ENABLE_MSIX.0 } else { round % 11 };
                page.words().skip(1).take(1).for_each(|cmd| cmd.store(operation, Ordering::Relaxed));
                page.words().skip(2).for_each(|word| word.store(round % 140, Ordering::Relaxed));
                // Without a pause no two looks at the page would ever see the same.
                (0..round % 500).for_each(|_| hint::spin_loop());
            }
        });
        let end = BackendEnd::new(&page);
        while !guest.is_finished() {
            let Some(request) = end.take() else { continue };
            let count = if request.operation == Operation::ENABLE_MSIX { request.value.min(128) } else { 0 };
            assert_eq!(request.entries.as_slice().len(), usize::try_from(count).unwrap(), "{request}");
        }
    });
}
