//! Everything that a machine is started from, provided in order: host packages, the testbed's packages, images.

use std::rc::Rc;

use crate::cache::Cache;
use crate::error::Result;
use crate::images::{self, Images};
use crate::packages::{self, Root};
use crate::progress::Progress;
use crate::{host_packages, workspace};

/// The testbed, ready to boot.
pub struct Testbed {
    /// As long as this is held nobody changes the files below.
    _cache: Cache,
    /// Tells the person at the terminal what is going on.
    pub progress: Rc<Progress>,
    /// The unpacked packages.
    pub root: Root,
    /// What is booted.
    pub images: Images,
}

impl Testbed {
    /// Provides what is missing. `refresh` fetches the packages again, in their newest versions.
    ///
    /// # Errors
    /// If something cannot be had; the message says what to do about it.
    pub fn set_up(refresh: bool) -> Result<Rc<Self>> {
        let progress = Rc::new(Progress::new());
        host_packages::provide(&progress)?;
        let cache = Cache::open()?;
        let root = packages::provide(&cache, &progress, refresh)?;
        let agent = workspace::build("xenpcid-testbed-agent", "xenpcid-testbed-agent")?;
        let images = images::provide(&cache, &root, &agent, &progress)?;
        Ok(Rc::new(Self { _cache: cache, progress, root, images }))
    }
}
