//! How much a guest may use; domain 0 has no limits. The numbers are xenstored's defaults.

use xenpcid_address::DomainId;
use xenstore_protocol::{Client, Error};

use crate::{Host, name, path};

crate::on_both!(
    nodes_are_limited_and_removed_ones_do_not_count,
    size_of_a_node_is_limited,
    number_of_children_is_limited_by_the_size_of_their_directory,
    permissions_of_a_node_are_limited,
    watches_are_limited,
    open_transactions_are_limited,
    nodes_of_a_transaction_are_limited,
    domain_0_has_no_limits,
);

const GUEST: DomainId = DomainId(5);

/// A guest with a home of its own.
async fn guest(host: &Host) -> Client {
    let guest = host.guest(GUEST).await;
    host.home(GUEST).await;
    guest
}

/// How often an action succeeds, and the error that ends it.
async fn count(mut action: impl AsyncFnMut(usize) -> Result<(), Error>) -> (usize, String) {
    for number in 0..2000 {
        if let Err(error) = action(number).await {
            return (number, name::<()>(Err(error)));
        }
    }
    (2000, "none".to_owned())
}

async fn nodes_are_limited_and_removed_ones_do_not_count(host: &Host) {
    let guest = guest(host).await;
    let node = |number: usize| path(&format!("n/{}/{}", number / 50, number % 50));
    // 1000: the home, "n", 20 directories and these.
    assert_eq!(count(async |number| guest.mkdir(&node(number)).await).await, (978, "ENOSPC".to_owned()));
    assert_eq!(name(guest.write(&node(0), "v").await), "OK", "it is there");
    guest.rm(&node(0)).await.unwrap();
    assert_eq!(name(guest.mkdir(&node(0)).await), "OK");
    assert_eq!(name(guest.mkdir(&path("more")).await), "ENOSPC");
    assert_eq!(name(host.dom0.mkdir(&path("/local/domain/5/more")).await), "OK", "domain 0 may");
}

async fn size_of_a_node_is_limited(host: &Host) {
    let guest = guest(host).await;
    guest.write(&path("v"), vec![b'x'; 2015]).await.unwrap();
    assert_eq!(name(guest.write(&path("v"), vec![b'x'; 2016]).await), "ENOSPC");
    let three = "n5,r0,r7".parse().unwrap();
    assert_eq!(name(guest.set_permissions(&path("v"), &three).await), "ENOSPC", "no room for them");
    guest.write(&path("v"), "").await.unwrap();
    guest.set_permissions(&path("v"), &three).await.unwrap();
    guest.write(&path("v"), vec![b'x'; 1999]).await.unwrap();
    assert_eq!(name(guest.write(&path("v"), vec![b'x'; 2000]).await), "ENOSPC", "8 bytes for each permission");
}

async fn number_of_children_is_limited_by_the_size_of_their_directory(host: &Host) {
    let guest = guest(host).await;
    let children = count(async |number| guest.mkdir(&path(&format!("d/{number:010}"))).await).await;
    assert_eq!(children, (183, "ENOSPC".to_owned()));
    assert_eq!(guest.directory(&path("d")).await.unwrap().len(), 183);
}

async fn permissions_of_a_node_are_limited(host: &Host) {
    let guest = guest(host).await;
    guest.mkdir(&path("p")).await.unwrap();
    let five = "n5,r1,r2,r3,r4".parse().unwrap();
    assert_eq!(name(guest.set_permissions(&path("p"), &five).await), "OK");
    let six = "n5,r1,r2,r3,r4,r6".parse().unwrap();
    assert_eq!(name(guest.set_permissions(&path("p"), &six).await), "ENOSPC");
}

async fn watches_are_limited(host: &Host) {
    let guest = guest(host).await;
    let mut watches = Vec::new();
    let made = count(async |number| {
        watches.push(guest.watch(&path(&format!("w{number}"))).await?);
        Ok(())
    })
    .await;
    assert_eq!(made, (129, "E2BIG".to_owned()));
    watches.pop();
    guest.watch(&path("again")).await.unwrap();
}

async fn open_transactions_are_limited(host: &Host) {
    let guest = guest(host).await;
    let mut open = Vec::new();
    let made = count(async |_| {
        open.push(guest.begin().await?);
        Ok(())
    })
    .await;
    assert_eq!(made, (11, "ENOSPC".to_owned()));
    open.pop();
    guest.begin().await.unwrap();
}

async fn nodes_of_a_transaction_are_limited(host: &Host) {
    let guest = guest(host).await;
    let tx = guest.begin().await.unwrap();
    // 1024: the home, which is looked at for its permissions, and these.
    let used = count(async |number| tx.read_if_present(&path(&format!("q{number}"))).await.map(drop)).await;
    assert_eq!(used, (1023, "ENOSPC".to_owned()));
    assert_eq!(name(tx.commit().await), "ENOMEM");
}

async fn domain_0_has_no_limits(host: &Host) {
    let dom0 = &host.dom0;
    let made = count(async |number| dom0.mkdir(&path(&format!("/n/{number:010}"))).await).await;
    assert_eq!(made, (2000, "none".to_owned()));
    dom0.write(&path("/v"), vec![b'x'; 4000]).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..30 {
        open.push(dom0.begin().await.unwrap());
    }
}
