#![allow(dead_code, reason = "not every test uses everything")]
//! The whole daemon in one process, on the simulated host.

use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use xenpcid::supervisor::{Event, Supervisor};
use xenpcid::toolstack::Toolstack;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Policies};
use xenpcid_host::Host;
use xenpcid_simhost::{DomainOptions, SimDevice, SimGuest, World};
use xenstore_protocol::XenbusState;
use xenstore_protocol::pci_nodes::PciNodes;
use xenstore_protocol::xenbus::read_state;

pub const NVME: Sbdf = Sbdf::from_devfn(0, 1, 0);
pub const E1000E: Sbdf = Sbdf::from_devfn(0, 2, 0);
pub const E1000: Sbdf = Sbdf::from_devfn(0, 0, 0x38);

pub const ONE_GUEST: &str = r#"
[[domain]]
name = "web1"
devices = ["0000:01:00.0", "0000:02:00.0", { bdf = "0000:00:07.0", reset = "best-effort" }]
"#;

pub type Events = mpsc::UnboundedReceiver<Event>;
pub type Outcome = Result<(), Box<dyn Error>>;

pub fn host_with_devices() -> World {
    let world = World::new();
    for device in [SimDevice::nvme(NVME), SimDevice::e1000e(E1000E), SimDevice::e1000(E1000)] {
        world.add_device(device);
    }
    world
}

/// Runs the daemon until `story` is told. The story begins when the daemon is ready.
pub async fn under_the_daemon(world: &World, toml: &str, story: impl AsyncFnOnce(Events) -> Outcome) {
    under_the_daemon_on(world.host(), world, toml, story).await;
}

/// As [`under_the_daemon`], on a host that is not quite the simulated one.
pub async fn under_the_daemon_on(host: Host, world: &World, toml: &str, story: impl AsyncFnOnce(Events) -> Outcome) {
    let policies = Policies::shipped().unwrap();
    under_the_daemon_with(host, world, toml, policies, async |events, _| story(events).await).await;
}

/// As [`under_the_daemon`]; the story can also give commands.
pub async fn with_toolstack(world: &World, toml: &str, story: impl AsyncFnOnce(Events, Rc<Toolstack>) -> Outcome) {
    let policies = Policies::shipped().unwrap();
    under_the_daemon_with(world.host(), world, toml, policies, story).await;
}

/// As [`under_the_daemon_on`], with these policies; the story can also give commands.
pub async fn under_the_daemon_with(
    host: Host,
    world: &World,
    toml: &str,
    policies: Policies,
    story: impl AsyncFnOnce(Events, Rc<Toolstack>) -> Outcome,
) {
    let (report, mut events) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let config = Config::parse(toml, "test.toml").unwrap();
    let xenstore = world.xenstore().client(DomainId::DOM0).await.unwrap();
    let supervisor = Supervisor::new(host, xenstore, config, policies, move |event| {
        let _ = report.send(event);
    });
    let toolstack = supervisor.toolstack();
    let story = async {
        assert!(matches!(events.recv().await, Some(Event::Ready)));
        story(events, toolstack).await.unwrap();
        stop.send(()).unwrap();
    };
    let shutdown = async {
        let _ = stopped.await;
    };
    let both = async { tokio::join!(supervisor.run(shutdown), story).0.unwrap() };
    // A test that hangs says so instead.
    tokio::time::timeout(Duration::from_secs(60), LocalSet::new().run_until(both)).await.unwrap();
}

pub async fn start(world: &World, name: &str, uuid: u8) -> Result<SimGuest, Box<dyn Error>> {
    let domain = world.create_domain(name, [uuid; 16], DomainOptions::default()).await?;
    Ok(SimGuest::start(world, domain))
}

pub async fn released(events: &mut Events) {
    let event = events.recv().await;
    assert!(matches!(event, Some(Event::Released(_))), "{event:?}");
}

/// Ends a guest, and waits until its devices were taken back.
pub async fn end(world: &World, guest: &SimGuest, events: &mut Events) -> Outcome {
    world.destroy_domain(guest.domain()).await?;
    released(events).await;
    Ok(())
}

/// Waits until the backend of a domain's bus is in this state.
pub async fn backend_becomes(world: &World, domain: DomainId, wanted: XenbusState) -> Outcome {
    let store = world.xenstore().client(DomainId::DOM0).await?;
    let state = PciNodes::new(domain).backend_state();
    let mut backend = store.watch(&state).await?;
    while read_state(&store, &state).await? != wanted {
        backend.changed().await?;
    }
    Ok(())
}
