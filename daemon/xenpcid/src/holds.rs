//! Domains that wait, paused, until they have their devices, so that a guest never boots without one.
//!
//! Xen counts pauses, so a domain that is held here does not run although `xl create` unpauses it. A hold has a deadline, and
//! a daemon that did not get to end its holds leaves a record of them, so that the next one does: no guest stays paused for
//! ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use xenpcid_address::DomainId;
use xenpcid_config::Uuid;
use xenpcid_host::{Host, HostError, Hypervisor};

use crate::session::Guest;

struct Hold {
    guest: Guest,
    uuid: [u8; 16],
    deadline: Instant,
}

/// The domains that are held.
pub struct Holds {
    hypervisor: Arc<dyn Hypervisor>,
    /// A folder with a file for each hold: its name is the domain's number and UUID.
    records: Option<PathBuf>,
    held: BTreeMap<DomainId, Hold>,
    /// Domains that were held and are not any more: once is enough.
    over: BTreeSet<DomainId>,
}

impl Holds {
    /// None yet; `records` is a folder that survives the daemon but not the host.
    #[must_use]
    pub fn new(host: &Host, records: Option<PathBuf>) -> Self {
        Self { hypervisor: host.hypervisor.clone(), records, held: BTreeMap::new(), over: BTreeSet::new() }
    }

    /// Ends the holds of a daemon that did not get to do that.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn recover(&self) -> io::Result<()> {
        let Some(folder) = &self.records else { return Ok(()) };
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let parsed = name.to_str().and_then(|name| name.split_once('.'));
            let parsed = parsed.and_then(|(domain, uuid)| Some((domain.parse().ok()?, Uuid::parse_str(uuid).ok()?)));
            if let Some((domain, uuid)) = parsed {
                let domain = DomainId(domain);
                let same =
                    self.hypervisor.domain(domain).ok().flatten().is_some_and(|info| info.uuid == *uuid.as_bytes());
                if same {
                    match self.hypervisor.unpause(domain) {
                        Ok(()) => tracing::warn!(domain = domain.0, "a former xenpcid held it; let go"),
                        Err(error) => tracing::warn!(%error, "a former xenpcid held it, and it cannot be let go"),
                    }
                }
            }
            fs::remove_file(entry.path())?;
        }
        Ok(())
    }

    /// Holds a domain for at most `patience`; `false` if it is held already, or was.
    ///
    /// # Errors
    /// Xen does not pause it.
    pub fn hold(&mut self, guest: &Guest, uuid: [u8; 16], patience: Duration) -> Result<bool, HostError> {
        if self.held.contains_key(&guest.domain) || self.over.contains(&guest.domain) {
            return Ok(false);
        }
        let hold = Hold { guest: guest.clone(), uuid, deadline: Instant::now() + patience };
        // Before the pause: should the daemon end in between, one unpause too many is refused by Xen or starts a guest early,
        // and a pause too many would last for ever.
        self.record(&hold);
        self.hypervisor.pause(guest.domain).inspect_err(|_| self.forget(&hold))?;
        self.held.insert(guest.domain, hold);
        Ok(true)
    }

    /// Ends a hold; `true` if there was one.
    pub fn let_go(&mut self, domain: DomainId) -> bool {
        let Some(hold) = self.held.remove(&domain) else { return false };
        // It may be gone.
        match self.hypervisor.unpause(domain) {
            Err(error) if self.hypervisor.domain(domain).is_ok_and(|info| info.is_some_and(|info| !info.dying)) => {
                tracing::error!(domain = %hold.guest, %error, "cannot be let go: `xl unpause` it");
            }
            Ok(()) | Err(_) => {}
        }
        self.forget(&hold);
        self.over.insert(domain);
        true
    }

    /// The domain is gone.
    pub fn gone(&mut self, domain: DomainId) {
        self.let_go(domain);
        self.over.remove(&domain);
    }

    /// Ends all holds.
    pub fn let_all_go(&mut self) {
        let domains: Vec<DomainId> = self.held.keys().copied().collect();
        for domain in domains {
            self.let_go(domain);
        }
    }

    /// The domains that are held.
    #[must_use]
    pub fn held(&self) -> Vec<Guest> {
        self.held.values().map(|hold| hold.guest.clone()).collect()
    }

    /// Those whose time is over.
    #[must_use]
    pub fn expired(&self) -> Vec<Guest> {
        let now = Instant::now();
        self.held.values().filter(|hold| hold.deadline <= now).map(|hold| hold.guest.clone()).collect()
    }

    /// When the next one's time is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.held.values().map(|hold| hold.deadline).min()
    }

    fn path(&self, hold: &Hold) -> Option<PathBuf> {
        let name = format!("{}.{}", hold.guest.domain.0, Uuid::from_bytes(hold.uuid));
        self.records.as_ref().map(|folder| folder.join(name))
    }

    fn record(&self, hold: &Hold) {
        let Some(path) = self.path(hold) else { return };
        if let Err(error) = fs::write(&path, []) {
            tracing::warn!(domain = %hold.guest, %error, "no record of its hold in {}", path.display());
        }
    }

    fn forget(&self, hold: &Hold) {
        if let Some(path) = self.path(hold) {
            // It may not have been written.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use xenpcid_simhost::{DomainOptions, World};

    use super::*;

    const UUID: [u8; 16] = [7; 16];
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn world_with_guest() -> (World, Guest) {
        let world = World::new();
        let domain = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();
        (world, Guest { domain, name: "web1".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn domain_is_held_once_and_its_time_ends() {
        let (world, guest) = world_with_guest().await;
        let mut holds = Holds::new(&world.host(), None);

        assert!(holds.hold(&guest, UUID, PATIENCE).unwrap());
        assert!(!holds.hold(&guest, UUID, PATIENCE).unwrap());
        assert_eq!(world.is_paused(guest.domain), Some(true));
        assert_eq!(holds.expired(), []);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(holds.expired(), std::slice::from_ref(&guest));
        assert!(holds.let_go(guest.domain));

        assert_eq!(world.is_paused(guest.domain), Some(false));
        assert!(!holds.hold(&guest, UUID, PATIENCE).unwrap(), "once is enough");
        assert_eq!(world.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn holds_of_a_daemon_that_died_are_ended_by_the_next_one() {
        let (world, guest) = world_with_guest().await;
        let folder = TempDir::new().unwrap();
        let records = folder.path().join("held");
        let former = || Holds::new(&world.host(), Some(records.clone()));
        former().recover().unwrap();
        assert!(former().hold(&guest, UUID, PATIENCE).unwrap());
        assert_eq!(world.is_paused(guest.domain), Some(true));

        former().recover().unwrap();

        assert_eq!(world.is_paused(guest.domain), Some(false));
        assert_eq!(fs::read_dir(&records).unwrap().count(), 0);
        // Another domain of that number is left alone.
        fs::write(records.join(format!("{}.{}", guest.domain, Uuid::from_bytes([8; 16]))), []).unwrap();
        former().recover().unwrap();
        assert_eq!(world.violations(), [""; 0]);
    }

    #[tokio::test]
    async fn domain_that_cannot_be_paused_is_not_held_and_leaves_no_record() {
        let (world, guest) = world_with_guest().await;
        let folder = TempDir::new().unwrap();
        let mut holds = Holds::new(&world.host(), Some(folder.path().to_owned()));
        world.fail("pause", 1, xenpcid_host::Errno::ESRCH);

        assert!(holds.hold(&guest, UUID, PATIENCE).is_err());

        assert_eq!(holds.held(), []);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
