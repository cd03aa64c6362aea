//! The sums over all entries of a node.

use super::{CollectionKind, entry::Entry};
use crate::data::record::RemovalCause;

/// Numbers of a node's entries. The first two are as of its state, the others since its process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryTotals {
    /// Entries of clients: values of caches, and posts.
    pub entries: u64,
    /// Memory of all entries in bytes, the node's own among them.
    pub bytes: u64,
    /// Entries whose record said that their time had come.
    pub expired: u64,
    /// Entries that made room for others.
    pub evicted: u64,
}

/// Numbers of the entries of one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectionTotals {
    /// The entries.
    pub entries: u64,
    /// Their memory in bytes.
    pub bytes: u64,
}

impl EntryTotals {
    pub(super) fn add(&mut self, kind: CollectionKind, entry: &Entry) {
        self.entries += u64::from(kind.is_public());
        self.bytes += entry.memory_bytes() as u64;
    }

    pub(super) fn remove(&mut self, kind: CollectionKind, entry: &Entry) {
        self.entries -= u64::from(kind.is_public());
        self.bytes -= entry.memory_bytes() as u64;
    }

    /// Counts a removal by its cause.
    pub(super) fn count(&mut self, cause: Option<RemovalCause>) {
        self.expired += u64::from(cause == Some(RemovalCause::Expired));
        self.evicted += u64::from(cause == Some(RemovalCause::Evicted));
    }
}
