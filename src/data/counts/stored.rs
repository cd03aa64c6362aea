//! The counts of all namespaces: the part of the store that knows words.
//!
//! The store calls it in the two passes of a record: [`StoredCounts::change`] sets counts on the side that nobody
//! reads, and [`StoredCounts::reconcile`] makes the sides equal once every reader has moved over.

use super::{
    index::{CountIndex, EntryOffset, IndexWriter, Prefetcher, Side},
    word_counts::WordCounts,
};
use crate::{
    base::atomics::ArcSwap,
    base::hash::WordHasher,
    base::limits,
    data::record::{NamespaceChange, WordCount},
};
use std::{collections::BTreeMap, sync::Arc};

type NamespaceMap = BTreeMap<Box<str>, Arc<CountIndex>>;

/// The counts as the Writer of the store holds them.
pub(crate) struct StoredCounts {
    hasher: WordHasher,
    namespaces: BTreeMap<Box<str>, StoredNamespace>,
    /// The digest of `namespaces` as they are: each namespace's own, times its factor, added up.
    digest: u64,
    bytes: usize,
    /// True if the record at hand has changed which namespaces there are.
    names_changed: bool,
    /// Of the words of the change at hand.
    hashes: Vec<u64>,
}

struct StoredNamespace {
    words: IndexWriter,
    factor: u64,
}

impl StoredNamespace {
    fn new(hasher: WordHasher, name: &str) -> Self {
        // What waits for counters comes and goes at their rate, and its largest amounts mean nothing.
        let words =
            if name == limits::QUEUES_NAMESPACE { IndexWriter::unranked(hasher) } else { IndexWriter::new(hasher) };
        Self { words, factor: hasher.namespace_factor(name) }
    }

    fn digest(&self) -> u64 {
        self.words.digest().wrapping_mul(self.factor)
    }
}

/// The namespaces as the readers of one side find them. Written only while nobody reads that side.
#[derive(Default)]
pub(crate) struct CountsSide {
    names: ArcSwap<NamespaceMap>,
}

/// Facts about a change's words that are known before it is applied: their hashes and, if somebody has looked, their
/// offsets.
pub(crate) struct WordLookups<'a> {
    /// The words, in the order of the change's counts.
    pub(crate) words: &'a WordCounts,
    /// As many, or none.
    pub(crate) offsets: &'a [EntryOffset],
}

impl WordLookups<'_> {
    fn each(&self) -> impl Iterator<Item = (u64, EntryOffset)> + Clone {
        let offsets = self.offsets.iter().copied().chain(std::iter::repeat(EntryOffset::UNKNOWN));
        self.words.hashes().zip(offsets)
    }
}

impl StoredCounts {
    pub(crate) fn new(hasher: WordHasher) -> Self {
        Self { hasher, namespaces: BTreeMap::new(), digest: 0, bytes: 0, names_changed: false, hashes: Vec::new() }
    }

    /// The Writer's view of a namespace.
    pub(crate) fn index(&self, namespace: &str) -> Option<&IndexWriter> {
        self.namespaces.get(namespace).map(|namespace| &namespace.words)
    }

    /// Counts the namespaces.
    pub(crate) fn namespaces(&self) -> usize {
        self.namespaces.len()
    }

    /// The digest of the counts as they are.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Memory in bytes, as far as it grows with what is stored.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first pass of a record: sets every count on `side`, which nobody reads. `lookups` has an element for each
    /// change, or none.
    pub(crate) fn change(
        &mut self,
        changes: &[NamespaceChange<'_>],
        lookups: &[WordLookups<'_>],
        side: Side,
        shown: &CountsSide,
    ) {
        self.names_changed = false;
        for (at, change) in changes.iter().enumerate() {
            self.change_namespace(change, lookups.get(at), side);
        }
        if self.names_changed {
            shown.names.store(self.shared_names());
        }
    }

    fn change_namespace(&mut self, change: &NamespaceChange<'_>, lookups: Option<&WordLookups<'_>>, side: Side) {
        // First, because a record may drop a namespace and count in it again.
        if change.dropped
            && let Some(gone) = self.namespaces.remove(change.namespace)
        {
            self.digest = self.digest.wrapping_sub(gone.digest());
            self.bytes -= gone.words.bytes();
            self.names_changed = true;
        }
        // A drop alone must not make the namespace anew.
        if change.counts.is_empty() {
            return;
        }
        let hasher = self.hasher;
        let namespace = self.namespaces.entry(change.namespace.into()).or_insert_with(|| {
            let namespace = StoredNamespace::new(hasher, change.namespace);
            self.bytes += namespace.words.bytes();
            self.names_changed = true;
            namespace
        });
        let (digest, bytes) = (namespace.digest(), namespace.words.bytes());
        match lookups {
            Some(lookups) => {
                assert_eq!(lookups.words.len(), change.counts.len(), "something is known of each word, or of none");
                set_counts(&mut namespace.words, &change.counts, lookups.each(), side);
            }
            None => {
                self.hashes.clear();
                self.hashes.extend(change.counts.iter().map(|counted| hasher.hash(counted.word)));
                let hashes = self.hashes.iter().map(|&hash| (hash, EntryOffset::UNKNOWN));
                set_counts(&mut namespace.words, &change.counts, hashes, side);
            }
        }
        namespace.words.before_flip(side);
        self.digest = self.digest.wrapping_sub(digest).wrapping_add(namespace.digest());
        self.bytes = self.bytes - bytes + namespace.words.bytes();
        if namespace.words.distinct() == 0 {
            self.bytes -= namespace.words.bytes();
            self.namespaces.remove(change.namespace); // a namespace without a word is absent, as a count of zero is
            self.names_changed = true;
        }
    }

    /// Tells the rankings that are being made what the first pass has changed, before readers see it.
    pub(crate) fn note_changes(&self, changes: &[NamespaceChange<'_>]) {
        changes.iter().filter_map(|change| self.index(change.namespace)).for_each(IndexWriter::note_changes);
    }

    /// The second pass: makes the other side equal to `side`, to which every reader has moved.
    pub(crate) fn reconcile(
        &mut self,
        changes: &[NamespaceChange<'_>],
        side: Side,
        shown: &CountsSide,
        other: &CountsSide,
    ) {
        for name in changes.iter().map(|change| change.namespace) {
            if let Some(StoredNamespace { words, .. }) = self.namespaces.get_mut(name) {
                let bytes = words.bytes();
                words.reconcile(side);
                self.bytes = self.bytes - bytes + words.bytes();
            }
        }
        // Readers of the other side needed the old namespaces until the flip.
        if self.names_changed {
            other.names.store(shown.names.load_full());
        }
    }

    /// Takes counts of a snapshot's image, which nobody reads before [`StoredCounts::end_load`].
    pub(crate) fn load(&mut self, change: &NamespaceChange<'_>) {
        let hasher = self.hasher;
        let new = || StoredNamespace::new(hasher, change.namespace);
        let namespace = self.namespaces.entry(change.namespace.into()).or_insert_with(new);
        for WordCount { word, count } in &change.counts {
            namespace.words.load(hasher.hash(word), word, *count);
        }
    }

    /// Shows the counts of a snapshot's image, which is whole now, on both sides.
    pub(crate) fn end_load<'a>(&mut self, sides: impl IntoIterator<Item = &'a CountsSide>) {
        self.namespaces.values_mut().for_each(|namespace| namespace.words.end_load());
        self.namespaces.retain(|_, namespace| namespace.words.distinct() > 0);
        self.digest = self.namespaces.values().map(StoredNamespace::digest).fold(0, u64::wrapping_add);
        self.bytes = self.namespaces.values().map(|namespace| namespace.words.bytes()).sum();
        let names = self.shared_names();
        sides.into_iter().for_each(|side| side.names.store(Arc::clone(&names)));
    }

    /// The namespaces as readers find them.
    fn shared_names(&self) -> Arc<NamespaceMap> {
        let each = self.namespaces.iter();
        Arc::new(each.map(|(name, namespace)| (name.clone(), Arc::clone(namespace.words.shared()))).collect())
    }
}

/// Sets counts on `side`, each with its hash and perhaps its offset.
fn set_counts(
    words: &mut IndexWriter,
    counts: &[WordCount<'_>],
    known: impl Iterator<Item = (u64, EntryOffset)> + Clone,
    side: Side,
) {
    let mut ahead = Prefetcher::new(known.clone());
    for (counted, (hash, offset)) in counts.iter().zip(known) {
        ahead.fetch(words);
        words.set_at(offset, hash, counted.word, counted.count, side);
    }
}

impl CountsSide {
    /// Looks at the counts of a namespace; `None` if there is no such namespace.
    #[inline]
    pub(crate) fn with<T>(&self, namespace: &str, look: impl FnOnce(&CountIndex) -> T) -> Option<T> {
        self.names.load().get(namespace).map(|words| look(words))
    }

    /// The counts of a namespace, to be kept beyond the guard.
    pub(crate) fn index(&self, namespace: &str) -> Option<Arc<CountIndex>> {
        self.names.load().get(namespace).map(Arc::clone)
    }

    /// Gives something of each namespace, in the order of their names.
    pub(crate) fn each<T>(&self, mut look: impl FnMut(&str, &CountIndex) -> T) -> Vec<T> {
        self.names.load().iter().map(|(name, words)| look(name, words)).collect()
    }
}
