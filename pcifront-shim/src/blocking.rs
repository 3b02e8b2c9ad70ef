//! A frontend that sends a request and waits for its answer.

use std::io;
use std::time::{Duration, Instant};

use xenpcid_address::Sbdf;

use crate::abi::{ErrorCode, LINUX_GIVES_UP_AFTER, MSIX_VECTORS_MAX, Operation};
use crate::frontend::{Completed, FrontendEnd};
use crate::page::SharedPage;
use crate::request::{Request, Width, signed};

/// What connects a frontend with its backend: the page, and the event channel as a doorbell.
pub trait Connection {
    /// The page that both sides share.
    fn page(&self) -> &SharedPage;

    /// Notifies the backend.
    ///
    /// # Errors
    /// The event channel cannot be used, for instance because the backend closed it.
    fn ring(&self) -> io::Result<()>;

    /// Returns when the backend has notified, at `deadline`, or earlier for no reason.
    ///
    /// A notification that came before the call counts: an event channel is a latch.
    ///
    /// # Errors
    /// The event channel cannot be used.
    fn wait(&self, deadline: Instant) -> io::Result<()>;
}

/// A pcifront: one request at a time, each with a deadline.
pub struct Frontend<C> {
    connection: C,
    gives_up_after: Duration,
}

/// Why a request of a [`Frontend`] gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The backend answered with an error.
    #[error("{request}: the backend answered {error}")]
    Refused {
        /// The request.
        request: Box<Request>,
        /// The backend's error code.
        error: ErrorCode,
    },
    /// The backend did not answer in time. The request was withdrawn.
    #[error("{request}: no answer from the backend within {} ms; is it running?", after.as_millis())]
    NoAnswer {
        /// The request.
        request: Box<Request>,
        /// How long was waited.
        after: Duration,
    },
    /// The backend's answer says success and has an interrupt number that cannot be one.
    #[error("{request}: the backend gave {pirq}, which is not a pirq")]
    BadPirq {
        /// The request.
        request: Box<Request>,
        /// What is not a pirq: they are greater than 0.
        pirq: i32,
    },
    /// More MSI-X vectors were asked for than a request can carry. Nothing was sent.
    #[error("{count} MSI-X vectors asked for, a request carries at most {MSIX_VECTORS_MAX}")]
    TooManyVectors {
        /// How many were asked for.
        count: usize,
    },
    /// The event channel failed.
    #[error("{request}: the event channel to the backend failed")]
    EventChannel {
        /// The request.
        request: Box<Request>,
        /// What the system said.
        source: io::Error,
    },
}

/// What the backend makes of [`Frontend::enable_msix`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MsixOutcome {
    /// Enabled; a pirq for each entry.
    Enabled(Vec<u16>),
    /// Not enabled, but this number of vectors could be had.
    Available(u32),
}

impl<C: Connection> Frontend<C> {
    /// A frontend that gives up as soon as Linux does, after two seconds.
    pub const fn new(connection: C) -> Self {
        Self::giving_up_after(connection, LINUX_GIVES_UP_AFTER)
    }

    /// A frontend that gives up after another time.
    pub const fn giving_up_after(connection: C, gives_up_after: Duration) -> Self {
        Self { connection, gives_up_after }
    }

    /// What connects this frontend.
    pub const fn connection(&self) -> &C {
        &self.connection
    }

    /// Sends any request, sensible or not, and gives the answer as it is.
    ///
    /// # Errors
    /// [`RequestError::NoAnswer`] and [`RequestError::EventChannel`]; the request is withdrawn then.
    pub fn request(&mut self, request: &Request) -> Result<Completed, RequestError> {
        let deadline = Instant::now() + self.gives_up_after;
        let end = FrontendEnd::new(self.connection.page());
        end.post(request);
        let mut event_channel = self.connection.ring();
        loop {
            if let Some(completed) = end.poll() {
                return Ok(completed);
            }
            if let Err(source) = event_channel {
                end.give_up();
                return Err(RequestError::EventChannel { request: Box::new(request.clone()), source });
            }
            if Instant::now() >= deadline {
                end.give_up();
                return Err(RequestError::NoAnswer { request: Box::new(request.clone()), after: self.gives_up_after });
            }
            event_channel = self.connection.wait(deadline);
        }
    }

    /// Reads configuration space.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn config_read(&mut self, address: Sbdf, offset: u16, width: Width) -> Result<u32, RequestError> {
        Ok(self.success(&Request::config_read(address, offset, width))?.value & width.all_ones())
    }

    /// Writes configuration space. Success does not mean that the device was reached: backends drop what the guest
    /// may not write.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn config_write(&mut self, address: Sbdf, offset: u16, width: Width, value: u32) -> Result<(), RequestError> {
        self.success(&Request::config_write(address, offset, width, value)).map(drop)
    }

    /// Enables the device's single MSI vector and gives its pirq.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn enable_msi(&mut self, address: Sbdf) -> Result<u32, RequestError> {
        let request = Request::new(Operation::ENABLE_MSI, address);
        let value = self.success(&request)?.value;
        match signed(value) {
            1.. => Ok(value),
            pirq => Err(RequestError::BadPirq { request: Box::new(request), pirq }),
        }
    }

    /// Disables MSI.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn disable_msi(&mut self, address: Sbdf) -> Result<(), RequestError> {
        self.success(&Request::new(Operation::DISABLE_MSI, address)).map(drop)
    }

    /// Enables MSI-X for these entries of the device's table.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn enable_msix(&mut self, address: Sbdf, entries: &[u16]) -> Result<MsixOutcome, RequestError> {
        let count = entries.len();
        let too_many = RequestError::TooManyVectors { count };
        let value = match u32::try_from(count) {
            Ok(value) if count <= MSIX_VECTORS_MAX => value,
            _ => return Err(too_many),
        };
        let request = Request {
            value,
            entries: entries.iter().copied().collect(),
            ..Request::new(Operation::ENABLE_MSIX, address)
        };
        let available = self.success(&request)?.value;
        if available != 0 {
            return Ok(MsixOutcome::Available(available));
        }
        let vectors: Vec<u16> = FrontendEnd::new(self.connection.page()).vectors(count).collect();
        if vectors.contains(&0) {
            return Err(RequestError::BadPirq { request: Box::new(request), pirq: 0 });
        }
        Ok(MsixOutcome::Enabled(vectors))
    }

    /// Disables MSI-X.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn disable_msix(&mut self, address: Sbdf) -> Result<(), RequestError> {
        self.success(&Request::new(Operation::DISABLE_MSIX, address)).map(drop)
    }

    /// Sends a request and makes an error of an error code.
    fn success(&mut self, request: &Request) -> Result<Completed, RequestError> {
        let completed = self.request(request)?;
        if completed.error == ErrorCode::SUCCESS {
            Ok(completed)
        } else {
            Err(RequestError::Refused { request: Box::new(request.clone()), error: completed.error })
        }
    }
}
