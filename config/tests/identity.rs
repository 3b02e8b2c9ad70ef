//! How declared devices are found among those of the host.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use proptest::prelude::*;
use xenpcid_address::Sbdf;
use xenpcid_config::{Config, HostFunction, Identity, IdentityError};

/// Two cards of one model below two ports, one of them with two functions.
fn host() -> Vec<HostFunction> {
    let card = |address: &str, path: &str, serial, port: Option<&str>| HostFunction {
        address: address.parse().unwrap(),
        vendor: 0x8086,
        device: 0x10d3,
        subsystem: (0x8086, 0xa01f),
        serial,
        path: path.to_owned(),
        port: port.map(str::to_owned),
    };
    vec![
        card("0000:03:00.0", "pci0000:00/1c.0/00.0", Some(0x0011_22ff_ff33_4455), Some("slot 3")),
        card("0000:04:00.0", "pci0000:00/1c.1/00.0", Some(0x0011_22ff_ff33_4456), Some("slot 4")),
        card("0000:04:00.1", "pci0000:00/1c.1/00.1", Some(0x0011_22ff_ff33_4456), Some("slot 4")),
    ]
}

/// What `keys` of a `[[device]]` mean.
fn identity(keys: &str) -> Identity {
    Config::parse(&format!("[[device]]\n{keys}\n"), "test.toml").unwrap().devices.remove(0).identity
}

fn found(keys: &str) -> Result<String, String> {
    identity(keys).find(&host()).map(|function| function.address.to_string()).map_err(|error| error.to_string())
}

#[test]
fn each_key_that_only_one_device_has_finds_it() {
    for keys in [
        "bdf = '03:00.0'",
        "serial = '00-11-22-FF-FF-33-44-55'",
        "path = 'PCI0000:00/1C.0/00.0'",
        "port = 'slot 3'",
        "vendor = 0x8086\ndevice = '0x10d3'\nsubsystem = '8086:a01f'\nport = 'slot 3'",
    ] {
        assert_eq!(found(keys), Ok("0000:03:00.0".to_owned()), "{keys}");
    }
}

#[test]
fn device_whose_bus_changed_its_number_is_found_by_what_stayed() {
    let mut moved = host();
    moved[0].address = "0000:05:00.0".parse().unwrap();
    let address = |keys: &str| identity(keys).find(&moved).unwrap().address.to_string();
    assert_eq!(address("serial = '00-11-22-ff-ff-33-44-55'"), "0000:05:00.0");
    assert_eq!(address("path = 'pci0000:00/1c.0/00.0'"), "0000:05:00.0");
    assert_eq!(
        identity("bdf = '03:00.0'\nport = 'slot 3'").find(&moved).unwrap_err().to_string(),
        "no device of this host is 0000:03:00.0, port \"slot 3\"; 0000:05:00.0 would be, but its bdf is \"0000:05:00.0\""
    );
}

#[test]
fn several_devices_are_told_apart_by_keys_that_only_one_of_them_has() {
    assert_eq!(
        found("vendor = '8086'\ndevice = '10d3'").unwrap_err(),
        "3 devices of this host are 8086:10d3: \
         0000:03:00.0 (serial = \"00-11-22-ff-ff-33-44-55\" or port = \"slot 3\" or path = \"pci0000:00/1c.0/00.0\"), \
         0000:04:00.0 (path = \"pci0000:00/1c.1/00.0\"), \
         0000:04:00.1 (path = \"pci0000:00/1c.1/00.1\"); add what is in the brackets of the one that is meant"
    );
}

#[test]
fn device_that_is_not_there_is_named_with_what_is_almost_it() {
    assert_eq!(
        found("bdf = '0000:07:00.0'").unwrap_err(),
        "no device of this host is 0000:07:00.0; `lspci -Dnn` lists those that there are"
    );
    assert_eq!(
        found("vendor = '8086'\nport = 'slot 5'\nbdf = '03:00.0'").unwrap_err(),
        "no device of this host is 0000:03:00.0, 8086:*, port \"slot 5\"; 0000:03:00.0 would be, but its port is \"slot 3\""
    );
    let mut host = host();
    host[0].serial = None;
    assert_eq!(
        identity("bdf = '03:00.0'\nserial = '00-00-00-00-00-00-00-01'").find(&host).unwrap_err().to_string(),
        "no device of this host is 0000:03:00.0, serial 00-00-00-00-00-00-00-01; 0000:03:00.0 would be, but it has no serial"
    );
}

#[test]
fn long_list_of_devices_is_cut() {
    let of_host = host().remove(0);
    let many: Vec<_> =
        (0..20).map(|n| HostFunction { address: Sbdf::from_devfn(0, 9, n), ..of_host.clone() }).collect();
    let error = identity("vendor = '8086'").find(&many).unwrap_err().to_string();
    assert_eq!(error.matches("0000:09:").count(), 2 * 8, "each with its address as a key: {error}");
    assert!(error.contains(", and 12 more; add"), "{error}");
}

/// Functions of few values, so that many are alike, with addresses and paths of their own.
fn any_host() -> impl Strategy<Value = Vec<HostFunction>> {
    let ids = (0u16..2, 0u16..3, (0u16..2, 0u16..2));
    let marks = (prop::option::of(0u64..3), prop::option::of(0u8..3));
    prop::collection::vec((ids, marks), 0..12).prop_map(|functions| {
        let function = |(number, ((vendor, device, subsystem), (serial, port))): (u8, _)| {
            let port: Option<u8> = port;
            HostFunction {
                address: Sbdf::from_devfn(0, 1, number),
                vendor,
                device,
                subsystem,
                serial,
                path: format!("pci0000:00/{number:02x}.0"),
                port: port.map(|port| format!("slot \"{port}\"")),
            }
        };
        (0..).zip(functions).map(function).collect()
    })
}

prop_compose! {
    fn any_identity()(
        bdf in prop::option::weighted(0.2, 0u8..12),
        vendor in prop::option::of(0u16..2),
        device in prop::option::of(0u16..3),
        subsystem in prop::option::of((0u16..2, 0u16..2)),
        serial in prop::option::of(0u64..3),
        path in prop::option::weighted(0.2, 0u8..12),
        port in prop::option::of(0u8..3),
    ) -> Identity {
        Identity {
            bdf: bdf.map(|number| Sbdf::from_devfn(0, 1, number)),
            vendor,
            device: device.filter(|_| vendor.is_some()),
            subsystem,
            serial,
            path: path.map(|number| format!("pci0000:00/{number:02x}.0")),
            port: port.map(|port| format!("slot \"{port}\"")),
        }
    }
}

/// Written out, key by key.
fn agrees(identity: &Identity, function: &HostFunction) -> bool {
    identity.bdf.is_none_or(|bdf| bdf == function.address)
        && identity.vendor.is_none_or(|vendor| vendor == function.vendor)
        && identity.device.is_none_or(|device| device == function.device)
        && identity.subsystem.is_none_or(|subsystem| subsystem == function.subsystem)
        && identity.serial.is_none_or(|serial| Some(serial) == function.serial)
        && identity.path.as_ref().is_none_or(|path| *path == function.path)
        && identity.port.as_ref().is_none_or(|port| Some(port) == function.port.as_ref())
}

/// As it is declared.
fn as_toml(identity: &Identity) -> String {
    let Identity { bdf, vendor, device, subsystem, serial, path, port } = identity;
    let lines = [
        bdf.map(|bdf| format!("bdf = \"{bdf}\"\n")),
        vendor.map(|vendor| format!("vendor = \"{vendor:04x}\"\n")),
        device.map(|device| format!("device = {device:#x}\n")),
        subsystem.map(|(vendor, device)| format!("subsystem = \"{vendor:x}:{device:x}\"\n")),
        serial.map(|serial| format!("serial = \"{}\"\n", xenpcid_config::serial_text(serial))),
        path.as_ref().map(|path| format!("path = \"{path}\"\n")),
        port.as_ref().map(|port| format!("port = '{port}'\n")),
    ];
    lines.into_iter().flatten().collect()
}

proptest! {
    #[test]
    fn any_identity_finds_the_only_function_that_agrees(host in any_host(), identity in any_identity()) {
        let model: Vec<&HostFunction> = host.iter().filter(|function| agrees(&identity, function)).collect();
        match (identity.find(&host), model.as_slice()) {
            (Ok(function), [only]) => prop_assert_eq!(function, *only),
            (Err(IdentityError::NotFound { nearly, .. }), []) => {
                for function in nearly {
                    prop_assert!(!agrees(&identity, &function));
                }
            }
            (Err(IdentityError::Several { found, .. }), several) => {
                prop_assert!(several.len() > 1);
                prop_assert_eq!(found.iter().collect::<Vec<_>>(), several);
            }
            (other, model) => prop_assert!(false, "{other:?} instead of {model:?}"),
        }
    }

    #[test]
    fn any_identity_with_a_key_that_the_message_offers_finds_that_device(host in any_host(), identity in any_identity()) {
        prop_assume!(!identity.is_empty());
        let Err(error @ IdentityError::Several { .. }) = identity.find(&host) else { return Ok(()) };
        let text = error.to_string();
        let offers = text.split("0000:01:").skip(1).filter_map(|offer| {
            let (address, keys) = offer.split_once(" (")?;
            Some((address, keys.rsplit_once(')')?.0))
        });
        for (address, keys) in offers {
            for key in keys.split(" or ") {
                let declared = format!("[[device]]\n{}{key}\n", as_toml(&identity));
                let config = Config::parse(&declared, "test.toml");
                let found = config.unwrap().devices[0].identity.find(&host).unwrap().address;
                prop_assert!(found.to_string().ends_with(address), "{text}\n{declared}");
            }
        }
    }

    #[test]
    fn any_identity_is_read_as_it_was_written(identity in any_identity()) {
        prop_assume!(!identity.is_empty());
        prop_assert_eq!(self::identity(&as_toml(&identity)), identity);
    }
}
