//! The nodes, and how transactions see them.

use std::collections::HashMap;

use xenpcid_address::DomainId;

use crate::{Access, Path, Permissions};

/// Permissions, and the domains whose entries are not theirs any more: they name an earlier domain with that number.
#[derive(Clone, Debug)]
pub(super) struct NodePermissions {
    pub(super) listed: Permissions,
    stale: Vec<DomainId>,
}

impl NodePermissions {
    pub(super) fn new(listed: Permissions) -> Self {
        Self { listed, stale: Vec::new() }
    }

    pub(super) fn access(&self, domain: DomainId) -> Access {
        let own = domain == DomainId::DOM0 || domain == self.listed.owner;
        if !own && self.stale.contains(&domain) { self.listed.default } else { self.listed.access(domain) }
    }
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Vec<u8>,
    pub(super) permissions: NodePermissions,
    /// Names in the order in which they were created, which is the order of DIRECTORY.
    pub(super) children: Vec<String>,
    /// Changes with each change of this node itself; a child's creation or removal is one, a child's value is not.
    pub(super) generation: u64,
}

impl Node {
    pub(super) fn new(permissions: NodePermissions) -> Self {
        Self { value: Vec::new(), permissions, children: Vec::new(), generation: 0 }
    }
}

/// The nodes that everybody sees.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: HashMap<Path, Node>,
    last_generation: u64,
}

impl Tree {
    fn put(&mut self, path: Path, mut node: Node) {
        self.last_generation = self.last_generation.wrapping_add(1);
        node.generation = self.last_generation;
        self.nodes.insert(path, node);
    }

    fn generation(&self, path: &Path) -> Option<u64> {
        self.nodes.get(path).map(|node| node.generation)
    }

    /// Paths of the nodes that a domain owns, those above before those below.
    pub(super) fn owned_by(&self, domain: DomainId) -> Vec<Path> {
        let owned = self.nodes.iter().filter(|(_, node)| node.permissions.listed.owner == domain);
        let mut paths: Vec<Path> = owned.map(|(path, _)| path.clone()).collect();
        paths.sort();
        paths
    }

    /// A new domain gets nothing from entries that were made before it.
    pub(super) fn disinherit(&mut self, domain: DomainId) {
        for node in self.nodes.values_mut() {
            if node.permissions.listed.others.iter().any(|(other, _)| *other == domain) {
                node.permissions.stale.push(domain);
            }
        }
    }
}

/// A change that watches are told about.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) path: Path,
    /// Only watches of exactly this path: the node went away together with one above it.
    pub(super) exact: bool,
    /// Permissions before and after the change; who could read the node at either time may know.
    pub(super) permissions: Vec<NodePermissions>,
}

/// What a transaction has done with one node.
#[derive(Debug)]
struct Touched {
    /// Generation when it was first used; `None` if there was no such node. Committing requires that it still holds.
    base: Option<u64>,
    /// The node as the transaction sees it.
    node: Option<Node>,
    change: Option<Change>,
}

/// A transaction: the nodes it has used, in its own copies. A node that it has not used yet is read from the common
/// tree, as xenstored does: there is no snapshot, but a commit finds out whether anything that was used has changed.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    touched: HashMap<Path, Touched>,
    /// Paths in the order of their first change.
    changed: Vec<Path>,
    /// It went beyond a limit, so it cannot be committed.
    pub(super) failed: bool,
}

/// The tree, or a transaction's view of it.
pub(super) struct View<'a> {
    tree: &'a mut Tree,
    transaction: Option<&'a mut Transaction>,
    /// Changes made outside of a transaction.
    pub(super) changes: Vec<Change>,
}

impl<'a> View<'a> {
    pub(super) fn new(tree: &'a mut Tree, transaction: Option<&'a mut Transaction>) -> Self {
        Self { tree, transaction, changes: Vec::new() }
    }

    /// A node as it is seen here.
    pub(super) fn get(&mut self, path: &Path) -> Option<&Node> {
        match &mut self.transaction {
            None => self.tree.nodes.get(path),
            Some(transaction) => transaction.touch(self.tree, path).node.as_ref(),
        }
    }

    /// Stores a node that is there, or whose parent is. Its parent learns of a new child.
    pub(super) fn put(&mut self, path: &Path, node: Node) {
        let new = self.get(path).is_none();
        self.set(path, Some(node), false);
        if new {
            self.add_to_parent(path);
        }
    }

    /// As [`View::put`] of a node above the one that is really wanted: watches are not told.
    pub(super) fn put_silently(&mut self, path: &Path, node: Node) {
        self.add_to_parent(path);
        self.set_silently(path, node);
    }

    fn add_to_parent(&mut self, path: &Path) {
        if let Some((parent_path, mut parent)) = self.parent(path) {
            parent.children.push(path.name().to_owned());
            self.set_silently(&parent_path, parent);
        }
    }

    /// Removes a node and everything below it; false if the node above does not list it. That happens in transactions
    /// that cannot be committed any more: they have used the node above before somebody else made this one.
    pub(super) fn remove(&mut self, path: &Path) -> bool {
        let Some((parent_path, mut parent)) = self.parent(path) else { return false };
        let Some(index) = parent.children.iter().position(|child| child == path.name()) else { return false };
        parent.children.remove(index);
        self.set_silently(&parent_path, parent);
        self.remove_below(path, false);
        true
    }

    fn remove_below(&mut self, path: &Path, exact: bool) {
        let children = self.get(path).map(|node| node.children.clone()).unwrap_or_default();
        for child in children.iter().filter_map(|name| path.child(name).ok()) {
            self.remove_below(&child, true);
        }
        self.set(path, None, exact);
    }

    fn parent(&mut self, path: &Path) -> Option<(Path, Node)> {
        let path = path.parent()?;
        let node = self.get(&path)?.clone();
        Some((path, node))
    }

    /// Changes a node that watches are not told about: a list of children.
    fn set_silently(&mut self, path: &Path, node: Node) {
        match &mut self.transaction {
            None => self.tree.put(path.clone(), node),
            Some(transaction) => {
                transaction.touch(self.tree, path).node = Some(node);
                transaction.note(path);
            }
        }
    }

    fn set(&mut self, path: &Path, node: Option<Node>, exact: bool) {
        let before = self.get(path).map(|node| node.permissions.clone());
        let after = node.as_ref().map(|node| node.permissions.clone());
        let change = Change { path: path.clone(), exact, permissions: before.into_iter().chain(after).collect() };
        match (&mut self.transaction, node) {
            (None, node) => {
                match node {
                    Some(node) => self.tree.put(path.clone(), node),
                    None => drop(self.tree.nodes.remove(path)),
                }
                self.changes.push(change);
            }
            (Some(transaction), node) => {
                let touched = transaction.touch(self.tree, path);
                touched.node = node;
                touched.change = Some(change);
                transaction.note(path);
            }
        }
    }

    /// How many nodes a domain owns.
    pub(super) fn owned_by(&self, domain: DomainId) -> usize {
        let owned = |node: &Node| node.permissions.listed.owner == domain;
        let touched = self.transaction.as_ref().map(|transaction| &transaction.touched);
        let common = self
            .tree
            .nodes
            .iter()
            .filter(|(path, node)| owned(node) && !touched.is_some_and(|touched| touched.contains_key(*path)));
        let own = touched.into_iter().flatten().filter(|(_, touched)| touched.node.as_ref().is_some_and(owned));
        common.count().saturating_add(own.count())
    }

    /// Has the transaction used more nodes than this?
    pub(super) fn exceeds(&self, limit: usize) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.touched.len() > limit)
    }

    /// The transaction cannot be committed any more.
    pub(super) fn fail(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.failed = true;
        }
    }
}

impl Transaction {
    fn touch(&mut self, tree: &Tree, path: &Path) -> &mut Touched {
        self.touched.entry(path.clone()).or_insert_with(|| Touched {
            base: tree.generation(path),
            node: tree.nodes.get(path).cloned(),
            change: None,
        })
    }

    fn note(&mut self, path: &Path) {
        if !self.changed.contains(path) {
            self.changed.push(path.clone());
        }
    }

    /// Makes the changes visible; `None` if something that was used has been changed by somebody else.
    pub(super) fn commit(mut self, tree: &mut Tree) -> Option<Vec<Change>> {
        if self.touched.iter().any(|(path, touched)| tree.generation(path) != touched.base) {
            return None;
        }
        let mut changes = Vec::new();
        for path in &self.changed {
            let Some(touched) = self.touched.remove(path) else { continue };
            // A node that came and went within the transaction never was.
            if touched.base.is_some() || touched.node.is_some() {
                changes.extend(touched.change);
            }
            match touched.node {
                Some(node) => tree.put(path.clone(), node),
                None => drop(tree.nodes.remove(path)),
            }
        }
        Some(changes)
    }
}
