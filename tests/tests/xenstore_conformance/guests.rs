//! What a guest may do, and what it learns.

use xenpcid_address::DomainId;
use xenstore_protocol::{Client, Path};

use crate::{Host, changed, name, path};

crate::on_both!(
    guest_reads_and_writes_what_the_permissions_say,
    guest_learns_of_absence_only_where_it_may_look,
    guest_owns_what_it_makes,
    guest_changes_permissions_of_its_own_nodes_but_not_their_owner,
    guest_is_told_of_changes_only_where_it_may_read,
    guest_is_not_told_of_other_domains,
    permissions_hold_in_transactions,
);

const GUEST: DomainId = DomainId(5);

/// A guest, and a node `/node/child` of domain 0's with permissions.
async fn guest_and_node(host: &Host, permissions: &str) -> (Client, Path) {
    let guest = host.guest(GUEST).await;
    let node = path("/dir/node");
    host.dom0.write(&node.child("child").unwrap(), "").await.unwrap();
    host.dom0.set_permissions(&node, &permissions.parse().unwrap()).await.unwrap();
    (guest, node)
}

async fn guest_reads_and_writes_what_the_permissions_say(host: &Host) {
    let (guest, node) = guest_and_node(host, "n0").await;
    for (permissions, read, write) in [
        ("n0", "EACCES", "EACCES"),
        ("n0,r5", "OK", "EACCES"),
        ("n0,w5", "EACCES", "OK"),
        ("n0,b5", "OK", "OK"),
        ("n0,b6", "EACCES", "EACCES"),
        ("r0", "OK", "EACCES"),
        ("b0,n5", "EACCES", "EACCES"),
        ("n5", "OK", "OK"),
    ] {
        host.dom0.set_permissions(&node, &permissions.parse().unwrap()).await.unwrap();
        assert_eq!(name(guest.read(&node).await), read, "read with {permissions}");
        assert_eq!(name(guest.directory(&node).await), read, "list with {permissions}");
        assert_eq!(name(guest.permissions(&node).await), read, "permissions with {permissions}");
        assert_eq!(name(guest.write(&node, "").await), write, "write with {permissions}");
        assert_eq!(name(guest.mkdir(&node).await), write, "mkdir with {permissions}");
        let child = node.child("made").unwrap();
        assert_eq!(name(guest.mkdir(&child).await), write, "mkdir below with {permissions}");
        assert_eq!(name(host.dom0.rm(&child).await), "OK");
    }
    assert_eq!(name(guest.rm(&node).await), "OK", "the directory above is not the guest's, but need not be");
}

async fn guest_learns_of_absence_only_where_it_may_look(host: &Host) {
    let (guest, node) = guest_and_node(host, "n0,r5").await;
    let (near, far) = (path("/dir/absent"), node.child("absent/more").unwrap());
    assert_eq!(name(guest.read(&near).await), "EACCES");
    assert_eq!(name(guest.read(&far).await), "ENOENT");
    assert_eq!(name(guest.rm(&near).await), "EACCES");
    assert_eq!(name(guest.rm(&far).await), "EACCES", "it may not write there");
    assert_eq!(name(guest.write(&far, "").await), "EACCES");
    assert_eq!(name(guest.read(&node.child("child").unwrap()).await), "EACCES", "made before the permission");
    assert_eq!(name(guest.read(&path("relative")).await), "EACCES", "it has no home yet");
}

async fn guest_owns_what_it_makes(host: &Host) {
    let (guest, node) = guest_and_node(host, "n0,b5,r6").await;
    let deep = node.child("a/b").unwrap();
    guest.write(&deep, "").await.unwrap();
    for made in [deep.parent().unwrap(), deep] {
        assert_eq!(host.dom0.permissions(&made).await.unwrap().to_string(), "n5,b5,r6");
    }
    let home = host.home(GUEST).await;
    host.dom0.write(&home.child("from-dom0").unwrap(), "").await.unwrap();
    assert_eq!(guest.permissions(&path("from-dom0")).await.unwrap().to_string(), "n5");
}

async fn guest_changes_permissions_of_its_own_nodes_but_not_their_owner(host: &Host) {
    let (guest, node) = guest_and_node(host, "n0,b5").await;
    assert_eq!(name(guest.set_permissions(&node, &"n5".parse().unwrap()).await), "EACCES", "not its own");
    let own = node.child("own").unwrap();
    guest.mkdir(&own).await.unwrap();
    assert_eq!(name(guest.set_permissions(&own, &"n5,r6".parse().unwrap()).await), "OK");
    assert_eq!(name(guest.set_permissions(&own, &"n0,r5".parse().unwrap()).await), "EPERM");
    assert_eq!(name(guest.set_permissions(&own, &"n6".parse().unwrap()).await), "ENOENT", "no such domain");
    assert_eq!(name(host.dom0.read(&own).await), "OK", "domain 0 reads everything");
}

async fn guest_is_told_of_changes_only_where_it_may_read(host: &Host) {
    let (guest, node) = guest_and_node(host, "n0").await;
    let (dom0, child) = (&host.dom0, node.child("child").unwrap());
    let mut watch = guest.watch(&node).await.unwrap();
    assert_eq!(changed(&guest, &mut watch).await.len(), 1, "the first report needs no right");
    let [hidden, readable] = ["n0", "n0,r5"].map(|text| text.parse().unwrap());
    let (none, of_node, of_child) = (Vec::<String>::new(), vec![node.to_string()], vec![child.to_string()]);
    let mut seen = async || Vec::from_iter(changed(&guest, &mut watch).await);

    dom0.write(&node, "").await.unwrap();
    assert_eq!(seen().await, none);
    dom0.set_permissions(&node, &readable).await.unwrap();
    assert_eq!(seen().await, of_node, "it becomes readable");
    dom0.write(&child, "").await.unwrap();
    assert_eq!(seen().await, of_child, "not readable, but the directory is");
    dom0.set_permissions(&node, &hidden).await.unwrap();
    assert_eq!(seen().await, of_node, "it was readable");
    dom0.write(&child, "").await.unwrap();
    dom0.rm(&node).await.unwrap();
    dom0.write(&node, "").await.unwrap();
    assert_eq!(seen().await, none);
    dom0.set_permissions(&node, &readable).await.unwrap();
    seen().await;
    dom0.rm(&path("/dir")).await.unwrap();
    assert_eq!(seen().await, of_node, "it was readable");
}

async fn guest_is_not_told_of_other_domains(host: &Host) {
    let guest = host.guest(GUEST).await;
    let mut introduced = guest.watch(&Path::INTRODUCE_DOMAIN).await.unwrap();
    let mut released = guest.watch(&Path::RELEASE_DOMAIN).await.unwrap();
    changed(&guest, &mut introduced).await;
    changed(&guest, &mut released).await;
    let _other = host.guest(DomainId(6)).await;
    host.destroy(DomainId(6)).await;
    assert!(changed(&guest, &mut introduced).await.is_empty());
    assert!(changed(&guest, &mut released).await.is_empty());
}

async fn permissions_hold_in_transactions(host: &Host) {
    let (guest, node) = guest_and_node(host, "n0,r5").await;
    let home = host.home(GUEST).await;
    let tx = guest.begin().await.unwrap();
    assert_eq!(name(tx.write(&node, "").await), "EACCES");
    tx.write(&path("mine"), "").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(host.dom0.permissions(&home.child("mine").unwrap()).await.unwrap().to_string(), "n5");
}
