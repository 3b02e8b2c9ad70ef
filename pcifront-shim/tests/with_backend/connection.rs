//! A connection whose backend answers inside the frontend's notification.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use pcifront_shim::abi::ErrorCode;
use pcifront_shim::{Answer, BackendEnd, Connection, Delivery, Frontend, Request, SharedPage};

pub struct Reply {
    pub error: ErrorCode,
    pub value: u32,
    pub vectors: Vec<u16>,
}

impl Reply {
    pub fn success(value: u32) -> Option<Self> {
        Some(Self { error: ErrorCode::SUCCESS, value, vectors: Vec::new() })
    }

    pub fn error(error: ErrorCode) -> Option<Self> {
        Some(Self { error, value: 0, vectors: Vec::new() })
    }
}

/// A backend that gives `None` does not answer.
pub struct ServedInPlace<B> {
    page: SharedPage,
    pub backend: RefCell<B>,
}

impl<B: FnMut(&Request) -> Option<Reply>> Connection for ServedInPlace<B> {
    fn page(&self) -> &SharedPage {
        &self.page
    }

    fn ring(&self) -> io::Result<()> {
        let end = BackendEnd::new(&self.page);
        let request = end.take().expect("the frontend notifies after it has posted");
        if let Some(Reply { error, value, vectors }) = (self.backend.borrow_mut())(&request) {
            assert_eq!(end.answer(&request, &Answer { error, value, vectors: &vectors }), Delivery::Delivered);
        }
        Ok(())
    }

    fn wait(&self, _deadline: Instant) -> io::Result<()> {
        unreachable!("the frontend's time is zero: it is over before it waits")
    }
}

pub fn frontend_served_by<B: FnMut(&Request) -> Option<Reply>>(backend: B) -> Frontend<ServedInPlace<B>> {
    let connection = ServedInPlace { page: SharedPage::zeroed(), backend: RefCell::new(backend) };
    Frontend::giving_up_after(connection, Duration::ZERO)
}
