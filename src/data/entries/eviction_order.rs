//! The order in which entries leave: by their time, or where room is needed.

use super::entry::Entry;
use crate::base::clock::LoggedTime;
use std::{cmp::Ordering, collections::BTreeSet};

/// Behind every time: entries that never expire, by the record that wrote them.
const AFTER_ALL_TIMES: u64 = 1 << 63;

/// Entries in the order in which they leave: what expires next comes first, then, of what never expires, what was
/// least recently written.
#[derive(Default)]
pub(super) struct EvictionOrder(BTreeSet<OrderedEntry>);

#[derive(PartialEq, Eq)]
struct OrderedEntry {
    place: u64,
    entry: Entry,
}

impl OrderedEntry {
    fn new(entry: &Entry) -> Self {
        let place = entry.expires().map_or(AFTER_ALL_TIMES | entry.version(), LoggedTime::as_ms);
        Self { place, entry: entry.clone() }
    }
}

impl Ord for OrderedEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        // Entries of one place in an order that all nodes have, so that their keys decide and no address does.
        let rest = || (self.entry.collection(), self.entry.key()).cmp(&(other.entry.collection(), other.entry.key()));
        self.place.cmp(&other.place).then_with(rest)
    }
}

impl PartialOrd for OrderedEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl EvictionOrder {
    pub(super) fn insert(&mut self, entry: &Entry) {
        self.0.insert(OrderedEntry::new(entry));
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        self.0.remove(&OrderedEntry::new(entry));
    }

    /// All of them, the first to leave first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().map(|ordered| &ordered.entry)
    }

    /// The time of the first that expires.
    pub(super) fn next_expiry(&self) -> Option<LoggedTime> {
        self.0.first().and_then(|first| first.entry.expires())
    }
}
