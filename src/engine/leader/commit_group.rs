//! A group of batches on their way to becoming one record.
//!
//! Each batch is admitted on its own, against the state and what the group has already: one that must be refused
//! changes nothing, and the others go on.

use super::{WriteError, WriteReceipt};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::hash::{WordHasher, weight},
    base::limits,
    base::position::Position,
    data::counts::index::{EntryOffset, IndexWriter, MemoryReservation, PAIR_BYTES, Prefetcher},
    data::counts::word_counts::{IdempotencyKey, WordCounts, WriteBatch, WriteOp},
    data::record::{KeyedWrite, NamespaceChange, RecordBody, WordCount},
    data::store::{DedupEntry, RepeatCheck, Store, WordLookups},
};
use std::collections::{BTreeMap, HashMap};

/// A batch of so many words gives its buffer of counts to a group that has no words yet. A smaller one does not: the
/// group's own buffer is larger.
const TAKEN_OVER_WORDS: usize = 256;

/// Bounds on what is admitted.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Memory the words may take, in bytes.
    pub memory_bytes: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self { memory_bytes: usize::MAX }
    }
}

/// Batches that are admitted and not yet logged.
pub(super) struct CommitGroup {
    hasher: WordHasher,
    position: Position,
    now: LoggedTime,
    names: BTreeMap<Box<str>, GroupNamespace>,
    /// By name of key or stream, with a mark that tells the two apart.
    recorded: HashMap<(bool, Box<str>), DedupEntry>,
    /// Idempotency entries of the group, in order: the posts of one stream may be several.
    order: Vec<DedupEntry>,
    /// Room of the window that the group takes, for keys and for streams.
    taken: (usize, usize),
    new_namespaces: usize,
    /// Bytes of the record, about.
    bytes: usize,
    /// Upper bound of the memory that the group will add, in bytes.
    reserved_bytes: usize,
    members: usize,
    /// True if it is a block of text, which has no index to look words up in.
    has_block: bool,
    /// Of the batch at hand: the old and the new count of each word, and its offset.
    counts: Vec<i64>,
    places: Vec<EntryOffset>,
}

struct GroupNamespace {
    dropped: bool,
    /// New absolute counts.
    counts: WordCounts,
    /// Offsets of the words of `counts`, as long as one batch is all there is.
    places: Vec<EntryOffset>,
    /// The digest of the namespace once these are applied.
    digest: u64,
    growth: MemoryReservation,
}

impl CommitGroup {
    pub(super) fn new(hasher: WordHasher) -> Self {
        Self {
            hasher,
            position: Position::ZERO,
            now: LoggedTime::ZERO,
            names: BTreeMap::new(),
            recorded: HashMap::new(),
            order: Vec::new(),
            taken: (0, 0),
            new_namespaces: 0,
            bytes: 0,
            reserved_bytes: 0,
            members: 0,
            has_block: false,
            counts: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Empties the group for the record at `position`.
    pub(super) fn start(&mut self, position: Position, now: LoggedTime, store: &Store) {
        // The buffers of the default namespace serve again; others are rare enough to be made anew.
        self.names.retain(|name, _| **name == *limits::DEFAULT_NAMESPACE);
        for names in self.names.values_mut() {
            names.counts.clear();
            names.places.clear();
            names.growth.clear();
            names.dropped = false;
        }
        if let (Some(names), stored) =
            (self.names.get_mut(limits::DEFAULT_NAMESPACE), store.namespace(limits::DEFAULT_NAMESPACE))
        {
            names.digest = stored.map_or(0, |words| words.digest());
        }
        self.recorded.clear();
        self.order.clear();
        (self.position, self.now) = (position, now);
        (self.taken, self.new_namespaces, self.bytes, self.reserved_bytes, self.members) = ((0, 0), 0, 0, 0, 0);
        self.has_block = false;
    }

    /// Returns whether there is nothing to log.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.names.values().all(|names| names.counts.is_empty() && !names.dropped)
    }

    /// Returns whether the record is large enough.
    pub(super) fn is_full(&self) -> bool {
        self.members >= limits::MAX_BATCHES_PER_RECORD || self.bytes >= limits::GROUP_BYTES || self.has_block
    }

    /// Returns whether a batch becomes a record of its own: a block of text comes without an index, and making one
    /// costs more than a record.
    pub(super) fn wants_alone(batch: &WriteBatch) -> bool {
        !batch.counts.is_indexed() && batch.counts.len() >= TAKEN_OVER_WORDS
    }

    /// Takes a batch in and gives its receipt, for a repeat that of the first one; or says why not: nothing has changed
    /// then.
    pub(super) fn admit(
        &mut self,
        store: &Store,
        bounds: &AdmissionLimits,
        batch: &mut WriteBatch,
    ) -> Result<WriteReceipt, WriteError> {
        let bytes = batch.counts.text_bytes() + 12 * batch.counts.len() + 64;
        let mut receipt = WriteReceipt {
            position: self.position,
            words: batch.words,
            distinct: batch.counts.len() as u64,
            left_out: batch.left_out,
            acks: 0,
            replayed: false,
            stream_last: None,
        };
        if let Some(once) = &batch.key {
            // Before every other check: a repeat gets the first answer, also if there would be no room for it by now.
            match self.check_repeat(store, once, batch.fingerprint) {
                RepeatCheck::New => {}
                RepeatCheck::Repeat(entry) => return Ok(repeat_of(&entry, once)),
                RepeatCheck::Reused => return Err(WriteError::KeyReused),
                RepeatCheck::Gap { expected } => return Err(WriteError::StreamGap { expected }),
                RepeatCheck::Full if once.dedup_key().0 => return Err(WriteError::StreamWindowFull),
                RepeatCheck::Full => return Err(WriteError::WindowFull),
            }
        }
        match batch.op {
            WriteOp::Add | WriteOp::AddGiven => self.add(store, bounds, batch)?,
            WriteOp::RemoveWords => self.remove(store, batch),
            WriteOp::DropNamespace => self.drop_namespace(store, &batch.namespace),
        }
        if let Some(once) = &batch.key {
            receipt.stream_last = self.record_key(store, once, batch, &receipt);
        }
        self.bytes += bytes;
        self.members += 1;
        Ok(receipt)
    }

    /// The record's body, what is known of its words beside, and the digest it leads to.
    pub(super) fn body(&self, store: &Store) -> (RecordBody<'_>, Vec<WordLookups<'_>>, u64) {
        let mut digest = store.digest();
        let (mut changes, mut known) = (Vec::new(), Vec::new());
        for (name, names) in &self.names {
            if names.counts.is_empty() && !names.dropped {
                continue;
            }
            // Only the difference that the group makes is added: nothing is summed up anew, however many words there
            // are.
            let factor = self.hasher.namespace_factor(name);
            let before = store.namespace(name).map_or(0, |words| words.digest());
            digest = digest.wrapping_add(names.digest.wrapping_sub(before).wrapping_mul(factor));
            let counts =
                names.counts.iter().map(|counted| WordCount { word: counted.word, count: counted.amount }).collect();
            changes.push(NamespaceChange { namespace: name, dropped: names.dropped, counts });
            known.push(WordLookups { words: &names.counts, places: &names.places });
        }
        let settled = self.order.iter().map(|entry| KeyedWrite {
            name: &entry.name,
            stream_sequence: entry.stream_sequence,
            fingerprint: entry.fingerprint,
            words: entry.words,
            distinct: entry.distinct,
            left_out: entry.left_out,
        });
        (RecordBody { changes, keyed_writes: settled.collect() }, known, digest)
    }

    fn check_repeat(&self, store: &Store, once: &IdempotencyKey, fingerprint: u128) -> RepeatCheck {
        let (stream, name, _) = once.dedup_key();
        // The group first: it is not in the window before its record is applied, and a repeat may come in the same
        // group.
        let seen = match self.recorded.get(&(stream, name.into())) {
            Some(entry) => entry.compare(once, fingerprint),
            None => store.check_repeat(once, fingerprint, self.now, if stream { self.taken.1 } else { self.taken.0 }),
        };
        inject!(CountsLinesAgain, {
            if let (RepeatCheck::Gap { expected }, IdempotencyKey::Lines { done, .. }) = (&seen, once)
                && done + 1 < *expected
            {
                return RepeatCheck::New;
            }
        });
        inject!(TakesAnyText, {
            if let (RepeatCheck::Reused, IdempotencyKey::Lines { .. }) = (&seen, once) {
                return RepeatCheck::New;
            }
        });
        seen
    }

    fn record_key(
        &mut self,
        store: &Store,
        once: &IdempotencyKey,
        batch: &WriteBatch,
        receipt: &WriteReceipt,
    ) -> Option<u64> {
        let (stream, name, stream_sequence) = once.dedup_key();
        // Of lines, the entry has the sums over the whole stream.
        let (words, left_out) = match once {
            IdempotencyKey::Lines { words, left_out, .. } => (words + receipt.words, left_out + receipt.left_out),
            _ => (receipt.words, receipt.left_out),
        };
        let entry = DedupEntry {
            name: name.into(),
            stream_sequence,
            fingerprint: batch.fingerprint,
            running: 0, // the window works it out
            position: self.position,
            time_ms: self.now,
            words,
            distinct: receipt.distinct,
            left_out,
        };
        let is_first = self.recorded.insert((stream, name.into()), entry.clone()).is_none();
        // What goes on with a stream takes no room, unless the stream had lost it: then only lines go on with it.
        let has_lost_it = || matches!(once, IdempotencyKey::Lines { .. }) && store.has_expired(name, self.now);
        let mut takes_room = is_first && (once.starts_stream() || has_lost_it());
        inject!(CountsStreamsTwice, takes_room = is_first);
        if takes_room {
            *(if stream { &mut self.taken.1 } else { &mut self.taken.0 }) += 1;
        }
        self.order.push(entry);
        stream.then_some(stream_sequence)
    }

    fn add(&mut self, store: &Store, bounds: &AdmissionLimits, batch: &mut WriteBatch) -> Result<(), WriteError> {
        if batch.counts.is_empty() {
            return Ok(());
        }
        let words = store.namespace(&batch.namespace);
        let begun = self.names.get(&batch.namespace).is_some_and(|names| !names.counts.is_empty());
        let known = words.is_some() || begun;
        if !known && store.namespaces() + self.new_namespaces >= limits::MAX_NAMESPACES {
            return Err(WriteError::TooManyNamespaces(limits::MAX_NAMESPACES));
        }
        let names = names_of(&mut self.names, self.hasher, store, &batch.namespace);
        let base = if known { self.reserved_bytes } else { self.reserved_bytes + IndexWriter::EMPTY_BYTES };
        let found = (&mut self.counts, &mut self.places);
        let grows = names.sums(store, bounds, batch, base, found).inspect_err(|_| names.growth.rollback())?;
        let has_room = || words.is_none_or(|words| words.has_room());
        // A batch that takes no memory is admitted even if the budget is used up: known words go on counting.
        if grows > self.reserved_bytes && !(has_room() && store.bytes().saturating_add(grows) <= bounds.memory_bytes) {
            names.growth.rollback();
            return Err(WriteError::MemoryFull);
        }
        names.growth.commit();
        if names.counts.is_empty() && batch.counts.len() >= TAKEN_OVER_WORDS {
            self.has_block = Self::wants_alone(batch);
            names.take_over(&mut batch.counts, &self.counts);
            std::mem::swap(&mut names.places, &mut self.places);
        } else {
            names.places.clear();
            for (counted, pair) in batch.counts.iter().zip(self.counts.chunks_exact(2)) {
                names.set(counted.hash, counted.word, pair[0], pair[1]);
            }
        }
        self.reserved_bytes = grows;
        self.new_namespaces += usize::from(!known);
        Ok(())
    }

    fn remove(&mut self, store: &Store, batch: &WriteBatch) {
        let names = names_of(&mut self.names, self.hasher, store, &batch.namespace);
        names.places.clear();
        let words = store.namespace(&batch.namespace);
        for counted in batch.counts.iter() {
            let (count, _) = names.count(words, counted.hash, counted.word);
            if count != 0 {
                names.set(counted.hash, counted.word, count, 0);
            }
        }
    }

    fn drop_namespace(&mut self, store: &Store, namespace: &str) {
        let names = names_of(&mut self.names, self.hasher, store, namespace);
        names.counts.clear();
        names.places.clear();
        names.digest = 0;
        // What only this group has counted is forgotten without a trace in the record.
        names.dropped = store.namespace(namespace).is_some();
    }
}

/// A group's changes of a namespace, begun from the stored one.
fn names_of<'a>(
    all: &'a mut BTreeMap<Box<str>, GroupNamespace>,
    hasher: WordHasher,
    store: &Store,
    namespace: &str,
) -> &'a mut GroupNamespace {
    if !all.contains_key(namespace) {
        let digest = store.namespace(namespace).map_or(0, |words| words.digest());
        all.insert(
            namespace.into(),
            GroupNamespace {
                dropped: false,
                counts: WordCounts::new(hasher),
                places: Vec::new(),
                digest,
                growth: MemoryReservation::new(),
            },
        );
    }
    all.get_mut(namespace).expect("it was just put there")
}

impl GroupNamespace {
    /// The count of a word with the group's changes, and its offset if the group has not changed it.
    fn count(&self, words: Option<&IndexWriter>, hash: u64, word: &str) -> (i64, EntryOffset) {
        let changed = if self.counts.is_empty() { None } else { self.counts.get(hash, word) };
        match (changed, words) {
            (Some(count), _) => (count, EntryOffset::UNKNOWN),
            (None, Some(words)) if !self.dropped => words.locate(hash, word),
            _ => (0, EntryOffset::UNKNOWN),
        }
    }

    /// Writes the old and the new count of each of the batch's words to `counts`, and their offsets to `places`.
    /// Returns an upper bound of the memory that group and batch will add, `grows` being the group's.
    fn sums(
        &mut self,
        store: &Store,
        bounds: &AdmissionLimits,
        batch: &WriteBatch,
        mut grows: usize,
        (counts, places): (&mut Vec<i64>, &mut Vec<EntryOffset>),
    ) -> Result<usize, WriteError> {
        let words = store.namespace(&batch.namespace);
        // Pairs of counts at most double what words take: so far from the budget nobody needs to look for them.
        let is_near = store.bytes().saturating_mul(2).saturating_add(grows) > bounds.memory_bytes;
        counts.clear();
        places.clear();
        let mut ahead = Prefetcher::new(batch.counts.hashes().map(|hash| (hash, EntryOffset::UNKNOWN)));
        for counted in batch.counts.iter() {
            if let Some(words) = words {
                ahead.fetch(words);
            }
            let (count, place) = self.count(words, counted.hash, counted.word);
            places.push(place);
            let Some(sum) = sum_of(batch.op, count, counted.amount) else {
                let word = counted.word.to_owned();
                return Err(match batch.op {
                    WriteOp::AddGiven => WriteError::BeyondBound { word },
                    _ => WriteError::Overflow { word },
                });
            };
            if count == 0 {
                grows += self.growth.of_word(words, counted.hash, counted.word);
            } else if is_near
                && let Some(words) = words
                && words.widens(counted.hash, counted.word, sum)
                // An earlier batch of the group has paid for it.
                && !words.widens(counted.hash, counted.word, count)
            {
                grows += PAIR_BYTES;
            }
            counts.extend([count, sum]);
        }
        Ok(grows)
    }

    /// Makes a batch's word counts the group's, in exchange for the empty ones, so that its words need not go into
    /// another index. `counts` has the old and the new count of each.
    fn take_over(&mut self, tally: &mut WordCounts, counts: &[i64]) {
        std::mem::swap(&mut self.counts, tally);
        let mut digest = self.digest;
        for (hash, pair) in self.counts.hashes().zip(counts.chunks_exact(2)) {
            digest = digest.wrapping_sub(weight(hash, pair[0])).wrapping_add(weight(hash, pair[1]));
        }
        self.digest = digest;
        inject!(TakesOverAmounts, return);
        self.counts.amounts_mut().zip(counts.chunks_exact(2)).for_each(|(amount, pair)| *amount = pair[1]);
    }

    fn set(&mut self, hash: u64, word: &str, before: i64, count: i64) {
        self.digest = self.digest.wrapping_sub(weight(hash, before)).wrapping_add(weight(hash, count));
        self.counts.set_hashed(hash, word, count);
    }
}

/// The count behind an amount, unless that goes too far.
#[inline]
fn sum_of(verb: WriteOp, count: i64, amount: i64) -> Option<i64> {
    let sum = count.checked_add(amount)?;
    let bound = || limits::MAX_GIVEN_COUNT.unsigned_abs().max(count.unsigned_abs());
    (verb != WriteOp::AddGiven || sum.unsigned_abs() <= bound()).then_some(sum)
}

/// The answer to a repeat: that of the first write.
fn repeat_of(entry: &DedupEntry, once: &IdempotencyKey) -> WriteReceipt {
    let mut receipt = WriteReceipt {
        position: entry.position,
        words: entry.words,
        distinct: entry.distinct,
        left_out: entry.left_out,
        acks: 0,
        replayed: true,
        stream_last: None,
    };
    if let IdempotencyKey::Stream { sequence, .. } = once {
        receipt.stream_last = Some(entry.stream_sequence);
        if *sequence < entry.stream_sequence {
            // Only the stream's last post is remembered: of this one, no more than that it counted.
            (receipt.words, receipt.distinct, receipt.left_out) = (0, 0, 0);
        }
    }
    receipt
}
