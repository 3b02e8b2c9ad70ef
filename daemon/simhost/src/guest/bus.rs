//! The guest's virtual bus: its frontend, the functions found on it, and their drivers.
//!
//! Requests wait for the backend, so they are made on threads where waiting is allowed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pcifront_shim::guest::{DiscoveredFunction, Driver, enumerate};
use pcifront_shim::{Frontend, RequestError};
use xenpcid_address::{DomainId, Sbdf};

use super::GuestError;
use crate::{GuestRing, World};

/// Capability identifiers (PCI Code and ID Assignment Specification 2).
const MSI: u16 = 0x05;
const MSIX: u16 = 0x11;

/// The interrupts that a driver was given, by the guest's pirqs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverInterrupts {
    /// MSI-X vectors 0 and up.
    Msix(Vec<u16>),
    /// The MSI vector.
    Msi(u32),
    /// The INTx line.
    Line(u8),
    /// None: the function has no interrupt.
    None,
}

#[derive(Default)]
pub(super) struct Bus {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ring: Option<GuestRing>,
    frontend: Option<Frontend<GuestRing>>,
    functions: Vec<DiscoveredFunction>,
    running: BTreeMap<Sbdf, DriverInterrupts>,
}

impl Bus {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self) -> Option<GuestRing> {
        self.lock().ring.clone()
    }

    pub(super) fn set_ring(&self, ring: GuestRing) {
        let mut state = self.lock();
        *state = State { frontend: Some(Frontend::new(ring.clone())), ring: Some(ring), ..State::default() };
    }

    /// The bus goes, with everything on it.
    pub(super) fn remove(&self, world: &World, domain: DomainId) {
        if let Some(ring) = std::mem::take(&mut *self.lock()).ring {
            world.close_ring(domain, &ring);
        }
    }

    async fn blocking<T: Send + 'static>(
        self: Arc<Self>,
        act: impl FnOnce(&mut State) -> Result<T, GuestError> + Send + 'static,
    ) -> Result<T, GuestError> {
        let joined = tokio::task::spawn_blocking(move || act(&mut self.lock())).await;
        joined.map_err(|error| GuestError::Ended(error.to_string()))?
    }

    pub(super) async fn with_frontend<T: Send + 'static>(
        self: Arc<Self>,
        act: impl FnOnce(&mut Frontend<GuestRing>) -> T + Send + 'static,
    ) -> Result<T, GuestError> {
        self.blocking(|state| Ok(act(state.frontend()?))).await
    }

    pub(super) async fn scan(self: Arc<Self>, buses: Vec<(u16, u8)>) -> Result<Vec<DiscoveredFunction>, GuestError> {
        self.blocking(move |state| {
            let mut found = Vec::new();
            for (segment, bus) in buses {
                found.extend(enumerate(state.frontend()?, segment, bus)?);
            }
            state.functions.clone_from(&found);
            Ok(found)
        })
        .await
    }

    pub(super) async fn start_driver(
        self: Arc<Self>,
        address: Sbdf,
        vectors: u16,
    ) -> Result<DriverInterrupts, GuestError> {
        self.blocking(move |state| {
            let has =
                |id| state.functions.iter().any(|found| found.address == address && found.capability(id).is_some());
            let (msix, msi) = (has(MSIX), has(MSI));
            let mut driver = state.driver(address)?;
            driver.enable()?;
            driver.set_bus_master(true)?;
            let interrupts = if msix && vectors > 0 {
                DriverInterrupts::Msix(driver.enable_msix(vectors)?)
            } else if msi {
                DriverInterrupts::Msi(driver.enable_msi()?)
            } else {
                driver.intx()?.map_or(DriverInterrupts::None, DriverInterrupts::Line)
            };
            state.running.insert(address, interrupts.clone());
            Ok(interrupts)
        })
        .await
    }

    pub(super) async fn stop_driver(self: Arc<Self>, address: Sbdf) -> Result<(), GuestError> {
        self.blocking(move |state| state.stop(address)).await
    }

    /// Stops every driver; the first error, after all were tried.
    pub(super) async fn stop_all(self: Arc<Self>) -> Result<(), GuestError> {
        self.blocking(|state| {
            let addresses: Vec<Sbdf> = state.running.keys().copied().collect();
            let stopped: Vec<_> = addresses.into_iter().map(|address| state.stop(address)).collect();
            stopped.into_iter().collect()
        })
        .await
    }

    /// Stops the function's driver, if one runs, and forgets the function.
    pub(super) async fn forget(self: Arc<Self>, address: Sbdf) -> Result<(), GuestError> {
        self.blocking(move |state| {
            let stopped = if state.running.contains_key(&address) { state.stop(address) } else { Ok(()) };
            state.functions.retain(|function| function.address != address);
            stopped
        })
        .await
    }
}

impl State {
    fn frontend(&mut self) -> Result<&mut Frontend<GuestRing>, GuestError> {
        self.frontend.as_mut().ok_or(GuestError::NoBus)
    }

    fn driver(&mut self, address: Sbdf) -> Result<Driver<'_, GuestRing>, GuestError> {
        let frontend = self.frontend.as_mut().ok_or(GuestError::NoBus)?;
        let function = self.functions.iter().find(|function| function.address == address);
        Ok(Driver::new(frontend, function.ok_or(GuestError::NoFunction(address))?))
    }

    fn stop(&mut self, address: Sbdf) -> Result<(), GuestError> {
        let interrupts = self.running.remove(&address).unwrap_or(DriverInterrupts::None);
        let mut driver = self.driver(address)?;
        let quiet: Result<(), RequestError> = driver.set_bus_master(false);
        match interrupts {
            DriverInterrupts::Msix(_) => driver.disable_msix()?,
            DriverInterrupts::Msi(_) => driver.disable_msi()?,
            DriverInterrupts::Line(_) | DriverInterrupts::None => {}
        }
        Ok(quiet?)
    }
}
