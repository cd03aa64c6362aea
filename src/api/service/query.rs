//! Reads as queries, answered from the counts in memory.
//!
//! Everything that is not reading (folding, above all) happens outside the guard, and nothing here waits.

use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits::MAX_WORD_BYTES,
    base::position::PositionToken,
    data::counters::{COUNTERS, COUNTERS_STORED, shown_namespace},
    data::entries::{CollectionKind, CollectionTotals},
    data::store::{NamespaceScan, NamespaceSize, ReadGuard},
    engine::view::ServedDatabase,
};
use std::{borrow::Cow, collections::BTreeMap};

/// A question about the counts.
pub trait ReadQuery {
    /// The type of its answer.
    type Answer;

    /// Gives the answer, and the position at which it holds; `None` if a name folds to nothing, so names no word.
    fn answer(self, current: &ServedDatabase) -> Option<(Self::Answer, PositionToken)>;
}

/// The answer to a query.
#[derive(Debug)]
pub struct QueryReply<A> {
    /// The answer itself.
    pub answer: A,
    /// The position at which it holds.
    pub position: PositionToken,
    /// On a follower: the age that it may have, in milliseconds.
    pub lag_ms: Option<u64>,
}

/// A namespace as it is stored.
#[derive(Clone, Copy)]
pub(super) struct StoredNamespace<'a> {
    pub(super) name: &'a str,
    /// True for counters, whose keys are no words: they are not folded.
    pub(super) is_raw: bool,
}

impl<'a> StoredNamespace<'a> {
    #[inline]
    pub(super) fn of(current: &ServedDatabase, name: &'a str) -> Self {
        let is_raw = name == COUNTERS && current.reader.read().holds(COUNTERS_STORED);
        Self { name: if is_raw { COUNTERS_STORED } else { name }, is_raw }
    }

    /// The word that a name stands for.
    #[inline]
    pub(super) fn word<'n>(self, current: &ServedDatabase, name: &'n str) -> Cow<'n, str> {
        if self.is_raw { Cow::Borrowed(name) } else { current.identity.analyzer.normalize(name) }
    }
}

/// The count of one word.
#[derive(Clone, Copy, Debug)]
pub struct CountOf<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// A name that folds to the word.
    pub name: &'a str,
}

impl ReadQuery for CountOf<'_> {
    type Answer = i64;

    #[inline]
    fn answer(self, current: &ServedDatabase) -> Option<(i64, PositionToken)> {
        let namespace = StoredNamespace::of(current, self.namespace);
        let word = namespace.word(current, self.name);
        if word.is_empty() {
            return None;
        }
        let (count, position) = {
            let guard = current.reader.read();
            (count(&guard, namespace.name, &word), guard.position())
        };
        Some((count, current.identity.token(position)))
    }
}

/// The counts of words, in the order of their names, all at one position.
#[derive(Clone, Copy, Debug)]
pub struct CountsOf<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Names that fold to the words.
    pub names: &'a [Cow<'a, str>],
}

impl ReadQuery for CountsOf<'_> {
    type Answer = Vec<i64>;

    fn answer(self, current: &ServedDatabase) -> Option<(Vec<i64>, PositionToken)> {
        let namespace = StoredNamespace::of(current, self.namespace);
        let words: Vec<Cow<'_, str>> = self.names.iter().map(|name| namespace.word(current, name)).collect();
        if words.iter().any(|word| word.is_empty()) {
            return None;
        }
        let mut counts = Vec::with_capacity(words.len());
        let position = {
            let guard = current.reader.read();
            counts.extend(words.iter().map(|word| count(&guard, namespace.name, word)));
            guard.position()
        };
        Some((counts, current.identity.token(position)))
    }
}

#[inline]
fn count(guard: &ReadGuard<'_>, namespace: &str, word: &str) -> i64 {
    // A longer word is never counted.
    if word.len() <= MAX_WORD_BYTES { guard.count(namespace, word) } else { 0 }
}

/// All namespaces that clients can name, with how much each holds.
#[derive(Clone, Copy, Debug)]
pub struct NamespaceList;

/// A namespace with everything in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceReport {
    /// Distinct words.
    pub words: u64,
    /// The sum of all counts.
    pub total: i64,
    /// Memory of the words in bytes.
    pub bytes: u64,
    /// The entries of each kind that it has.
    pub entries: BTreeMap<&'static str, CollectionTotals>,
}

impl ReadQuery for NamespaceList {
    type Answer = BTreeMap<String, NamespaceReport>;

    fn answer(self, current: &ServedDatabase) -> Option<(Self::Answer, PositionToken)> {
        let (position, sizes) = {
            let guard = current.reader.read();
            (guard.position(), guard.namespace_sizes())
        };
        let mut all = BTreeMap::new();
        for NamespaceSize { name, words, total, bytes } in sizes {
            if let Some(name) = shown_namespace(&name) {
                all.insert(name.to_owned(), NamespaceReport { words, total, bytes, entries: BTreeMap::new() });
            }
        }
        for kind in [CollectionKind::Cache, CollectionKind::Posts, CollectionKind::Texts] {
            for (name, totals) in current.reader.collection_totals(kind) {
                all.entry(name.into()).or_insert_with(NamespaceReport::default).entries.insert(kind.name(), totals);
            }
        }
        Some((all, current.identity.token(position)))
    }
}

/// Every word with its count, to be walked through.
#[derive(Clone, Copy, Debug)]
pub struct AllCounts<'a> {
    /// The namespace.
    pub namespace: &'a str,
}

/// A walk that has not begun.
pub struct CountsWalk {
    /// The words; `None` for a namespace that does not exist.
    pub scan: Option<NamespaceScan>,
    /// The digest of all counts at the position of the answer. An old copy put back may come to the same position, but
    /// not to the same digest.
    pub digest: u64,
}

impl ReadQuery for AllCounts<'_> {
    type Answer = CountsWalk;

    fn answer(self, current: &ServedDatabase) -> Option<(CountsWalk, PositionToken)> {
        // The position first: what the walk then finds is at this position or a later one.
        let mark = current.reader.read().state_id();
        let namespace = StoredNamespace::of(current, self.namespace);
        let walk = CountsWalk { scan: current.reader.scan(namespace.name), digest: mark.digest };
        Some((walk, current.identity.token(mark.position)))
    }
}

/// The error where no word is named, or a name holds nothing that counts: an empty one, or underscores and invisible
/// characters alone.
pub fn no_word(kind: ErrorKind) -> ApiError {
    let detail = "name at least one word, such as hello, and none of nothing but underscores and invisible characters";
    ApiError::new(kind, detail)
}
