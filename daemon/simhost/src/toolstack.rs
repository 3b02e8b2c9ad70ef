//! What xl does: domains come, shut down and go, in Xen and in xenstore.

use xenpcid_address::DomainId;
use xenpcid_host::ShutdownReason;
use xenstore_protocol::{Access, Client, Error, ErrorName, Path, Permissions, Store, Transaction};

use crate::World;
use crate::domain::{DomainOptions, Pauser};

impl World {
    /// Creates a domain as `xl create` does, down to its nodes in xenstore, introduces it, and lets it run. Its numbers go up
    /// from 1.
    ///
    /// Must be called on a tokio runtime.
    ///
    /// # Errors
    /// xenstore refuses; it does so only when it is made to.
    pub async fn create_domain(&self, name: &str, uuid: [u8; 16], options: DomainOptions) -> Result<DomainId, Error> {
        let domain = self.create_paused_domain(name, uuid, options).await?;
        self.unpause_domain(domain);
        Ok(domain)
    }

    /// As `xl unpause`, and at the end of `xl create`: the toolstack's part of what keeps the domain from running ends.
    pub fn unpause_domain(&self, domain: DomainId) {
        // Of a domain that is gone, or runs, it is a violation or nothing.
        let _ = self.lock().unpause(domain, Pauser::Toolstack);
    }

    /// As `xl pause`.
    pub fn pause_domain(&self, domain: DomainId) {
        if let Some(domain) = self.lock().domains.get_mut(&domain) {
            // A test does not do it 255 times.
            let _ = domain.pause(Pauser::Toolstack);
        }
    }

    /// As [`World::create_domain`], but the domain does not run yet (`xl create -p`).
    ///
    /// # Errors
    /// xenstore refuses; it does so only when it is made to.
    pub async fn create_paused_domain(
        &self,
        name: &str,
        uuid: [u8; 16],
        options: DomainOptions,
    ) -> Result<DomainId, Error> {
        let domain = self.new_domain(uuid, options);
        self.pause_domain(domain);
        self.xenstore().create_domain(domain);
        let nodes = DomainNodes::new(domain, name, uuid, options)?;
        let store = self.toolstack().await?;
        loop {
            let transaction = store.begin().await?;
            nodes.write(&transaction).await?;
            if committed(transaction).await? {
                break;
            }
        }
        self.xenstore().introduce(domain);
        Ok(domain)
    }

    /// The domain powers off, and is kept by the toolstack for now.
    pub fn shutdown_domain(&self, domain: DomainId) {
        self.stop_domain(domain, ShutdownReason::PowerOff);
    }

    /// The domain stops by itself, and is kept by the toolstack for now.
    pub fn stop_domain(&self, domain: DomainId, reason: ShutdownReason) {
        if let Some(domain) = self.lock().domains.get_mut(&domain) {
            domain.shutdown = Some(reason);
        }
        self.xenstore().shut_down();
    }

    /// Destroys a domain: Xen takes back its interrupts and devices, its event channels close, and its nodes go. While
    /// dom0 maps a page of it, it stays as a dying domain.
    ///
    /// # Errors
    /// xenstore refuses; it does so only when it is made to.
    pub async fn destroy_domain(&self, domain: DomainId) -> Result<(), Error> {
        let uuid = self.lock().kill(domain);
        self.bury(domain);
        self.xenstore().release(domain);
        let store = self.toolstack().await?;
        for path in [Path::domain(domain), libxl(domain)?] {
            store.rm_if_present(&path).await?;
        }
        if let Some(uuid) = uuid {
            store.rm_if_present(&vm(uuid)?).await?;
        }
        Ok(())
    }

    async fn toolstack(&self) -> Result<Client, Error> {
        self.xenstore().client(DomainId::DOM0).await
    }

    /// Ends a dying domain that nothing holds any longer.
    pub(crate) fn bury(&self, domain: DomainId) {
        let mut state = self.lock();
        let held = state.domains.get(&domain).is_none_or(|domain| !domain.dying || domain.is_mapped_by_dom0());
        if !held {
            state.domains.remove(&domain);
            drop(state);
            // Xen tells xenstored when a domain starts to die, and again when it is gone.
            self.xenstore().shut_down();
        }
    }
}

/// Commits; `false` if another client was in the way and everything must be done again.
///
/// `Client::transaction` does the same, but its future cannot be proven to be `Send` inside of a spawned task.
pub(crate) async fn committed(transaction: Transaction) -> Result<bool, Error> {
    match transaction.commit().await {
        Ok(()) => Ok(true),
        Err(error) if error.name() == Some(&ErrorName::Eagain) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the toolstack writes about a new domain.
struct DomainNodes {
    domain: DomainId,
    /// Directories and values with the permissions that they get; children of them inherit.
    nodes: Vec<(Path, String, Option<Permissions>)>,
}

impl DomainNodes {
    fn new(domain: DomainId, name: &str, uuid: [u8; 16], options: DomainOptions) -> Result<Self, Error> {
        let hidden = || Some(Permissions::private(DomainId::DOM0));
        let readable = || Some(Permissions::private(DomainId::DOM0).with(domain, Access::Read));
        let own = || Some(Permissions::private(domain));
        let home = Path::domain(domain);
        let mut this = Self { domain, nodes: Vec::new() };
        this.add(vm(uuid)?, "", "", readable())?;
        this.add(vm(uuid)?, "uuid", text(uuid), None)?;
        this.add(vm(uuid)?, "name", name, None)?;
        this.add(libxl(domain)?, "", "", hidden())?;
        this.add(libxl(domain)?, "type", if options.hvm { "hvm" } else { "pv" }, None)?;
        this.add(libxl(domain)?, "device", "", None)?;
        this.add(home.clone(), "", "", readable())?;
        this.add(home.clone(), "vm", vm(uuid)?, None)?;
        this.add(home.clone(), "name", name, None)?;
        this.add(home.clone(), "domid", domain, None)?;
        for directory in ["cpu", "memory", "device", "control"] {
            this.add(home.clone(), directory, "", readable())?;
        }
        for directory in
            ["control/shutdown", "device/suspend/event-channel", "data", "drivers", "feature", "attr", "error"]
        {
            this.add(home.clone(), directory, "", own())?;
        }
        Ok(this)
    }

    /// One node; an empty name is the directory itself.
    fn add(
        &mut self,
        directory: Path,
        name: &str,
        value: impl ToString,
        permissions: Option<Permissions>,
    ) -> Result<(), Error> {
        let path = if name.is_empty() { directory } else { child(&directory, name)? };
        self.nodes.push((path, value.to_string(), permissions));
        Ok(())
    }

    async fn write(&self, store: &Store) -> Result<(), Error> {
        store.rm_if_present(&Path::domain(self.domain)).await?;
        for (path, value, permissions) in &self.nodes {
            store.write(path, value).await?;
            if let Some(permissions) = permissions {
                store.set_permissions(path, permissions).await?;
            }
        }
        Ok(())
    }
}

fn child(directory: &Path, name: &str) -> Result<Path, Error> {
    directory.child(name).map_err(Error::from)
}

fn libxl(domain: DomainId) -> Result<Path, Error> {
    child(&Path::from_static("/libxl"), &domain.to_string())
}

fn vm(uuid: [u8; 16]) -> Result<Path, Error> {
    child(&Path::from_static("/vm"), &text(uuid))
}

/// A UUID as xl prints it.
fn text(uuid: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
