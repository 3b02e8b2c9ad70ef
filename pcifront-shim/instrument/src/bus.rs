//! A connected bus, and what all commands do with one.

use pcifront_shim::{Connection, Frontend, guest};
use tokio::runtime::Runtime;
use xenpcid_address::Sbdf;
use xenstore_protocol::pci_nodes::{RingNodes, Root};

use crate::handshake::Handshake;
use crate::{Error, Stop};

/// A bus whose frontend is connected.
pub struct Bus<C> {
    /// Sends requests.
    pub frontend: Frontend<C>,
    /// When to end early.
    pub stop: Stop,
    roots: Vec<Root>,
}

/// Connects over `connection`, whose page and port are `ring`, lets `act` use the bus, and closes, whatever came of it.
///
/// # Errors
/// Those of the handshake and of `act`; if both fail, that of `act`.
pub fn with_bus<C: Connection, T>(
    runtime: &Runtime,
    handshake: &mut Handshake,
    connection: C,
    ring: &RingNodes,
    act: impl FnOnce(&mut Bus<C>) -> Result<T, Error>,
) -> Result<T, Error> {
    let roots = runtime.block_on(handshake.connect(ring))?;
    // The page and the port live until the backend has let go of them.
    let frontend = Frontend::giving_up_after(connection, handshake.timeout());
    let mut bus = Bus { frontend, stop: handshake.stop().clone(), roots };
    let result = act(&mut bus);
    let closed = runtime.block_on(handshake.close());
    result.and_then(|value| closed.map(|()| value))
}

impl<C: Connection> Bus<C> {
    /// The functions to look at: those that are named, all of which must answer; if none is, all that answer.
    ///
    /// # Errors
    /// A named function does not answer, or no function does; see [`Error::Request`].
    pub fn functions(&mut self, named: &[Sbdf]) -> Result<Vec<Sbdf>, Error> {
        let mut functions = Vec::new();
        for address in named {
            if !guest::is_present(&mut self.frontend, *address)? {
                return Err(Error::NoFunction(*address));
            }
            functions.push(*address);
        }
        if named.is_empty() {
            for address in self.addresses() {
                self.stop.check()?;
                if guest::is_present(&mut self.frontend, address)? {
                    functions.push(address);
                }
            }
        }
        if functions.is_empty() { Err(Error::EmptyBus) } else { Ok(functions) }
    }

    fn addresses(&self) -> Vec<Sbdf> {
        let on = |root: &Root| {
            let (segment, bus) = (root.segment, root.bus);
            (0..=u8::MAX).map(move |devfn| Sbdf::from_devfn(segment, bus, devfn))
        };
        self.roots.iter().flat_map(on).collect()
    }
}
