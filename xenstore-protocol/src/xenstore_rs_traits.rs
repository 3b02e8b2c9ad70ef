//! The client behind the traits of the crate xenstore-rs, so that code written to them runs on it.
//!
//! [`AsyncXs`] and [`AsyncWatch`] are the client's own operations. With [`AsyncXs`] in scope, `client.read(..)` means the
//! trait's, which takes and gives text; the client's own is `Store::read(&client, ..)`.
//!
//! In xenstore-rs 0.8 the operations of a transaction are those of the blocking trait [`Xs`], also where the
//! transaction was opened asynchronously. [`Span`] therefore blocks the calling thread. That works from any thread
//! outside of the runtime on which the client was made, and on the threads of that runtime if it is multi-threaded. On
//! the only thread of a current-thread runtime nobody would be left to fetch the answer, so it is refused there, with an
//! error of kind [`io::ErrorKind::Deadlock`]; [`Client::transaction`](crate::Client::transaction) works everywhere.
//!
//! Errors are those of the client ([`Error`](crate::Error)) inside an [`io::Error`], the server's name included.

use std::collections::VecDeque;
use std::io;

use futures::executor::block_on;
use futures::stream::{self, Stream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use xenstore_rs::{
    AsyncWatch, AsyncXs, AsyncXsTransaction, AsyncXsTransactionSpan, Xs, XsTransaction, XsTransactionSpan,
};

use crate::client::{Changes, Client, Store, Transaction, Watch};
use crate::{InvalidPath, Path};

/// A transaction of xenstore-rs' traits. Dropped, it is aborted.
#[derive(Debug)]
pub struct Span {
    transaction: Transaction,
    runtime: Handle,
}

fn parse(path: &str) -> io::Result<Path> {
    path.parse().map_err(|error: InvalidPath| crate::Error::from(error).into())
}

async fn directory(store: &Store, path: &str) -> io::Result<Vec<Box<str>>> {
    Ok(store.directory(&parse(path)?).await?.into_iter().map(String::into_boxed_str).collect())
}

async fn read(store: &Store, path: &str) -> io::Result<Box<str>> {
    Ok(store.read_string(&parse(path)?).await?.into_boxed_str())
}

async fn write(store: &Store, path: &str, data: &str) -> io::Result<()> {
    Ok(store.write(&parse(path)?, data).await?)
}

async fn rm(store: &Store, path: &str) -> io::Result<()> {
    Ok(store.rm(&parse(path)?).await?)
}

/// Waits on this thread for something that the client's task, on `runtime`, will answer.
fn wait<T>(runtime: &Handle, answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match Handle::try_current() {
        Ok(here) if here.runtime_flavor() == RuntimeFlavor::MultiThread => block_in_place(|| block_on(answer)),
        Ok(here) if here.id() == runtime.id() => Err(io::Error::new(
            io::ErrorKind::Deadlock,
            "a blocking xenstore operation on the only thread of the client's runtime would wait for ever: \
             use Client::transaction, or make the client on another runtime",
        )),
        _ => block_on(answer),
    }
}

impl AsyncXs for Client {
    async fn directory(&self, path: &str) -> io::Result<Vec<Box<str>>> {
        directory(self, path).await
    }

    async fn read(&self, path: &str) -> io::Result<Box<str>> {
        read(self, path).await
    }

    async fn write(&self, path: &str, data: &str) -> io::Result<()> {
        write(self, path, data).await
    }

    async fn rm(&self, path: &str) -> io::Result<()> {
        rm(self, path).await
    }
}

impl AsyncWatch for Client {
    /// The paths that may have changed, each at least once after its last change, the watched path itself standing for
    /// everything below it. Ends when the connection is closed for good.
    async fn watch(&self, path: &str) -> io::Result<impl Stream<Item = Box<str>> + Unpin + 'static> {
        let watch = Client::watch(self, &parse(path)?).await?;
        Ok(Box::pin(stream::unfold((watch, VecDeque::new()), next_path)))
    }
}

async fn next_path((mut watch, mut paths): (Watch, VecDeque<Path>)) -> Option<(Box<str>, (Watch, VecDeque<Path>))> {
    while paths.is_empty() {
        match watch.changed().await.ok()? {
            Changes::Paths(changed) => paths.extend(changed),
            Changes::Everything => paths.push_back(watch.path().clone()),
        }
    }
    let path = paths.pop_front()?;
    Some((path.as_str().into(), (watch, paths)))
}

impl Xs for Client {
    fn directory(&self, path: &str) -> io::Result<Vec<Box<str>>> {
        wait(self.runtime(), directory(self, path))
    }

    fn read(&self, path: &str) -> io::Result<Box<str>> {
        wait(self.runtime(), read(self, path))
    }

    fn write(&self, path: &str, data: &str) -> io::Result<()> {
        wait(self.runtime(), write(self, path, data))
    }

    fn rm(&self, path: &str) -> io::Result<()> {
        wait(self.runtime(), rm(self, path))
    }
}

impl Xs for Span {
    fn directory(&self, path: &str) -> io::Result<Vec<Box<str>>> {
        wait(&self.runtime, directory(&self.transaction, path))
    }

    fn read(&self, path: &str) -> io::Result<Box<str>> {
        wait(&self.runtime, read(&self.transaction, path))
    }

    fn write(&self, path: &str, data: &str) -> io::Result<()> {
        wait(&self.runtime, write(&self.transaction, path, data))
    }

    fn rm(&self, path: &str) -> io::Result<()> {
        wait(&self.runtime, rm(&self.transaction, path))
    }
}

async fn begin(client: &Client) -> io::Result<Span> {
    Ok(Span { transaction: client.begin().await?, runtime: client.runtime().clone() })
}

impl AsyncXsTransaction for Client {
    type Span = Span;

    async fn transaction(&self) -> io::Result<Span> {
        begin(self).await
    }
}

impl XsTransaction for Client {
    type Span = Span;

    fn transaction(&self) -> io::Result<Span> {
        wait(self.runtime(), begin(self))
    }
}

impl AsyncXsTransactionSpan for Span {
    async fn commit(self) -> io::Result<()> {
        Ok(self.transaction.commit().await?)
    }
}

impl XsTransactionSpan for Span {
    fn commit(self) -> io::Result<()> {
        let Self { transaction, runtime } = self;
        wait(&runtime, async { Ok(transaction.commit().await?) })
    }
}
