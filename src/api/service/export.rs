//! Everything that a database holds for its clients, as one walk.

use super::query::{ReadQuery, StoredNamespace};
use crate::{
    base::clock::LoggedTime,
    base::position::PositionToken,
    data::content_digest::EntryContent,
    data::counters::{COUNTERS_STORED, shown_namespace},
    data::entries::{CollectionKind, Entry},
    data::store::{EntryScan, NamespaceScan, StoreReader},
    engine::view::ServedDatabase,
    storage::file_header::DatabaseIdentity,
};
use std::{collections::VecDeque, vec};

/// All counts and entries of a namespace, or of all of them.
#[derive(Clone, Debug)]
pub struct WholeContent {
    /// The namespace; `None`: all that clients can name.
    pub namespace: Option<String>,
    /// True if entries are wanted too.
    pub has_entries: bool,
    /// The time of the read.
    pub now: LoggedTime,
}

/// A word or an entry of an export.
#[derive(Clone, Copy, Debug)]
pub enum ExportItem<'a> {
    /// A word with its count.
    Count {
        /// The namespace, as clients name it.
        namespace: &'a str,
        /// True if it is the key of a counter.
        is_counter: bool,
        /// The word.
        word: &'a str,
        /// Its count.
        count: i64,
    },
    /// An entry of a cache, or a post.
    Entry {
        /// Everything about it but its time.
        content: EntryContent<'a>,
        /// Milliseconds until it expires; `None`: it stays.
        expires_in_ms: Option<u64>,
    },
}

/// A walk through counts, namespace by namespace, and through entries behind them. Every count and every entry is the
/// one of some position since the walk began.
pub struct ExportWalk {
    identity: DatabaseIdentity,
    reader: StoreReader,
    namespace: Option<String>,
    /// The namespaces that are left, as they are stored.
    namespaces: vec::IntoIter<String>,
    counts: Option<(String, NamespaceScan)>,
    entries: Option<EntryScan>,
    /// Entries of the piece at hand, with their collections.
    pending: VecDeque<(CollectionKind, Box<str>, Entry)>,
    now: LoggedTime,
}

impl ReadQuery for WholeContent {
    type Answer = ExportWalk;

    fn answer(self, current: &ServedDatabase) -> Option<(ExportWalk, PositionToken)> {
        let Self { namespace, has_entries, now } = self;
        // The position first: what the walk then finds is at this position or a later one.
        let (position, all) = {
            let guard = current.reader.read();
            (guard.position(), guard.namespaces())
        };
        let namespaces = match &namespace {
            Some(name) => vec![StoredNamespace::of(current, name).name.to_owned()],
            None => all.into_iter().map(|(name, _)| name).filter(|name| shown_namespace(name).is_some()).collect(),
        };
        let entries = has_entries.then(|| current.reader.scan_entries());
        let (identity, reader) = (current.identity, current.reader.clone());
        let (namespaces, pending) = (namespaces.into_iter(), VecDeque::new());
        let walk = ExportWalk { identity, reader, namespace, namespaces, counts: None, entries, pending, now };
        Some((walk, identity.token(position)))
    }
}

impl ExportWalk {
    /// The analyzer of the database.
    pub fn analyzer(&self) -> &'static str {
        self.identity.analyzer.name()
    }

    /// The position of now: if it is the one at which the walk began, everything that it has given is of that position.
    pub fn position(&self) -> PositionToken {
        self.identity.token(self.reader.read().position())
    }

    /// Gives some hundred counts more, or one entry, or nothing; `false` once nothing is left.
    pub fn step(&mut self, each: &mut dyn FnMut(ExportItem<'_>)) -> bool {
        if let Some((stored, scan)) = &mut self.counts {
            let (namespace, is_counter) = (shown_namespace(stored).unwrap_or(stored), stored == COUNTERS_STORED);
            let goes_on = scan.step(|word, count| {
                // What was zero at some moment of the walk is absent, as everywhere.
                if count != 0 {
                    each(ExportItem::Count { namespace, is_counter, word, count });
                }
            });
            if !goes_on {
                self.counts = None;
            }
            return true;
        }
        if let Some(stored) = self.namespaces.next() {
            self.counts = self.reader.scan(&stored).map(|scan| (stored, scan));
            return true;
        }
        // One at a time: values are large, and a piece has hundreds.
        if let Some((kind, namespace, entry)) = self.pending.pop_front() {
            let content = EntryContent {
                kind: kind.name(),
                namespace: &namespace,
                key: entry.key(),
                content_type: entry.content_type(),
                is_counted: entry.is_counted(),
                expires: entry.expires().is_some(),
                value: &entry.value(),
            };
            each(ExportItem::Entry { content, expires_in_ms: entry.expires().map(|at| at.since_ms(self.now)) });
            return true;
        }
        let (now, only, pending) = (self.now, self.namespace.as_deref(), &mut self.pending);
        let Some(scan) = &mut self.entries else { return false };
        scan.step(|collection, entry| {
            let is_asked = collection.kind.is_public() && only.is_none_or(|name| name == collection.namespace);
            if is_asked && !entry.has_expired(now) {
                pending.push_back((collection.kind, collection.namespace.into(), entry.clone()));
            }
        })
    }
}
