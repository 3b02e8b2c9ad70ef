//! Domains come and go.

use xenpcid_address::DomainId;
use xenstore_protocol::Path;

use crate::{Host, changed, name, path};

crate::on_both!(
    domain_path_is_the_same_for_every_domain,
    introduction_and_release_are_reported_and_remembered,
    nodes_of_a_dead_domain_go_with_it,
    number_of_a_dead_domain_inherits_no_rights,
    only_domain_0_introduces_and_releases,
);

const GUEST: DomainId = DomainId(5);

async fn domain_path_is_the_same_for_every_domain(host: &Host) {
    for domain in [0, 5, 32751].map(DomainId) {
        assert_eq!(host.dom0.domain_path(domain).await.unwrap(), Path::domain(domain));
    }
}

async fn introduction_and_release_are_reported_and_remembered(host: &Host) {
    let mut introduced = host.dom0.watch(&Path::INTRODUCE_DOMAIN).await.unwrap();
    let mut released = host.dom0.watch(&Path::RELEASE_DOMAIN).await.unwrap();
    changed(&host.dom0, &mut introduced).await;
    changed(&host.dom0, &mut released).await;
    assert!(host.dom0.is_domain_introduced(DomainId::DOM0).await.unwrap());
    assert!(!host.dom0.is_domain_introduced(GUEST).await.unwrap());

    let _guest = host.guest(GUEST).await;
    assert_eq!(changed(&host.dom0, &mut introduced).await.len(), 1);
    assert!(host.dom0.is_domain_introduced(GUEST).await.unwrap());
    host.dom0.introduce(GUEST, 1, 1).await.unwrap();
    assert!(changed(&host.dom0, &mut introduced).await.is_empty(), "it was known already");
    assert!(changed(&host.dom0, &mut released).await.is_empty());

    host.destroy(GUEST).await;
    assert_eq!(changed(&host.dom0, &mut released).await.len(), 1);
    assert!(!host.dom0.is_domain_introduced(GUEST).await.unwrap());
    assert_eq!(name(host.dom0.release(GUEST).await), "ENOENT");
    assert_eq!(name(host.dom0.release(DomainId::DOM0).await), "EINVAL");
}

async fn nodes_of_a_dead_domain_go_with_it(host: &Host) {
    let guest = host.guest(GUEST).await;
    host.home(GUEST).await;
    guest.write(&path("device/pci/0/state"), "1").await.unwrap();
    host.dom0.write(&path("/other/theirs/ours"), "").await.unwrap();
    host.dom0.set_permissions(&path("/other/theirs"), &"n5".parse().unwrap()).await.unwrap();
    host.dom0.write(&path("/other/readable"), "").await.unwrap();
    host.dom0.set_permissions(&path("/other/readable"), &"n0,r5".parse().unwrap()).await.unwrap();
    let mut home = host.dom0.watch(&path("/local/domain/5/device")).await.unwrap();
    let mut other = host.dom0.watch(&path("/other")).await.unwrap();
    changed(&host.dom0, &mut home).await;
    changed(&host.dom0, &mut other).await;

    host.destroy(GUEST).await;

    assert_eq!(changed(&host.dom0, &mut home).await, ["/local/domain/5/device".to_owned()].into());
    assert_eq!(changed(&host.dom0, &mut other).await, ["/other/theirs".to_owned()].into());
    assert_eq!(host.dom0.directory(&path("/local/domain")).await.unwrap(), Vec::<String>::new());
    assert_eq!(host.dom0.directory(&path("/other")).await.unwrap(), ["readable"]);
    assert_eq!(host.dom0.permissions(&path("/other/readable")).await.unwrap().to_string(), "n0,r5");
}

async fn number_of_a_dead_domain_inherits_no_rights(host: &Host) {
    let secret = path("/secret");
    host.dom0.write(&secret, "").await.unwrap();
    host.dom0.set_permissions(&secret, &"n0,r5".parse().unwrap()).await.unwrap();
    // A change between the permission and the domain: xenstored tells them apart by its count of changes.
    host.dom0.write(&path("/any"), "").await.unwrap();

    let guest = host.guest(GUEST).await;
    assert_eq!(name(guest.read(&secret).await), "EACCES", "given before the domain existed");
    host.dom0.set_permissions(&secret, &"n0,r5".parse().unwrap()).await.unwrap();
    assert_eq!(name(guest.read(&secret).await), "OK");
    host.dom0.write(&path("/any"), "").await.unwrap();
    host.destroy(GUEST).await;

    let reborn = host.guest(GUEST).await;
    assert_eq!(name(reborn.read(&secret).await), "EACCES", "given to its predecessor");
    host.dom0.write(&secret, "new").await.unwrap();
    assert_eq!(name(reborn.read(&secret).await), "EACCES", "a new value is no new permission");
    host.dom0.set_permissions(&secret, &"n0,r5".parse().unwrap()).await.unwrap();
    assert_eq!(name(reborn.read(&secret).await), "OK");
}

async fn only_domain_0_introduces_and_releases(host: &Host) {
    let guest = host.guest(GUEST).await;
    assert_eq!(name(guest.introduce(DomainId(6), 1, 1).await), "EACCES");
    assert_eq!(name(guest.release(GUEST).await), "EACCES");
    assert_eq!(name(guest.is_domain_introduced(GUEST).await), "EACCES");
    assert_eq!(guest.domain_path(GUEST).await.unwrap(), Path::domain(GUEST));
}
