//! What each safety check says: the object, the reason, the remedy, and the key that accepts it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

use xenpcid::checks::{Check, Finding, Owner, Severity, examine, refusals};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::ResetRequirement::{BestEffort, Required};
use xenpcid_config::{Config, Device, Override, ResetRequirement};
use xenpcid_host::{Errno, HostUse, ReservedMemory};
use xenpcid_simhost::{Bridge, DomainOptions, HostOptions, SimDevice, World};

const NVME: Sbdf = Sbdf::from_devfn(0, 1, 0);
const NIC: Sbdf = Sbdf::from_devfn(0, 2, 0);
const OLD_NIC: Sbdf = Sbdf::from_devfn(0, 0, 0x38);
const ROOT_PORT: Sbdf = Sbdf::from_devfn(0, 0, 0x10);

/// A host with a domain that can have devices.
async fn host(devices: impl IntoIterator<Item = SimDevice>) -> (World, DomainId) {
    let world = World::new();
    for device in devices {
        world.add_device(device);
    }
    let domain = world.create_domain("web1", [1; 16], DomainOptions::default()).await.unwrap();
    (world, domain)
}

fn dom0(_: Sbdf) -> Owner {
    Owner::Dom0
}

fn findings(world: &World, function: Sbdf, domain: Option<DomainId>) -> Vec<Finding> {
    examine(&world.host(), &dom0, function, domain, 16).unwrap()
}

/// The only finding, which has to say all of this and name its key.
fn only(findings: Vec<Finding>, check: Check, severity: Severity, says: &[&str]) -> String {
    let [finding] = <[Finding; 1]>::try_from(findings).unwrap();
    assert_eq!((finding.check, finding.severity), (check, severity), "{}", finding.message);
    for text in says {
        assert!(finding.message.contains(text), "{text:?} is not in: {}", finding.message);
    }
    if let Some(key) = check.key().filter(|_| severity == Severity::Refusal) {
        assert!(finding.message.contains(&format!("allow = [\"{key}\"]")), "{}", finding.message);
    }
    finding.message
}

fn refused(findings: Vec<Finding>, check: Check, says: &[&str]) -> String {
    only(findings, check, Severity::Refusal, says)
}

/// A device as a configuration declares it.
fn declared(reset: ResetRequirement, allow: &[Override]) -> Device {
    let text = "[[domain]]\nname = \"web1\"\ndevices = [\"0000:01:00.0\"]\n";
    let device = Config::parse(text, "checks.toml").unwrap().devices.remove(0);
    Device { reset, allow: allow.iter().copied().collect(), ..device }
}

/// Takes a device from dom0, so that its line is known.
fn claim(world: &World, function: Sbdf) {
    let host = world.host();
    host.pci.set_driver_override(function, Some("pci-stub")).unwrap();
    host.pci.unbind(function).unwrap();
    host.pci.set_enabled(function, true).unwrap();
}

#[tokio::test]
async fn device_that_nothing_stands_against_has_no_findings() {
    let (world, domain) = host([SimDevice::nvme(NVME), SimDevice::e1000e(NIC)]).await;

    assert_eq!(findings(&world, NIC, None), []);
    assert_eq!(findings(&world, NIC, Some(domain)), []);
    assert_eq!(examine(&world.host(), &dom0, OLD_NIC, None, 16).unwrap_err().errno, Errno::ENODEV);
}

#[tokio::test]
async fn bridge_is_refused_and_so_is_a_device_that_does_not_answer() {
    let (world, _) = host([SimDevice::bridge(ROOT_PORT, Bridge::RootPort).with_reset_methods(&["bus"])]).await;
    world.add_device(SimDevice::nvme(NVME));
    world.set_responding(NVME, false);

    refused(findings(&world, ROOT_PORT, None), Check::Header, &["0000:00:02.0 is a bridge", "stay with dom0"]);
    refused(findings(&world, NVME, None), Check::Header, &["0000:01:00.0 does not answer", "power cycle"]);
    assert_eq!(Check::Header.key(), None);
}

#[tokio::test]
async fn device_that_another_guest_has_is_refused_by_the_guests_number() {
    let (world, domain) = host([SimDevice::nvme(NVME)]).await;
    claim(&world, NVME);
    world.host().hypervisor.assign_device(domain, NVME, ReservedMemory::Refuse).unwrap();
    let owner = |_: Sbdf| Owner::Guest(domain);

    let found = examine(&world.host(), &owner, NVME, Some(DomainId(7)), 16);

    // There is no domain 7, which Xen says first.
    assert_eq!(found.unwrap_err().errno, Errno::ESRCH);
    let found = examine(&world.host(), &owner, NVME, None, 16).unwrap();
    refused(found, Check::Ownership, &["assigned to domain 1 already", "detach it"]);
    assert_eq!(examine(&world.host(), &owner, NVME, Some(domain), 16).unwrap(), []);
    assert_eq!(Check::Ownership.key(), None);
}

#[tokio::test]
async fn device_that_xen_has_elsewhere_or_does_not_know_is_refused() {
    let (world, domain) = host([SimDevice::nvme(NVME)]).await;
    claim(&world, NVME);
    world.host().hypervisor.assign_device(domain, NVME, ReservedMemory::Refuse).unwrap();

    let found = findings(&world, NVME, None);

    refused(found, Check::KnownToXen, &["Xen does not know it", "xl debug-keys Q", "rescan"]);
    assert_eq!(Check::KnownToXen.key(), None);
}

#[tokio::test]
async fn domain_without_iommu_and_host_without_iommu_are_told_apart() {
    let (world, _) = host([SimDevice::nvme(NVME)]).await;
    let plain = world.create_domain("web2", [2; 16], DomainOptions { iommu: false, hvm: false }).await.unwrap();
    let without = World::with_options(HostOptions { iommu: false, ..HostOptions::default() });
    without.add_device(SimDevice::nvme(NVME));

    refused(findings(&world, NVME, Some(plain)), Check::Iommu, &["domain 2", "passthrough=\"enabled\"", "xl.cfg"]);
    refused(findings(&without, NVME, None), Check::Iommu, &["VT-d or AMD-Vi", "firmware's setup"]);
}

#[tokio::test]
async fn device_without_reset_is_refused_unless_its_configuration_accepts_that() {
    let (world, _) = host([SimDevice::nvme(NVME).with_reset_methods(&[])]).await;

    let found = findings(&world, NVME, None);

    refused(found.clone(), Check::Reset, &["no reset method", "reset = \"best-effort\""]);
    assert_eq!(refusals(found.clone(), &declared(Required, &[])), found);
    assert_eq!(refusals(found, &declared(BestEffort, &[])), []);
}

#[tokio::test]
async fn each_use_by_dom0_is_told_with_what_would_be_lost() {
    let (world, _) = host([SimDevice::nvme(NVME)]).await;
    let uses = [
        (HostUse::Filesystem { block_device: "dm-0".into(), mount_point: "/".into() }, "dm-0 is mounted on /"),
        (HostUse::Swap { block_device: "nvme0n1p2".into() }, "nvme0n1p2 is swap space"),
        (HostUse::Console { name: "ttyS4".into() }, "ttyS4 is the console"),
        (HostUse::DefaultRoute { interface: "xenbr0".into() }, "the default route goes by xenbr0"),
    ];
    for (host_use, text) in uses.clone() {
        world.set_uses(NVME, vec![host_use]);
        refused(findings(&world, NVME, None), Check::HostUse, &["0000:01:00.0 is in use by dom0", text]);
    }
    world.set_uses(NVME, uses.map(|(host_use, _)| host_use).into());

    let all = findings(&world, NVME, None);

    assert_eq!(all.len(), 4);
    assert_eq!(refusals(all, &declared(Required, &[Override::HostUse])), []);
}

#[tokio::test]
async fn physical_function_with_virtual_ones_is_refused() {
    let (world, _) = host([SimDevice::igb(NIC)]).await;
    assert_eq!(findings(&world, NIC, None), []);
    world.host().pci.set_virtual_functions(NIC, 2).unwrap();

    refused(findings(&world, NIC, None), Check::VirtualFunctions, &["2 virtual functions", "sriov_numvfs"]);
}

#[tokio::test]
async fn device_that_shares_a_page_is_refused_with_the_page() {
    let bars = |start: &str, end: &str| {
        let rows = "00 ".repeat(16) + "\n";
        let none = "0x0 0x0 0x0\n".repeat(6);
        format!("{}0x{start} 0x{end} 0x40200\n{none}", rows.repeat(16))
    };
    let first = SimDevice::from_recording(NVME, &bars("fe800000", "fe8007ff")).unwrap();
    let second = SimDevice::from_recording(NIC, &bars("fe800800", "fe800fff")).unwrap();
    let (world, _) = host([first.with_reset_methods(&["pm"]), second]).await;

    let found = findings(&world, NVME, None);

    refused(found, Check::SharedPage, &["page 0xfe800", "0000:02:00.0", "pci=resource_alignment=0000:01:00.0"]);
}

#[tokio::test]
async fn functions_of_one_device_go_together_or_not_at_all() {
    let (first, second) = (Sbdf::from_devfn(0, 5, 0), Sbdf::from_devfn(0, 5, 1));
    let (world, domain) = host([SimDevice::nvme(first).multifunction(), SimDevice::igb(second).multifunction()]).await;

    let split = findings(&world, first, Some(domain));
    let claimed = findings(&world, first, None);
    let together = examine(&world.host(), &|_| Owner::Guest(domain), first, Some(domain), 16).unwrap();
    let foreign = examine(&world.host(), &|_| Owner::Guest(DomainId(9)), first, Some(domain), 16).unwrap();

    refused(
        split,
        Check::SplitGroup,
        &["0000:05:00.0 is not isolated from 0000:05:00.1", "functions of one device", "dom0's driver igb", "domain 1"],
    );
    assert_eq!((claimed, together), (Vec::new(), Vec::new()));
    assert!(foreign.iter().any(|finding| finding.message.contains("domain 9 has it")), "{foreign:?}");
}

#[tokio::test]
async fn functions_with_access_control_and_those_behind_ports_of_their_own_may_go_apart() {
    let other_port = Sbdf::from_devfn(0, 0, 0x18);
    let (first, second) = (Sbdf::from_devfn(0, 5, 0), Sbdf::from_devfn(0, 5, 1));
    let (world, domain) = host([
        SimDevice::nvme(first).multifunction().with_access_control(),
        SimDevice::igb(second).multifunction().with_access_control(),
        SimDevice::bridge(ROOT_PORT, Bridge::RootPort),
        SimDevice::bridge(other_port, Bridge::RootPort),
        SimDevice::nvme(NVME).behind(ROOT_PORT),
        SimDevice::e1000e(NIC).behind(other_port),
    ])
    .await;

    assert_eq!(findings(&world, first, Some(domain)), []);
    assert_eq!(findings(&world, NVME, Some(domain)), []);
}

#[tokio::test]
async fn devices_behind_a_conventional_bridge_or_ports_without_access_control_are_not_apart() {
    let ports = [Sbdf::from_devfn(0, 0, 0xe0), Sbdf::from_devfn(0, 0, 0xe4)];
    let bridge = |function, kind| SimDevice::bridge(function, kind).multifunction();
    let (world, domain) = host([
        bridge(ports[0], Bridge::RootPort),
        bridge(ports[1], Bridge::RootPort),
        SimDevice::nvme(NVME).behind(ports[0]),
        SimDevice::e1000e(NIC).behind(ports[1]),
    ])
    .await;
    let conventional = host([
        SimDevice::bridge(ROOT_PORT, Bridge::ToConventional),
        SimDevice::nvme(NVME).behind(ROOT_PORT),
        SimDevice::e1000e(Sbdf::from_devfn(0, 1, 0x20)).behind(ROOT_PORT),
    ])
    .await;

    let text = refused(findings(&world, NVME, Some(domain)), Check::SplitGroup, &["0000:02:00.0", "e1000e", "ports"]);
    refused(findings(&conventional.0, NVME, Some(conventional.1)), Check::SplitGroup, &["0000:01:04.0", "bridges"]);
    assert!(!text.contains("pcieport"), "bridges are nobody's: {text}");
}

#[tokio::test]
async fn virtual_functions_may_go_to_different_guests() {
    let (world, domain) = host([SimDevice::igb(NIC)]).await;
    world.host().pci.set_virtual_functions(NIC, 2).unwrap();
    let functions = world.host().pci.functions().unwrap();

    assert_eq!(findings(&world, functions[1], Some(domain)), []);
}

#[tokio::test]
async fn line_that_a_driver_of_dom0_uses_too_is_refused_to_a_device_without_msi() {
    let neighbour = Sbdf::from_devfn(0, 0, 0x40);
    let (world, domain) = host([
        SimDevice::e1000(OLD_NIC).with_reset_methods(&["pm"]),
        SimDevice::e1000(neighbour),
        SimDevice::nvme(NVME).with_gsi(23),
    ])
    .await;
    claim(&world, OLD_NIC);

    // The NVMe controller's driver does not use the line.
    let found = findings(&world, OLD_NIC, Some(domain));

    refused(found, Check::SharedInterrupt, &["only its INTx line 23", "0000:00:08.0", "dom0's driver e1000", "slot"]);
}

#[tokio::test]
async fn shared_line_of_a_device_with_msi_is_only_noted() {
    let (world, domain) = host([SimDevice::nvme(NVME).with_gsi(23), SimDevice::e1000(OLD_NIC)]).await;
    claim(&world, NVME);

    let found = findings(&world, NVME, Some(domain));

    only(found.clone(), Check::SharedInterrupt, Severity::Note, &["INTx line 23", "0000:00:07.0", "MSI"]);
    assert_eq!(refusals(found, &declared(Required, &[])), []);
}

#[tokio::test]
async fn device_with_reserved_memory_is_refused_to_guests_and_not_to_quarantine() {
    let (world, domain) = host([SimDevice::nvme(NVME).with_reserved_memory()]).await;

    refused(findings(&world, NVME, Some(domain)), Check::ReservedMemory, &["RMRR", "legacy USB"]);
    assert_eq!(findings(&world, NVME, None), []);
    let assigned = world.host().hypervisor.assign_device(domain, NVME, ReservedMemory::Refuse);
    assert_eq!(assigned.unwrap_err().errno, Errno::EPERM);
}

#[tokio::test]
async fn too_few_interrupts_are_noted_and_none_are_refused() {
    for (extra_guest_irqs, severity) in [(8, Severity::Note), (0, Severity::Refusal)] {
        let world = World::with_options(HostOptions { extra_guest_irqs, ..HostOptions::default() });
        world.add_device(SimDevice::nvme(NVME));
        let domain = world.create_domain("web1", [1; 16], DomainOptions::default()).await.unwrap();

        let found = findings(&world, NVME, Some(domain));

        only(found, Check::Interrupts, severity, &["0000:01:00.0", "extra_guest_irqs=", "domain 1"]);
    }
}

#[test]
fn every_key_of_the_configuration_belongs_to_a_check_of_its_name() {
    let checks = [
        Check::HostUse,
        Check::VirtualFunctions,
        Check::SharedPage,
        Check::SplitGroup,
        Check::SharedInterrupt,
        Check::ReservedMemory,
    ];
    for key in Override::ALL {
        assert!(checks.iter().any(|check| check.key() == Some(*key) && check.to_string() == key.to_string()), "{key}");
    }
}
