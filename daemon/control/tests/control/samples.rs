//! Answers for tests.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::TempDir;
use xenpcid_address::Sbdf;
use xenpcid_control::memory::{Recorded, Serving, serve};
use xenpcid_control::{
    Action, ActionKind, Attach, AttachDevice, BusDevice, Claim, Denied, Detach, Device, DeviceDescription, DeviceState,
    Domain, Event, EventKind, FailedReset, Finding, Function, Guest, Interrupt, InterruptKind, Operation, Options,
    Outcome, Plan, ReservedMemory, Reset, ResetReport, Resource, Status,
};

pub const NETWORK: Sbdf = Sbdf::from_devfn(0, 3, 0);
pub const DISK: Sbdf = Sbdf::from_devfn(0, 4, 0);

pub fn guest() -> Guest {
    Guest { id: 7, name: "web1".to_owned() }
}

pub fn device() -> Device {
    Device {
        address: Some(NETWORK),
        name: Some("uplink0".to_owned()),
        identity: "serial 00-11-22-ff-ff-33-44-55".to_owned(),
        declared: true,
        vendor: Some(0x8086),
        device: Some(0x10d3),
        class: Some(0x02_0000),
        driver: Some("pci-stub".to_owned()),
        policy: Some("default".to_owned()),
        state: DeviceState::Assigned,
        guest: Some(guest()),
        guest_address: Some("00.0".to_owned()),
        slot: Some(0),
        vectors: 3,
        denied: 12,
        since: 1_795_384_700_000,
        last_reset: Some(reset()),
        problem: Some("it is slow: look at it".to_owned()),
    }
}

fn reset() -> ResetReport {
    ResetReport {
        time: 1_795_384_700_000,
        methods: vec!["flr".to_owned(), "bus".to_owned()],
        failed: vec![FailedReset { method: "flr".to_owned(), reason: "it takes too long".to_owned() }],
        used: Some("bus".to_owned()),
        milliseconds: 1_104,
    }
}

pub fn unclaimed() -> Device {
    Device {
        address: Some(DISK),
        name: None,
        identity: DISK.to_string(),
        driver: None,
        policy: None,
        state: DeviceState::Unclaimed,
        guest: None,
        guest_address: None,
        slot: None,
        vectors: 0,
        denied: 0,
        problem: None,
        ..device()
    }
}

pub fn function() -> Function {
    Function {
        address: NETWORK,
        vendor: 0x8086,
        device: 0x10d3,
        class: 0x02_0000,
        driver: Some("e1000e".to_owned()),
        parent: Some(Sbdf::from_devfn(0, 0, 0x1c << 3)),
        path: "pci0000:00/1c.0/00.0".to_owned(),
        label: Some("slot 3".to_owned()),
    }
}

pub fn domain() -> Domain {
    let device =
        BusDevice { guest_address: Some("00.0".to_owned()), device: NETWORK, name: Some("uplink0".to_owned()) };
    let uuid = "11111111-2222-3333-4444-555555555555".to_owned();
    Domain { id: 7, name: Some("web1".to_owned()), uuid, held: true, bus: vec![device] }
}

pub fn interrupt() -> Interrupt {
    let (cpus, guest_cpus) = (vec![1], vec![0, 1]);
    Interrupt {
        device: NETWORK,
        guest: guest(),
        kind: InterruptKind::Msix,
        entry: 2,
        pirq: 55,
        irq: Some(41),
        vector: Some(0xd1),
        agrees: Interrupt::agreement(&cpus, &guest_cpus),
        cpus,
        guest_cpus,
    }
}

pub fn finding() -> Finding {
    Finding {
        check: "host-use".to_owned(),
        message: "dom0 has its root filesystem on it".to_owned(),
        key: Some("host-use".to_owned()),
        allowed: true,
    }
}

pub fn plan() -> Plan {
    let action = Action {
        kind: ActionKind::Attach,
        device: Some("uplink0".to_owned()),
        domain: Some("web1".to_owned()),
        text: "attach uplink0 to web1".to_owned(),
    };
    Plan { actions: vec![action], problems: vec!["device disk: no device matches: look".to_owned()] }
}

pub fn event() -> Event {
    Event { time: 1_795_384_800_000, ..Event::now(EventKind::Attached, "attached").of(NETWORK).to(guest()) }
}

pub fn attach() -> Attach {
    let options =
        Options { msitranslate: true, power_mgmt: false, permissive: true, rdm_policy: ReservedMemory::Relaxed };
    let device = AttachDevice {
        device: NETWORK.to_string(),
        slot: Some(5),
        policy: Some("network".to_owned()),
        allow: vec!["host-use".to_owned()],
        reset: Some(Reset::BestEffort),
        seize: true,
        options,
    };
    Attach { domain: "web1".to_owned(), devices: vec![device], timeout: Some(5000), wait: true }
}

pub fn detach() -> Detach {
    let devices = vec![NETWORK.to_string()];
    Detach { domain: "7".to_owned(), devices, force: true, timeout: Some(5000), wait: true }
}

pub fn claim() -> Claim {
    let allow = vec!["host-use".to_owned()];
    Claim { device: NETWORK.to_string(), name: Some("uplink1".to_owned()), allow, reset: Some(Reset::Required) }
}

pub fn denied() -> Denied {
    Denied {
        device: NETWORK,
        guest: guest(),
        offset: 0xe8,
        width: 2,
        register: Some("pcie.devctl".to_owned()),
        capability: Some("pcie".to_owned()),
        hidden: false,
        operation: Operation::Write,
        outcome: Outcome::Discarded,
        bits: 0x7000,
        count: u64::from(u32::MAX) + 1,
        last_value: 0x5010,
        last_time: 1_795_384_800_123,
    }
}

pub fn description() -> DeviceDescription {
    DeviceDescription {
        address: NETWORK,
        name: Some("uplink0".to_owned()),
        policy: "default".to_owned(),
        vectors: 128,
        vendor: 0x8086,
        device: 0x10d3,
        interrupt_line: 0x15,
        is_virtual_function: true,
        resources: (0..7).map(|n| Resource { start: n << 60, end: (n << 60) + 0xfff, flags: 0x14_220c }).collect(),
        config: (0..=u8::MAX).collect(),
    }
}

pub fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        xen: Some("4.17".to_owned()),
        started: 1_795_384_000_000,
        configuration: Some("/etc/xenpcid/xenpcid.toml".to_owned()),
    }
}

pub fn recorded() -> Recorded {
    Recorded {
        status: Some(status()),
        devices: vec![device(), unclaimed()],
        descriptions: BTreeMap::from([(NETWORK, description())]),
        denied: Mutex::new(VecDeque::from([vec![denied()]])),
        functions: vec![function()],
        domains: vec![domain()],
        interrupts: vec![interrupt()],
        findings: BTreeMap::from([(NETWORK.to_string(), vec![finding()])]),
        plan: plan(),
        progress: vec!["resetting it".to_owned(), "waiting for the guest".to_owned()],
        ..Recorded::default()
    }
}

/// A daemon in a folder of its own.
pub struct Daemon {
    pub folder: TempDir,
    pub socket: PathBuf,
    pub serving: Serving,
}

impl Daemon {
    pub fn start(recorded: Recorded) -> Self {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("run/xenpcid/control");
        let serving = serve(&socket, recorded).unwrap();
        Self { folder, socket, serving }
    }
}
