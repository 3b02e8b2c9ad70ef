//! Files that are right.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use proptest::prelude::*;
use xenpcid_address::Sbdf;
use xenpcid_config::{Config, DEVICES_MAX, Device, Domain, DomainSelector, ResetRequirement, Uuid, VECTORS_MAX};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/xenpcid.toml");

fn device(address: &str, reset: ResetRequirement) -> Device {
    Device { reset, ..Device::new(address.parse().unwrap()) }
}

#[test]
fn shipped_example_means_what_its_comments_say() {
    let config = Config::load(EXAMPLE).unwrap();
    let web1 = Domain {
        selector: DomainSelector::Name("web1".to_owned()),
        vectors: 16,
        devices: vec![
            device("0000:01:00.0", ResetRequirement::Required),
            device("0000:00:07.0", ResetRequirement::BestEffort),
            Device {
                name: Some("uplink".to_owned()),
                policy: Some("network".to_owned()),
                ..Device::new("0000:03:00.0".parse().unwrap())
            },
        ],
    };
    let by_uuid = Domain {
        selector: DomainSelector::Uuid(Uuid::from_u128(0x5a1f_9f3e_8f57_4a0c_9d7c_0d4b_7f1a_2c33)),
        vectors: VECTORS_MAX,
        devices: vec![
            device("0000:02:10.0", ResetRequirement::Required),
            device("0000:02:10.2", ResetRequirement::Required),
        ],
    };
    assert_eq!(config, Config { domains: vec![web1, by_uuid] });
}

#[test]
fn file_without_domains_declares_nothing() {
    assert_eq!(Config::parse("# nothing yet\n", "xenpcid.toml").unwrap(), Config::default());
}

proptest! {
    #[test]
    fn any_declaration_is_read_as_it_was_written(domains in any_domains()) {
        let written: String = domains.iter().map(as_toml).collect();
        prop_assert_eq!(Config::parse(&written, "xenpcid.toml").unwrap(), Config { domains });
    }
}

/// Domains with different selectors, and devices with different addresses.
fn any_domains() -> impl Strategy<Value = Vec<Domain>> {
    let selector = prop_oneof![
        "[^\"\\\\[:cntrl:]]{1,12}".prop_map(DomainSelector::Name),
        any::<u128>().prop_map(|uuid| DomainSelector::Uuid(Uuid::from_u128(uuid))),
    ];
    let selectors = prop::collection::hash_set(selector, 0..5);
    let sizes = prop::collection::vec(0..=DEVICES_MAX, 5);
    let addresses = prop::collection::hash_set(any::<(u16, u8, u8)>(), 5 * DEVICES_MAX);
    let bits = prop::collection::vec(any::<u8>(), 5 * DEVICES_MAX);
    let vectors = prop::collection::vec(1..=VECTORS_MAX, 5);
    (selectors, sizes, addresses, bits, vectors).prop_map(|(selectors, sizes, addresses, bits, vectors)| {
        let addresses = addresses.into_iter().zip(bits).enumerate();
        let mut devices = addresses.map(|(n, ((segment, bus, devfn), bits))| Device {
            sbdf: Sbdf::from_devfn(segment, bus, devfn),
            name: (bits & 1 != 0).then(|| format!("device {n}")),
            policy: (bits & 2 != 0).then(|| "any".to_owned()),
            reset: if bits & 4 != 0 { ResetRequirement::BestEffort } else { ResetRequirement::Required },
        });
        let domain = |((selector, size), vectors)| {
            let devices = devices.by_ref().take(size).collect();
            Domain { selector, vectors, devices }
        };
        selectors.into_iter().zip(sizes).zip(vectors).map(domain).collect()
    })
}

fn as_toml(domain: &Domain) -> String {
    let selector = match &domain.selector {
        DomainSelector::Name(name) => format!("name = \"{name}\""),
        DomainSelector::Uuid(uuid) => format!("uuid = \"{uuid}\""),
    };
    let devices: String = domain.devices.iter().map(device_as_toml).collect();
    format!("[[domain]]\n{selector}\nvectors = {}\ndevices = [{devices}]\n", domain.vectors)
}

fn device_as_toml(device: &Device) -> String {
    if *device == Device::new(device.sbdf) {
        return format!("\"{}\", ", device.sbdf);
    }
    let key = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!(", {key} = \"{value}\""));
    let name = key("name", &device.name).unwrap_or_default();
    let policy = key("policy", &device.policy).unwrap_or_default();
    let reset = if device.reset == ResetRequirement::BestEffort { ", reset = \"best-effort\"" } else { "" };
    format!("{{ bdf = \"{}\"{name}{policy}{reset} }}, ", device.sbdf)
}
