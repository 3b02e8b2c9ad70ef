//! Limits for domains other than 0, with the defaults of xenstored 4.17.

/// How much an unprivileged domain may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Nodes that it owns.
    pub nodes: usize,
    /// Watches. xenstored allows one more than the 128 that are configured.
    pub watches: usize,
    /// Size of one node in bytes: value, names of children, 8 for each permission and 24 more. This limits the
    /// number of children, too. A node of exactly this size is too large.
    pub node_size: usize,
    /// Transactions open at a time. xenstored allows one more than the 10 that are configured.
    pub transactions: usize,
    /// Permissions of one node.
    pub permissions: usize,
    /// Nodes that one transaction uses.
    pub transaction_nodes: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self { nodes: 1000, watches: 129, node_size: 2048, transactions: 11, permissions: 5, transaction_nodes: 1024 }
    }
}
