//! Files that are right.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use proptest::prelude::*;
use xenpcid_address::Sbdf;
use xenpcid_config::{Config, DEVICES_MAX, Device, Domain, DomainSelector, ResetRequirement, Uuid};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/xenpcid.toml");

fn device(address: &str, reset: ResetRequirement) -> Device {
    Device { sbdf: address.parse().unwrap(), reset }
}

#[test]
fn shipped_example_means_what_its_comments_say() {
    let config = Config::load(EXAMPLE).unwrap();
    let web1 = Domain {
        selector: DomainSelector::Name("web1".to_owned()),
        devices: vec![
            device("0000:01:00.0", ResetRequirement::Required),
            device("0000:00:07.0", ResetRequirement::BestEffort),
        ],
    };
    let by_uuid = Domain {
        selector: DomainSelector::Uuid(Uuid::from_u128(0x5a1f_9f3e_8f57_4a0c_9d7c_0d4b_7f1a_2c33)),
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
    (selectors, sizes, addresses, any::<u128>()).prop_map(|(selectors, sizes, addresses, resets)| {
        let mut devices = addresses.into_iter().enumerate().map(|(n, (segment, bus, devfn))| Device {
            sbdf: Sbdf::from_devfn(segment, bus, devfn),
            reset: if resets >> (n % 128) & 1 == 1 { ResetRequirement::BestEffort } else { ResetRequirement::Required },
        });
        let domain = |(selector, size)| Domain { selector, devices: devices.by_ref().take(size).collect() };
        selectors.into_iter().zip(sizes).map(domain).collect()
    })
}

fn as_toml(domain: &Domain) -> String {
    let selector = match &domain.selector {
        DomainSelector::Name(name) => format!("name = \"{name}\""),
        DomainSelector::Uuid(uuid) => format!("uuid = \"{uuid}\""),
    };
    let devices: String = domain.devices.iter().map(device_as_toml).collect();
    format!("[[domain]]\n{selector}\ndevices = [{devices}]\n")
}

fn device_as_toml(device: &Device) -> String {
    match device.reset {
        ResetRequirement::Required => format!("\"{}\", ", device.sbdf),
        ResetRequirement::BestEffort => format!("{{ bdf = \"{}\", reset = \"best-effort\" }}, ", device.sbdf),
    }
}
