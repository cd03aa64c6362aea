//! Namespaces, the idempotency window, the position and the digest, as one value.
//!
//! Records change it by [`Store::apply`] alone: the leader's Writer, a replica and recovery all come through it. An
//! image of a snapshot is loaded before anybody reads ([`Store::load_image`]), and records over it by
//! [`Store::apply_over_image`]. Readers hold a [`StoreReader`] and look through a [`ReadGuard`], which shows one
//! position, whole posts only, and never waits (`data/store/left_right.rs`).

mod dedup;
mod left_right;

pub use dedup::{DedupCursor, DedupEntry, DedupLimits, DedupWindow, RepeatCheck};

use crate::{
    base::atomics::{ArcSwap, AtomicU64, Ordering},
    base::clock::LoggedTime,
    base::hash::WordHasher,
    base::limits,
    base::position::{EpochTable, Position, PositionStatus},
    data::counts::index::{CountIndex, EntryOffset, IndexWalk, IndexWriter, Prefetcher, Side},
    data::counts::word_counts::WordCounts,
    data::record::{NamespaceChange, Record, WordCount},
};
use left_right::{LeftRight, SideGuard};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

type NamespaceMap = BTreeMap<Box<str>, Arc<CountIndex>>;

/// Number of times that a walk looks at a piece without a guard before it takes one.
const OPTIMISTIC_READS: usize = 3;

/// The state that a record leads to did not have the digest the record states: this copy is not the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {position} leads to digest {found:016x}, not {stated:016x} as it states")]
pub struct DigestMismatch {
    /// The record.
    pub position: Position,
    /// The digest it states.
    pub stated: u64,
    /// The digest it led to here.
    pub found: u64,
}

/// A position with what identifies the history that led to it: digest and chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StateId {
    /// The last record applied.
    pub position: Position,
    /// The digest of all counts.
    pub digest: u64,
    /// The hash of all records up to it, in order.
    pub chain: u64,
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
}

impl NamespaceSize {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The database in memory, as its one Writer holds it.
pub struct Store {
    shared: Arc<SharedState>,
    names: BTreeMap<Box<str>, StoredNamespace>,
    /// The digest of `names` as they are: each namespace's own, times its factor, added up.
    digest: u64,
    bytes: usize,
    state_id: StateId,
    time_ms: LoggedTime,
    /// Of the words of the change at hand.
    hashes: Vec<u64>,
}

/// Facts about a change's words that are known before it is applied: their hashes and, if somebody has looked, their
/// places.
pub(crate) struct WordLookups<'a> {
    /// The words, in the order of the change's counts.
    pub(crate) words: &'a WordCounts,
    /// As many, or none.
    pub(crate) places: &'a [EntryOffset],
}

impl WordLookups<'_> {
    fn each(&self) -> impl Iterator<Item = (u64, EntryOffset)> + Clone {
        let places = self.places.iter().copied().chain(std::iter::repeat(EntryOffset::UNKNOWN));
        self.words.hashes().zip(places)
    }
}

struct StoredNamespace {
    words: IndexWriter,
    factor: u64,
}

impl StoredNamespace {
    fn new(hasher: WordHasher, name: &str) -> Self {
        Self { words: IndexWriter::new(hasher), factor: hasher.namespace_factor(name) }
    }

    fn digest(&self) -> u64 {
        self.words.digest().wrapping_mul(self.factor)
    }
}

struct SharedState {
    hasher: WordHasher,
    gate: LeftRight,
    sides: [SideState; 2],
    /// Locked by the Writer over the flip of each record, so that whoever holds it sees window and position agree.
    window: Mutex<DedupWindow>,
    bytes: AtomicU64,
    /// The ends of past epochs, never behind the epoch of either side.
    epochs: ArcSwap<EpochTable>,
}

/// The state of one side besides counts. Written only while nobody reads that side.
#[derive(Default)]
struct SideState {
    epoch: AtomicU64,
    sequence: AtomicU64,
    digest: AtomicU64,
    chain: AtomicU64,
    names: ArcSwap<NamespaceMap>,
}

impl Store {
    /// An empty store.
    pub fn new(hasher: WordHasher, window: DedupLimits) -> Self {
        let shared = SharedState {
            hasher,
            gate: LeftRight::default(),
            sides: Default::default(),
            window: Mutex::new(DedupWindow::new(hasher, window)),
            bytes: AtomicU64::new(0),
            epochs: ArcSwap::default(),
        };
        Self {
            shared: Arc::new(shared),
            names: BTreeMap::new(),
            digest: 0,
            bytes: 0,
            state_id: StateId::default(),
            time_ms: LoggedTime::ZERO,
            hashes: Vec::new(),
        }
    }

    /// A handle for readers.
    pub fn reader(&self) -> StoreReader {
        StoreReader { shared: Arc::clone(&self.shared) }
    }

    /// Gives the position of the store, with digest and chain.
    pub fn mark(&self) -> StateId {
        self.state_id
    }

    /// The time of the last record.
    pub fn time_ms(&self) -> LoggedTime {
        self.time_ms
    }

    /// The hasher of this database.
    pub fn hasher(&self) -> WordHasher {
        self.shared.hasher
    }

    /// Applies a record, whole: no reader sees a part of it.
    ///
    /// # Errors
    /// [`DigestMismatch`] if the counts do not lead to the digest the record states. Readers then stay at the record
    /// before, and the store must not be used to apply more.
    pub fn apply(&mut self, record: &Record<'_>, chain: u64) -> Result<(), DigestMismatch> {
        let mark = StateId { position: record.position, digest: record.digest_after, chain };
        self.change(&record.body.changes, &[], record, mark, true)
    }

    /// [`Store::apply`] for a record of which more is known than it says: something of each change.
    ///
    /// # Errors
    /// [`DigestMismatch`] as of [`Store::apply`]: the counts do not lead to the digest that the record states.
    pub(crate) fn apply_known(
        &mut self,
        record: &Record<'_>,
        known: &[WordLookups<'_>],
        chain: u64,
    ) -> Result<(), DigestMismatch> {
        let mark = StateId { position: record.position, digest: record.digest_after, chain };
        self.change(&record.body.changes, known, record, mark, true)
    }

    /// Applies a record over an image whose counts may be newer than the record (`snapshot/`): right only once every
    /// record up to the image's end is applied, so the digest is checked there ([`Store::digest`]) and not here.
    pub fn apply_over_image(&mut self, record: &Record<'_>, chain: u64) {
        let mark = StateId { position: record.position, digest: record.digest_after, chain };
        // Nothing is compared, so nothing can differ.
        let _ = self.change(&record.body.changes, &[], record, mark, false);
    }

    /// Takes counts of a snapshot's image. They are there once [`Store::end_image`] has been called; until then nobody
    /// may read or write.
    pub fn load_image(&mut self, change: &NamespaceChange<'_>) {
        let hasher = self.shared.hasher;
        let new = || StoredNamespace::new(hasher, change.namespace);
        let namespace = self.names.entry(change.namespace.into()).or_insert_with(new);
        for WordCount { word, count } in &change.counts {
            namespace.words.load(hasher.hash(word), word, *count);
        }
    }

    /// A snapshot's image is whole; the position stays.
    pub fn end_image(&mut self) {
        self.names.values_mut().for_each(|namespace| namespace.words.end_load());
        self.names.retain(|_, namespace| namespace.words.distinct() > 0);
        self.digest = self.names.values().map(StoredNamespace::digest).fold(0, u64::wrapping_add);
        self.bytes = self.names.values().map(|namespace| namespace.words.bytes()).sum();
        self.shared.bytes.store(self.bytes as u64, Ordering::Relaxed);
        let names = self.shared_names();
        self.shared.sides.iter().for_each(|side| side.names.store(Arc::clone(&names)));
    }

    /// Puts an entry of a snapshot's window back.
    pub fn restore_window(&mut self, entry: DedupEntry) {
        self.time_ms = self.time_ms.max(entry.time_ms);
        self.shared.window.lock().restore(entry);
    }

    /// Sets where the store stands once an image is loaded, with the time of its last record.
    pub fn set_state_id(&mut self, mark: StateId, time_ms: LoggedTime) {
        self.time_ms = self.time_ms.max(time_ms);
        self.shared.window.lock().expire(self.time_ms);
        self.state_id = mark;
        let side = self.shared.gate.side().other();
        self.shared.sides[side.index()].set(mark);
        self.shared.gate.flip();
        self.shared.sides[side.other().index()].set(mark);
    }

    /// Sets the ends of past epochs. Called before the store stands in a later epoch, by [`Store::apply`] or
    /// [`Store::set_state_id`].
    pub fn set_epochs(&mut self, epochs: EpochTable) {
        // Readers take the table after the position, and the flip orders the two. A position of the epoch before, held
        // against a table that does not know how that epoch ended, would count as lost.
        self.shared.epochs.store(Arc::new(epochs));
    }

    /// The digest of the counts as they are.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The writer's view of a namespace, for admission.
    pub(crate) fn namespace(&self, name: &str) -> Option<&IndexWriter> {
        self.names.get(name).map(|namespace| &namespace.words)
    }

    /// Counts the namespaces.
    pub fn namespaces(&self) -> usize {
        self.names.len()
    }

    /// Memory in bytes, as far as it grows with what is stored.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks up a keyed write at `now` ([`DedupWindow::check`]).
    pub fn check_repeat(
        &self,
        once: &crate::data::counts::word_counts::IdempotencyKey,
        fingerprint: u128,
        now: LoggedTime,
        ahead: usize,
    ) -> RepeatCheck {
        self.shared.window.lock().check(once, fingerprint, now, ahead)
    }

    /// Returns whether a stream takes no room in the window ([`DedupWindow::has_expired`]).
    pub fn has_expired(&self, stream: &str, now: LoggedTime) -> bool {
        self.shared.window.lock().has_expired(stream, now)
    }

    fn change(
        &mut self,
        changes: &[NamespaceChange<'_>],
        known: &[WordLookups<'_>],
        record: &Record<'_>,
        mark: StateId,
        check: bool,
    ) -> Result<(), DigestMismatch> {
        let side = self.shared.gate.side().other();
        // The long part of a record runs before the window is locked and while readers stay where they are.
        let dropped = self.first_pass(changes, known, side);
        // Before the flip: readers then stay at the last good record, and never see a state that is not the leader's.
        if check && self.digest != record.digest_after {
            return Err(DigestMismatch { position: record.position, stated: record.digest_after, found: self.digest });
        }
        // A record that is applied over an image may be older than the window that was restored with it.
        self.time_ms = self.time_ms.max(record.time_ms);
        self.state_id = mark;
        let shared = Arc::clone(&self.shared);
        let mut window = shared.window.lock();
        // By the record's time and by no clock of this node: all nodes forget the same keys at the same record.
        window.expire(record.time_ms);
        for settled in &record.body.keyed_writes {
            window.record(settled, record.position, record.time_ms);
        }
        // With this the side is complete: the flip shows counts, namespaces and position at one moment.
        shared.sides[side.index()].set(mark);
        shared.gate.flip();
        drop(window);
        // Nobody reads the other side any more. The stores are relaxed, since the next flip orders them.
        shared.sides[side.other().index()].set(mark);
        for name in changes.iter().map(|change| change.namespace) {
            if let Some(StoredNamespace { words, .. }) = self.names.get_mut(name) {
                let bytes = words.bytes();
                words.reconcile(side);
                self.bytes = self.bytes - bytes + words.bytes();
            }
        }
        // Readers of the other side needed the old namespaces until the flip.
        if dropped {
            shared.sides[side.other().index()].names.store(shared.sides[side.index()].names.load_full());
        }
        shared.bytes.store(self.bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Sets every count on `side`; returns whether the set of namespaces changed.
    fn first_pass(&mut self, changes: &[NamespaceChange<'_>], known: &[WordLookups<'_>], side: Side) -> bool {
        let mut names_changed = false;
        for (at, change) in changes.iter().enumerate() {
            // First, because a record may drop a namespace and count in it again.
            if change.dropped
                && let Some(gone) = self.names.remove(change.namespace)
            {
                self.digest = self.digest.wrapping_sub(gone.digest());
                self.bytes -= gone.words.bytes();
                names_changed = true;
            }
            // A drop alone must not make the namespace anew.
            if change.counts.is_empty() {
                continue;
            }
            let hasher = self.shared.hasher;
            let namespace = self.names.entry(change.namespace.into()).or_insert_with(|| {
                let namespace = StoredNamespace::new(hasher, change.namespace);
                self.bytes += namespace.words.bytes();
                names_changed = true;
                namespace
            });
            let (digest, bytes) = (namespace.digest(), namespace.words.bytes());
            match known.get(at) {
                Some(known) => {
                    assert_eq!(known.words.len(), change.counts.len(), "something is known of each word, or of none");
                    set(&mut namespace.words, &change.counts, known.each(), side);
                }
                None => {
                    self.hashes.clear();
                    self.hashes.extend(change.counts.iter().map(|counted| hasher.hash(counted.word)));
                    let hashes = self.hashes.iter().map(|&hash| (hash, EntryOffset::UNKNOWN));
                    set(&mut namespace.words, &change.counts, hashes, side);
                }
            }
            namespace.words.before_flip(side);
            self.digest = self.digest.wrapping_sub(digest).wrapping_add(namespace.digest());
            self.bytes = self.bytes - bytes + namespace.words.bytes();
            if namespace.words.distinct() == 0 {
                self.bytes -= namespace.words.bytes();
                self.names.remove(change.namespace); // a namespace without a word is absent, as a count of zero is
                names_changed = true;
            }
        }
        if names_changed {
            self.shared.sides[side.index()].names.store(self.shared_names());
        }
        names_changed
    }

    /// The namespaces as readers find them.
    fn shared_names(&self) -> Arc<NamespaceMap> {
        let names = self.names.iter();
        Arc::new(names.map(|(name, namespace)| (name.clone(), Arc::clone(namespace.words.shared()))).collect())
    }
}

/// Sets counts on `side`, each with its hash and perhaps its place.
fn set(
    words: &mut IndexWriter,
    counts: &[WordCount<'_>],
    known: impl Iterator<Item = (u64, EntryOffset)> + Clone,
    side: Side,
) {
    let mut ahead = Prefetcher::new(known.clone());
    for (counted, (hash, place)) in counts.iter().zip(known) {
        ahead.fetch(words);
        words.set_at(place, hash, counted.word, counted.count, side);
    }
}

impl SideState {
    fn set(&self, mark: StateId) {
        self.epoch.store(mark.position.epoch, Ordering::Relaxed);
        self.sequence.store(mark.position.sequence, Ordering::Relaxed);
        self.digest.store(mark.digest, Ordering::Relaxed);
        self.chain.store(mark.chain, Ordering::Relaxed);
    }

    fn position(&self) -> Position {
        Position::new(self.epoch.load(Ordering::Relaxed), self.sequence.load(Ordering::Relaxed))
    }
}

/// Reads a store from any thread. Cheap to clone.
#[derive(Clone)]
pub struct StoreReader {
    shared: Arc<SharedState>,
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
        let words = guard.side.names.load().get(namespace).map(Arc::clone)?;
        // The walk needs no guard between its pieces: it holds the namespace's words, and goes on over them even if the
        // namespace is dropped meanwhile.
        drop(guard);
        Some(NamespaceScan { reader: self.clone(), walk: IndexWalk::new(words) })
    }

    /// The `n` largest counts of a namespace at one position, descending, ties by word.
    pub fn top(&self, namespace: &str, n: usize) -> (Position, Vec<(String, i64)>) {
        let n = n.min(limits::MAX_TOP);
        let guard = self.read();
        let position = guard.position();
        let Some(words) = guard.side.names.load().get(namespace).map(Arc::clone) else { return (position, Vec::new()) };
        // A position names one state, so what was ranked for this position is the answer.
        if let Some(known) = words.known_top(position, n) {
            return (position, known);
        }
        let candidates = words.candidates(guard.inside.side);
        drop(guard); // ranking takes longer than reading: not under the guard
        let top = candidates.top(n);
        words.keep_top(position, n, &top);
        (position, top)
    }

    /// Gives the state and the time of the last record, at a moment when the window holds exactly what was applied.
    pub fn state_id_with_window(&self) -> (StateId, LoggedTime) {
        let window = self.shared.window.lock();
        // The lock comes first: the Writer holds it over the flip, so no record gets in between window and position.
        (self.read().state_id(), window.time_ms())
    }

    /// The next entries of the window ([`DedupWindow::chunk`]).
    pub fn window_chunk(&self, cursor: &mut DedupCursor, count: usize) -> Vec<DedupEntry> {
        self.shared.window.lock().chunk(cursor, count)
    }

    /// Gives the last entry of a stream ([`DedupWindow::stream_entry`]).
    pub fn stream(&self, name: &str) -> Option<DedupEntry> {
        self.shared.window.lock().stream_entry(name).cloned()
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
    side: &'a SideState,
    inside: SideGuard<'a>,
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
        let hash = self.shared.hasher.hash(word);
        self.words(namespace, |words, side| words.count(hash, word, side)).unwrap_or(0)
    }

    /// Every namespace with its number of distinct words.
    pub fn namespaces(&self) -> Vec<(String, u64)> {
        let names = self.side.names.load();
        names.iter().map(|(name, words)| (name.to_string(), words.distinct(self.inside.side))).collect()
    }

    /// Every namespace with its size.
    pub fn namespace_sizes(&self) -> Vec<NamespaceSize> {
        let (names, side) = (self.side.names.load(), self.inside.side);
        let each = names.iter();
        each.map(|(name, words)| NamespaceSize {
            name: name.to_string(),
            words: words.distinct(side),
            total: words.total(side),
        })
        .collect()
    }

    #[inline]
    fn words<T>(&self, namespace: &str, look: impl FnOnce(&CountIndex, Side) -> T) -> Option<T> {
        self.side.names.load().get(namespace).map(|words| look(words, self.inside.side))
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
        // A walk that holds a guard and loses its core would hold up the Writer, so it first tries to read without one.
        let gate = &self.reader.shared.gate;
        if !(0..OPTIMISTIC_READS).any(|_| gate.peek(|side| self.walk.read(side)).is_some()) {
            let inside = gate.enter();
            self.walk.read(inside.side);
        }
        self.walk.give(each);
        true
    }
}
