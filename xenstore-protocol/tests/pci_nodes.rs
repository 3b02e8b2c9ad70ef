//! The PCI nodes against the server in memory, and against what libxl and Linux wrote on a real Xen.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a test that cannot go on stops where it is")]

use proptest::prelude::*;
use xenpcid_address::{DomainId, Sbdf};
use xenstore_protocol::memory::Server;
use xenstore_protocol::pci_nodes::{
    BACKENDS, DeviceOptions, NewDevice, PciNodes, RingNodes, Root, clear_holder, holder, set_holder,
};
use xenstore_protocol::xenbus::{Switched, switch_state};
use xenstore_protocol::{Client, Error, Path, Permissions, XenbusState};

const GUEST: DomainId = DomainId(1);

/// `xenstore-ls -fp` of both directories, taken on Xen 4.17 with libxl, xen-pciback and Linux 6.1's xen-pcifront.
const RECORDED: &str = include_str!("fixtures/pv-pci-connected.txt");

fn device(text: &str) -> NewDevice {
    NewDevice { host: text.parse().unwrap(), options: DeviceOptions::default() }
}

async fn host() -> (Server, Client, Client) {
    let server = Server::new();
    let dom0 = server.client(DomainId::DOM0).await.unwrap();
    let guest = server.client(GUEST).await.unwrap();
    (server, dom0, guest)
}

/// Value and permissions of each recorded node.
fn recorded() -> impl Iterator<Item = (Path, &'static str, Permissions)> {
    RECORDED.lines().filter(|line| !line.is_empty()).map(|line| {
        let (path, rest) = line.split_once(" = \"").unwrap();
        let (value, permissions) = rest.rsplit_once("\"   (").unwrap();
        (path.trim().parse().unwrap(), value, permissions.trim_end_matches(')').parse().unwrap())
    })
}

#[tokio::test]
async fn handshake_leaves_the_nodes_that_were_recorded_on_real_xen() {
    let (_server, dom0, guest) = host().await;
    let nodes = PciNodes::new(GUEST);

    // The toolstack, the backend and the frontend, up to the moment of the recording.
    dom0.transaction(async |tx| nodes.create(tx, "g", &[device("0000:00:05.0")]).await).await.unwrap();
    dom0.transaction(async |tx| {
        nodes.publish_device(tx, 0, Sbdf::new(0, 0, 0, 0).unwrap()).await?;
        nodes.set_device_state(tx, 0, XenbusState::Initialised).await?;
        nodes.publish_roots(tx, &[Root { segment: 0, bus: 0 }]).await
    })
    .await
    .unwrap();
    let ring = RingNodes { grant_reference: 8, event_channel: 8 };
    guest.transaction(async |tx| nodes.publish_ring(tx, &ring).await).await.unwrap();
    switch_state(&guest, &nodes.frontend_state(), XenbusState::Initialised).await.unwrap();
    switch_state(&dom0, &nodes.backend_state(), XenbusState::Connected).await.unwrap();

    for directory in [nodes.backend(), nodes.frontend()] {
        let mut expected = Vec::new();
        for (path, value, permissions) in recorded().filter(|(path, ..)| directory.contains(path)) {
            assert_eq!(dom0.read_string(&path).await.unwrap(), value, "{path}");
            assert_eq!(dom0.permissions(&path).await.unwrap(), permissions, "{path}");
            expected.extend((path != *directory).then(|| path.name().to_owned()));
        }
        let mut found = dom0.directory(directory).await.unwrap();
        // xl writes it only for a slot that was asked for, and shows it; ours says where the device is.
        found.retain(|name| name != "vdevfn-0");
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
    assert_eq!(nodes.read_frontend(&dom0).await.unwrap().ring, Some(ring));
    assert_eq!(nodes.read_roots(&guest).await.unwrap(), [Root { segment: 0, bus: 0 }]);
}

#[tokio::test]
async fn recorded_nodes_are_read_as_one_connected_device() {
    let (_server, dom0, _guest) = host().await;
    for (path, value, permissions) in recorded() {
        dom0.write(&path, value).await.unwrap();
        dom0.set_permissions(&path, &permissions).await.unwrap();
    }
    let nodes = PciNodes::new(GUEST);

    let backend = nodes.read_backend(&dom0).await.unwrap();
    let frontend = nodes.read_frontend(&dom0).await.unwrap();

    assert_eq!(backend.state, XenbusState::Connected);
    assert!(backend.online);
    let [device] = backend.devices.as_slice() else { panic!("{backend:?}") };
    assert_eq!(device.host, "0000:00:05.0".parse().unwrap());
    assert_eq!(device.guest, Sbdf::new(0, 0, 0, 0));
    assert_eq!(device.state, XenbusState::Initialised);
    assert_eq!(frontend.state, XenbusState::Initialised);
    assert_eq!(frontend.ring, Some(RingNodes { grant_reference: 8, event_channel: 8 }));
    assert_eq!(PciNodes::list(&dom0).await.unwrap(), [nodes]);
}

#[tokio::test]
async fn removing_a_device_moves_the_later_ones_down() {
    let (_server, dom0, _guest) = host().await;
    let nodes = PciNodes::new(GUEST);
    let devices = ["0000:00:01.0", "0000:00:02.0", "0000:00:03.0"].map(device);
    nodes.create(&dom0, "g", &devices).await.unwrap();
    nodes.publish_device(&dom0, 2, "0000:00:07.0".parse().unwrap()).await.unwrap();

    dom0.transaction(async |tx| nodes.remove_device(tx, 1).await).await.unwrap();

    let left = nodes.read_backend(&dom0).await.unwrap().devices;
    let hosts: Vec<String> = left.iter().map(|device| device.host.to_string()).collect();
    assert_eq!(hosts, ["0000:00:01.0", "0000:00:03.0"]);
    assert_eq!(left.iter().map(|device| device.guest).collect::<Vec<_>>(), [None, "0000:00:07.0".parse().ok()]);
    let found = nodes.find_device(&dom0, "0000:00:03.0".parse().unwrap()).await.unwrap();
    assert_eq!(found.map(|device| device.index), Some(1));
    let keys = dom0.directory(nodes.backend()).await.unwrap();
    assert!(!keys.iter().any(|key| key.ends_with("-2")), "{keys:?}");
}

#[tokio::test]
async fn missing_devices_in_the_middle_of_a_change_are_left_out() {
    let (_server, dom0, _guest) = host().await;
    let nodes = PciNodes::new(GUEST);
    nodes.create(&dom0, "g", &["0000:00:01.0", "0000:00:02.0"].map(device)).await.unwrap();

    dom0.rm(&nodes.backend().child("dev-0").unwrap()).await.unwrap();

    let devices = nodes.read_backend(&dom0).await.unwrap().devices;
    assert_eq!(devices.iter().map(|device| device.index).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn remove_takes_both_directories_and_may_be_repeated() {
    let (_server, dom0, _guest) = host().await;
    let nodes = PciNodes::new(GUEST);
    nodes.create(&dom0, "g", &[device("0000:00:01.0")]).await.unwrap();

    nodes.remove(&dom0).await.unwrap();
    nodes.remove(&dom0).await.unwrap();

    assert!(!dom0.exists(nodes.frontend()).await.unwrap());
    assert_eq!(dom0.directory(&BACKENDS).await.unwrap(), Vec::<String>::new());
    assert_eq!(nodes.read_backend(&dom0).await.unwrap().state, XenbusState::Unknown);
}

#[tokio::test]
async fn state_of_a_removed_directory_is_not_brought_back() {
    let (_server, dom0, _guest) = host().await;
    let nodes = PciNodes::new(GUEST);
    nodes.create(&dom0, "g", &[]).await.unwrap();
    let state = nodes.backend_state();

    assert_eq!(switch_state(&dom0, &state, XenbusState::InitWait).await.unwrap(), Switched::Written);
    assert_eq!(switch_state(&dom0, &state, XenbusState::InitWait).await.unwrap(), Switched::Unchanged);
    nodes.remove(&dom0).await.unwrap();
    assert_eq!(switch_state(&dom0, &state, XenbusState::Closed).await.unwrap(), Switched::Gone);
    assert!(!dom0.exists(&state).await.unwrap());
}

#[tokio::test]
async fn guest_can_neither_write_the_backend_nor_take_dom0s_rights_from_its_own_nodes() {
    let (_server, dom0, guest) = host().await;
    let nodes = PciNodes::new(GUEST);
    nodes.create(&dom0, "g", &[device("0000:00:01.0")]).await.unwrap();

    let refused = guest.write(&nodes.backend_state(), "4").await.unwrap_err();
    assert_eq!(refused.name().map(ToString::to_string).as_deref(), Some("EACCES"));

    guest.set_permissions(&nodes.frontend_state(), &"n1".parse().unwrap()).await.unwrap();
    assert_eq!(nodes.read_frontend_state(&dom0).await.unwrap(), XenbusState::Initialising);
}

#[tokio::test]
async fn holder_of_a_device_is_recorded_where_xl_looks() {
    let (_server, dom0, _guest) = host().await;
    let device = "0000:03:00.1".parse().unwrap();

    assert_eq!(holder(&dom0, device).await.unwrap(), None);
    set_holder(&dom0, device, GUEST).await.unwrap();
    assert_eq!(dom0.read(&Path::from_static("/libxl/pci/0000-03-00-1/domid")).await.unwrap(), b"1");
    assert_eq!(holder(&dom0, device).await.unwrap(), Some(GUEST));
    clear_holder(&dom0, device).await.unwrap();
    assert_eq!(holder(&dom0, device).await.unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a guest writes into its directory gives a view or an error that names the node.
    #[test]
    fn hostile_frontend_gives_a_view_or_malformed(
        key in prop::sample::select(vec!["state", "pci-op-ref", "event-channel", "magic", "backend"]),
        value in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_server, dom0, guest) = host().await;
            let nodes = PciNodes::new(GUEST);
            nodes.create(&dom0, "g", &[]).await.unwrap();
            let path = nodes.frontend().child(key).unwrap();
            guest.write(&path, &value).await.unwrap();

            match nodes.read_frontend(&dom0).await {
                Ok(view) => prop_assert_eq!(view.ring, None),
                Err(Error::Malformed { path: named, text, .. }) => {
                    prop_assert_eq!(named, path.to_string());
                    prop_assert!(text.is_ascii() && text.len() <= 256);
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
            Ok(())
        })?;
    }
}
