//! The guests that have devices, each with its session.

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::DomainInfo;
use xenstore_protocol::Path;

use super::{COMMANDS, OperationError, Served, Toolstack};
use crate::session::{Command, Guest, Placed, Session, Stop};

impl Toolstack {
    /// The guest's session; it begins if there is none.
    pub(super) fn session(&self, guest: &Guest) -> mpsc::Sender<Command> {
        if let Some(served) = self.guests.borrow().get(&guest.domain) {
            return served.commands.clone();
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (stop, stopped) = oneshot::channel();
        let (by_hand, wake) = (self.by_hand.clone(), self.wake.clone());
        let withdrawn = Box::new(move |guest: &Guest, functions: &[Sbdf]| {
            // Whoever took them does not want them back there at once.
            by_hand.borrow_mut().detached.extend(functions.iter().map(|function| (guest.domain, *function)));
            wake.notify_one();
        });
        let session =
            Session::new(self.host.clone(), self.xenstore.clone(), self.pool.clone(), guest.clone(), withdrawn);
        let places = session.places();
        let running = spawn_local(session.serve(receiver, stopped));
        let (ended, guest) = (self.ended.clone(), guest.clone());
        let domain = guest.domain;
        let served = Served { guest: guest.clone(), commands: commands.clone(), stop: Some(stop), places };
        self.guests.borrow_mut().insert(domain, served);
        spawn_local(async move {
            let outcome = running.await.inspect_err(|error| {
                tracing::error!(%error, domain = %guest, "a session ended badly and its devices stay where they are; this is a defect, please report it");
            });
            // Nobody listens any more when the daemon has ended.
            let _ = ended.send((guest, outcome.ok()));
        });
        commands
    }

    /// Tells sessions to end: of domains that are not among those that are `there`.
    pub fn end_sessions(&self, there: impl Fn(DomainId) -> bool) {
        for (domain, served) in &mut *self.guests.borrow_mut() {
            if !there(*domain) {
                if let Some(stop) = served.stop.take() {
                    // A session that has just ended by itself does not listen any more.
                    let _ = stop.send(Stop::Gone);
                }
            }
        }
    }

    /// A session has ended.
    pub fn forget(&self, guest: &Guest) {
        self.guests.borrow_mut().remove(&guest.domain);
        self.wake.notify_one();
    }

    /// Ends all sessions; the guests keep their devices. How many there are.
    pub fn leave(&self) -> usize {
        for served in self.guests.borrow_mut().values_mut() {
            if let Some(stop) = served.stop.take() {
                let _ = stop.send(Stop::Leave);
            }
        }
        self.guests.borrow().len()
    }

    /// Guests that have a session, and their devices in the order in which they came.
    #[must_use]
    pub fn guests(&self) -> Vec<(Guest, Vec<Placed>)> {
        let places = |served: &Served| (served.guest.clone(), served.places.list());
        self.guests.borrow().values().map(places).collect()
    }

    /// The domains that there are, with their names; those without a name are left out.
    ///
    /// # Errors
    /// Xen or xenstore do not answer.
    pub async fn domains(&self) -> Result<Vec<(DomainInfo, String)>, OperationError> {
        let named = |(info, name): (DomainInfo, Option<String>)| name.map(|name| (info, name));
        Ok(self.all_domains().await?.into_iter().filter_map(named).collect())
    }

    /// The domains that there are, whether xenstore knows them or not.
    ///
    /// # Errors
    /// Xen or xenstore do not answer.
    pub async fn all_domains(&self) -> Result<Vec<(DomainInfo, Option<String>)>, OperationError> {
        let mut domains = Vec::new();
        for info in self.host.hypervisor.domains()? {
            let path = Path::domain(info.domain).child("name").map_err(xenstore_protocol::Error::from)?;
            // Any bytes can be a name.
            let name = self.xenstore.read_if_present(&path).await?;
            domains.push((info, name.map(|name| String::from_utf8_lossy(&name).into_owned())));
        }
        Ok(domains)
    }
}
