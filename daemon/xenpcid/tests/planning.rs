//! What is declared, compared with what is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

use std::collections::BTreeMap;

use xenpcid::plan::{ByHand, Function, Picture, Plan, Request, Running, Whereabouts};
use xenpcid::session::Guest;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Device, HostFunction};

const NVME: Sbdf = Sbdf::from_devfn(0, 1, 0);
const NIC: Sbdf = Sbdf::from_devfn(0, 2, 0);
const PF: Sbdf = Sbdf::from_devfn(0, 3, 0);

const TWO_DOMAINS: &str = r#"
[[domain]]
name = "web1"
devices = ["0000:01:00.0"]

[[domain]]
name = "db*"
devices = ["0000:02:00.0"]
"#;

fn function(address: Sbdf) -> Function {
    let identity = HostFunction {
        address,
        vendor: 0x8086,
        device: 0x10d3,
        subsystem: (0, 0),
        serial: None,
        path: format!("pci0000:00/{address}"),
        port: None,
    };
    Function { identity, physical: None, virtual_functions: 0 }
}

fn running(id: u16, name: &str, has: &[Sbdf]) -> Running {
    let guest = Guest { domain: DomainId(id), name: name.to_owned() };
    let uuid = [id.to_be_bytes()[1]; 16];
    Running { guest, uuid, hvm: false, has: has.to_vec() }
}

/// A host with a plan to be made.
struct Scene {
    config: Config,
    functions: Vec<Function>,
    devices: BTreeMap<Sbdf, Whereabouts>,
    domains: Vec<Running>,
    by_hand: ByHand,
}

impl Scene {
    fn new(toml: &str) -> Self {
        Self {
            config: Config::parse(toml, "test.toml").unwrap_or_else(|error| panic!("{error}")),
            functions: [NVME, NIC, PF].map(function).to_vec(),
            devices: BTreeMap::new(),
            domains: Vec::new(),
            by_hand: ByHand::default(),
        }
    }

    fn device(mut self, device: Sbdf, whereabouts: Whereabouts) -> Self {
        self.devices.insert(device, whereabouts);
        self
    }

    fn domain(mut self, domain: Running) -> Self {
        self.domains.push(domain);
        self
    }

    fn plan(&self) -> Plan {
        Plan::new(&Picture {
            config: &self.config,
            functions: self.functions.clone(),
            devices: self.devices.clone(),
            domains: self.domains.clone(),
            by_hand: &self.by_hand,
        })
    }

    fn actions(&self) -> Vec<String> {
        self.plan().actions.iter().map(ToString::to_string).collect()
    }

    fn problems(&self) -> Vec<String> {
        self.plan().problems.into_iter().map(|problem| problem.text).collect()
    }
}

fn lent(id: u16, name: &str) -> Whereabouts {
    Whereabouts::Lent(running(id, name, &[]).guest)
}

#[test]
fn declared_devices_are_claimed_before_any_domain_is_there() {
    assert_eq!(Scene::new(TWO_DOMAINS).actions(), ["claim 0000:01:00.0", "claim 0000:02:00.0"]);
}

#[test]
fn nothing_is_to_be_done_where_everything_is_as_declared() {
    let scene = Scene::new(TWO_DOMAINS).device(NVME, lent(1, "web1")).device(NIC, Whereabouts::Free).domain(running(
        1,
        "web1",
        &[NVME],
    ));
    assert_eq!(scene.plan(), Plan::default());
}

#[test]
fn domain_gets_what_is_declared_by_its_name_and_by_a_pattern() {
    let scene = Scene::new(TWO_DOMAINS)
        .device(NVME, Whereabouts::Free)
        .device(NIC, Whereabouts::Free)
        .domain(running(1, "web1", &[]))
        .domain(running(2, "db7", &[]));
    assert_eq!(scene.actions(), ["attach 0000:01:00.0 to web1 (domain 1)", "attach 0000:02:00.0 to db7 (domain 2)"]);
}

#[test]
fn second_domain_that_wants_the_same_device_waits_for_it() {
    let scene = Scene::new(TWO_DOMAINS)
        .device(NVME, Whereabouts::Free)
        .device(NIC, Whereabouts::Free)
        .domain(running(2, "db1", &[]))
        .domain(running(3, "db2", &[]));
    assert_eq!(scene.actions(), ["attach 0000:02:00.0 to db1 (domain 2)"]);
    assert!(scene.plan().problems.iter().all(|problem| problem.passes));

    let later = Scene::new(TWO_DOMAINS)
        .device(NVME, Whereabouts::Free)
        .device(NIC, lent(2, "db1"))
        .domain(running(2, "db1", &[NIC]))
        .domain(running(3, "db2", &[]));
    assert_eq!(later.actions(), [""; 0]);
    assert_eq!(later.problems(), ["0000:02:00.0 is still with db1 (domain 2)"]);
}

#[test]
fn device_that_is_no_longer_declared_is_detached_and_then_released() {
    let attached = Scene::new("").device(NVME, lent(1, "web1")).domain(running(1, "web1", &[NVME]));
    assert_eq!(attached.actions(), ["detach 0000:01:00.0 from web1 (domain 1)"]);

    let free = Scene::new("").device(NVME, Whereabouts::Free);
    assert_eq!(free.actions(), ["release 0000:01:00.0 to dom0"]);
}

#[test]
fn what_was_done_by_hand_stays() {
    let uuid = running(1, "web1", &[]).uuid;
    let request = Request::new(NIC, Device::new(NIC));
    let mut attached = Scene::new("").device(NIC, lent(1, "web1")).domain(running(1, "web1", &[NIC]));
    attached.by_hand.attached.insert(uuid, vec![request]);
    assert_eq!(attached.actions(), [""; 0]);
    // The domain's next life.
    attached.devices.insert(NIC, Whereabouts::Free);
    attached.domains = vec![Running { uuid, ..running(2, "web1", &[]) }];
    assert_eq!(attached.actions(), ["attach 0000:02:00.0 to web1 (domain 2)"]);

    let mut detached = Scene::new(TWO_DOMAINS)
        .device(NVME, Whereabouts::Free)
        .device(NIC, Whereabouts::Free)
        .domain(running(1, "web1", &[]));
    detached.by_hand.detached.insert((DomainId(1), NVME));
    assert_eq!(detached.actions(), [""; 0]);

    let mut claimed = Scene::new("").device(NVME, Whereabouts::Free);
    claimed.by_hand.claimed.insert(NVME);
    assert_eq!(claimed.actions(), [""; 0]);

    let mut released = Scene::new(TWO_DOMAINS).device(NIC, Whereabouts::Free);
    released.by_hand.released.insert(NVME);
    assert_eq!(released.actions(), [""; 0]);
}

#[test]
fn domain_gets_all_of_its_devices_or_none() {
    let toml = "[[domain]]\nname = \"web1\"\ndevices = [\"0000:01:00.0\", \"0000:02:00.0\"]\n";
    let broken = Scene::new(toml)
        .device(NVME, Whereabouts::Free)
        .device(NIC, Whereabouts::Broken("it burns".to_owned()))
        .domain(running(1, "web1", &[]));
    assert_eq!(broken.actions(), [""; 0]);
    assert_eq!(broken.problems(), ["0000:02:00.0 is broken: it burns"]);

    let mut missing = Scene::new(toml).device(NVME, Whereabouts::Free).domain(running(1, "web1", &[]));
    missing.functions.retain(|function| function.identity.address != NIC);
    assert_eq!(missing.actions(), [""; 0]);
    // The domain is held for it.
    let waits =
        |plan: &Plan| plan.problems.iter().any(|problem| problem.guest.as_ref().is_some_and(|it| it.name == "web1"));
    assert!(waits(&missing.plan()), "{:?}", missing.problems());
}

#[test]
fn hardware_virtualised_domain_is_told_what_it_would_need() {
    let mut scene = Scene::new(TWO_DOMAINS)
        .device(NVME, Whereabouts::Free)
        .device(NIC, Whereabouts::Free)
        .domain(running(1, "web1", &[]));
    scene.domains[0].hvm = true;
    assert_eq!(scene.actions(), [""; 0]);
    assert!(scene.problems()[0].contains("type=\"pv\""));
}

#[test]
fn function_of_a_pool_that_is_on_its_way_is_waited_for_and_one_of_another_domain_is_not() {
    let toml = "[[pool]]\nname = \"lan\"\nphysical-function = { bdf = \"0000:03:00.0\" }\ncount = 1\n\n\
        [[domain]]\nname = \"web*\"\ndevices = [{ from = \"lan\" }]\n";
    let mut scene = Scene::new(toml).domain(running(2, "web2", &[]));
    let (physical, virtual_function) = (PF, Sbdf::from_devfn(0, 3, 0x10));
    scene.functions.retain(|function| function.identity.address != physical);
    scene.functions.push(Function { virtual_functions: 1, ..function(physical) });
    scene.functions.push(Function { physical: Some(physical), ..function(virtual_function) });

    // Being renewed, being given to the very domain, and with one that has ended.
    for on_its_way in [Whereabouts::Busy, lent(2, "web2"), lent(1, "web1")] {
        scene.devices.insert(virtual_function, on_its_way.clone());
        let plan = scene.plan();
        assert_eq!(plan.actions, [], "{on_its_way:?}");
        assert!(matches!(plan.problems.as_slice(), [problem] if problem.passes), "{:?}", plan.problems);
    }
    scene.domains.push(running(1, "web1", &[virtual_function]));
    let plan = scene.plan();
    assert!(matches!(plan.problems.as_slice(), [problem] if !problem.passes), "{:?}", plan.problems);
    assert!(plan.problems[0].text.contains("has no free function"), "{}", plan.problems[0].text);
}
