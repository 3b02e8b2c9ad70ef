//! Connecting, closing, and backends that do not take part.

use std::sync::Arc;
use std::time::Duration;

use pcifront_shim::guest::is_present;
use pcifront_shim_instrument::Error;
use xenpcid_address::DomainId;
use xenpcid_simhost::{DomainOptions, World};
use xenstore_protocol::pci_nodes::PciNodes;
use xenstore_protocol::xenbus::{XenbusState, read_state};
use xenstore_protocol::{Client, Path};

use crate::guest::{FUNCTION, Guest, under_the_daemon};

/// A guest with a bus whose backend is this test.
fn with_backend_state<T>(state: Option<XenbusState>, act: impl FnOnce(&Guest) -> T) -> (T, Vec<String>) {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let domain = runtime.block_on(async {
        let domain = world.create_domain("guest", [1; 16], DomainOptions::default()).await.unwrap();
        let client = world.xenstore().client(DomainId::DOM0).await.unwrap();
        let nodes = PciNodes::new(domain);
        if let Some(state) = state {
            nodes.create(&client, "guest", &[]).await.unwrap();
            client.write(&nodes.backend_state(), state.number().to_string()).await.unwrap();
        }
        domain
    });
    let guest = Guest { world: world.clone(), domain, timeout: Duration::from_millis(50) };
    let result = act(&guest);
    let left = runtime.block_on(async {
        let client = Client::over(world.xenstore().connect(domain));
        let mut left = client.directory_if_present(&Path::from_static("device/pci/0")).await.unwrap();
        left.sort_unstable();
        left
    });
    (result, left)
}

fn frontend_state(guest: &Guest) -> XenbusState {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::over(guest.world.xenstore().connect(guest.domain));
        read_state(&client, &PciNodes::new(guest.domain).frontend_state()).await.unwrap()
    })
}

#[test]
fn bus_can_be_used_again_and_is_as_new_in_between() {
    let (first, between, second) = under_the_daemon(|guest| {
        let guest = Arc::new(guest.clone());
        let use_it = || guest.with_bus(|bus| Ok(is_present(&mut bus.frontend, FUNCTION)?)).unwrap();
        let first = use_it();
        let between = frontend_state(&guest);
        (first, between, use_it())
    });
    assert!(first && second);
    assert_eq!(between, XenbusState::Initialising);
}

#[test]
fn run_that_fails_closes_all_the_same() {
    let (failed, after) = under_the_daemon(|guest| {
        let failed = guest.with_bus::<()>(|_| Err(Error::EmptyBus));
        (failed, frontend_state(guest))
    });
    assert!(matches!(failed, Err(Error::EmptyBus)));
    assert_eq!(after, XenbusState::Initialising);
}

#[test]
fn frontend_that_was_killed_is_cleared_away() {
    let present = under_the_daemon(|guest| {
        // It forgets the bus without a word, as a process that gets SIGKILL.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let killed = guest.with_bus(|_| {
            runtime.block_on(async {
                let client = Client::over(guest.world.xenstore().connect(guest.domain));
                let state = PciNodes::new(guest.domain).frontend_state();
                assert_eq!(read_state(&client, &state).await.unwrap(), XenbusState::Connected);
            });
            guest.with_bus(|bus| Ok(is_present(&mut bus.frontend, FUNCTION)?))
        });
        killed.unwrap()
    });
    assert!(present);
}

#[test]
fn guest_without_a_bus_is_told_how_to_get_one() {
    let (result, _) = with_backend_state(None, |guest| guest.with_bus(|_| Ok(())));
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::NoBus { frontend } if frontend == "/local/domain/1/device/pci/0"), "{error}");
}

#[test]
fn backend_that_is_not_running_is_an_error_and_leaves_the_frontend_as_it_was() {
    let (result, left) = with_backend_state(Some(XenbusState::Initialised), |guest| guest.with_bus(|_| Ok(())));
    let error = result.unwrap_err().to_string();
    assert!(
        error.starts_with("the backend is in state 3 (Initialised) and was not 4 (Connected) after 0.05 s"),
        "{error}"
    );
    assert_eq!(left, ["backend", "backend-id", "state"]);
}

#[test]
fn backend_that_stays_closed_cannot_connect_again_and_the_remedy_is_named() {
    for state in [XenbusState::Closing, XenbusState::Closed] {
        let (result, _) = with_backend_state(Some(state), |guest| guest.with_bus(|_| Ok(())));
        let error = result.unwrap_err();
        assert!(matches!(error, Error::CannotReconnect { .. }), "{error}");
        assert!(error.to_string().contains("xl pci-detach"), "{error}");
    }
}
