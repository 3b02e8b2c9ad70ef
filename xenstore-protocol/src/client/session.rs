use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::transaction::Open;
use super::watch::Dirty;
use super::{Command, Failure, Reply, TransactionTag};
use crate::wire::{Message, MessageType, decode_strings, encode_strings};
use crate::{ErrorName, Path};

/// The watches of a client, by token. They outlive a connection.
#[derive(Default)]
pub(super) struct Watches(HashMap<u64, (Path, Arc<Dirty>)>);

impl Watches {
    /// Marks every watch as a whole.
    pub(super) fn mark_everything(&self) {
        for (_, dirty) in self.0.values() {
            dirty.mark(None);
        }
    }

    /// No watch will report anything more.
    pub(super) fn end(&mut self) {
        for (_, (_, dirty)) in self.0.drain() {
            dirty.end(None);
        }
    }

    /// Takes notice that a watch was dropped.
    pub(super) fn remove(&mut self, token: u64) -> Option<Path> {
        self.0.remove(&token).map(|(path, _)| path)
    }

    fn event(&self, payload: &[u8]) {
        let mut strings = decode_strings(payload);
        let (path, token) = (strings.next(), strings.next());
        let token = token.and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
        // An event for a token that is gone was on its way when the watch was removed.
        if let Some((_, dirty)) = token.and_then(|token: u64| self.0.get(&token)) {
            // A path that cannot be read must not be lost: everything may have changed.
            dirty.mark(path.and_then(|path| Path::try_from(path).ok()));
        }
    }
}

/// What is done with an answer.
enum Pending {
    Payload(MessageType, Reply<Vec<u8>>),
    Start(Reply<Open>),
    /// The reply is missing for a watch that is registered again.
    Watch(u64, Option<Reply<()>>),
    Nothing,
}

/// One connection, without its I/O: commands and messages go in, bytes come out of `outgoing`. Dropped, it fails every
/// request that has no answer.
pub(super) struct Session {
    /// Number of the connection.
    number: u64,
    /// Messages to be sent.
    pub(super) outgoing: VecDeque<Vec<u8>>,
    pending: HashMap<u32, Pending>,
    last_request_id: u32,
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Session {
    /// A fresh connection, on which each of the client's watches is registered first.
    pub(super) fn new(number: u64, commands: mpsc::WeakUnboundedSender<Command>, watches: &Watches) -> Self {
        let mut session =
            Self { number, outgoing: VecDeque::new(), pending: HashMap::new(), last_request_id: 0, commands };
        for (token, (path, _)) in &watches.0 {
            session.send_watch(*token, path, None);
        }
        session
    }

    /// Carries out a command. Replies that are dropped here tell their owner that the connection is lost.
    pub(super) fn command(&mut self, command: Command, watches: &mut Watches) {
        match command {
            Command::Request { kind, transaction, payload, reply } => {
                if let Some(transaction_id) = self.transaction_id(transaction) {
                    self.send(kind, transaction_id, payload, Pending::Payload(kind, reply));
                }
            }
            Command::Start { reply } => {
                self.send(MessageType::TRANSACTION_START, 0, vec![0], Pending::Start(reply));
            }
            Command::Abort(tag) => {
                if let Some(transaction_id) = self.transaction_id(Some(tag)) {
                    let payload = encode_strings(["F"]);
                    self.send(MessageType::TRANSACTION_END, transaction_id, payload, Pending::Nothing);
                }
            }
            Command::Watch { path, token, state, reply } => {
                self.send_watch(token, &path, Some(reply));
                watches.0.insert(token, (path, state));
            }
            Command::Unwatch { token } => {
                if let Some(path) = watches.remove(token) {
                    let payload = encode_strings([path.as_str(), &token.to_string()]);
                    self.send(MessageType::UNWATCH, 0, payload, Pending::Nothing);
                }
            }
        }
    }

    /// The number to send; `None` if the transaction belongs to an earlier connection.
    fn transaction_id(&self, tag: Option<TransactionTag>) -> Option<u32> {
        match tag {
            None => Some(0),
            Some(tag) => (tag.connection == self.number).then_some(tag.id),
        }
    }

    fn send_watch(&mut self, token: u64, path: &Path, reply: Option<Reply<()>>) {
        let payload = encode_strings([path.as_str(), &token.to_string()]);
        self.send(MessageType::WATCH, 0, payload, Pending::Watch(token, reply));
    }

    fn send(&mut self, kind: MessageType, transaction_id: u32, payload: Vec<u8>, pending: Pending) {
        loop {
            self.last_request_id = self.last_request_id.wrapping_add(1);
            if !self.pending.contains_key(&self.last_request_id) {
                break;
            }
        }
        let message = Message { kind, request_id: self.last_request_id, transaction_id, payload };
        // Too long a payload was refused before it came here; if one came, its reply is dropped with it.
        if let Ok(bytes) = message.encode() {
            self.pending.insert(message.request_id, pending);
            self.outgoing.push_back(bytes);
        }
    }

    /// Takes notice that the first `length` bytes of the first message are sent.
    pub(super) fn sent(&mut self, length: usize) {
        if let Some(message) = self.outgoing.front_mut() {
            message.drain(..length.min(message.len()));
            if message.is_empty() {
                self.outgoing.pop_front();
            }
        }
    }

    /// Takes a message from the server.
    pub(super) fn message(&mut self, message: Message, watches: &mut Watches) {
        if message.kind == MessageType::WATCH_EVENT {
            watches.event(&message.payload);
            return;
        }
        let Some(pending) = self.pending.remove(&message.request_id) else {
            return;
        };
        let answer = |expected: MessageType| match message.kind {
            MessageType::ERROR => Err(Failure::Refused(ErrorName::decode(&message.payload))),
            kind if kind == expected => Ok(message.payload),
            kind => Err(Failure::Answer(format!("it is a {kind}"))),
        };
        // A reply that nobody waits for any more is dropped.
        match pending {
            Pending::Payload(kind, reply) => drop(reply.send(answer(kind))),
            Pending::Start(reply) => {
                let answer = answer(MessageType::TRANSACTION_START);
                drop(reply.send(answer.and_then(|payload| self.opened(&payload))));
            }
            Pending::Watch(token, reply) => watched(token, reply, answer(MessageType::WATCH), watches),
            Pending::Nothing => {}
        }
    }

    /// The guard of a transaction that was just opened.
    fn opened(&self, payload: &[u8]) -> Result<Open, Failure> {
        let text = payload.strip_suffix(&[0]).unwrap_or(payload);
        let id = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).filter(|id| *id != 0);
        let id = id.ok_or_else(|| Failure::Answer(format!("\"{}\" is no transaction id", text.escape_ascii())))?;
        let tag = TransactionTag { id, connection: self.number };
        match self.commands.upgrade() {
            Some(commands) => Ok(Open::new(tag, commands)),
            // The last handle is gone, so the connection ends, and the transaction with it.
            None => Err(Failure::Answer("nobody waits for it".to_owned())),
        }
    }
}

/// Passes on the answer to WATCH.
fn watched(token: u64, reply: Option<Reply<()>>, answer: Result<Vec<u8>, Failure>, watches: &mut Watches) {
    match (answer, reply) {
        (Ok(_), Some(reply)) => drop(reply.send(Ok(()))),
        (Ok(_), None) => {}
        (Err(failure), reply) => {
            let removed = watches.0.remove(&token);
            match (reply, removed, failure) {
                (Some(reply), _, failure) => drop(reply.send(Err(failure))),
                (None, Some((_, dirty)), Failure::Refused(name)) => dirty.end(Some(name)),
                (None, Some((_, dirty)), Failure::Answer(text)) => dirty.end(Some(ErrorName::Other(text))),
                (None, None, _) => {}
            }
        }
    }
}
