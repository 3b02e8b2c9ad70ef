//! What watches report. What a test does is seen from a second connection, unless it says otherwise.

use std::collections::BTreeSet;

use xenstore_protocol::{Client, Error, Path, Watch};

use crate::{Host, changed, name, path};

crate::on_both!(
    watch_reports_once_when_it_is_made_even_of_nothing,
    watch_reports_changes_at_and_below_its_path,
    watch_reports_the_removal_of_its_path_with_one_above,
    watch_reports_a_transaction_when_it_is_committed,
    own_changes_are_reported_too,
    relative_watch_reports_relative_paths,
    watches_of_one_path_are_independent,
    root_watch_reports_everything,
    special_paths_can_be_watched,
    storm_of_events_delays_no_answer,
);

/// A watch that has made its first report, a second client, and what the watch then reports.
struct Observed {
    watch: Watch,
    observer: Client,
}

impl Observed {
    async fn new(host: &Host, at: &str) -> Self {
        let observer = host.another_dom0().await;
        let mut watch = observer.watch(&path(at)).await.unwrap();
        assert_eq!(changed(&observer, &mut watch).await, [at.to_owned()].into());
        Self { watch, observer }
    }

    /// What is reported of an action.
    async fn of(&mut self, action: impl Future<Output = Result<(), Error>>) -> Vec<String> {
        action.await.unwrap();
        Vec::from_iter(changed(&self.observer, &mut self.watch).await)
    }
}

const NOTHING: [&str; 0] = [];

async fn watch_reports_once_when_it_is_made_even_of_nothing(host: &Host) {
    let mut watch = host.dom0.watch(&path("/not/there")).await.unwrap();
    assert_eq!(changed(&host.dom0, &mut watch).await, ["/not/there".to_owned()].into());
    assert_eq!(changed(&host.dom0, &mut watch).await, BTreeSet::new());
}

async fn watch_reports_changes_at_and_below_its_path(host: &Host) {
    let dom0 = &host.dom0;
    let mut observed = Observed::new(host, "/w/x").await;
    assert_eq!(observed.of(dom0.write(&path("/w/x"), "1")).await, ["/w/x"]);
    assert_eq!(observed.of(dom0.write(&path("/w/x"), "1")).await, ["/w/x"], "the same value");
    assert_eq!(observed.of(dom0.write(&path("/w/x/y/z"), "1")).await, ["/w/x/y/z"], "the parents are not named");
    assert_eq!(observed.of(dom0.mkdir(&path("/w/x/y/z"))).await, NOTHING, "it is there");
    let permissions = "n0,r1".parse().unwrap();
    assert_eq!(observed.of(dom0.set_permissions(&path("/w/x/y"), &permissions)).await, ["/w/x/y"]);
    assert_eq!(observed.of(dom0.rm(&path("/w/x/y"))).await, ["/w/x/y"], "what was below is not named");
    assert_eq!(observed.of(dom0.rm(&path("/w/x/y"))).await, NOTHING, "it is gone");
    assert_eq!(observed.of(dom0.write(&path("/w"), "1")).await, NOTHING, "above");
    assert_eq!(observed.of(dom0.write(&path("/w/xx"), "1")).await, NOTHING, "beside");
    assert_eq!(observed.of(dom0.read(&path("/w/x")).into_unit()).await, NOTHING);
}

async fn watch_reports_the_removal_of_its_path_with_one_above(host: &Host) {
    let dom0 = &host.dom0;
    dom0.write(&path("/w/x/below"), "").await.unwrap();
    let mut observed = Observed::new(host, "/w/x").await;
    assert_eq!(observed.of(dom0.rm(&path("/w"))).await, ["/w/x"]);
    assert_eq!(observed.of(dom0.mkdir(&path("/w"))).await, NOTHING);
    assert_eq!(observed.of(dom0.rm(&path("/w"))).await, NOTHING, "the watched path was not there");
}

async fn watch_reports_a_transaction_when_it_is_committed(host: &Host) {
    let dom0 = &host.dom0;
    let mut observed = Observed::new(host, "/w").await;
    let tx = dom0.begin().await.unwrap();
    assert_eq!(observed.of(tx.write(&path("/w/1"), "")).await, NOTHING);
    assert_eq!(observed.of(tx.write(&path("/w/2"), "")).await, NOTHING);
    assert_eq!(observed.of(tx.rm(&path("/w/1"))).await, NOTHING);
    assert_eq!(observed.of(tx.commit()).await, ["/w/2"], "1 never was");
    let tx = dom0.begin().await.unwrap();
    tx.read(&path("/w/2")).await.unwrap();
    tx.rm(&path("/w/2")).await.unwrap();
    assert_eq!(observed.of(tx.abort()).await, NOTHING);
}

async fn own_changes_are_reported_too(host: &Host) {
    let mut watch = host.dom0.watch(&path("/w")).await.unwrap();
    changed(&host.dom0, &mut watch).await;
    host.dom0.write(&path("/w/mine"), "").await.unwrap();
    assert_eq!(changed(&host.dom0, &mut watch).await, ["/w/mine".to_owned()].into());
}

async fn relative_watch_reports_relative_paths(host: &Host) {
    let dom0 = &host.dom0;
    let mut observed = Observed::new(host, "backend/pci").await;
    assert_eq!(observed.of(dom0.write(&path("/local/domain/0/backend/pci/1/0"), "")).await, ["backend/pci/1/0"]);
    assert_eq!(observed.of(dom0.rm(&path("/local/domain/0"))).await, ["backend/pci"]);
}

async fn watches_of_one_path_are_independent(host: &Host) {
    let first = host.dom0.watch(&path("/w")).await.unwrap();
    let mut second = host.dom0.watch(&path("/w")).await.unwrap();
    changed(&host.dom0, &mut second).await;
    drop(first);
    host.dom0.write(&path("/w"), "").await.unwrap();
    assert_eq!(changed(&host.dom0, &mut second).await, ["/w".to_owned()].into());
}

async fn root_watch_reports_everything(host: &Host) {
    let mut observed = Observed::new(host, "/").await;
    assert_eq!(observed.of(host.dom0.write(&path("/any/thing"), "")).await, ["/any/thing"]);
}

async fn special_paths_can_be_watched(host: &Host) {
    for special in [Path::INTRODUCE_DOMAIN, Path::RELEASE_DOMAIN, path("@other")] {
        let mut watch = host.dom0.watch(&special).await.unwrap();
        assert_eq!(changed(&host.dom0, &mut watch).await, [special.to_string()].into());
    }
    assert_eq!(name(host.dom0.read(&Path::RELEASE_DOMAIN).await), "EINVAL");
}

async fn storm_of_events_delays_no_answer(host: &Host) {
    let storm = host.another_dom0().await;
    let mut watch = host.dom0.watch(&path("/w")).await.unwrap();
    for number in 0..2000 {
        storm.write(&path("/w").child(number % 10).unwrap(), number.to_string()).await.unwrap();
    }
    // Nobody has looked at the watch; the connection is answered nevertheless.
    assert_eq!(host.dom0.read(&path("/w/9")).await.unwrap(), b"1999");
    assert_eq!(changed(&host.dom0, &mut watch).await.len(), 11);
    assert_eq!(watch.try_changed().unwrap(), None);
}

trait IntoUnit {
    fn into_unit(self) -> impl Future<Output = Result<(), Error>>;
}

impl<T, F: Future<Output = Result<T, Error>>> IntoUnit for F {
    async fn into_unit(self) -> Result<(), Error> {
        self.await.map(drop)
    }
}
