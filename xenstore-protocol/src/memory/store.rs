//! What the server knows, and the requests that are not about nodes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use tokio::sync::mpsc;
use xenpcid_address::DomainId;

use super::faults::{self, Fault, FaultAction};
use super::nodes::{Nodes, OK, absolute, one, path_and_permissions, two};
use super::quota::Quota;
use super::tree::{Change, Node, NodePermissions, Transaction, Tree, View};
use super::watches::Watch;
use crate::number::decimal;
use crate::wire::{Message, MessageType, decode_strings, encode_strings};
use crate::{ErrorName, Path, Permissions};

/// One client.
#[derive(Debug)]
struct Connection {
    domain: DomainId,
    /// Encoded messages. Dropped with the connection, which ends the client's stream.
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    watches: Vec<Watch>,
    transactions: HashMap<u32, Transaction>,
    last_transaction: u32,
}

impl Connection {
    fn send(&self, kind: MessageType, request_id: u32, transaction_id: u32, payload: Vec<u8>) {
        let message = Message { kind, request_id, transaction_id, payload };
        // Answers are within the limit, since values and lists are. A client that is gone needs none.
        if let Ok(bytes) = message.encode() {
            let _ = self.outgoing.send(bytes);
        }
    }
}

/// Everything the server knows.
#[derive(Debug)]
pub(super) struct Store {
    tree: Tree,
    /// The domains there are, and whether they are introduced.
    domains: BTreeMap<DomainId, bool>,
    /// Who is told about domains.
    special: BTreeMap<Path, NodePermissions>,
    connections: BTreeMap<u64, Connection>,
    last_connection: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) quota: Quota,
    pub(super) accepting: bool,
}

/// Requests that only domain 0 may make.
const PRIVILEGED: [MessageType; 3] = [MessageType::INTRODUCE, MessageType::RELEASE, MessageType::IS_DOMAIN_INTRODUCED];

/// What a request leads to.
type Outcome = Result<Vec<u8>, ErrorName>;

impl Store {
    /// The state in which xenstored starts.
    pub(super) fn new() -> Self {
        let mut tree = Tree::default();
        let mut view = View::new(&mut tree, None);
        for path in ["/", "/tool", "/tool/xenstored"] {
            view.put(&Path::from_static(path), Node::new(private()));
        }
        Self {
            tree,
            domains: [(DomainId::DOM0, true)].into(),
            special: [Path::INTRODUCE_DOMAIN, Path::RELEASE_DOMAIN].map(|path| (path, private())).into(),
            connections: BTreeMap::new(),
            last_connection: 0,
            faults: Vec::new(),
            quota: Quota::default(),
            accepting: true,
        }
    }

    /// Starts afresh, as after a crash: nodes and connections are lost, quotas and faults kept.
    pub(super) fn restart(&mut self) {
        let mut fresh = Self::new();
        for domain in self.domains.keys() {
            fresh.create_domain(*domain);
        }
        fresh.faults = std::mem::take(&mut self.faults);
        fresh.quota = self.quota;
        // Connections that are still ending must not take new ones with them.
        fresh.last_connection = self.last_connection;
        *self = fresh;
    }

    /// Does a domain exist?
    pub(super) fn knows(&self, domain: DomainId) -> bool {
        self.domains.contains_key(&domain)
    }

    /// Takes a new client; the bytes for it will come out of the receiver.
    pub(super) fn connect(&mut self, domain: DomainId) -> (u64, mpsc::UnboundedReceiver<Vec<u8>>) {
        let (outgoing, bytes) = mpsc::unbounded_channel();
        self.last_connection = self.last_connection.wrapping_add(1);
        self.create_domain(domain);
        let (watches, transactions) = (Vec::new(), HashMap::new());
        let connection = Connection { domain, outgoing, watches, transactions, last_transaction: 0 };
        self.connections.insert(self.last_connection, connection);
        (self.last_connection, bytes)
    }

    /// Forgets a client.
    pub(super) fn disconnect(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    /// Forgets the clients that fulfil a condition.
    pub(super) fn disconnect_domains(&mut self, condition: impl Fn(DomainId) -> bool) {
        self.connections.retain(|_, connection| !condition(connection.domain));
    }

    /// Takes notice that a domain exists.
    pub(super) fn create_domain(&mut self, domain: DomainId) {
        if let Entry::Vacant(vacant) = self.domains.entry(domain) {
            vacant.insert(false);
            self.tree.disinherit(domain);
        }
    }

    /// A domain is ready.
    pub(super) fn introduce(&mut self, domain: DomainId) {
        self.create_domain(domain);
        if self.domains.insert(domain, true) == Some(false) {
            self.fire_special(Path::INTRODUCE_DOMAIN);
        }
    }

    /// Something ended: a domain shut down, crashed or is gone.
    pub(super) fn fire_release(&mut self) {
        self.fire_special(Path::RELEASE_DOMAIN);
    }

    /// A domain is gone, and with it its connections and nodes.
    pub(super) fn release(&mut self, domain: DomainId) {
        self.disconnect_domains(|connected| connected == domain);
        if self.domains.remove(&domain).is_none() {
            return;
        }
        for path in self.tree.owned_by(domain) {
            let mut view = View::new(&mut self.tree, None);
            // It may have gone with one above it already.
            view.remove(&path);
            let changes = view.changes;
            self.fire(&changes);
        }
        self.fire_release();
    }

    /// Answers one message. Answer and events come out of the clients' receivers.
    pub(super) fn handle(&mut self, id: u64, message: &Message) {
        let Some(domain) = self.connections.get(&id).map(|connection| connection.domain) else {
            return;
        };
        let path = decode_strings(&message.payload).next().and_then(|path| Path::try_from(path).ok());
        let path = path.and_then(|path| absolute(&path, domain));
        let fault = faults::take(&mut self.faults, domain, message.kind, path.as_ref());
        let unanswered = fault == Some(FaultAction::DisconnectAfter);
        let mut changes = Vec::new();
        let outcome = match fault {
            Some(FaultAction::DisconnectBefore) => return self.disconnect(id),
            Some(FaultAction::Error(name)) => {
                if message.kind == MessageType::TRANSACTION_END {
                    self.take_transaction(id, message.transaction_id);
                }
                Err(name)
            }
            Some(FaultAction::DisconnectAfter) | None => self.carry_out(id, domain, message, &mut changes),
        };
        if unanswered {
            self.disconnect(id);
        }
        let watched = message.kind == MessageType::WATCH && outcome.is_ok();
        if let Some(connection) = self.connections.get(&id) {
            let (kind, payload) = match outcome {
                Ok(payload) => (message.kind, payload),
                Err(name) => (MessageType::ERROR, encode_strings([name.as_str()])),
            };
            connection.send(kind, message.request_id, message.transaction_id, payload);
            if let Some(watch) = connection.watches.last().filter(|_| watched) {
                connection.send(MessageType::WATCH_EVENT, 0, 0, watch.own_event());
            }
        }
        self.fire(&changes);
    }

    fn carry_out(&mut self, id: u64, domain: DomainId, message: &Message, changes: &mut Vec<Change>) -> Outcome {
        let payload = message.payload.as_slice();
        let connection = self.connections.get_mut(&id).ok_or(ErrorName::Eio)?;
        if domain != DomainId::DOM0 && PRIVILEGED.contains(&message.kind) {
            return Err(ErrorName::Eacces);
        }
        // Watches are never part of a transaction, whatever the message says.
        let outside = message.transaction_id == 0 || matches!(message.kind, MessageType::WATCH | MessageType::UNWATCH);
        if !outside && !connection.transactions.contains_key(&message.transaction_id) {
            return Err(ErrorName::Enoent);
        }
        match message.kind {
            MessageType::TRANSACTION_START if message.transaction_id != 0 => Err(ErrorName::Ebusy),
            MessageType::TRANSACTION_START => self.start_transaction(id, domain),
            MessageType::TRANSACTION_END => self.end_transaction(id, message, changes),
            MessageType::WATCH => self.watch(id, domain, payload),
            MessageType::UNWATCH => self.unwatch(id, domain, payload),
            MessageType::RESET_WATCHES => {
                connection.watches.clear();
                connection.transactions.clear();
                Ok(OK.to_vec())
            }
            MessageType::SET_PERMS if payload.starts_with(b"@") => self.set_special_permissions(domain, payload),
            MessageType::GET_DOMAIN_PATH => Ok(encode_strings([Path::domain(domain_argument(payload)?)])),
            MessageType::INTRODUCE => {
                let arguments: Vec<&[u8]> = decode_strings(payload).collect();
                let [domain, _frame, _port] = arguments.as_slice() else { return Err(ErrorName::Einval) };
                self.introduce(decimal(domain).map(DomainId).ok_or(ErrorName::Einval)?);
                Ok(OK.to_vec())
            }
            MessageType::RELEASE => match domain_argument(payload)? {
                DomainId::DOM0 => Err(ErrorName::Einval),
                domain if self.domains.get(&domain) == Some(&true) => {
                    self.release(domain);
                    Ok(OK.to_vec())
                }
                _ => Err(ErrorName::Enoent),
            },
            MessageType::IS_DOMAIN_INTRODUCED => {
                let introduced = self.domains.get(&domain_argument(payload)?).copied().unwrap_or(false);
                Ok(encode_strings([if introduced { "T" } else { "F" }]))
            }
            kind => {
                let transaction = connection.transactions.get_mut(&message.transaction_id);
                let view = View::new(&mut self.tree, transaction);
                let mut nodes = Nodes { view, domain, quota: self.quota };
                let answer = nodes.request(kind, payload, |domain| self.domains.contains_key(&domain));
                changes.append(&mut nodes.view.changes);
                answer
            }
        }
    }

    fn start_transaction(&mut self, id: u64, domain: DomainId) -> Outcome {
        let connection = self.connections.get_mut(&id).ok_or(ErrorName::Eio)?;
        if domain != DomainId::DOM0 && connection.transactions.len() >= self.quota.transactions {
            return Err(ErrorName::Enospc);
        }
        loop {
            connection.last_transaction = connection.last_transaction.wrapping_add(1).max(1);
            if !connection.transactions.contains_key(&connection.last_transaction) {
                break;
            }
        }
        connection.transactions.insert(connection.last_transaction, Transaction::default());
        Ok(encode_strings([connection.last_transaction.to_string()]))
    }

    fn take_transaction(&mut self, id: u64, transaction: u32) -> Option<Transaction> {
        self.connections.get_mut(&id)?.transactions.remove(&transaction)
    }

    fn end_transaction(&mut self, id: u64, message: &Message, changes: &mut Vec<Change>) -> Outcome {
        if message.transaction_id == 0 {
            return Err(ErrorName::Enoent);
        }
        let commit = match message.payload.as_slice() {
            b"T\0" => true,
            b"F\0" => false,
            _ => return Err(ErrorName::Einval),
        };
        let transaction = self.take_transaction(id, message.transaction_id).ok_or(ErrorName::Enoent)?;
        if commit && transaction.failed {
            return Err(ErrorName::Enomem);
        }
        if commit {
            changes.append(&mut transaction.commit(&mut self.tree).ok_or(ErrorName::Eagain)?);
        }
        Ok(OK.to_vec())
    }

    fn watch(&mut self, id: u64, domain: DomainId, payload: &[u8]) -> Outcome {
        let (named, token) = two(payload)?;
        let named = Path::try_from(named).map_err(|_| ErrorName::Einval)?;
        let path = absolute(&named, domain).ok_or(ErrorName::Einval)?;
        let of_domain = self.connections.values().filter(|connection| connection.domain == domain);
        let count: usize = of_domain.map(|connection| connection.watches.len()).sum();
        let connection = self.connections.get_mut(&id).ok_or(ErrorName::Eio)?;
        if connection.watches.iter().any(|watch| watch.path == path && watch.token == token) {
            return Err(ErrorName::Eexist);
        }
        if domain != DomainId::DOM0 && count >= self.quota.watches {
            return Err(ErrorName::E2big);
        }
        connection.watches.push(Watch { path, named, token: token.to_vec() });
        Ok(OK.to_vec())
    }

    fn unwatch(&mut self, id: u64, domain: DomainId, payload: &[u8]) -> Outcome {
        let (named, token) = two(payload)?;
        let path = Path::try_from(named).ok().and_then(|path| absolute(&path, domain)).ok_or(ErrorName::Enoent)?;
        let watches = &mut self.connections.get_mut(&id).ok_or(ErrorName::Eio)?.watches;
        let index = watches.iter().position(|watch| watch.path == path && watch.token == token);
        watches.remove(index.ok_or(ErrorName::Enoent)?);
        Ok(OK.to_vec())
    }

    /// Tells the watches of every client about changes.
    fn fire(&mut self, changes: &[Change]) {
        for change in changes {
            let mut view = View::new(&mut self.tree, None);
            let parent = change.path.parent().and_then(|parent| view.get(&parent)).map(|node| node.permissions.clone());
            for connection in self.connections.values() {
                for watch in &connection.watches {
                    if let Some(payload) = watch.event(connection.domain, change, parent.as_ref()) {
                        connection.send(MessageType::WATCH_EVENT, 0, 0, payload);
                    }
                }
            }
        }
    }

    /// Tells the watches of a special path.
    fn fire_special(&mut self, path: Path) {
        let permissions = self.special.get(&path).cloned().into_iter().collect();
        self.fire(&[Change { path, exact: true, permissions }]);
    }

    fn set_special_permissions(&mut self, domain: DomainId, payload: &[u8]) -> Outcome {
        let (path, permissions) =
            path_and_permissions(payload, usize::MAX, |domain| self.domains.contains_key(&domain))?;
        let permitted = std::str::from_utf8(path).ok().and_then(|path| self.special.get_mut(path));
        let permitted = permitted.ok_or(ErrorName::Einval)?;
        if domain != DomainId::DOM0 {
            return Err(ErrorName::Eacces);
        }
        *permitted = NodePermissions::new(permissions);
        Ok(OK.to_vec())
    }
}

fn domain_argument(payload: &[u8]) -> Result<DomainId, ErrorName> {
    decimal(one(payload)?).map(DomainId).ok_or(ErrorName::Einval)
}

/// Permissions of what only domain 0 may use.
fn private() -> NodePermissions {
    NodePermissions::new(Permissions::private(DomainId::DOM0))
}
