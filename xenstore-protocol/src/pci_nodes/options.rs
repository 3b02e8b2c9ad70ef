use std::fmt;

/// How memory that the firmware reserved for a device (RMRR) is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RdmPolicy {
    /// The device is refused if the reservation collides with the guest's memory.
    #[default]
    Strict,
    /// A collision is only reported.
    Relaxed,
}

/// The value of `opts-N`: `msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Without effect in today's Xen; kept because xl has it.
    pub msitranslate: bool,
    /// Without effect in today's Xen; kept because xl has it.
    pub power_mgmt: bool,
    /// The guest may write registers that are not known to be harmless.
    pub permissive: bool,
    /// Treatment of reserved memory.
    pub rdm_policy: RdmPolicy,
}

impl DeviceOptions {
    /// Reads the value leniently, since only dom0 writes it and only for information: what is missing or not understood
    /// has its default.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut options = Self::default();
        for (key, value) in text.split(',').filter_map(|item| item.split_once('=')) {
            match key {
                "msitranslate" => options.msitranslate = value == "1",
                "power_mgmt" => options.power_mgmt = value == "1",
                "permissive" => options.permissive = value == "1",
                "rdm_policy" if value == "relaxed" => options.rdm_policy = RdmPolicy::Relaxed,
                _ => {}
            }
        }
        options
    }
}

impl fmt::Display for DeviceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rdm_policy = match self.rdm_policy {
            RdmPolicy::Strict => "strict",
            RdmPolicy::Relaxed => "relaxed",
        };
        write!(
            f,
            "msitranslate={},power_mgmt={},permissive={},rdm_policy={rdm_policy}",
            u8::from(self.msitranslate),
            u8::from(self.power_mgmt),
            u8::from(self.permissive)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn options_survive_text(msitranslate: bool, power_mgmt: bool, permissive: bool, relaxed: bool) {
            let rdm_policy = if relaxed { RdmPolicy::Relaxed } else { RdmPolicy::Strict };
            let options = DeviceOptions { msitranslate, power_mgmt, permissive, rdm_policy };
            prop_assert_eq!(DeviceOptions::parse(&options.to_string()), options);
        }
    }

    #[test]
    fn default_is_what_libxl_writes() {
        let text = "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict";
        assert_eq!(DeviceOptions::default().to_string(), text);
    }

    #[test]
    fn what_is_not_understood_has_its_default() {
        assert_eq!(DeviceOptions::parse("permissive=yes,,rdm_policy=1,new=1"), DeviceOptions::default());
    }
}
