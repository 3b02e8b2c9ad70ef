//! A host with devices and guests, as the daemon tells of it.

use std::collections::BTreeMap;

use xenpcid_address::Sbdf;
use xenpcid_control::memory::Recorded;
use xenpcid_control::{
    Action, ActionKind, BusDevice, Device, DeviceState, Domain, Finding, Function, Guest, Interrupt, InterruptKind,
    Plan,
};

pub const DISK: Sbdf = Sbdf::from_devfn(0, 1, 0);
pub const NETWORK: Sbdf = Sbdf::from_devfn(0, 3, 0);
/// Since when, and when.
pub const TIME: u64 = 1_795_384_800_123;

pub fn guest(id: u16, name: &str) -> Guest {
    Guest { id, name: name.to_owned() }
}

/// Ready for a guest, and found by its address.
pub fn device(address: Sbdf) -> Device {
    Device {
        address: Some(address),
        name: None,
        identity: address.to_string(),
        declared: true,
        vendor: Some(0x8086),
        device: Some(0x10d3),
        class: Some(0x02_0000),
        driver: Some("pci-stub".to_owned()),
        policy: Some("default".to_owned()),
        state: DeviceState::Quarantined,
        guest: None,
        guest_address: None,
        slot: None,
        vectors: 0,
        denied: 0,
        since: TIME,
        last_reset: None,
        problem: None,
    }
}

/// One of each kind.
pub fn devices() -> Vec<Device> {
    let assigned = Device {
        name: Some("uplink0".to_owned()),
        identity: "serial 00-11-22-ff-ff-33-44-55".to_owned(),
        state: DeviceState::Assigned,
        guest: Some(guest(7, "web1")),
        guest_address: Some("00.0".to_owned()),
        vectors: 3,
        denied: 12,
        ..device(NETWORK)
    };
    let unclaimed = Device {
        driver: Some("ahci".to_owned()),
        policy: None,
        state: DeviceState::Unclaimed,
        slot: Some(0x1f),
        problem: Some(
            "dom0 has /boot mounted from sda1 on it: unmount it, or say allow = [\"host-use\"] in its entry of the \
             configuration"
                .to_owned(),
        ),
        ..device(Sbdf::from_devfn(0, 4, 0))
    };
    let broken = Device {
        state: DeviceState::Broken,
        problem: Some("its reset did not end: power the host off and on".to_owned()),
        ..device(Sbdf::from_devfn(0, 5, 0))
    };
    let missing = Device {
        address: None,
        name: Some("wireless".to_owned()),
        identity: "port slot 3".to_owned(),
        driver: None,
        policy: None,
        state: DeviceState::Missing,
        problem: Some("no device of this host is port slot 3; `xenpci tree` shows what there is".to_owned()),
        ..device(DISK)
    };
    vec![device(DISK), assigned, unclaimed, broken, missing]
}

pub fn function(address: Sbdf, parent: Option<Sbdf>, class: u32, driver: Option<&str>) -> Function {
    Function {
        address,
        vendor: 0x8086,
        device: 0x1237,
        class,
        driver: driver.map(str::to_owned),
        parent,
        path: "pci0000:00/00.0".to_owned(),
        label: None,
    }
}

pub fn functions() -> Vec<Function> {
    let (host, port, lpc) = (Sbdf::from_devfn(0, 0, 0), Sbdf::from_devfn(0, 0, 0xe0), Sbdf::from_devfn(0, 0, 0xf8));
    vec![
        function(host, None, 0x06_0000, None),
        Function { label: Some("slot 3".to_owned()), ..function(port, None, 0x06_0400, Some("pcieport")) },
        function(lpc, None, 0x06_0100, None),
        function(DISK, Some(port), 0x01_0802, Some("pci-stub")),
        Function { device: 0x10d3, ..function(NETWORK, Some(port), 0x02_0000, Some("pci-stub")) },
        function(Sbdf::from_devfn(1, 0, 0), None, 0xff_0000, None),
    ]
}

pub fn domains() -> Vec<Domain> {
    let domain = |id, name: Option<&str>, held, bus| Domain {
        id,
        name: name.map(str::to_owned),
        uuid: "11111111-2222-3333-4444-555555555555".to_owned(),
        held,
        bus,
    };
    let bus = vec![
        BusDevice { guest_address: Some("00.0".to_owned()), device: NETWORK, name: Some("uplink0".to_owned()) },
        BusDevice { guest_address: None, device: Sbdf::from_devfn(1, 0, 0), name: None },
    ];
    vec![
        domain(3, Some("without-devices"), false, Vec::new()),
        domain(7, Some("web1"), false, bus),
        domain(8, None, true, Vec::new()),
    ]
}

pub fn interrupts() -> Vec<Interrupt> {
    let interrupt = |entry, cpus: Vec<u32>, guest_cpus: Vec<u32>| Interrupt {
        device: NETWORK,
        guest: guest(7, "web1"),
        kind: InterruptKind::Msix,
        entry,
        pirq: 55 + u32::from(entry),
        irq: Some(41 + u32::from(entry)),
        vector: Some(0xa1),
        agrees: Interrupt::agreement(&cpus, &guest_cpus),
        cpus,
        guest_cpus,
    };
    let silent =
        Interrupt { kind: InterruptKind::Intx, irq: None, vector: None, ..interrupt(0, Vec::new(), vec![0, 1, 2, 3]) };
    vec![silent, interrupt(1, vec![2], vec![0, 1, 2, 3, 6]), interrupt(12, vec![9], vec![0, 2])]
}

pub fn plan() -> Plan {
    let action = |kind, text: &str| Action { kind, device: None, domain: None, text: text.to_owned() };
    Plan {
        actions: vec![
            action(ActionKind::Claim, "claim 0000:04:00.0"),
            action(ActionKind::Attach, "attach 0000:04:00.0 to web1 (7) in slot 1f"),
        ],
        problems: vec!["wireless: no device of this host is port slot 3".to_owned()],
    }
}

pub fn finding(check: &str, key: Option<&str>, allowed: bool) -> Finding {
    let message = "another function of its slot, 0000:03:00.1, belongs to dom0, and the two can reach each other's memory: \
                   give the guest both";
    Finding { check: check.to_owned(), message: message.to_owned(), key: key.map(str::to_owned), allowed }
}

pub fn recorded() -> Recorded {
    Recorded {
        devices: devices(),
        functions: functions(),
        domains: domains(),
        interrupts: interrupts(),
        plan: plan(),
        findings: BTreeMap::from([
            ("0000:01:00.0".to_owned(), Vec::new()),
            ("uplink0".to_owned(), vec![finding("split-group", Some("split-group"), true)]),
            (
                "04:00.0".to_owned(),
                vec![
                    finding("split-group", Some("split-group"), false),
                    finding("no-iommu", None, false),
                    finding("reset", None, true),
                ],
            ),
        ]),
        progress: vec!["resetting 0000:03:00.0".to_owned()],
        ..Recorded::default()
    }
}
