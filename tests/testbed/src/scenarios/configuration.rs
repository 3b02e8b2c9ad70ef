//! Configuration files for xenpcid, as people would write them.

use std::fmt::Write as _;

/// A device that is declared for a domain.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its address in dom0.
    pub sbdf: String,
    /// Whether it may be passed through although it cannot be reset.
    pub best_effort_reset: bool,
    /// Name of its policy, if it is not the one that devices have by themselves.
    pub policy: Option<&'static str>,
}

impl Declared {
    /// A device that has to be reset between domains.
    pub fn new(sbdf: impl Into<String>) -> Self {
        Self { sbdf: sbdf.into(), best_effort_reset: false, policy: None }
    }

    /// A device that cannot be reset.
    pub fn without_reset(sbdf: impl Into<String>) -> Self {
        Self { sbdf: sbdf.into(), best_effort_reset: true, policy: None }
    }

    /// The same device under a policy.
    #[must_use]
    pub fn under(self, policy: &'static str) -> Self {
        Self { policy: Some(policy), ..self }
    }
}

/// The text of a configuration with these domains.
#[must_use]
pub fn text(domains: &[(&str, &[Declared])]) -> String {
    let mut text = String::new();
    for (name, devices) in domains {
        let devices: Vec<String> = devices.iter().map(device).collect();
        // Writing to a String does not fail.
        let _ = writeln!(text, "[[domain]]\nname = \"{name}\"\ndevices = [{}]\n", devices.join(", "));
    }
    text
}

/// The text of a configuration that declares these devices, for no domain.
#[must_use]
pub fn devices(addresses: &[String]) -> String {
    addresses.iter().map(|sbdf| format!("[[device]]\nbdf = \"{sbdf}\"\n\n")).collect()
}

fn device(declared: &Declared) -> String {
    let Declared { sbdf, best_effort_reset, policy } = declared;
    let reset = if *best_effort_reset { ", reset = \"best-effort\"" } else { "" };
    let policy = policy.map(|policy| format!(", policy = \"{policy}\"")).unwrap_or_default();
    if reset.is_empty() && policy.is_empty() {
        format!("\"{sbdf}\"")
    } else {
        format!("{{ bdf = \"{sbdf}\"{reset}{policy} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_the_readme_shows() {
        let devices = [Declared::new("0000:01:00.0"), Declared::without_reset("0000:00:07.0")];
        assert_eq!(
            text(&[("web1", &devices)]),
            "[[domain]]\nname = \"web1\"\n\
             devices = [\"0000:01:00.0\", { bdf = \"0000:00:07.0\", reset = \"best-effort\" }]\n\n"
        );
    }
}
