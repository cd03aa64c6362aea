//! Reading a store, from any thread and without a lock.

use super::{DedupCursor, DedupEntry, SharedState, SideState, StateId, left_right::SideGuard};
use crate::{
    base::atomics::Ordering,
    base::clock::LoggedTime,
    base::hash::WordHasher,
    base::limits,
    base::position::{EpochTable, Position, PositionStatus},
    data::counts::index::{CountIndex, IndexWalk, Side},
    data::entries::view::CollectionWalk,
    data::entries::{CollectionId, CollectionKind, CollectionTotals, Entry, EntryPage, EntryTotals},
};
use std::sync::Arc;

/// Number of times that a walk looks at a piece without a guard before it takes one.
const OPTIMISTIC_READS: usize = 3;

/// Words with their counts, largest first, equal counts by word, all at one position.
pub type StoreRanking = (StateId, Vec<(String, i64)>);

/// Reads a store from any thread. Cheap to clone.
#[derive(Clone)]
pub struct StoreReader {
    pub(super) shared: Arc<SharedState>,
}

impl StoreReader {
    /// The hasher of this database.
    pub fn hasher(&self) -> WordHasher {
        self.shared.hasher
    }

    /// A view of the current position; wait-free.
    ///
    /// # Panics
    /// If this thread holds a guard already.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_> {
        let inside = self.shared.gate.enter();
        ReadGuard { shared: &self.shared, side: &self.shared.sides[inside.side.index()], inside }
    }

    /// The ends of past epochs.
    pub fn epochs(&self) -> Arc<EpochTable> {
        self.shared.epochs.load_full()
    }

    /// Classifies `asked` in the history that readers see.
    pub fn position_status(&self, asked: Position) -> PositionStatus {
        let applied = self.read().position();
        // In this order: see `Store::set_epochs`. A table that is newer than the position changes no answer.
        self.shared.epochs.load().position_status(asked, applied)
    }

    /// A walk over one namespace in pieces; `None` for a namespace that does not exist.
    pub fn scan(&self, namespace: &str) -> Option<NamespaceScan> {
        let guard = self.read();
        let words = guard.side.counts.index(namespace)?;
        // The walk needs no guard between its pieces: it holds the namespace's words, and goes on over them even if the
        // namespace is dropped meanwhile.
        drop(guard);
        Some(NamespaceScan { reader: self.clone(), walk: IndexWalk::new(words) })
    }

    /// The `n` largest counts of a namespace at one position, descending, ties by word.
    pub fn top(&self, namespace: &str, n: usize) -> (Position, Vec<(String, i64)>) {
        let (state, top) = self.top_with_state(namespace, n);
        (state.position, top)
    }

    pub(super) fn top_with_state(&self, namespace: &str, n: usize) -> StoreRanking {
        let n = n.min(limits::MAX_TOP);
        let guard = self.read();
        let state = guard.state_id();
        let position = state.position;
        let Some(words) = guard.side.counts.index(namespace) else { return (state, Vec::new()) };
        // A position names one state, so what was ranked for this position is the answer.
        if let Some(known) = words.known_top(position, n) {
            return (state, known);
        }
        let candidates = words.candidates(guard.inside.side);
        drop(guard); // ranking takes longer than reading: not under the guard
        let top = candidates.top(n);
        words.keep_top(position, n, &top);
        (state, top)
    }

    /// Reads a piece of a walk, which fits one look at either side. A walk that holds a guard and loses its core would
    /// hold up the Writer, so it first tries to read without one.
    pub(super) fn peek_or_enter(&self, mut read: impl FnMut(Side)) {
        let gate = &self.shared.gate;
        if !(0..OPTIMISTIC_READS).any(|_| gate.peek(&mut read).is_some()) {
            let inside = gate.enter();
            read(inside.side);
        }
    }

    /// A page of the entries of a collection that have not expired at `now` and whose keys begin with `prefix`, behind
    /// the key `after`, at most `limit`. An entry that is there during a whole walk comes once; the pages are each of
    /// some position.
    pub fn entries_page(
        &self,
        collection: CollectionId<'_>,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: LoggedTime,
    ) -> EntryPage {
        let walk = CollectionWalk::new(collection, self.hasher(), after);
        walk.page(prefix, limit, now, |walk| {
            let guard = self.read();
            walk.step(&self.shared.entries, &guard.side.entries)
        })
    }

    /// A walk over the entries of all collections.
    pub fn scan_entries(&self) -> EntryScan {
        let guard = self.read();
        let collections = self.shared.entries.collections();
        drop(guard);
        EntryScan { reader: self.clone(), collections, hash: Some(0) }
    }

    /// The sums over all entries.
    pub fn entry_totals(&self) -> EntryTotals {
        self.shared.entries.totals()
    }

    /// The namespaces that have entries of one kind, with how much there is: as of the record that readers see, or of
    /// the one before.
    pub fn collection_totals(&self, kind: CollectionKind) -> Vec<(Box<str>, CollectionTotals)> {
        self.shared.entries.collection_totals(kind)
    }

    /// Gives the state and the time of the last record, at a moment when the window holds exactly what was applied.
    pub fn state_id_with_window(&self) -> (StateId, LoggedTime) {
        let window = self.shared.window.lock();
        // The lock comes first: the Writer holds it over the flip, so no record gets in between window and position.
        (self.read().state_id(), window.time_ms())
    }

    /// The next entries of the window ([`DedupWindow::chunk`](super::DedupWindow::chunk)).
    pub fn window_chunk(&self, cursor: &mut DedupCursor, count: usize) -> Vec<DedupEntry> {
        self.shared.window.lock().chunk(cursor, count)
    }

    /// Gives the last entry of a namespace's stream ([`DedupWindow::stream_entry`](super::DedupWindow::stream_entry)).
    pub fn stream(&self, namespace: &str, name: &str) -> Option<DedupEntry> {
        self.shared.window.lock().stream_entry(namespace, name).cloned()
    }

    /// Keys and streams remembered.
    pub fn window_len(&self) -> (usize, usize) {
        self.shared.window.lock().len()
    }

    /// Memory of the words in bytes, as far as it grows with them.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

/// A view of one position. Not `Send`: never held across an await. To be held for microseconds, because the Writer
/// waits for guards taken before its last record.
pub struct ReadGuard<'a> {
    shared: &'a SharedState,
    pub(super) side: &'a SideState,
    pub(super) inside: SideGuard<'a>,
}

impl ReadGuard<'_> {
    /// The position this guard shows.
    #[inline]
    pub fn position(&self) -> Position {
        self.side.position()
    }

    /// The position with its digest and chain.
    pub fn state_id(&self) -> StateId {
        let (digest, chain) = (&self.side.digest, &self.side.chain);
        StateId {
            position: self.position(),
            digest: digest.load(Ordering::Relaxed),
            chain: chain.load(Ordering::Relaxed),
        }
    }

    /// The digest of everything.
    pub fn digest(&self) -> u64 {
        self.state_id().digest
    }

    /// The count of a word; 0 for a word, or a namespace, that is not there.
    #[inline]
    pub fn count(&self, namespace: &str, word: &str) -> i64 {
        let (hash, side) = (self.shared.hasher.hash(word), self.inside.side);
        self.side.counts.with(namespace, |words| words.count(hash, word, side)).unwrap_or(0)
    }

    /// Returns whether there is such a namespace.
    #[inline]
    pub fn holds(&self, namespace: &str) -> bool {
        self.side.counts.with(namespace, |_| ()).is_some()
    }

    /// The entry of a key, whatever its expiry; wait-free.
    #[inline]
    pub fn entry(&self, collection: CollectionId<'_>, key: &str) -> Option<Entry> {
        self.shared.entries.get(&self.side.entries, self.shared.hasher, collection, key)
    }

    /// Every namespace with its number of distinct words.
    pub fn namespaces(&self) -> Vec<(String, u64)> {
        self.side.counts.each(|name, words| (name.to_owned(), words.distinct(self.inside.side)))
    }

    /// Every namespace with its size.
    pub fn namespace_sizes(&self) -> Vec<NamespaceSize> {
        let side = self.inside.side;
        let size = |name: &str, words: &CountIndex| NamespaceSize {
            name: name.to_owned(),
            words: words.distinct(side),
            total: words.total(side),
            bytes: words.bytes(),
        };
        self.side.counts.each(size)
    }
}

/// A namespace and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSize {
    /// Its name.
    pub name: String,
    /// Distinct words.
    pub words: u64,
    /// The sum of all counts; the nearest `i64` where it is beyond.
    pub total: i64,
    /// Memory in bytes, as far as it grows with the words.
    pub bytes: u64,
}

impl NamespaceSize {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A walk over the words of a namespace, in pieces that are each read at one position.
pub struct NamespaceScan {
    reader: StoreReader,
    walk: IndexWalk,
}

impl NamespaceScan {
    /// Gives the next piece, some hundred words; `false` once nothing is left. Every count is exact at some position
    /// since the walk began; words that came later may be missing.
    pub fn step(&mut self, each: impl FnMut(&str, i64)) -> bool {
        if !self.walk.has_more() {
            return false;
        }
        self.reader.peek_or_enter(|side| self.walk.read(side));
        self.walk.give(each);
        true
    }
}

/// A walk over the entries of all collections, a piece at a time, each read at one position.
pub struct EntryScan {
    reader: StoreReader,
    /// The collections that are left, the next one last.
    collections: Vec<(CollectionKind, Box<str>)>,
    /// The least hash that is left of it.
    hash: Option<u64>,
}

impl EntryScan {
    /// Gives the entries of the next piece; `false` once nothing is left. Entries that came since the walk began may be
    /// missing.
    pub fn step(&mut self, mut each: impl FnMut(CollectionId<'_>, &Entry)) -> bool {
        let Some((kind, namespace)) = self.collections.last() else { return false };
        let collection = CollectionId::new(*kind, namespace);
        let mut walk = CollectionWalk::at_hash(collection, self.reader.hasher(), self.hash);
        let guard = self.reader.read();
        let piece = walk.step(&self.reader.shared.entries, &guard.side.entries);
        drop(guard);
        match piece {
            Some(entries) => {
                entries.iter().for_each(|entry| each(collection, entry));
                self.hash = walk.next_hash();
            }
            // All of it was given, or it is gone by now.
            None => {
                self.collections.pop();
                self.hash = Some(0);
            }
        }
        true
    }
}
