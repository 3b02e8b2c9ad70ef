//! A guest's ring: the page of `struct xenstore_domain_interface` (xen/include/public/io/xs_wire.h).
//!
//! ```text
//!    0 requests, 1024 bytes    2048 req_cons  2052 req_prod
//! 1024 answers,  1024 bytes    2056 rsp_cons  2060 rsp_prod
//! ```
//! Indices count bytes and wrap at 2^32. The guest, which is us, writes `req_prod` and `rsp_cons`.

use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Size of the page, in bytes.
pub const PAGE_SIZE: usize = 4096;
/// Size of each direction, in bytes.
const RING_SIZE: u32 = 1024;

/// One direction of the ring.
#[derive(Clone, Copy)]
struct Direction {
    data: usize,
    consumer: usize,
    producer: usize,
}

const REQUESTS: Direction = Direction { data: 0, consumer: 2048, producer: 2052 };
const ANSWERS: Direction = Direction { data: 1024, consumer: 2056, producer: 2060 };

/// A page shared with xenstored, for ever.
pub struct Ring {
    page: NonNull<u8>,
    /// Held while somebody looks, so that no wake is missed between looking and waiting.
    looking: Mutex<()>,
    woken: Condvar,
}

// SAFETY: the page is never freed; its indices are accessed atomically, and its data only by the side to which the
// indices give it. Of our two threads one writes requests and the other reads answers.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// A fresh page; `None` without memory.
    pub fn new() -> Option<Self> {
        let layout = Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).ok()?;
        // SAFETY: the size is not zero.
        let page = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { page, looking: Mutex::new(()), woken: Condvar::new() })
    }

    /// The page.
    pub fn page(&self) -> *mut u8 {
        self.page.as_ptr()
    }

    /// Lets whoever waits look again.
    pub fn wake(&self) {
        let looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        self.woken.notify_all();
        drop(looking);
    }

    /// Waits until `look` has a result, looking again after each [`Ring::wake`].
    pub fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = look() {
                return result;
            }
            looking = self.woken.wait(looking).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn index(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: offsets are those of the indices above: inside the page, aligned to 4, and accessed as whole words by
        // both sides.
        unsafe { AtomicU32::from_ptr(self.page.as_ptr().add(offset).cast()) }
    }

    /// Puts as many bytes of a request into the ring as there is room for, and tells how many.
    pub fn put_request(&self, bytes: &[u8]) -> usize {
        let consumed = self.index(REQUESTS.consumer).load(Ordering::Acquire);
        let producer = self.index(REQUESTS.producer);
        let mut produced = producer.load(Ordering::Relaxed);
        let mut count = 0;
        for byte in bytes {
            if produced.wrapping_sub(consumed) >= RING_SIZE {
                break;
            }
            // SAFETY: between producer and consumer the data is ours; `slot` is inside the page.
            unsafe { self.slot(REQUESTS, produced).write_volatile(*byte) };
            produced = produced.wrapping_add(1);
            count += 1;
        }
        producer.store(produced, Ordering::Release);
        count
    }

    /// Takes the bytes of answers that are in the ring.
    pub fn take_answers(&self) -> Vec<u8> {
        let produced = self.index(ANSWERS.producer).load(Ordering::Acquire);
        let consumer = self.index(ANSWERS.consumer);
        let mut consumed = consumer.load(Ordering::Relaxed);
        let mut bytes = Vec::new();
        while consumed != produced {
            // SAFETY: between consumer and producer the data is ours; `slot` is inside the page.
            bytes.push(unsafe { self.slot(ANSWERS, consumed).read_volatile() });
            consumed = consumed.wrapping_add(1);
        }
        consumer.store(consumed, Ordering::Release);
        bytes
    }

    fn slot(&self, direction: Direction, index: u32) -> *mut u8 {
        let offset = usize::try_from(index % RING_SIZE).unwrap_or(0);
        self.page.as_ptr().wrapping_add(direction.data.wrapping_add(offset))
    }
}
