//! The same socket, spoken to by an implementation of varlink that is not ours.

use serde_json::{Value, json};
use varlink::{Connection, MethodCall, OrgVarlinkServiceClient, OrgVarlinkServiceInterface};

use crate::samples::{self, Daemon};

#[test]
fn varlinks_own_client_introspects_and_calls() {
    let daemon = Daemon::start(samples::recorded());
    let address = format!("unix:{}", daemon.socket.display());
    let connection = Connection::with_address(&address).unwrap();
    let mut service = OrgVarlinkServiceClient::new(connection.clone());

    let info = service.get_info().unwrap();
    assert_eq!(
        info.interfaces.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        ["org.varlink.service", "io.xenpcid.Control"]
    );
    for interface in ["org.varlink.service", "io.xenpcid.Control"] {
        let description = service.get_interface_description(interface).unwrap().description.unwrap();
        assert!(varlink_parser::IDL::try_from(description.as_str()).is_ok());
    }
    let mut call = MethodCall::<Value, Value, varlink::Error>::new(
        connection,
        "io.xenpcid.Control.ListDenied",
        json!({ "device": samples::NETWORK }),
    );
    let reply = call.call().unwrap();
    assert_eq!(reply["denied"][0]["register"], "pcie.devctl");
}

#[test]
fn varlinks_own_client_understands_our_refusals() {
    let daemon = Daemon::start(samples::recorded());
    let connection = Connection::with_address(&format!("unix:{}", daemon.socket.display())).unwrap();
    let call = |method: &'static str| {
        MethodCall::<Value, Value, varlink::Error>::new(connection.clone(), method, json!({})).call().unwrap_err()
    };
    let method = call("io.xenpcid.Control.Nothing");
    let parameter = call("io.xenpcid.Control.DescribeDevice");
    assert!(matches!(method.kind(), varlink::ErrorKind::MethodNotFound(name) if name == "io.xenpcid.Control.Nothing"));
    assert!(matches!(parameter.kind(), varlink::ErrorKind::InvalidParameter(name) if name == "device"));
}
