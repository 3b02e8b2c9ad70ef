//! Answers for tests.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::TempDir;
use xenpcid_address::Sbdf;
use xenpcid_control::memory::{Recorded, Serving, serve};
use xenpcid_control::{Denied, Device, DeviceDescription, DeviceState, Guest, Operation, Outcome, Resource, Status};

pub const NETWORK: Sbdf = Sbdf::from_devfn(0, 3, 0);
pub const DISK: Sbdf = Sbdf::from_devfn(0, 4, 0);

pub fn guest() -> Guest {
    Guest { id: 7, name: "web1".to_owned() }
}

pub fn device() -> Device {
    Device {
        address: NETWORK,
        name: Some("uplink0".to_owned()),
        policy: Some("default".to_owned()),
        state: DeviceState::Assigned,
        guest: Some(guest()),
    }
}

pub fn unclaimed() -> Device {
    Device { address: DISK, name: None, policy: None, state: DeviceState::Unclaimed, guest: None }
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
