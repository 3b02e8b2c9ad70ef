/// The policies that come with xenpcid: name, and text of the file.
pub(super) const FILES: &[(&str, &str)] = &[
    ("default", include_str!("../../policies/default.toml")),
    ("gpu", include_str!("../../policies/gpu.toml")),
    ("network", include_str!("../../policies/network.toml")),
    ("pciback", include_str!("../../policies/pciback.toml")),
    ("permissive", include_str!("../../policies/permissive.toml")),
    ("storage", include_str!("../../policies/storage.toml")),
    ("strict", include_str!("../../policies/strict.toml")),
    ("usb-controller", include_str!("../../policies/usb-controller.toml")),
    ("wifi", include_str!("../../policies/wifi.toml")),
];
