//! The half of a commit group that knows words: it decides which new counts a record states.
//!
//! Each batch is admitted on its own, against the stored counts and those that the group has already. A batch that is
//! refused changes nothing.

mod block;
mod bounds;
mod removal;
mod room;
mod sum;

pub use bounds::{AdmissionLimits, CountsRefusal, NamespaceRoom};

use super::{
    WriteOp,
    index::{EntryOffset, IndexWriter, MemoryReservation},
    stored::{StoredCounts, WordLookups},
    word_counts::WordCounts,
};
use crate::{
    base::hash::{WordHasher, weight},
    base::limits,
    data::record::{NamespaceChange, WordCount},
};
use block::TAKEN_OVER_WORDS;
use std::collections::BTreeMap;

/// The counts that a commit group changes.
pub(crate) struct PendingCounts {
    hasher: WordHasher,
    namespaces: BTreeMap<Box<str>, PendingNamespace>,
    /// Namespaces that the store does not have yet.
    new_namespaces: usize,
    /// Upper bound of the memory that the group will add, in bytes.
    reserved_bytes: usize,
    /// Amounts that were not taken back in full, since the count would have gone below zero.
    clamped: u64,
    /// True if it is a block of text, which has no index to look words up in.
    has_block: bool,
    /// Of the batch at hand: a buffer that is used again.
    sums: BatchSums,
}

/// The changes of one namespace.
struct PendingNamespace {
    dropped: bool,
    /// New absolute counts.
    counts: WordCounts,
    /// Offsets of the words of `counts`, as long as one batch is all there is.
    offsets: Vec<EntryOffset>,
    /// The digest of the namespace once these are applied.
    digest: u64,
    reservation: MemoryReservation,
    /// Of a namespace that has a quota, and of removals.
    grown: room::NamespaceGrowth,
}

/// What a batch makes of its words, in their order.
#[derive(Default)]
struct BatchSums {
    counts: Vec<CountStep>,
    offsets: Vec<EntryOffset>,
}

/// A count before a batch and after it.
#[derive(Clone, Copy)]
struct CountStep {
    before: i64,
    after: i64,
}

/// The part of a record that is about counts.
pub(crate) struct CountChanges<'a> {
    pub(crate) changes: Vec<NamespaceChange<'a>>,
    /// Facts about the words of each change.
    pub(crate) lookups: Vec<WordLookups<'a>>,
    /// The digest of all counts once the changes are applied.
    pub(crate) digest_after: u64,
}

impl PendingCounts {
    pub(crate) fn new(hasher: WordHasher) -> Self {
        Self {
            hasher,
            namespaces: BTreeMap::new(),
            new_namespaces: 0,
            reserved_bytes: 0,
            clamped: 0,
            has_block: false,
            sums: BatchSums::default(),
        }
    }

    /// Forgets all changes: another record starts.
    pub(crate) fn clear(&mut self, stored: &StoredCounts) {
        // The buffers of the default namespace serve again; others are rare enough to be made anew.
        self.namespaces.retain(|name, _| **name == *limits::DEFAULT_NAMESPACE);
        for pending in self.namespaces.values_mut() {
            pending.counts.clear();
            pending.offsets.clear();
            pending.reservation.clear();
            (pending.dropped, pending.grown) = (false, Default::default());
            pending.digest = stored.index(limits::DEFAULT_NAMESPACE).map_or(0, |words| words.digest());
        }
        (self.new_namespaces, self.reserved_bytes, self.has_block) = (0, 0, false);
        self.clamped = 0;
    }

    /// Returns whether there is nothing to log.
    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.values().all(|pending| pending.counts.is_empty() && !pending.dropped)
    }

    /// Counts the amounts that were not taken back in full.
    pub(crate) fn clamped(&self) -> u64 {
        self.clamped
    }

    /// Returns whether these are a block of text, behind which nothing else goes into the record.
    pub(crate) fn has_block(&self) -> bool {
        self.has_block
    }

    /// Takes the words of a batch in.
    ///
    /// # Errors
    /// [`CountsRefusal`] if one of the new counts, a new namespace or their memory is beyond its bound; nothing has
    /// changed then.
    pub(crate) fn admit(
        &mut self,
        stored: &StoredCounts,
        limits: &AdmissionLimits,
        (op, namespace): (WriteOp, &str),
        batch: &mut WordCounts,
    ) -> Result<(), CountsRefusal> {
        match op {
            WriteOp::Add | WriteOp::AddGiven | WriteOp::Exchange => {
                self.add(stored, limits, (op, namespace), batch)?;
            }
            WriteOp::RemoveWords => self.remove_words(stored, namespace, batch),
            WriteOp::DropNamespace => self.drop_whole(stored, namespace),
            WriteOp::Increment | WriteOp::RemoveCounter => unreachable!("the group makes amounts of it"),
        }
        Ok(())
    }

    fn add(
        &mut self,
        stored: &StoredCounts,
        limits: &AdmissionLimits,
        (op, namespace): (WriteOp, &str),
        batch: &mut WordCounts,
    ) -> Result<(), CountsRefusal> {
        if batch.is_empty() {
            return Ok(());
        }
        let words = stored.index(namespace);
        let is_pending = self.namespaces.get(namespace).is_some_and(|pending| !pending.counts.is_empty());
        let is_known = words.is_some() || is_pending;
        if !is_known && stored.namespaces() + self.new_namespaces >= limits.namespaces {
            return Err(CountsRefusal::TooManyNamespaces);
        }
        // Pairs of counts at most double what words take: so far from the budget nobody needs to look for them.
        let is_near = stored.bytes().saturating_mul(2).saturating_add(self.reserved_bytes) > limits.memory_bytes;
        let pending = pending_of(&mut self.namespaces, self.hasher, stored, namespace);
        let added = pending.sum_up(words, op, batch, is_near, &mut self.sums);
        let added = added.inspect_err(|_| pending.reservation.rollback())?;
        let of_namespace = if is_known { 0 } else { IndexWriter::EMPTY_BYTES };
        let reserved = self.reserved_bytes + of_namespace + added;
        let has_room = || words.is_none_or(|words| words.has_room());
        // A batch that takes no memory is admitted even if the budget is used up: known words go on counting.
        let grows = reserved > self.reserved_bytes;
        if grows && !(has_room() && stored.bytes().saturating_add(reserved) <= limits.memory_bytes) {
            pending.reservation.rollback();
            return Err(CountsRefusal::MemoryFull);
        }
        if let Some(room) = limits.room {
            let taken = room.take(&self.sums, of_namespace + added);
            pending.grown.add(taken.inspect_err(|_| pending.reservation.rollback())?);
        }
        pending.reservation.commit();
        if pending.counts.is_empty() && batch.len() >= TAKEN_OVER_WORDS {
            self.has_block = Self::is_block(batch);
            pending.take_over(batch, &self.sums.counts);
            std::mem::swap(&mut pending.offsets, &mut self.sums.offsets);
        } else {
            pending.offsets.clear();
            for (counted, step) in batch.iter().zip(&self.sums.counts) {
                pending.set(counted.hash, counted.word, *step);
            }
        }
        self.reserved_bytes = reserved;
        self.new_namespaces += usize::from(!is_known);
        Ok(())
    }

    /// Gives the record's part about counts.
    pub(crate) fn changes(&self, stored: &StoredCounts) -> CountChanges<'_> {
        let (mut changes, mut lookups, mut digest_after) = (Vec::new(), Vec::new(), stored.digest());
        for (namespace, pending) in &self.namespaces {
            if pending.counts.is_empty() && !pending.dropped {
                continue;
            }
            // Only the difference that the group makes is added: nothing is summed up anew, however many words there
            // are.
            let factor = self.hasher.namespace_factor(namespace);
            let before = stored.index(namespace).map_or(0, |words| words.digest());
            digest_after = digest_after.wrapping_add(pending.digest.wrapping_sub(before).wrapping_mul(factor));
            let each = pending.counts.iter();
            let counts = each.map(|counted| WordCount { word: counted.word, count: counted.amount }).collect();
            changes.push(NamespaceChange { namespace, dropped: pending.dropped, counts });
            lookups.push(WordLookups { words: &pending.counts, offsets: &pending.offsets });
        }
        CountChanges { changes, lookups, digest_after }
    }
}

/// A group's changes of a namespace, begun from the stored one.
fn pending_of<'a>(
    all: &'a mut BTreeMap<Box<str>, PendingNamespace>,
    hasher: WordHasher,
    stored: &StoredCounts,
    namespace: &str,
) -> &'a mut PendingNamespace {
    if !all.contains_key(namespace) {
        let pending = PendingNamespace {
            dropped: false,
            counts: WordCounts::new(hasher),
            offsets: Vec::new(),
            digest: stored.index(namespace).map_or(0, |words| words.digest()),
            reservation: MemoryReservation::new(),
            grown: room::NamespaceGrowth::default(),
        };
        all.insert(namespace.into(), pending);
    }
    all.get_mut(namespace).expect("it was just put there")
}

impl PendingNamespace {
    /// The count of a word with the group's changes, and its offset if the group has not changed it.
    fn count(&self, words: Option<&IndexWriter>, hash: u64, word: &str) -> (i64, EntryOffset) {
        let changed = if self.counts.is_empty() { None } else { self.counts.get(hash, word) };
        match (changed, words) {
            (Some(count), _) => (count, EntryOffset::UNKNOWN),
            (None, Some(words)) if !self.dropped => words.locate(hash, word),
            _ => (0, EntryOffset::UNKNOWN),
        }
    }

    fn set(&mut self, hash: u64, word: &str, step: CountStep) {
        self.digest = self.digest.wrapping_sub(weight(hash, step.before)).wrapping_add(weight(hash, step.after));
        self.counts.set_hashed(hash, word, step.after);
    }
}
