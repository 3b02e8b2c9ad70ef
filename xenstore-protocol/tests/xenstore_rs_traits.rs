//! Code written to the traits of xenstore-rs, on the client.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a test that cannot go on stops where it is")]

use std::io;

use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use xenpcid_address::DomainId;
use xenstore_protocol::memory::Server;
use xenstore_protocol::{Client, Error, ErrorName, Path, Store};
use xenstore_rs::{
    AsyncWatch, AsyncXs, AsyncXsTransaction, AsyncXsTransactionSpan, Xs, XsTransaction, XsTransactionSpan,
};

async fn count_up(store: &impl AsyncXs) -> io::Result<Vec<Box<str>>> {
    store.write("/counter/value", "1").await?;
    let old: u32 = store.read("/counter/value").await?.parse().unwrap();
    store.write("/counter/value", &(old + 1).to_string()).await?;
    store.write("/counter/gone", "").await?;
    store.rm("/counter/gone").await?;
    store.directory("/counter").await
}

fn count_up_blocking<X: XsTransaction>(store: &X) -> io::Result<()>
where
    X::Span: XsTransactionSpan,
{
    let span = store.transaction()?;
    let old = span.read("/counter/value").unwrap_or_else(|_| "0".into());
    span.write("/counter/value", &(old.parse::<u32>().unwrap() + 1).to_string())?;
    assert_eq!(&*span.directory("/counter")?, ["value".into()]);
    assert!(store.read("/counter/gone").is_err());
    span.rm("/counter/gone")?;
    span.commit()
}

/// A client whose connection is served by a thread of its own.
fn on_its_own_thread() -> (Runtime, Client) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = runtime.block_on(async { Server::new().client(DomainId::DOM0).await.unwrap() });
    (runtime, client)
}

#[tokio::test]
async fn asynchronous_operations_are_those_of_the_client() {
    let client = Server::new().client(DomainId::DOM0).await.unwrap();
    assert_eq!(count_up(&client).await.unwrap(), ["value".into()]);
    assert_eq!(Store::read(&client, &Path::from_static("/counter/value")).await.unwrap(), b"2");
}

#[tokio::test]
async fn watch_is_a_stream_of_paths_that_ends_with_the_connection() {
    let server = Server::new();
    let client = Client::over(server.connect(DomainId::DOM0));
    let mut changes = AsyncWatch::watch(&client, "/watched").await.unwrap();
    assert_eq!(changes.next().await.as_deref(), Some("/watched"));
    AsyncXs::write(&client, "/watched/below", "").await.unwrap();
    assert_eq!(changes.next().await.as_deref(), Some("/watched/below"));
    server.drop_connections(DomainId::DOM0);
    assert_eq!(changes.next().await, None);
}

/// With xenstore-rs' own client, ten events that nobody has looked at make this read wait for ever.
#[tokio::test]
async fn consumer_that_reads_before_it_looks_at_its_stream_is_answered() {
    let client = Server::new().client(DomainId::DOM0).await.unwrap();
    let mut changes = AsyncWatch::watch(&client, "/watched").await.unwrap();
    for number in 0..100 {
        AsyncXs::write(&client, &format!("/watched/{number}"), "").await.unwrap();
    }
    assert_eq!(AsyncXs::directory(&client, "/watched").await.unwrap().len(), 100);
    assert_eq!(changes.next().await.as_deref(), Some("/watched"));
}

#[test]
fn blocking_operations_work_from_a_thread_without_a_runtime() {
    let (_runtime, client) = on_its_own_thread();
    count_up_blocking(&client).unwrap();
    count_up_blocking(&client).unwrap();
    assert_eq!(&*Xs::read(&client, "/counter/value").unwrap(), "2");
}

#[test]
fn transaction_that_was_opened_asynchronously_works_on_the_only_worker_of_the_clients_runtime() {
    let (runtime, client) = on_its_own_thread();
    let task = async move {
        let span = AsyncXsTransaction::transaction(&client).await?;
        Xs::write(&span, "/a", "1")?;
        AsyncXsTransactionSpan::commit(span).await?;
        AsyncXs::read(&client, "/a").await
    };
    assert_eq!(&*runtime.block_on(runtime.spawn(task)).unwrap().unwrap(), "1");
}

#[tokio::test]
async fn blocking_operation_on_the_clients_only_thread_is_refused_instead_of_waiting_for_ever() {
    let client = Server::new().client(DomainId::DOM0).await.unwrap();
    let span = AsyncXsTransaction::transaction(&client).await.unwrap();
    let error = Xs::write(&span, "/a", "1").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Deadlock);
    assert!(error.to_string().contains("Client::transaction"), "{error}");
}

#[tokio::test]
async fn errors_keep_the_servers_name() {
    let client = Server::new().client(DomainId::DOM0).await.unwrap();
    let error = AsyncXs::read(&client, "/absent").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    assert_eq!(inner.and_then(Error::name), Some(&ErrorName::Enoent));
    assert_eq!(AsyncXs::read(&client, "/not//valid").await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
