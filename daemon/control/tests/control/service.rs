//! What the methods answer.

use xenpcid_control::{
    Client, ClientError, DescribeDevice, Examine, GetInfo, GetInterfaceDescription, GetPlan, GetStatus, ListDenied,
    ListDevices, ListDomains, ListFunctions, ListInterrupts, Refusal,
};

use crate::samples::{self, DISK, Daemon, NETWORK};

#[test]
fn each_method_answers_what_the_service_said() {
    let daemon = Daemon::start(samples::recorded());
    let mut client = Client::connect(&daemon.socket).unwrap();

    assert_eq!(client.call(&GetStatus {}).unwrap(), samples::status());
    assert_eq!(client.call(&ListDevices {}).unwrap().devices, [samples::device(), samples::unclaimed()]);
    assert_eq!(client.call(&ListFunctions {}).unwrap().functions, [samples::function()]);
    assert_eq!(client.call(&ListDomains {}).unwrap().domains, [samples::domain()]);
    assert_eq!(client.call(&ListInterrupts {}).unwrap().interrupts, [samples::interrupt()]);
    assert_eq!(client.call(&GetPlan {}).unwrap().plan, samples::plan());
    let examine = Examine { device: NETWORK.to_string(), domain: None };
    assert_eq!(client.call(&examine).unwrap().findings, [samples::finding()]);
    assert_eq!(client.call(&ListDenied { device: None }).unwrap().denied, [samples::denied()]);
    assert_eq!(client.call(&ListDenied { device: Some(NETWORK) }).unwrap().denied, [samples::denied()]);
    assert_eq!(client.call(&ListDenied { device: Some(DISK) }).unwrap().denied, []);
    assert_eq!(client.call(&DescribeDevice { device: NETWORK }).unwrap().description, samples::description());
}

#[test]
fn service_tells_its_interfaces_and_their_descriptions() {
    let daemon = Daemon::start(samples::recorded());
    let mut client = Client::connect(&daemon.socket).unwrap();

    let info = client.call(&GetInfo {}).unwrap();
    assert_eq!((info.product.as_str(), info.version.as_str()), ("xenpcid", env!("CARGO_PKG_VERSION")));
    for interface in info.interfaces {
        let description = client.call(&GetInterfaceDescription { interface: interface.clone() }).unwrap().description;
        assert!(description.contains(&format!("\ninterface {interface}\n")), "{description}");
    }
}

#[test]
fn refusals_of_the_service_arrive_as_they_were_and_the_connection_goes_on() {
    let daemon = Daemon::start(samples::recorded());
    let mut client = Client::connect(&daemon.socket).unwrap();
    let nowhere: xenpcid_address::Sbdf = "ff:1f.7".parse().unwrap();

    let error = client.call(&DescribeDevice { device: DISK }).unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused(Refusal::DeviceNotClaimed { device }) if *device == DISK.to_string()),
        "{error}"
    );
    let error = client.call(&ListDenied { device: Some(nowhere) }).unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused(Refusal::DeviceNotFound { device }) if *device == nowhere.to_string()),
        "{error}"
    );
    assert!(!error.is_unreachable());
    assert_eq!(
        error.to_string(),
        "xenpcid says: 0000:ff:1f.7 is neither declared nor claimed: `xenpci status` lists what is, `xenpci tree` all of the \
         host"
    );
    client.call(&ListDevices {}).unwrap();
}

#[test]
fn described_device_gives_the_snapshot_it_was_made_from() {
    let description = samples::description();
    let snapshot = description.snapshot().unwrap();
    let again = xenpcid_control::DeviceDescription::new(
        description.address,
        description.name.clone(),
        description.policy.clone(),
        description.vectors,
        &snapshot,
    );
    assert_eq!(again, description);

    let wrong = xenpcid_control::DeviceDescription { resources: Vec::new(), ..description };
    assert!(wrong.snapshot().unwrap_err().to_string().contains("0 address ranges instead of 7"));
}
