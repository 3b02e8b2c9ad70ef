/// The policies that come with xenpcid: name, and text of the file.
pub(super) const FILES: &[(&str, &str)] = &[("default", include_str!("../../policies/default.toml"))];
