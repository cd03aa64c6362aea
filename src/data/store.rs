//! The database in memory: the data of every kind, the idempotency window, the position and the digest, as one value.
//!
//! Records change it by [`Store::apply`] alone: the leader's Writer, a replica and recovery all come through it. A kind
//! of data (`data/counts/`) takes part with two passes over a record and a view for each side; the order between them,
//! the window and the position is here. Readers hold a [`StoreReader`] (`store/reader.rs`) and look through a
//! [`ReadGuard`], which shows one position, whole posts only, and never waits (`store/left_right.rs`). A snapshot's
//! image is loaded before anybody reads (`store/image.rs`).

mod dedup;
mod image;
mod left_right;
mod lookups;
mod ranking;
mod reader;

pub use dedup::{DedupCursor, DedupEntry, DedupLimits, DedupName, DedupWindow, RepeatCheck};
pub use ranking::RankingQuery;
pub use reader::{EntryScan, NamespaceScan, NamespaceSize, ReadGuard, StoreRanking, StoreReader};

use crate::{
    base::atomics::{ArcSwap, AtomicU64, Ordering},
    base::clock::LoggedTime,
    base::hash::WordHasher,
    base::position::{EpochTable, Position},
    data::command::IdempotencyKey,
    data::counts::index::Side,
    data::counts::stored::{CountsSide, StoredCounts},
    data::entries::stored::StoredEntries,
    data::entries::view::{EntriesSide, EntriesView},
    data::record::Record,
};
use left_right::LeftRight;
pub use lookups::ApplyError;
pub(crate) use lookups::RecordLookups;
use parking_lot::Mutex;
use std::sync::Arc;

/// A position with what identifies the history that led to it: digest and chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StateId {
    /// The last record applied.
    pub position: Position,
    /// The digest of all counts and entries.
    pub digest: u64,
    /// The hash of all records up to it, in order.
    pub chain: u64,
}

/// The database in memory, as its one Writer holds it.
pub struct Store {
    shared: Arc<SharedState>,
    counts: StoredCounts,
    /// Boxed, for the sake of those who pass a store on.
    entries: Box<StoredEntries>,
    state_id: StateId,
    time_ms: LoggedTime,
}

struct SharedState {
    hasher: WordHasher,
    gate: LeftRight,
    sides: [SideState; 2],
    /// Locked by the Writer over the flip of each record, so that whoever holds it sees window and position agree.
    window: Mutex<DedupWindow>,
    bytes: AtomicU64,
    entries: EntriesView,
    /// The ends of past epochs, never behind the epoch of either side.
    epochs: ArcSwap<EpochTable>,
}

/// The state of one side. Written only while nobody reads that side.
#[derive(Default)]
struct SideState {
    epoch: AtomicU64,
    sequence: AtomicU64,
    digest: AtomicU64,
    chain: AtomicU64,
    counts: CountsSide,
    entries: EntriesSide,
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
            entries: EntriesView::default(),
            epochs: ArcSwap::default(),
        };
        Self {
            shared: Arc::new(shared),
            counts: StoredCounts::new(hasher),
            entries: Box::new(StoredEntries::new(hasher)),
            state_id: StateId::default(),
            time_ms: LoggedTime::ZERO,
        }
    }

    /// Applies a record, whole: no reader sees a part of it.
    ///
    /// # Errors
    /// [`ApplyError`] if it does not lead to the digest it states, or names too many collections. Readers then stay at
    /// the record before, and the store must not be used to apply more.
    pub fn apply(&mut self, record: &Record<'_>, chain: u64) -> Result<(), ApplyError> {
        self.apply_known(record, &RecordLookups::default(), chain)
    }

    /// [`Store::apply`] for a record of which more is known than it says.
    ///
    /// # Errors
    /// [`ApplyError`] as of [`Store::apply`]: the record does not lead to the digest that it states, for example.
    pub(crate) fn apply_known(
        &mut self,
        record: &Record<'_>,
        lookups: &RecordLookups<'_>,
        chain: u64,
    ) -> Result<(), ApplyError> {
        let side = self.shared.gate.side().other();
        // The long part of a record runs before the window is locked and while readers stay where they are.
        self.change(record, lookups, side)?;
        // Before the flip: readers then stay at the last good record, and never see a state that is not the leader's.
        let (position, stated, found) = (record.position, record.digest_after, self.digest());
        if found != stated {
            return Err(ApplyError::DigestMismatch { position, stated, found });
        }
        self.show(record, chain, side);
        Ok(())
    }

    /// Sets the counts and the entries of a record on `side`, which nobody reads.
    fn change(&mut self, record: &Record<'_>, lookups: &RecordLookups<'_>, side: Side) -> Result<(), ApplyError> {
        let (view, hidden) = (&self.shared.entries, &self.shared.sides[side.index()]);
        self.counts.change(&record.body.changes, &lookups.words, side, &hidden.counts);
        let (changes, version) = (&record.body.entries, record.position.sequence);
        Ok(self.entries.change(changes, &lookups.entries, version, view, &hidden.entries)?)
    }

    /// Shows readers a record whose counts and entries are set on `side`, with its position and its keys, and makes the
    /// other side equal.
    fn show(&mut self, record: &Record<'_>, chain: u64, side: Side) {
        // A record that is applied over an image may be older than the window that was restored with it.
        self.time_ms = self.time_ms.max(record.time_ms);
        self.state_id = StateId { position: record.position, digest: record.digest_after, chain };
        let (shown, other) = (&self.shared.sides[side.index()], &self.shared.sides[side.other().index()]);
        let mut window = self.shared.window.lock();
        // By the record's time and by no clock of this node: all nodes forget the same keys at the same record.
        window.expire(record.time_ms);
        for settled in &record.body.keyed_writes {
            window.record(settled, record.position, record.time_ms);
        }
        self.counts.note_changes(&record.body.changes);
        // With this the side is complete: the flip shows data, position and digest at one moment.
        shown.set(self.state_id);
        self.shared.gate.flip();
        drop(window);
        // Nobody reads the other side any more. The stores are relaxed, since the next flip orders them.
        other.set(self.state_id);
        self.counts.reconcile(&record.body.changes, side, &shown.counts, &other.counts);
        self.entries.reconcile(&self.shared.entries, &shown.entries);
        self.shared.bytes.store(self.counts.bytes() as u64, Ordering::Relaxed);
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

    /// Sets the ends of past epochs. Called before the store stands in a later epoch, by [`Store::apply`] or
    /// [`Store::set_state_id`].
    pub fn set_epochs(&mut self, epochs: EpochTable) {
        // Readers take the table after the position, and the flip orders the two. A position of the epoch before, held
        // against a table that does not know how that epoch ended, would count as lost.
        self.shared.epochs.store(Arc::new(epochs));
    }

    /// The digest of all counts and entries as they are.
    pub fn digest(&self) -> u64 {
        self.counts.digest().wrapping_add(self.entries.digest())
    }

    /// Memory of the counts in bytes, as far as it grows with what is stored.
    pub fn bytes(&self) -> usize {
        self.counts.bytes()
    }

    /// Counts the namespaces.
    pub fn namespaces(&self) -> usize {
        self.counts.namespaces()
    }

    /// The counts as the Writer sees them, for admission.
    pub(crate) fn counts(&self) -> &StoredCounts {
        &self.counts
    }

    /// The entries as the Writer sees them, for admission and expiry.
    pub(crate) fn entries(&self) -> &StoredEntries {
        &self.entries
    }

    /// Looks up a keyed write by namespace, name and fingerprint at `now` ([`DedupWindow::check`]).
    pub fn check_repeat(&self, named: (&str, &IdempotencyKey, u128), now: LoggedTime, ahead: usize) -> RepeatCheck {
        self.shared.window.lock().check(named, now, ahead)
    }

    /// Returns whether a stream takes no room in the window ([`DedupWindow::has_expired`]).
    pub fn has_expired(&self, namespace: &str, stream: &str, now: LoggedTime) -> bool {
        self.shared.window.lock().has_expired(namespace, stream, now)
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
