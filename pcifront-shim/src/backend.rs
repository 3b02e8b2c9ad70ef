//! The backend's end of the page: take a request, answer it.

use crate::abi::{ErrorCode, FLAG_AER_HANDLER, FLAG_FRONTEND_ACTIVE, Operation};
use crate::page::SharedPage;
use crate::request::{Request, msix_entry, store, unsigned};
use crate::sync::{Ordering, fence};

/// The backend's view of a guest's page.
///
/// It neither waits nor notifies: after an event, and again after the event channel was unmasked, call
/// [`take`](Self::take) until it gives nothing, and notify the frontend after each answer that was delivered. The
/// frontend sleeps until it is notified.
#[derive(Clone, Copy)]
pub struct BackendEnd<'a> {
    page: &'a SharedPage,
}

/// What the frontend is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'v> {
    /// Outcome.
    pub error: ErrorCode,
    /// Value read; pirq of [`Operation::ENABLE_MSI`]; otherwise what the request had.
    ///
    /// For [`Operation::ENABLE_MSIX`] with success: 0, or the number of vectors that could be had instead (then none
    /// was enabled).
    pub value: u32,
    /// Pirqs of the entries of [`Operation::ENABLE_MSIX`], in the order of the request. Written only with success,
    /// and no more than the request had entries.
    pub vectors: &'v [u16],
}

impl Answer<'_> {
    /// The request was carried out and gave `value`.
    #[must_use]
    pub const fn success(value: u32) -> Self {
        Self { error: ErrorCode::SUCCESS, value, vectors: &[] }
    }

    /// The request was not carried out. The value goes back as it came, as xen-pciback has it.
    #[must_use]
    pub const fn refusal(error: ErrorCode, request: &Request) -> Self {
        Self { error, value: request.value, vectors: &[] }
    }
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the frontend is notified of a delivered answer, and a stale one is counted"]
pub enum Delivery {
    /// The answer is on the page and the active bit is clear: notify the frontend.
    Delivered,
    /// The request is no longer on the page: the frontend gave up, and may have posted another one. Nothing was
    /// written.
    ///
    /// A hostile guest gets this as often as it likes, by writing over its request while that is carried out; the next
    /// [`BackendEnd::take`] then gives what it wrote.
    Stale,
}

impl<'a> BackendEnd<'a> {
    /// The backend's end of `page`.
    #[must_use]
    pub const fn new(page: &'a SharedPage) -> Self {
        Self { page }
    }

    /// A copy of the outstanding request, or `None` if there is none.
    ///
    /// The request stays outstanding until it is answered: taking it again gives it again.
    ///
    /// The copy is one request and not a mixture of two, even if the frontend gives up and posts another one during the
    /// call; then it is the first, the second or none, and the second is notified. Only a frontend that gives up twice
    /// during one call, or writes over its own request, can spoil it, and that for itself.
    #[must_use]
    pub fn take(&self) -> Option<Request> {
        if !self.is_active() {
            return None;
        }
        let request = Request::load(&self.page.op);
        // If a word of the copy came from another request, its frontend had cleared the bit before: then either the bit
        // is still clear, or that other request is now on the page as a whole.
        fence(Ordering::Acquire);
        (self.is_active() && Request::load(&self.page.op) == request).then_some(request)
    }

    fn is_active(&self) -> bool {
        // Pairs with the release in `FrontendEnd::post`.
        self.page.flags.load(Ordering::Acquire) & FLAG_FRONTEND_ACTIVE != 0
    }

    /// Answers `request`, unless it is no longer the one on the page. Writes only `err`, `value` and the vectors, then
    /// clears the active bit.
    ///
    /// # The window that remains
    /// The protocol has no sequence number. A frontend that gives up *and* posts another request during this call,
    /// between the comparison and the clearing of the bit, finds the other request acknowledged by this answer, or the
    /// backend finds its `value` overwritten. And a request that is equal to one given up is answered by the answer to
    /// its twin. Both need an answer that is later than [`LINUX_GIVES_UP_AFTER`](crate::abi::LINUX_GIVES_UP_AFTER): a
    /// backend that answers within that time, or drops what it could not, is never in the window.
    pub fn answer(&self, request: &Request, answer: &Answer<'_>) -> Delivery {
        let SharedPage { flags, op, .. } = self.page;
        if self.take().as_ref() != Some(request) {
            return Delivery::Stale;
        }
        store(&op.err, unsigned(answer.error.0));
        store(&op.value, answer.value);
        if request.operation == Operation::ENABLE_MSIX && answer.error == ErrorCode::SUCCESS {
            let pairs = answer.vectors.iter().zip(request.entries.as_slice());
            for (word, (vector, index)) in op.msix_entries.iter().zip(pairs) {
                store(word, msix_entry(*vector, *index));
            }
        }
        // Pairs with the acquire in `FrontendEnd::poll`.
        flags.fetch_and(!FLAG_FRONTEND_ACTIVE, Ordering::Release);
        Delivery::Delivered
    }

    /// Whether the frontend has said that it understands AER operations.
    #[must_use]
    pub fn frontend_handles_aer(&self) -> bool {
        self.page.flags.load(Ordering::Acquire) & FLAG_AER_HANDLER != 0
    }
}
