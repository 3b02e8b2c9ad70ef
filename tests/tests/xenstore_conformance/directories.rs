//! Lists of children.

use xenstore_protocol::{Error, Path};

use crate::{Host, path};

crate::on_both!(
    children_are_listed_in_the_order_in_which_they_were_made,
    list_of_exactly_one_message_and_of_one_byte_more,
    list_of_many_messages_is_read_in_parts,
    list_that_changes_while_it_is_read_is_a_list_that_was,
    long_list_is_read_in_a_transaction,
);

/// A name of `length` bytes.
fn long_name(number: usize, length: usize) -> String {
    format!("{number:0>length$}")
}

async fn children_are_listed_in_the_order_in_which_they_were_made(host: &Host) {
    for child in ["c", "b", "d", "a"] {
        host.dom0.mkdir(&path("/list").child(child).unwrap()).await.unwrap();
    }
    host.dom0.rm(&path("/list/b")).await.unwrap();
    host.dom0.mkdir(&path("/list/b")).await.unwrap();
    assert_eq!(host.dom0.directory(&path("/list")).await.unwrap(), ["c", "d", "a", "b"]);
}

async fn list_of_exactly_one_message_and_of_one_byte_more(host: &Host) {
    // 16 names of 255 bytes and a NUL: 4096.
    let mut names: Vec<String> = (0..16).map(|number| long_name(number, 255)).collect();
    for name in &names {
        host.dom0.mkdir(&path("/list").child(name).unwrap()).await.unwrap();
    }
    assert_eq!(host.dom0.directory(&path("/list")).await.unwrap(), names);

    host.dom0.mkdir(&path("/list/x")).await.unwrap();
    names.push("x".to_owned());
    assert_eq!(host.dom0.directory(&path("/list")).await.unwrap(), names);
}

async fn list_of_many_messages_is_read_in_parts(host: &Host) {
    let names: Vec<String> = (0..1500).map(|number| long_name(number, 3 + number % 17)).collect();
    for name in &names {
        host.dom0.mkdir(&path("/list").child(name).unwrap()).await.unwrap();
    }
    assert_eq!(host.dom0.directory(&path("/list")).await.unwrap(), names);
}

async fn list_that_changes_while_it_is_read_is_a_list_that_was(host: &Host) {
    const FIRST: usize = 100;
    for number in 0..FIRST {
        host.dom0.mkdir(&path("/list").child(long_name(number, 100)).unwrap()).await.unwrap();
    }
    let writer = host.another_dom0().await;
    let grow = async {
        for number in FIRST..FIRST + 50 {
            writer.mkdir(&path("/list").child(long_name(number, 100)).unwrap()).await.unwrap();
        }
    };
    let read = async {
        let mut lists = Vec::new();
        for _ in 0..10 {
            lists.push(host.dom0.directory(&path("/list")).await.unwrap());
        }
        lists
    };
    let ((), lists) = tokio::join!(grow, read);
    for list in lists {
        let expected: Vec<String> = (0..list.len()).map(|number| long_name(number, 100)).collect();
        assert!(list.len() >= FIRST);
        assert_eq!(list, expected);
    }
}

async fn long_list_is_read_in_a_transaction(host: &Host) {
    let list = host
        .dom0
        .transaction(async |tx| {
            for number in 0..50 {
                tx.mkdir(&Path::ROOT.child("list")?.child(long_name(number, 100))?).await?;
            }
            tx.directory(&path("/list")).await
        })
        .await;
    let expected: Vec<String> = (0..50).map(|number| long_name(number, 100)).collect();
    assert_eq!(list.map_err(|error: Error| error.to_string()), Ok(expected));
}
