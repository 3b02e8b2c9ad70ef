//! Several files that together are one configuration.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use expect_test::expect;
use proptest::prelude::*;
use proptest::sample::Index;
use xenpcid_address::Sbdf;
use xenpcid_config::{
    Config, ConfigError, DROP_INS, Device, Domain, DomainDevice, DomainSelector, Identity, Override, Pool,
    ResetRequirement, Settings, Source, Start, Uuid, VECTORS_MAX, serial_text,
};

/// The configuration of a folder with these files in it.
fn load(files: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(DROP_INS)).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let place = format!("{}/", folder.path().display());
    Config::load(folder.path().join("xenpcid.toml"), None).map_err(|error| error.to_string().replace(&place, ""))
}

#[test]
fn files_of_the_folder_are_read_in_the_order_of_their_names_after_the_main_one() {
    let config = load(&[
        ("conf.d/20-b.toml", "[daemon]\nhold = '20s'\n[[device]]\nbdf = '00:03.0'\n"),
        ("conf.d/10-a.toml", "[daemon]\nhold = '10s'\ndetach-timeout = '10s'\n[[device]]\nbdf = '00:02.0'\n"),
        ("xenpcid.toml", "[daemon]\nhold = false\nread-only-group = 'watchers'\n[[device]]\nbdf = '00:01.0'\n"),
        ("conf.d/.30-hidden.toml", "not TOML"),
        ("conf.d/40-old.toml~", "not TOML"),
    ])
    .unwrap();
    let addresses: Vec<_> = config.devices.iter().map(|device| device.identity.to_string()).collect();
    assert_eq!(addresses, ["0000:00:01.0", "0000:00:02.0", "0000:00:03.0"]);
    let (hold, detach_timeout) = (Some(Duration::from_secs(20)), Duration::from_secs(10));
    assert_eq!(config.settings, Settings { hold, detach_timeout, read_only_group: Some("watchers".to_owned()) });
}

#[test]
fn file_without_a_folder_beside_it_is_the_whole_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("xenpcid.toml");
    fs::write(&file, "[[device]]\nbdf = '00:01.0'\n").unwrap();
    assert_eq!(Config::load(&file, None).unwrap().devices, [Device::new("00:01.0".parse().unwrap())]);
}

#[test]
fn folder_without_the_main_file_is_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(DROP_INS)).unwrap();
    let file = folder.path().join("xenpcid.toml");
    let error = Config::load(&file, None).unwrap_err();
    assert!(matches!(error, ConfigError::Read { path, .. } if path == file));
}

#[test]
fn mistakes_name_the_file_they_are_in_and_the_one_that_was_first() {
    let error = load(&[
        (
            "xenpcid.toml",
            "[[device]]\nbdf = '00:01.0'\nname = 'uplink'\n\n[[domain]]\nname = 'web1'\ndevices = ['uplink']\n",
        ),
        ("conf.d/web.toml", "[[device]]\nbdf = '00:01.0'\n[[domain]]\nname = 'web1'\ndevices = ['uplink', 'dsk']\n"),
        (
            "conf.d/disks.toml",
            "[[device]]\nbdf = '00:02.0'\nname = 'disk'\nreset = true\n[[device]]\nbdf = '00:03.0'\nname = 'uplink'\n",
        ),
    ])
    .unwrap_err();
    expect![[r#"
        conf.d/disks.toml:4:9: this has to be a string in quotation marks, and is true or false
          |
        4 | reset = true
          |         ^^^^

        conf.d/disks.toml:7:8: another device is called uplink, in xenpcid.toml:3
          |
        7 | name = 'uplink'
          |        ^^^^^^^^
          = help: give each device a name of its own; policies can match `name*`

        conf.d/web.toml:2:7: device 0000:00:01.0 is declared twice, first in xenpcid.toml:2
          |
        2 | bdf = '00:01.0'
          |       ^^^^^^^^^
          = help: keep one of the two, and write in it all that is to be said about the device

        conf.d/web.toml:4:8: domain web1 is there twice, first in xenpcid.toml:6
          |
        4 | name = 'web1'
          |        ^^^^^^
          = help: put all its devices below one [[domain]]

        conf.d/web.toml:5:12: device uplink is there twice, first in xenpcid.toml:7
          |
        5 | devices = ['uplink', 'dsk']
          |            ^^^^^^^^
          = help: a device belongs to one domain: remove one of the two

        conf.d/web.toml:5:22: there is no device dsk; did you mean disk?
          |
        5 | devices = ['uplink', 'dsk']
          |                      ^^^^^
          = help: write the name of a [[device]], or an address such as "0000:03:00.0""#]]
    .assert_eq(&error);
}

#[test]
fn what_a_file_that_cannot_be_read_may_declare_is_not_said_to_be_missing() {
    let error = load(&[
        ("xenpcid.toml", "[[domain]]\nname = 'web1'\ndevices = ['disk', { from = 'lan' }, { bdf = 'here' }]\n"),
        ("conf.d/disks.toml", "[[device]]\nbdf = 00:02.0\nname = 'disk'\n"),
    ])
    .unwrap_err();
    expect![[r#"
        xenpcid.toml:3:46: "here" is not a PCI address: there is no "." before the function; write SEGMENT:BUS:DEVICE.FUNCTION in hexadecimal, such as 0000:03:00.0
          |
        3 | devices = ['disk', { from = 'lan' }, { bdf = 'here' }]
          |                                              ^^^^^^
          = help: `lspci -D` lists the addresses of this host

        conf.d/disks.toml:2:7: invalid datetime
          |
        2 | bdf = 00:02.0
          |       ^^^^^^^"#]].assert_eq(&error);
}

/// What a table of the configuration is like, apart from what must not be twice.
type Seed = (u8, Vec<u8>);

/// Configurations with every kind of table; in each, the first devices have tables of their own and the rest is written with
/// a domain.
fn any_config() -> impl Strategy<Value = (Config, usize)> {
    let seeds = |most| prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..6)), 0..most);
    (any::<u8>(), seeds(6), seeds(3), seeds(6)).prop_map(|(settings, devices, pools, domains)| {
        let mut config = Config { settings: self::settings(settings), ..Config::default() };
        config.devices = (0..).zip(&devices).map(|(n, seed)| device(n, seed)).collect();
        config.pools = (0..).zip(&pools).map(|(n, seed)| pool(n, seed)).collect();
        let declared = config.devices.len();
        let mut free: Vec<usize> = (0..declared).collect();
        for (n, seed) in (0..).zip(&domains) {
            let domain = domain(n, seed, &mut free, &mut config);
            config.domains.push(domain);
        }
        (config, declared)
    })
}

fn settings(bits: u8) -> Settings {
    Settings {
        hold: (bits & 1 != 0).then(|| Duration::from_millis(u64::from(bits) + 1)),
        detach_timeout: Duration::from_secs(u64::from(bits) + 1),
        read_only_group: (bits & 2 != 0).then(|| format!("group{bits}")),
    }
}

fn device(n: u8, (bits, more): &Seed) -> Device {
    let has = |bit: u8| bits & bit != 0;
    Device {
        identity: Identity {
            bdf: has(1).then(|| Sbdf::from_devfn(0, 1, n)),
            serial: (!has(1)).then(|| u64::from(n)),
            vendor: has(2).then(|| 0x8000 + u16::from(n)),
            ..Identity::default()
        },
        name: has(4).then(|| format!("device {n}")),
        policy: has(8).then(|| "any".to_owned()),
        reset: if has(16) { ResetRequirement::BestEffort } else { ResetRequirement::Required },
        start: if has(32) { Start::OnDemand } else { Start::Claim },
        allow: overrides(more),
    }
}

fn overrides(seed: &[u8]) -> BTreeSet<Override> {
    seed.iter().filter_map(|byte| Override::ALL.get(usize::from(*byte) % 12).copied()).collect()
}

fn pool(n: u8, (bits, more): &Seed) -> Pool {
    let Device { policy, reset, allow, .. } = device(n, &(*bits, more.clone()));
    Pool {
        name: format!("pool {n}"),
        physical_function: Sbdf::from_devfn(0, 2, n).into(),
        count: u16::from(*bits) + 1,
        policy,
        reset,
        allow,
    }
}

/// A domain; its devices are of `free`, of a pool, or new ones that are added.
fn domain(n: u8, (bits, more): &Seed, free: &mut Vec<usize>, config: &mut Config) -> Domain {
    let selector = match bits % 3 {
        0 => DomainSelector::Name(format!("web{n}")),
        1 => DomainSelector::Uuid(Uuid::from_u128(u128::from(n))),
        _ => DomainSelector::Glob(format!("w?b{n}*")),
    };
    let mut entry = |(slot, bits): (u8, &u8)| {
        let pooled = usize::from(*bits).checked_rem(config.pools.len());
        let known = free.iter().position(|place| {
            let Device { name, identity, .. } = &config.devices[*place];
            name.is_some() || identity.bdf.is_some()
        });
        let source = match (bits % 3, pooled, known) {
            (0, Some(pool), _) => {
                let mac =
                    (bits & 4 != 0 && !matches!(selector, DomainSelector::Glob(_))).then_some([2, 0, 0, 0, n, slot]);
                Source::Pool { pool, mac, vlan: (bits & 8 != 0).then_some(u16::from(*bits) + 1) }
            }
            (1, _, Some(known)) => Source::Device(free.remove(known)),
            _ => {
                let n = u8::try_from(config.devices.len()).unwrap();
                config.devices.push(device(n, &(*bits, vec![*bits])));
                Source::Device(config.devices.len() - 1)
            }
        };
        let slot = (bits & 16 != 0).then_some(slot);
        DomainDevice { source, slot, vectors: (bits & 32 != 0).then_some(u16::from(bits % 128) + 1) }
    };
    let devices = (0..).zip(more).map(&mut entry).collect();
    let hold = match bits % 4 {
        0 => Some(None),
        1 => Some(Some(Duration::from_secs(u64::from(*bits) + 1))),
        _ => None,
    };
    Domain { selector, vectors: if bits & 64 != 0 { VECTORS_MAX } else { u16::from(bits % 64) + 1 }, hold, devices }
}

/// The tables of a configuration whose first `declared` devices have tables of their own, by their kind.
fn as_toml(config: &Config, declared: usize) -> [Vec<String>; 4] {
    let Settings { hold, detach_timeout, read_only_group } = &config.settings;
    let hold = hold_as_toml(*hold);
    let group = read_only_group.as_ref().map(|group| format!("read-only-group = \"{group}\"\n")).unwrap_or_default();
    let settings = format!("[daemon]\nhold = {hold}\ndetach-timeout = \"{}s\"\n{group}", detach_timeout.as_secs());
    let devices =
        config.devices.iter().take(declared).map(|device| format!("[[device]]\n{}\n", keys(device).join("\n")));
    let pools = config.pools.iter().map(|pool| {
        let Pool { name, physical_function, count, policy, reset, allow } = pool.clone();
        let device = Device { policy, reset, allow, ..Device::identified(Identity::default()) };
        let address = physical_function.bdf.unwrap();
        let terms = keys(&device).join("\n");
        format!(
            "[[pool]]\nname = \"{name}\"\nphysical-function = {{ bdf = \"{address}\" }}\ncount = {count}\n{terms}\n"
        )
    });
    let domains = config.domains.iter().map(|domain| domain_as_toml(domain, config, declared));
    [vec![settings], devices.collect(), pools.collect(), domains.collect()]
}

fn hold_as_toml(hold: Option<Duration>) -> String {
    hold.map_or_else(|| "false".to_owned(), |hold| format!("\"{}ms\"", hold.as_millis()))
}

fn keys(device: &Device) -> Vec<String> {
    let Device { identity, name, policy, reset, start, allow } = device;
    let allow: Vec<_> = allow.iter().map(|key| format!("\"{key}\"")).collect();
    let keys = [
        identity.bdf.map(|address| format!("bdf = \"{address}\"")),
        identity.serial.map(|serial| format!("serial = \"{}\"", serial_text(serial))),
        identity.vendor.map(|vendor| format!("vendor = \"{vendor:04x}\"")),
        name.as_ref().map(|name| format!("name = \"{name}\"")),
        policy.as_ref().map(|policy| format!("policy = \"{policy}\"")),
        (*reset != ResetRequirement::default()).then(|| format!("reset = \"{reset}\"")),
        (*start != Start::default()).then(|| format!("start = \"{start}\"")),
        (!allow.is_empty()).then(|| format!("allow = [{}]", allow.join(", "))),
    ];
    keys.into_iter().flatten().collect()
}

fn domain_as_toml(domain: &Domain, config: &Config, declared: usize) -> String {
    let selector = match &domain.selector {
        DomainSelector::Name(name) | DomainSelector::Glob(name) => format!("name = \"{name}\""),
        DomainSelector::Uuid(uuid) => format!("uuid = \"{uuid}\""),
    };
    let hold = domain.hold.map(|hold| format!("hold = {}\n", hold_as_toml(hold))).unwrap_or_default();
    let entries: Vec<_> = domain.devices.iter().map(|device| entry_as_toml(device, config, declared)).collect();
    let (vectors, entries) = (domain.vectors, entries.join(", "));
    format!("[[domain]]\n{selector}\n{hold}vectors = {vectors}\ndevices = [{entries}]\n")
}

fn entry_as_toml(device: &DomainDevice, config: &Config, declared: usize) -> String {
    let mut entry = match &device.source {
        Source::Pool { pool, mac, vlan } => {
            let mut entry = vec![format!("from = \"{}\"", config.pools[*pool].name)];
            entry.extend(mac.map(|mac| format!("mac = \"{}\"", mac.map(|byte| format!("{byte:02X}")).join(":"))));
            entry.extend(vlan.map(|vlan| format!("vlan = {vlan}")));
            entry
        }
        Source::Device(place) if *place >= declared => keys(&config.devices[*place]),
        Source::Device(place) => match &config.devices[*place] {
            Device { name: Some(name), .. } if device.slot.is_none() && device.vectors.is_none() => {
                return format!("\"{name}\"");
            }
            Device { name: Some(name), .. } => vec![format!("name = \"{name}\"")],
            Device { identity, .. } => vec![format!("bdf = \"{}\"", identity.bdf.unwrap())],
        },
    };
    entry.extend(device.slot.map(|slot| format!("slot = {slot}")));
    entry.extend(device.vectors.map(|vectors| format!("vectors = {vectors}")));
    format!("{{ {} }}", entry.join(", "))
}

proptest! {
    /// Tables of one kind stay in their order; all else, also which file they are in, does not matter.
    #[test]
    fn any_declaration_is_read_as_it_was_written_however_it_is_spread_over_files(
        (config, declared) in any_config(),
        order in prop::collection::vec(any::<Index>(), 32),
        cuts in prop::collection::vec(any::<bool>(), 32),
    ) {
        let mut kinds = as_toml(&config, declared).map(|tables| tables.into_iter());
        let mut files = vec![("0.toml".to_owned(), String::new())];
        for (chosen, cut) in order.iter().zip(cuts.into_iter().cycle()) {
            let mut left: Vec<_> = kinds.iter_mut().filter(|tables| tables.len() > 0).collect();
            if left.is_empty() {
                break;
            }
            if cut {
                files.push((format!("{}.toml", files.len()), String::new()));
            }
            let at = chosen.index(left.len());
            files.last_mut().unwrap().1.extend(left[at].next());
        }
        prop_assert!(kinds.iter().all(|tables| tables.len() == 0));

        let read = Config::parse_files(files.clone(), None);

        prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(config), "{:?}", files);
    }
}
