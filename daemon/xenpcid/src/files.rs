//! The files that say what is declared.

use std::error::Error;
use std::path::PathBuf;

use xenpcid_config::{Config, Policies};

/// Where they are.
#[derive(Clone, Debug)]
pub struct Files {
    /// Devices and domains; beside it a folder `conf.d` with more.
    pub config: PathBuf,
    /// A folder with the operator's own policies.
    pub policies: PathBuf,
}

impl Files {
    /// Reads and checks all of them.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub fn load(&self) -> Result<(Config, Policies), Box<dyn Error>> {
        let policies = Policies::load(&self.policies)?;
        let config = Config::load(&self.config, &policies)?;
        Ok((config, policies))
    }
}
