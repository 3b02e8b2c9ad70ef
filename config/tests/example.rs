//! The example that comes with xenpcid.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test are a test")]

use std::collections::BTreeSet;
use std::time::Duration;

use xenpcid_config::{
    Config, ConfigError, Device, DomainDevice, DomainSelector, Override, Policies, ResetRequirement, Settings, Source,
    Start, Uuid, VECTORS_MAX,
};

const TEXT: &str = include_str!("../examples/xenpcid.toml");

#[test]
fn shipped_example_means_what_its_comments_say() {
    let config = Config::parse_with(TEXT, "xenpcid.toml", &Policies::shipped().unwrap()).unwrap();

    assert_eq!(config.settings, Settings { read_only_group: Some("xenpcid".to_owned()), ..Settings::default() });
    let [uplink, disk, port, inline @ ..] = config.devices.as_slice() else { panic!("{:?}", config.devices) };
    assert_eq!(uplink.identity.to_string(), "8086:10d3, subsystem 8086:a01f, serial 00-11-22-ff-ff-33-44-55");
    assert_eq!((uplink.name.as_deref(), uplink.policy.as_deref()), (Some("uplink"), Some("network")));
    assert_eq!((uplink.reset, uplink.start), (ResetRequirement::Required, Start::Claim));
    assert_eq!(disk.identity.path.as_deref(), Some("pci0000:00/1c.0/00.0"));
    assert_eq!((disk.reset, disk.start), (ResetRequirement::BestEffort, Start::OnDemand));
    assert_eq!(disk.allow, BTreeSet::from([Override::SharedInterrupt]));
    assert_eq!(port.identity.port.as_deref(), Some("slot 3"));
    assert_eq!(
        inline,
        [
            Device::new("02:10.0".parse().unwrap()),
            Device {
                name: Some("sensor".to_owned()),
                reset: ResetRequirement::BestEffort,
                ..Device::new("02:10.2".parse().unwrap())
            }
        ]
    );

    let [lan] = config.pools.as_slice() else { panic!("{:?}", config.pools) };
    assert_eq!((lan.name.as_str(), lan.count, lan.policy.as_deref()), ("lan", 4, Some("network")));
    assert_eq!(lan.physical_function, "04:00.0".parse::<xenpcid_address::Sbdf>().unwrap().into());
    assert_eq!(lan.allow, BTreeSet::from([Override::SplitGroup]));

    let [web1, workers, by_uuid] = config.domains.as_slice() else { panic!("{:?}", config.domains) };
    assert_eq!((&web1.selector, web1.vectors), (&DomainSelector::Name("web1".to_owned()), 16));
    assert_eq!(web1.hold, Some(Some(Duration::from_secs(120))));
    let from_lan = |mac, vlan| Source::Pool { pool: 0, mac, vlan };
    let of_web1 = [
        DomainDevice { source: Source::Device(0), slot: None, vectors: None },
        DomainDevice { source: Source::Device(1), slot: Some(5), vectors: Some(4) },
        DomainDevice { source: from_lan(Some([0, 0x16, 0x3e, 0x12, 0x34, 0x56]), Some(7)), slot: None, vectors: None },
    ];
    assert_eq!(web1.devices, of_web1);
    assert_eq!((&workers.selector, workers.vectors), (&DomainSelector::Glob("worker-*".to_owned()), VECTORS_MAX));
    assert_eq!(workers.devices, [DomainDevice { source: from_lan(None, None), slot: None, vectors: None }]);
    let uuid = Uuid::from_u128(0x5a1f_9f3e_8f57_4a0c_9d7c_0d4b_7f1a_2c33);
    assert_eq!((&by_uuid.selector, by_uuid.hold), (&DomainSelector::Uuid(uuid), Some(None)));
    let places: Vec<_> = by_uuid.devices.iter().map(|device| device.source.clone()).collect();
    assert_eq!(places, [Source::Device(3), Source::Device(4)]);
}

/// The keys that the reader knows where `text` has the unknown key `x`: the message about it lists them.
fn known_keys(text: &str) -> BTreeSet<String> {
    let Err(ConfigError::Invalid { problems }) = Config::parse(text, "test.toml") else { panic!("{text}") };
    let unknown = problems.iter().find(|problem| problem.message == "unknown key `x`").unwrap();
    unknown.help.as_ref().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys of all tables at `path` of the example; lists are gone into.
fn keys_in_example(path: &[&str]) -> BTreeSet<String> {
    fn collect(value: &toml::Value, path: &[&str], keys: &mut BTreeSet<String>) {
        match (value, path) {
            (toml::Value::Array(list), _) => list.iter().for_each(|value| collect(value, path, keys)),
            (toml::Value::Table(table), []) => keys.extend(table.keys().cloned()),
            (toml::Value::Table(table), [first, rest @ ..]) => collect(&table[*first], rest, keys),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    collect(&toml::Value::Table(TEXT.parse().unwrap()), path, &mut keys);
    keys
}

#[test]
fn each_key_of_the_schema_is_in_the_example() {
    let mut of_device = keys_in_example(&["device"]);
    of_device.extend(keys_in_example(&["pool", "physical-function"]));
    let of_entries = keys_in_example(&["domain", "devices"]);
    // Each place where there are keys, with an unknown one, and the keys that the example has there.
    let places = [
        ("x = 1", keys_in_example(&[])),
        ("[daemon]\nx = 1", keys_in_example(&["daemon"])),
        ("[[device]]\nx = 1", of_device.clone()),
        ("[[pool]]\nx = 1", keys_in_example(&["pool"])),
        ("[[pool]]\nphysical-function = { x = 1 }", of_device.clone()),
        ("[[domain]]\nx = 1", keys_in_example(&["domain"])),
        ("[[domain]]\ndevices = [{ x = 1 }]", of_entries.union(&of_device).cloned().collect()),
        ("[[domain]]\ndevices = [{ from = 'lan', x = 1 }]", of_entries),
    ];
    for (text, present) in places {
        let missing: Vec<_> = known_keys(text).into_iter().filter(|key| !present.contains(key)).collect();
        assert!(missing.is_empty(), "of {text:?}, the example lacks {missing:?}");
    }
}

#[test]
fn each_override_is_explained_in_the_example() {
    for key in Override::ALL {
        assert!(TEXT.contains(&format!("#   {key} ")), "{key}");
    }
}
