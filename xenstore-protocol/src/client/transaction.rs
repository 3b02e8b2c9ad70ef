use std::ops::Deref;

use tokio::sync::{mpsc, oneshot};

use super::store::describe;
use super::{Client, Command, Store, TransactionTag};
use crate::wire::{MessageType, encode_strings};
use crate::{Error, ErrorName};

/// How often [`Client::transaction`] tries before it gives up. A guest can cause conflicts by writing its own nodes, so
/// there must be a bound.
pub const TRANSACTION_ATTEMPTS: u32 = 100;

/// Operations that take effect together or not at all. Dereferences to [`Store`] for the operations.
///
/// Dropped without [`Transaction::commit`], it is aborted.
#[derive(Debug)]
pub struct Transaction {
    store: Store,
    open: Open,
}

/// Aborts the transaction when dropped, wherever that happens: also when nobody waits for the answer to
/// TRANSACTION_START any more.
#[derive(Debug)]
pub(crate) struct Open {
    tag: Option<TransactionTag>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Open {
    pub(super) fn new(tag: TransactionTag, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { tag: Some(tag), commands }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(tag) = self.tag {
            // Fails only if the connection is closed for good, and the transaction is gone with it.
            let _ = self.commands.send(Command::Abort(tag));
        }
    }
}

impl Client {
    /// Opens a transaction. [`Client::transaction`] is simpler, as it tries again after a conflict.
    ///
    /// # Errors
    /// ENOSPC if the domain has too many transactions open.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        let (reply, answer) = oneshot::channel();
        let open = self
            .store
            .send(Command::Start { reply }, answer)
            .await
            .map_err(|failure| describe(failure, MessageType::TRANSACTION_START, ""))?;
        Ok(Transaction { store: Store::new(self.store.commands().clone(), open.tag), open })
    }

    /// Runs `body` in a transaction and commits it. After a conflict with another client everything is done again, at
    /// most [`TRANSACTION_ATTEMPTS`] times, so `body` must have no effect outside of the transaction. There is no
    /// snapshot: a node that `body` has not used yet may change under it, and then the commit is a conflict.
    ///
    /// ```
    /// # use xenstore_protocol::{Client, Error, Path};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// const STATE: Path = Path::from_static("/local/domain/0/backend/pci/1/0/state");
    /// let old = client
    ///     .transaction(async |tx| {
    ///         let old = tx.read_string(&STATE).await?;
    ///         tx.write(&STATE, "5").await?;
    ///         Ok::<_, Error>(old)
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The error of `body`, after which the transaction is aborted; [`Error::Conflict`] if each attempt met a
    /// conflict; or the transaction cannot be opened or committed.
    pub async fn transaction<T, E: From<Error>>(
        &self,
        mut body: impl AsyncFnMut(&Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        for attempt in 1..=TRANSACTION_ATTEMPTS {
            let transaction = self.begin().await?;
            let value = match body(&transaction).await {
                Ok(value) => value,
                // A commit would have met a conflict: the body failed because of it.
                Err(_) if transaction.is_torn() && attempt < TRANSACTION_ATTEMPTS => continue,
                Err(error) => return Err(error),
            };
            match transaction.commit().await {
                Ok(()) => return Ok(value),
                Err(error) if error.name() == Some(&ErrorName::Eagain) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Conflict { attempts: TRANSACTION_ATTEMPTS }.into())
    }
}

impl Transaction {
    /// Makes the changes visible to everybody.
    ///
    /// # Errors
    /// EAGAIN if another client changed what this transaction used: nothing was done, and everything must be done again.
    /// [`Error::Disconnected`]: it is not known whether it was done.
    pub async fn commit(mut self) -> Result<(), Error> {
        let kind = MessageType::TRANSACTION_END;
        // If this future is dropped here, the guard aborts: before the request is sent that ends the transaction, and
        // after it the server answers that there is none.
        let answer = self.store.request(kind, "commit", encode_strings(["T"])).await;
        self.open.tag = None;
        answer.map(drop)
    }

    /// Throws the changes away, and waits until the server has done so.
    ///
    /// # Errors
    /// [`Error::Disconnected`]: the transaction is gone as well.
    pub async fn abort(mut self) -> Result<(), Error> {
        let kind = MessageType::TRANSACTION_END;
        let answer = self.store.request(kind, "abort", encode_strings(["F"])).await;
        self.open.tag = None;
        answer.map(drop)
    }
}

impl Deref for Transaction {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
