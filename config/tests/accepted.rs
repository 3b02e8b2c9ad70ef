//! Files that are right.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use xenpcid_config::{
    Config, Device, Domain, DomainDevice, DomainSelector, Policies, ResetRequirement, Source, Uuid, VECTORS_MAX,
};

fn parse(text: &str) -> Config {
    Config::parse(text, "xenpcid.toml").unwrap()
}

/// Where the devices of the first domain come from.
fn sources(config: &Config) -> Vec<Source> {
    config.domains[0].devices.iter().map(|device| device.source.clone()).collect()
}

/// As it was before devices had tables of their own.
#[test]
fn domains_with_nothing_but_addresses_and_tables_with_a_bdf_are_still_right() {
    let text = r#"
[[domain]]
name = "web1"
devices = [
    "0000:01:00.0",
    { bdf = "0000:00:07.0", reset = "best-effort" },
    { bdf = "0000:03:00.0", name = "uplink", policy = "network" },
]
vectors = 16

[[domain]]
uuid = "5a1f9f3e-8f57-4a0c-9d7c-0d4b7f1a2c33"
devices = ["02:10.0", "02:10.2"]
"#;
    let device = |address: &str| Device::new(address.parse().unwrap());
    let plain = |places: std::ops::Range<usize>| {
        places.map(|place| DomainDevice { source: Source::Device(place), slot: None, vectors: None }).collect()
    };

    let config = Config::parse_with(text, "xenpcid.toml", &Policies::shipped().unwrap()).unwrap();

    let web1 =
        Domain { selector: DomainSelector::Name("web1".to_owned()), vectors: 16, hold: None, devices: plain(0..3) };
    let by_uuid = Domain {
        selector: DomainSelector::Uuid(Uuid::from_u128(0x5a1f_9f3e_8f57_4a0c_9d7c_0d4b_7f1a_2c33)),
        vectors: VECTORS_MAX,
        hold: None,
        devices: plain(3..5),
    };
    let devices = vec![
        device("0000:01:00.0"),
        Device { reset: ResetRequirement::BestEffort, ..device("0000:00:07.0") },
        Device { name: Some("uplink".to_owned()), policy: Some("network".to_owned()), ..device("0000:03:00.0") },
        device("0000:02:10.0"),
        device("0000:02:10.2"),
    ];
    assert_eq!(config, Config { devices, domains: vec![web1, by_uuid], ..Config::default() });
}

#[test]
fn file_without_domains_declares_nothing() {
    assert_eq!(parse("# nothing yet\n"), Config::default());
}

#[test]
fn declared_device_is_meant_by_its_name_and_by_its_address_in_any_form() {
    for entry in ["'disk'", "{ name = 'disk' }", "'01:00.0'", "{ bdf = '0000:01:00.0', slot = 3 }"] {
        let config = parse(&format!(
            "[[domain]]\nname = 'web1'\ndevices = [{entry}]\n[[device]]\nname = 'disk'\nbdf = '0000:01:00.0'\n"
        ));
        assert_eq!(sources(&config), [Source::Device(0)], "{entry}");
        assert_eq!(config.devices.len(), 1, "{entry}");
    }
}

#[test]
fn device_with_a_colon_in_its_name_is_meant_by_it() {
    let config = parse(
        "[[device]]\nname = 'nic:0'\nserial = '00-11-22-ff-ff-33-44-55'\n[[domain]]\nname = 'web1'\ndevices = ['nic:0']\n",
    );
    assert_eq!(sources(&config), [Source::Device(0)]);
}

#[test]
fn device_of_a_domain_can_be_declared_there_by_any_key() {
    let config =
        parse("[[domain]]\nname = 'web1'\ndevices = [{ port = 'slot 3', start = 'on-demand', allow = 'host-use' }]\n");
    assert_eq!(sources(&config), [Source::Device(0)]);
    assert_eq!(config.devices[0].identity.port.as_deref(), Some("slot 3"));
    assert_eq!(config.devices[0].allow.len(), 1);
}

#[test]
fn device_at_an_address_shows_as_many_vectors_as_its_domain_says_of_it_or_of_all() {
    let config = parse(
        "[[domain]]\nname = 'web1'\nvectors = 8\ndevices = ['01:00.0', { bdf = '02:00.0', vectors = 2 }]\n\
         [[device]]\nbdf = '03:00.0'\n",
    );
    let vectors = |address: &str| config.device_at(address.parse().unwrap()).map(|(_, vectors)| vectors);
    assert_eq!(vectors("01:00.0"), Some(8));
    assert_eq!(vectors("02:00.0"), Some(2));
    assert_eq!(vectors("03:00.0"), Some(VECTORS_MAX));
    assert_eq!(vectors("04:00.0"), None);
}
