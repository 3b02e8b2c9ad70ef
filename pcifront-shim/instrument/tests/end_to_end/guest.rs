//! A simulated guest in which the program runs.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pcifront_shim::SharedPage;
use pcifront_shim_instrument::bus::{Bus, with_bus};
use pcifront_shim_instrument::cli::{Arguments, Command};
use pcifront_shim_instrument::handshake::Handshake;
use pcifront_shim_instrument::{Error, Stop, commands};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;
use xenpcid::supervisor::{Event, Supervisor};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Policies};
use xenpcid_simhost::{DomainOptions, GuestRing, SimDevice, World};
use xenstore_protocol::Client;
use xenstore_protocol::pci_nodes::RingNodes;

pub const HOST: Sbdf = Sbdf::from_devfn(0, 2, 0);
/// Where the guest finds it.
pub const FUNCTION: Sbdf = Sbdf::from_devfn(0, 0, 0);

const CONFIGURATION: &str = "[[domain]]\nname = \"guest\"\ndevices = [\"0000:02:00.0\"]\n";

/// One run of the program in a guest.
#[derive(Clone)]
pub struct Guest {
    pub world: World,
    pub domain: DomainId,
    pub timeout: Duration,
}

impl Guest {
    /// Lets `act` use the bus, between handshake and closing.
    pub fn with_bus<T>(&self, act: impl FnOnce(&mut Bus<GuestRing>) -> Result<T, Error>) -> Result<T, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async { Client::over(self.world.xenstore().connect(self.domain)) });
        let ring = self.world.open_ring(self.domain, Arc::new(SharedPage::zeroed())).expect("the domain is there");
        let nodes = RingNodes { grant_reference: ring.reference, event_channel: ring.port };
        let (_sender, wanted) = watch::channel(false);
        let mut handshake = Handshake::new(client, self.domain, self.timeout, Stop::when(wanted));
        let result = with_bus(&runtime, &mut handshake, ring.clone(), &nodes, act);
        self.world.close_ring(self.domain, &ring);
        result
    }

    /// Runs the program with these arguments, and gives its output and how it ended.
    pub fn run(&self, arguments: &[&str]) -> (String, Result<(), Error>) {
        let arguments = parse(arguments);
        let mut out = Vec::new();
        let result = match &arguments.command {
            Command::OnBus(command) => self.with_bus(|bus| commands::run(command, bus, &mut out)),
            other => panic!("{other:?} needs no bus"),
        };
        (String::from_utf8(out).unwrap(), result)
    }
}

pub fn parse(arguments: &[&str]) -> Arguments {
    Arguments::try_parse_from(["pcifront-shim"].iter().chain(arguments)).unwrap()
}

/// Runs the daemon with an e1000e for one guest, and `story` on a thread of that guest.
pub fn under_the_daemon<T: Send + 'static>(story: impl FnOnce(&Guest) -> T + Send + 'static) -> T {
    let world = World::new();
    world.add_device(SimDevice::e1000e(HOST));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (report, mut events) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let config = Config::parse(CONFIGURATION, "test.toml").unwrap();
        let xenstore = world.xenstore().client(DomainId::DOM0).await.unwrap();
        let policies = Policies::shipped().unwrap();
        let supervisor =
            Supervisor::new(world.host(), xenstore, config, policies, move |event| drop(report.send(event)));
        let story = async {
            assert!(matches!(events.recv().await, Some(Event::Ready)));
            let domain = world.create_domain("guest", [1; 16], DomainOptions::default()).await.unwrap();
            wait_for_bus(&world, domain).await;
            let guest = Guest { world: world.clone(), domain, timeout: Duration::from_secs(30) };
            let told = tokio::task::spawn_blocking(move || story(&guest)).await.unwrap();
            stop.send(()).unwrap();
            told
        };
        let shutdown = async {
            let _ = stopped.await;
        };
        let both = async { tokio::join!(supervisor.run(shutdown), story) };
        let (ran, told) = LocalSet::new().run_until(both).await;
        ran.unwrap();
        assert_eq!(world.violations(), [""; 0]);
        told
    })
}

/// A guest boots slower than the daemon publishes its bus.
async fn wait_for_bus(world: &World, domain: DomainId) {
    let client = Client::over(world.xenstore().connect(domain));
    let path = xenstore_protocol::Path::from_static("device/pci/0/state");
    let mut watch = client.watch(&path).await.unwrap();
    while !client.exists(&path).await.unwrap() {
        watch.changed().await.unwrap();
    }
}
