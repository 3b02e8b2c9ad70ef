//! What is seen inside and outside of a transaction, and what conflicts.

use xenstore_protocol::{Client, Error, ErrorName, Store, Transaction};

use crate::{Host, name, path};

crate::on_both!(
    changes_are_seen_inside_at_once_and_outside_after_the_commit,
    aborted_and_dropped_transactions_do_nothing,
    what_one_transaction_has_used_it_sees_unchanged,
    conflicts_are_with_what_was_used,
    transactions_of_one_connection_are_independent,
    node_that_came_and_went_inside_never_was,
    removed_directory_can_be_made_again_inside,
    ended_transaction_is_unknown,
    transaction_whose_body_fails_for_a_conflict_is_done_again,
    counters_of_rivals_lose_nothing,
);

async fn changes_are_seen_inside_at_once_and_outside_after_the_commit(host: &Host) {
    let tx = host.dom0.begin().await.unwrap();
    tx.write(&path("/a/b"), "new").await.unwrap();
    assert_eq!(tx.read(&path("/a/b")).await.unwrap(), b"new");
    assert_eq!(tx.directory(&path("/a")).await.unwrap(), ["b"]);
    assert_eq!(name(host.dom0.read(&path("/a/b")).await), "ENOENT");
    tx.commit().await.unwrap();
    assert_eq!(host.dom0.read(&path("/a/b")).await.unwrap(), b"new");
}

async fn aborted_and_dropped_transactions_do_nothing(host: &Host) {
    let aborted = host.dom0.begin().await.unwrap();
    aborted.write(&path("/a"), "").await.unwrap();
    aborted.abort().await.unwrap();
    let dropped = host.dom0.begin().await.unwrap();
    dropped.write(&path("/b"), "").await.unwrap();
    drop(dropped);
    assert!(!host.dom0.exists(&path("/a")).await.unwrap());
    assert!(!host.dom0.exists(&path("/b")).await.unwrap());
}

async fn what_one_transaction_has_used_it_sees_unchanged(host: &Host) {
    host.dom0.write(&path("/used"), "old").await.unwrap();
    let tx = host.dom0.begin().await.unwrap();
    assert_eq!(tx.read(&path("/used")).await.unwrap(), b"old");
    host.dom0.write(&path("/used"), "new").await.unwrap();
    host.dom0.write(&path("/unused"), "new").await.unwrap();
    assert_eq!(tx.read(&path("/used")).await.unwrap(), b"old");
    assert_eq!(tx.read(&path("/unused")).await.unwrap(), b"new");
    assert_eq!(name(tx.commit().await), "EAGAIN");
}

/// What the transaction does, and what somebody else does meanwhile.
type Action = for<'a> fn(&'a Store) -> futures::future::LocalBoxFuture<'a, ()>;

macro_rules! action {
    ($store:ident => $body:expr) => {{
        let action: Action = |$store| {
            Box::pin(async move {
                let _ = $body.await;
            })
        };
        action
    }};
}

async fn conflict(rival: &Client, client: &Client, inside: Action, outside: Action) -> String {
    for node in ["/t", "/t/dir/x", "/t/y"] {
        client.write(&path(node), "start").await.unwrap();
    }
    let tx: Transaction = client.begin().await.unwrap();
    inside(&tx).await;
    outside(rival).await;
    let result = name(tx.commit().await);
    client.rm(&path("/t")).await.unwrap();
    result
}

async fn conflicts_are_with_what_was_used(host: &Host) {
    let rival = host.another_dom0().await;
    let read_x = action!(s => s.read(&path("/t/dir/x")));
    let write_x = action!(s => s.write(&path("/t/dir/x"), "v"));
    let write_y = action!(s => s.write(&path("/t/y"), "v"));
    let list_t = action!(s => s.directory(&path("/t")));
    let remove_dir = action!(s => s.rm(&path("/t/dir")));
    let make_a = action!(s => s.mkdir(&path("/t/a")));
    let make_b = action!(s => s.mkdir(&path("/t/b")));
    let read_a = action!(s => s.read(&path("/t/a")));
    let remove_a = action!(s => s.rm(&path("/t/a")));
    let mkdir_x = action!(s => s.mkdir(&path("/t/dir/x")));
    let same_x = action!(s => s.write(&path("/t/dir/x"), "start"));
    let permit_x = action!(s => async { s.set_permissions(&path("/t/dir/x"), &"n0,r3".parse().unwrap()).await });
    let nothing = action!(_s => async {});

    for (what, inside, outside, expected) in [
        ("read, written by another", read_x, write_x, "EAGAIN"),
        ("read, written with the same value", read_x, same_x, "EAGAIN"),
        ("read, permissions changed", read_x, permit_x, "EAGAIN"),
        ("read, directory removed", read_x, remove_dir, "EAGAIN"),
        ("written by both", write_x, write_x, "EAGAIN"),
        ("found absent, then made", read_a, make_a, "EAGAIN"),
        ("removed although absent, then made", remove_a, make_a, "EAGAIN"),
        ("made, another made beside it", make_a, make_b, "EAGAIN"),
        ("listed, a child made", list_t, make_a, "EAGAIN"),
        ("removed, something below written", remove_dir, write_x, "EAGAIN"),
        ("made although there, then written", mkdir_x, write_x, "EAGAIN"),
        ("listed, a child's value written", list_t, write_y, "OK"),
        ("written, another beside it written", write_x, write_y, "OK"),
        ("written, a node made elsewhere", write_x, make_a, "OK"),
        ("nothing used", nothing, write_x, "OK"),
    ] {
        assert_eq!(conflict(&rival, &host.dom0, inside, outside).await, expected, "{what}");
    }
}

async fn transactions_of_one_connection_are_independent(host: &Host) {
    host.dom0.write(&path("/a"), "0").await.unwrap();
    let (first, second) = (host.dom0.begin().await.unwrap(), host.dom0.begin().await.unwrap());
    first.write(&path("/a"), "1").await.unwrap();
    assert_eq!(second.read(&path("/a")).await.unwrap(), b"0");
    first.commit().await.unwrap();
    assert_eq!(name(second.commit().await), "EAGAIN");
    assert_eq!(host.dom0.read(&path("/a")).await.unwrap(), b"1");
}

async fn node_that_came_and_went_inside_never_was(host: &Host) {
    host.dom0
        .transaction(async |tx| {
            tx.write(&path("/a/b"), "").await?;
            tx.rm(&path("/a/b")).await
        })
        .await
        .unwrap();
    assert_eq!(host.dom0.directory(&path("/a")).await.unwrap(), Vec::<String>::new());
}

async fn removed_directory_can_be_made_again_inside(host: &Host) {
    host.dom0.write(&path("/a/old/below"), "").await.unwrap();
    host.dom0
        .transaction(async |tx| {
            tx.rm(&path("/a")).await?;
            tx.write(&path("/a/new"), "").await
        })
        .await
        .unwrap();
    assert_eq!(host.dom0.directory(&path("/a")).await.unwrap(), ["new"]);
}

async fn ended_transaction_is_unknown(host: &Host) {
    // The numbers of a connection's transactions grow, so a later one is not taken for this.
    let tx = host.dom0.begin().await.unwrap();
    let store = Store::clone(&tx);
    tx.commit().await.unwrap();
    let _later = host.dom0.begin().await.unwrap();
    assert_eq!(name(store.read(&path("/")).await), "ENOENT");
}

async fn transaction_whose_body_fails_for_a_conflict_is_done_again(host: &Host) {
    let rival = host.another_dom0().await;
    let mut errors = Vec::new();
    host.dom0
        .transaction(async |tx| {
            tx.rm(&path("/absent")).await?;
            if errors.is_empty() {
                rival.mkdir(&path("/new")).await?;
            }
            // The root that this transaction has used does not know the new node.
            let result = tx.rm(&path("/new")).await;
            errors.push(result.as_ref().err().and_then(Error::name).cloned());
            result
        })
        .await
        .unwrap();
    assert_eq!(errors, [Some(ErrorName::Eio), None]);
    assert!(!host.dom0.exists(&path("/new")).await.unwrap());
}

async fn counters_of_rivals_lose_nothing(host: &Host) {
    const EACH: u32 = 30;
    host.dom0.write(&path("/counter"), "0").await.unwrap();
    let count_up = async |client: Client| {
        for _ in 0..EACH {
            client
                .transaction(async |tx| {
                    let old: u32 = tx.read_string(&path("/counter")).await?.parse().unwrap();
                    tx.write(&path("/counter"), (old + 1).to_string()).await
                })
                .await
                .unwrap();
        }
    };
    tokio::join!(
        count_up(host.another_dom0().await),
        count_up(host.another_dom0().await),
        count_up(host.another_dom0().await)
    );
    assert_eq!(host.dom0.read_string(&path("/counter")).await.unwrap(), (3 * EACH).to_string());
}
