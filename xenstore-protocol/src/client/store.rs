use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::{Command, Failure, TransactionTag};
use crate::path::Path;
use crate::permissions::Permissions;
use crate::wire::{MessageType, PAYLOAD_MAX, WireError, decode_strings, encode_strings};
use crate::{Error, ErrorName};

/// How often a long directory is read from the start again because it changed meanwhile.
const DIRECTORY_ATTEMPTS: u32 = 100;

/// The tree of nodes, as it is seen outside of transactions or inside one.
///
/// Functions that should work in both places take a `&Store`; [`Client`](super::Client) and
/// [`Transaction`](super::Transaction) dereference to it.
///
/// Every operation fails with [`Error::Disconnected`] if the connection is lost before its answer comes, and with
/// [`Error::Refused`] if the server answers with an error; only errors beyond these are listed with each operation.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::UnboundedSender<Command>,
    transaction: Option<TransactionTag>,
    /// Set once the server has answered EIO, which it does when a transaction looks at a tree that has changed under it
    /// so that what it used and what it finds do not fit together.
    torn: Arc<AtomicBool>,
}

impl Store {
    pub(super) fn new(commands: mpsc::UnboundedSender<Command>, transaction: Option<TransactionTag>) -> Self {
        Self { commands, transaction, torn: Arc::default() }
    }

    /// Has the server answered EIO?
    pub(super) fn is_torn(&self) -> bool {
        self.torn.load(Ordering::Relaxed)
    }

    pub(super) fn commands(&self) -> &mpsc::UnboundedSender<Command> {
        &self.commands
    }

    /// Value of a node.
    ///
    /// # Errors
    /// ENOENT if there is no such node, EACCES if it must not be read.
    pub async fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.request(MessageType::READ, path, encode_strings([path])).await
    }

    /// Value of a node; `None` if there is no such node.
    ///
    /// # Errors
    /// EACCES if it must not be read.
    pub async fn read_if_present(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match self.read(path).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Value of a node as text.
    ///
    /// # Errors
    /// As [`Store::read`]; [`Error::Malformed`] if the value is not UTF-8.
    pub async fn read_string(&self, path: &Path) -> Result<String, Error> {
        let value = self.read(path).await?;
        String::from_utf8(value).map_err(|error| Error::malformed(path, error.as_bytes(), "text in UTF-8"))
    }

    /// Value of a node as text; `None` if there is no such node.
    ///
    /// # Errors
    /// EACCES if it must not be read; [`Error::Malformed`] if the value is not UTF-8.
    pub async fn read_string_if_present(&self, path: &Path) -> Result<Option<String>, Error> {
        match self.read_string(path).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Is there such a node?
    ///
    /// # Errors
    /// EACCES if it must not be read.
    pub async fn exists(&self, path: &Path) -> Result<bool, Error> {
        Ok(self.read_if_present(path).await?.is_some())
    }

    /// Sets a node's value. The node and its parents are created if they are not there.
    ///
    /// # Errors
    /// EACCES; ENOSPC if a quota is used up; [`Error::TooLong`] if path and value exceed one message.
    pub async fn write(&self, path: &Path, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let mut payload = encode_strings([path]);
        payload.extend_from_slice(value.as_ref());
        self.request(MessageType::WRITE, path, payload).await.map(drop)
    }

    /// Creates a node with an empty value, and its parents. An existing node keeps its value.
    ///
    /// # Errors
    /// EACCES; ENOSPC if a quota is used up.
    pub async fn mkdir(&self, path: &Path) -> Result<(), Error> {
        self.request(MessageType::MKDIR, path, encode_strings([path])).await.map(drop)
    }

    /// Removes a node and everything below it. It is no error if it is not there but its parent is.
    ///
    /// # Errors
    /// ENOENT if not even its parent is there; EACCES; EINVAL for the root.
    pub async fn rm(&self, path: &Path) -> Result<(), Error> {
        self.request(MessageType::RM, path, encode_strings([path])).await.map(drop)
    }

    /// Removes a node and everything below it. It is no error if it or its parent is not there.
    ///
    /// # Errors
    /// EACCES; EINVAL for the root.
    pub async fn rm_if_present(&self, path: &Path) -> Result<(), Error> {
        match self.rm(path).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Names of a node's children, in the server's order. A list that is too long for one message is read in parts,
    /// and from the start again if it changed between two parts.
    ///
    /// # Errors
    /// ENOENT, EACCES; [`Error::Answer`] if the list changes each time while it is read.
    pub async fn directory(&self, path: &Path) -> Result<Vec<String>, Error> {
        match self.request(MessageType::DIRECTORY, path, encode_strings([path])).await {
            Ok(payload) => Ok(names(&payload)),
            Err(error) if error.name() == Some(&ErrorName::E2big) => self.long_directory(path).await,
            Err(error) => Err(error),
        }
    }

    /// Names of a node's children; none if there is no such node.
    ///
    /// # Errors
    /// EACCES.
    pub async fn directory_if_present(&self, path: &Path) -> Result<Vec<String>, Error> {
        match self.directory(path).await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }

    async fn long_directory(&self, path: &Path) -> Result<Vec<String>, Error> {
        for _ in 0..DIRECTORY_ATTEMPTS {
            if let Some(list) = self.directory_by_parts(path).await? {
                return Ok(names(&list));
            }
        }
        Err(self.bad_directory(path, "the list changed each time it was read"))
    }

    /// The payload that DIRECTORY would give; `None` if the directory changed between two parts.
    async fn directory_by_parts(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let mut list = Vec::new();
        let mut first_generation = None;
        loop {
            let offset = list.len().to_string();
            let request = encode_strings([path.as_str(), offset.as_str()]);
            let payload = self.request(MessageType::DIRECTORY_PART, path, request).await?;
            let end = payload.iter().position(|byte| *byte == 0);
            let Some((generation, part)) = end.and_then(|end| payload.split_at_checked(end)) else {
                return Err(self.bad_directory(path, "a part has no generation"));
            };
            if *first_generation.get_or_insert_with(|| generation.to_vec()) != generation {
                return Ok(None);
            }
            let part = part.get(1..).unwrap_or_default();
            // An empty name ends the list: the last part is a lone NUL, or ends with one NUL more.
            if let Some(last) = part.strip_suffix(&[0]).filter(|rest| rest.is_empty() || rest.ends_with(&[0])) {
                list.extend_from_slice(last);
                return Ok(Some(list));
            }
            if part.is_empty() {
                return Err(self.bad_directory(path, "a part is empty"));
            }
            list.extend_from_slice(part);
        }
    }

    fn bad_directory(&self, path: &Path, reason: &str) -> Error {
        let operation = MessageType::DIRECTORY_PART;
        Error::Answer { operation, object: path.to_string(), reason: reason.to_owned() }
    }

    /// Permissions of a node.
    ///
    /// # Errors
    /// ENOENT, EACCES; [`Error::Answer`] if they cannot be understood.
    pub async fn permissions(&self, path: &Path) -> Result<Permissions, Error> {
        let payload = self.request(MessageType::GET_PERMS, path, encode_strings([path])).await?;
        Permissions::decode(&payload).map_err(|error| Error::permissions(path, &error))
    }

    /// Sets the permissions of one node; its children keep theirs.
    ///
    /// # Errors
    /// ENOENT; EACCES if this domain does not own the node; EPERM if a domain other than 0 would change the owner.
    pub async fn set_permissions(&self, path: &Path, permissions: &Permissions) -> Result<(), Error> {
        let mut payload = encode_strings([path]);
        payload.extend(permissions.encode());
        self.request(MessageType::SET_PERMS, path, payload).await.map(drop)
    }

    /// Sends a request and gives the payload of its answer.
    pub(super) async fn request(
        &self,
        kind: MessageType,
        object: impl fmt::Display,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        if payload.len() > PAYLOAD_MAX {
            return Err(WireError::PayloadTooLong { kind, length: payload.len() }.into());
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Request { kind, transaction: self.transaction, payload, reply };
        self.send(command, answer).await.map_err(|failure| {
            if matches!(failure, Some(Failure::Refused(ErrorName::Eio))) {
                self.torn.store(true, Ordering::Relaxed);
            }
            describe(failure, kind, object)
        })
    }

    /// Hands a command to the connection's task and waits for its answer; `None` if the connection is lost.
    pub(super) async fn send<T>(
        &self,
        command: Command,
        answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, Option<Failure>> {
        self.commands.send(command).map_err(|_| None)?;
        answer.await.map_err(|_| None)?.map_err(Some)
    }
}

/// The error that tells what was asked.
pub(super) fn describe(failure: Option<Failure>, operation: MessageType, object: impl fmt::Display) -> Error {
    let object = object.to_string();
    match failure {
        Some(Failure::Refused(name)) => Error::Refused { operation, object, name },
        Some(Failure::Answer(reason)) => Error::Answer { operation, object, reason },
        None => Error::Disconnected { operation, object },
    }
}

/// The names in a DIRECTORY payload.
fn names(payload: &[u8]) -> Vec<String> {
    decode_strings(payload).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("transaction", &self.transaction).finish_non_exhaustive()
    }
}
