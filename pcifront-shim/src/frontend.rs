//! The frontend's end of the page: post a request, look for its answer, give up.

use crate::abi::{ErrorCode, FLAG_AER_HANDLER, FLAG_FRONTEND_ACTIVE};
use crate::page::SharedPage;
use crate::request::{Request, load, msix_vector, signed};
use crate::sync::{Ordering, fence};

/// The frontend's view of its page.
///
/// It neither waits nor notifies; [`Frontend`](crate::Frontend) does.
#[derive(Clone, Copy)]
pub struct FrontendEnd<'a> {
    page: &'a SharedPage,
}

/// The backend's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Outcome.
    pub error: ErrorCode,
    /// Value read, or what the operation gives.
    pub value: u32,
}

impl<'a> FrontendEnd<'a> {
    /// The frontend's end of `page`.
    #[must_use]
    pub const fn new(page: &'a SharedPage) -> Self {
        Self { page }
    }

    /// Tells the backend that AER operations are understood. Linux does so once, before it connects.
    pub fn announce_aer_handler(&self) {
        self.page.flags.fetch_or(FLAG_AER_HANDLER, Ordering::Release);
    }

    /// Puts a request on the page and sets the active bit; notify the backend afterwards.
    ///
    /// There is one request at a time for all devices of a guest: posting over an outstanding one gives the backend a
    /// mixture of both.
    pub fn post(&self, request: &Request) {
        request.store(&self.page.op);
        // Pairs with the acquire in `BackendEnd::take`.
        self.page.flags.fetch_or(FLAG_FRONTEND_ACTIVE, Ordering::Release);
    }

    /// The answer to the posted request, or `None` while it is outstanding.
    #[must_use]
    pub fn poll(&self) -> Option<Completed> {
        let SharedPage { flags, op, .. } = self.page;
        // Pairs with the clearing of the bit in `BackendEnd::answer`.
        let active = flags.load(Ordering::Acquire) & FLAG_FRONTEND_ACTIVE != 0;
        (!active).then(|| Completed { error: ErrorCode(signed(load(&op.err))), value: load(&op.value) })
    }

    /// The pirqs of the first `count` MSI-X entries, at most as many as the page has.
    pub fn vectors(&self, count: usize) -> impl Iterator<Item = u16> + use<'a> {
        self.page.op.msix_entries.iter().take(count).map(|entry| msix_vector(load(entry)))
    }

    /// Stops waiting: clears the active bit in the backend's place, as Linux' pcifront does.
    ///
    /// An answer that arrives at the same moment is lost.
    pub fn give_up(&self) {
        self.page.flags.fetch_and(!FLAG_FRONTEND_ACTIVE, Ordering::Relaxed);
        // Whoever sees a word of the next request sees that this one is gone; pairs with the fence in
        // `BackendEnd::take`.
        fence(Ordering::Release);
    }
}
