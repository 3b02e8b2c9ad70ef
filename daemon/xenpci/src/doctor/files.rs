//! What is declared: whether the files are good.

use xenpcid_config::{Config, ConfigError, Policies};

use super::Finding;
use crate::arguments::Places;
use crate::failure;

/// What is wrong with them; and what they declare, if nothing is.
pub fn judge(places: &Places) -> (Vec<Finding>, Config) {
    let policies = Policies::load(&places.policies);
    let mut findings = Vec::new();
    if let Err(error) = &policies {
        findings.push(Finding::complaint(failure::chain(error)));
    }
    let file = places.config.display();
    let (finding, config) = match Config::load(&places.config, policies.as_ref().ok()) {
        Ok(config) if config.devices.is_empty() && config.pools.is_empty() => {
            let remedy = "declare those that guests are to have, or `xenpci claim` them";
            (Finding::note(format!("{file} declares no device"), remedy), config)
        }
        Ok(config) => (Finding::good(format!("{file} is a good configuration")), config),
        Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let remedy = "write it: a [[domain]] with its name and devices is enough";
            (Finding::note(format!("there is no {file}, so that nothing is declared"), remedy), Config::default())
        }
        Err(error) => (Finding::complaint(failure::chain(&error)), Config::default()),
    };
    findings.push(finding);
    (findings, config)
}
