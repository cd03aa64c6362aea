//! The change that one request asks for: words with amounts, and the key by which it counts once.
//!
//! A handler builds a [`WriteBatch`] on its own core; from then on the batch belongs to the Writer.

mod partitioned;

pub use partitioned::PartitionedCounter;

use crate::base::hash::WordHasher;
use parking_lot::Mutex;
use std::sync::Arc;

/// An amount or a count left the range of an `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a count would leave the range of a 64-bit integer")]
pub struct CountOverflow;

/// Words with an amount each, in the order they first came, found again by hash.
///
/// The words lie one after the other in one buffer: counting a word that is already there allocates nothing. A value
/// that comes from a [`WordCountsPool`] goes back there when it is dropped, wherever that is.
#[derive(Debug)]
pub struct WordCounts {
    hasher: WordHasher,
    text: String,
    entries: Vec<CountEntry>,
    /// The index, a power of two or nothing: the upper half of a hash, and in the lower half the entry's number from 1;
    /// 0 is free. Probing is linear, and three quarters are in use at most. Left empty by
    /// [`PartitionedCounter::count_into`]: such counts are iterated, and hardly ever looked up.
    slots: Vec<u64>,
    /// Room to put the entries in another order.
    ordered: Option<Box<OrderBuffer>>,
    home: Option<Arc<WordCountsPool>>,
}

#[derive(Clone, Copy, Debug)]
struct CountEntry {
    hash: u64,
    amount: i64,
    /// The first eight bytes of the word, so that short words are compared without a look at the text.
    head: u64,
    start: u32,
    len: u32,
}

#[derive(Debug, Default)]
struct OrderBuffer {
    entries: Vec<CountEntry>,
    /// Of each entry the number in the new order, from 1.
    numbers: Vec<u32>,
    text: String,
}

/// One word of a [`WordCounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordAmount<'a> {
    /// The word's hash under the database's seed.
    pub hash: u64,
    /// The word.
    pub word: &'a str,
    /// The amount to add, or the count.
    pub amount: i64,
}

const FIRST_SLOTS: usize = 16;

impl WordCounts {
    /// No counts yet, for a database with this hasher.
    pub fn new(hasher: WordHasher) -> Self {
        Self { hasher, text: String::new(), entries: Vec::new(), slots: Vec::new(), ordered: None, home: None }
    }

    /// The hasher of its database.
    pub fn hasher(&self) -> WordHasher {
        self.hasher
    }

    /// Adds `amount` to a word.
    ///
    /// # Errors
    /// [`CountOverflow`] if the word's amount leaves the range of an `i64`; nothing has changed then.
    #[inline]
    pub fn add(&mut self, word: &str, amount: i64) -> Result<(), CountOverflow> {
        self.add_hashed(self.hasher.hash(word), word, amount)
    }

    /// [`WordCounts::add`] for a word whose hash is known.
    ///
    /// # Errors
    /// [`CountOverflow`] as of [`WordCounts::add`]: the word's amount leaves the range of an `i64`.
    #[inline]
    pub fn add_hashed(&mut self, hash: u64, word: &str, amount: i64) -> Result<(), CountOverflow> {
        match self.position(hash, word) {
            Some(at) => {
                let entry = &mut self.entries[at];
                entry.amount = entry.amount.checked_add(amount).ok_or(CountOverflow)?;
            }
            None => self.push(hash, word, amount),
        }
        Ok(())
    }

    /// Sets a word's amount, whatever it was.
    pub fn set_hashed(&mut self, hash: u64, word: &str, amount: i64) {
        match self.position(hash, word) {
            Some(at) => self.entries[at].amount = amount,
            None => self.push(hash, word, amount),
        }
    }

    /// Puts the words in the order of the top bytes of their hashes. The store keeps words by that byte, so whoever
    /// looks all of them up finds those behind each other close together, in the cache and in few pages.
    pub fn order_by_hash(&mut self) {
        let mut room = self.ordered.take().unwrap_or_default();
        let OrderBuffer { entries: ordered, numbers, text } = &mut *room;
        // A counting sort: there are 256 keys, it is linear, and words with the same byte keep their order.
        let top = |entry: &CountEntry| (entry.hash >> 56) as usize;
        let mut next = [0_u32; 256];
        self.entries.iter().for_each(|entry| next[top(entry)] += 1);
        let mut before = 0;
        for next in &mut next {
            (*next, before) = (before, before + *next);
        }
        ordered.clone_from(&self.entries);
        numbers.clear();
        for entry in &self.entries {
            let at = &mut next[top(entry)];
            ordered[*at as usize] = *entry;
            *at += 1;
            numbers.push(*at);
        }
        // The words too: whoever goes through them, often on another core, finds each behind the last one.
        text.clear();
        for entry in ordered.iter_mut() {
            let start = text.len() as u32;
            text.push_str(&self.text[entry.start as usize..][..entry.len as usize]);
            entry.start = start;
        }
        // The index stays, since the hashes stay: only the numbers of the entries are other ones.
        for slot in self.slots.iter_mut().filter(|slot| **slot != 0) {
            *slot = *slot & !u64::from(u32::MAX) | u64::from(numbers[*slot as u32 as usize - 1]);
        }
        std::mem::swap(&mut self.entries, ordered);
        std::mem::swap(&mut self.text, text);
        self.ordered = Some(room);
    }

    /// Returns whether words are found again quickly: not behind [`PartitionedCounter::count_into`], until another word
    /// comes.
    pub fn is_indexed(&self) -> bool {
        self.entries.is_empty() || !self.slots.is_empty()
    }

    /// The amount of a word, or `None` if it never came.
    pub fn get(&self, hash: u64, word: &str) -> Option<i64> {
        self.position(hash, word).map(|at| self.entries[at].amount)
    }

    /// The words in the order they first came, or in that of [`WordCounts::order_by_hash`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = WordAmount<'_>> {
        self.entries.iter().map(|entry| WordAmount { hash: entry.hash, word: self.word(entry), amount: entry.amount })
    }

    /// The hashes of the words, in the same order.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = u64> + Clone + '_ {
        self.entries.iter().map(|entry| entry.hash)
    }

    /// The amounts of the words, in the same order, to be changed.
    pub fn amounts_mut(&mut self) -> impl ExactSizeIterator<Item = &mut i64> {
        self.entries.iter_mut().map(|entry| &mut entry.amount)
    }

    /// Counts the distinct words.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no word ever came.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all distinct words together.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Bytes it has taken for what it may hold.
    fn room(&self) -> usize {
        let (entries, text) = (self.entries.capacity(), self.text.capacity());
        // Once it was put in order, it has both a second time.
        let times = if self.ordered.is_some() { 2 } else { 1 };
        self.slots.capacity() * size_of::<u64>() + times * (entries * size_of::<CountEntry>() + text)
    }

    /// Forgets all words and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        if self.entries.len() < self.slots.len() / 16 {
            // A large index of which little is in use: a small text must not pay for the large one before it.
            for at in 0..self.entries.len() {
                let slot = self.slot_of(at);
                self.slots[slot] = 0;
            }
        } else {
            self.slots.fill(0);
        }
        self.text.clear();
        self.entries.clear();
    }

    fn position(&self, hash: u64, word: &str) -> Option<usize> {
        let head = head_of(word);
        let is = |entry: &CountEntry| {
            entry.hash == hash
                && entry.head == head
                && entry.len as usize == word.len()
                // A word of up to eight bytes is all in its head, so that and the length decide.
                && (word.len() <= 8 || self.word(entry) == word)
        };
        let Some(mask) = self.slots.len().checked_sub(1) else { return self.entries.iter().position(is) };
        let mut at = hash as usize & mask;
        // Ends at a free slot: a quarter of them is free.
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            // Half of the hash lies in the slot, so that entries of other words, each a cache miss, are hardly ever
            // looked at.
            if (slot ^ hash) >> 32 == 0 {
                let number = (slot as u32 - 1) as usize;
                if is(&self.entries[number]) {
                    return Some(number);
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn push(&mut self, hash: u64, word: &str, amount: i64) {
        let start = u32::try_from(self.text.len()).expect("the text bounds keep a tally under 4 GiB");
        let number = u32::try_from(self.entries.len() + 1).expect("fewer words than bytes");
        if number as usize * 4 > self.slots.len() * 3 {
            self.make_index(number as usize);
        }
        self.text.push_str(word);
        self.entries.push(CountEntry { hash, amount, head: head_of(word), start, len: word.len() as u32 });
        self.put(hash, number);
    }

    fn put(&mut self, hash: u64, number: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = hash & !u64::from(u32::MAX) | u64::from(number);
    }

    /// An index for so many entries.
    fn make_index(&mut self, entries: usize) {
        let slots = (entries * 4 / 3 + 1).next_power_of_two().max(FIRST_SLOTS);
        self.slots.clear();
        self.slots.resize(slots, 0);
        for at in 0..self.entries.len() {
            self.put(self.entries[at].hash, at as u32 + 1);
        }
    }

    /// The slot of an entry, though others in front of it may be gone.
    fn slot_of(&self, at: usize) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.entries[at].hash as usize & mask;
        while self.slots[slot] as u32 != at as u32 + 1 {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn word(&self, entry: &CountEntry) -> &str {
        &self.text[entry.start as usize..][..entry.len as usize]
    }
}

impl Clone for WordCounts {
    fn clone(&self) -> Self {
        let Self { hasher, text, entries, slots, .. } = self;
        let (text, entries, slots) = (text.clone(), entries.clone(), slots.clone());
        Self { hasher: *hasher, text, entries, slots, ordered: None, home: None }
    }
}

impl Drop for WordCounts {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // The empty one has no pool to go back to, which ends this.
            let empty = Self::new(self.hasher);
            home.give_back(std::mem::replace(self, empty));
        }
    }
}

/// The first eight bytes of a word, zeros behind a shorter one.
#[inline]
fn head_of(word: &str) -> u64 {
    let word = word.as_bytes();
    if let Some(eight) = word.first_chunk::<8>() {
        return u64::from_le_bytes(*eight);
    }
    if let (Some(low), Some(high)) = (word.first_chunk::<4>(), word.last_chunk::<4>()) {
        // Two loads that may overlap: the low four bytes, and the last four where they belong.
        let shift = (word.len() - 4) * 8;
        return u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << shift;
    }
    word.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Buffers of word counts that are used again and again: large ones cost more to make than to fill.
#[derive(Debug, Default)]
pub struct WordCountsPool {
    free: Mutex<Vec<WordCounts>>,
    most: usize,
    most_bytes: usize,
}

impl WordCountsPool {
    /// A pool that keeps so many, none that an unusual text has made larger than `most_bytes`.
    pub fn new(most: usize, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), most, most_bytes })
    }

    /// An empty one, which comes back when it is dropped.
    pub fn take(self: &Arc<Self>, hasher: WordHasher) -> WordCounts {
        // One of another database is of no use, and there is none: a process serves one.
        let mut tally =
            self.free.lock().pop().filter(|tally| tally.hasher == hasher).unwrap_or_else(|| WordCounts::new(hasher));
        tally.home = Some(Arc::clone(self));
        tally
    }

    fn give_back(&self, mut tally: WordCounts) {
        tally.clear();
        let mut free = self.free.lock();
        // Otherwise whatever once counted an unusual text would keep its memory for as long as the process runs.
        if free.len() < self.most && tally.room() <= self.most_bytes {
            free.push(tally);
        }
    }
}

/// The operation of a batch on its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Adds each amount to the word's count, up to the 64-bit range: text.
    Add,
    /// Adds each amount to the word's count, up to [`crate::base::limits::MAX_GIVEN_COUNT`] either side of zero:
    /// amounts given by hand. A count that is beyond already may only be moved toward zero.
    AddGiven,
    /// Takes the words away, whatever their counts.
    RemoveWords,
    /// Takes the whole namespace away; there are no words with it.
    DropNamespace,
}

/// The name of a write that may be repeated, by which it counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdempotencyKey {
    /// An idempotency key.
    Key(Box<str>),
    /// The `sequence`-th post of a producer's stream, from 1 without a gap.
    Stream {
        /// The stream's name.
        name: Box<str>,
        /// The post's number in the stream.
        sequence: u64,
    },
    /// The next lines of a text that comes in pieces. They count only where the stream stands just in front of them;
    /// the batch's fingerprint is the running hash over all lines up to `upto`.
    Lines {
        /// The stream's name.
        name: Box<str>,
        /// Lines in front of these.
        done: u64,
        /// The running hash over them; of no account if there are none.
        so_far: u128,
        /// Lines done with these.
        upto: u64,
        /// Words counted in front of these, repeats included.
        words: u64,
        /// Tokens left out in front of these.
        left_out: u64,
    },
}

impl IdempotencyKey {
    /// Gives the write's place: whether it is of a stream, the name, and the number at which the stream stands once it
    /// is settled; 0 for a key.
    pub fn dedup_key(&self) -> (bool, &str, u64) {
        match self {
            IdempotencyKey::Key(key) => (false, key, 0),
            IdempotencyKey::Stream { name, sequence } => (true, name, *sequence),
            IdempotencyKey::Lines { name, upto, .. } => (true, name, *upto),
        }
    }

    /// Returns whether its stream, if it is of one, begins with it.
    pub fn starts_stream(&self) -> bool {
        match self {
            IdempotencyKey::Key(_) => true,
            IdempotencyKey::Stream { sequence, .. } => *sequence <= 1,
            IdempotencyKey::Lines { done, .. } => *done == 0,
        }
    }
}

/// One write, ready for the Writer.
#[derive(Clone, Debug)]
pub struct WriteBatch {
    /// The namespace it goes to.
    pub namespace: Box<str>,
    /// The operation.
    pub op: WriteOp,
    /// Its words with their amounts.
    pub counts: WordCounts,
    /// Words counted, repeats included.
    pub words: u64,
    /// Tokens that were too long to be counted.
    pub left_out: u64,
    /// Its name, if it may be repeated.
    pub key: Option<IdempotencyKey>,
    /// Fingerprint that a repeat must have too: over namespace, verb and decoded text
    /// ([`crate::base::hash::fingerprint`]).
    pub fingerprint: u128,
}

impl WriteBatch {
    /// Bytes it counts for while it waits for the Writer.
    pub fn queued_bytes(&self) -> usize {
        self.counts.text_bytes() + 32 * self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_words_in_order_of_first_sight() {
        let mut tally = WordCounts::new(WordHasher::new(1));
        for word in ["b", "a", "b", ""] {
            tally.add(word, 1).expect("small amounts");
        }
        let seen: Vec<_> = tally.iter().map(|counted| (counted.word, counted.amount)).collect();
        assert_eq!(seen, [("b", 2), ("a", 1), ("", 1)]);
        assert_eq!((tally.len(), tally.text_bytes()), (3, 2));
        tally.clear();
        assert!(tally.is_empty() && tally.get(tally.hasher.hash("b"), "b").is_none());
    }

    #[test]
    fn a_tally_of_a_pool_comes_back_empty_with_its_memory() {
        let (pool, hasher) = (WordCountsPool::new(1, 1_000), WordHasher::new(1));
        let (mut first, second) = (pool.take(hasher), pool.take(hasher));
        first.add("a", 1).expect("fits");
        let copy = first.clone();
        drop(first);
        drop((second, copy));
        assert_eq!(pool.free.lock().len(), 1);
        let again = pool.take(hasher);
        assert!(again.is_empty() && again.entries.capacity() > 0);
    }

    #[test]
    fn a_tally_that_an_unusual_text_has_made_large_is_not_kept() {
        let (pool, hasher) = (WordCountsPool::new(1, 1_000), WordHasher::new(1));
        let mut tally = pool.take(hasher);
        tally.add(&"a".repeat(1_000), 1).expect("fits");
        drop(tally);
        assert_eq!(pool.free.lock().len(), 0);
    }

    #[test]
    fn overflow_leaves_the_amount_as_it_was() {
        let hasher = WordHasher::new(1);
        let mut tally = WordCounts::new(hasher);
        tally.add("a", i64::MAX).expect("fits");
        assert_eq!(tally.add("a", 1), Err(CountOverflow));
        assert_eq!(tally.get(hasher.hash("a"), "a"), Some(i64::MAX));
    }

    #[test]
    fn in_the_order_of_hashes_every_word_is_found_and_goes_on() {
        let hasher = WordHasher::new(1);
        let mut tally = WordCounts::new(hasher);
        for turn in 1..4 {
            let words: Vec<String> = (0..5_000).map(|at| format!("w{at}")).collect();
            let some = if turn == 2 { &words[..10] } else { &words[..] };
            some.iter().for_each(|word| tally.add(word, 1).expect("small amounts"));
            tally.order_by_hash();
            some.iter().for_each(|word| tally.add(word, turn).expect("small amounts"));
            assert!(tally.hashes().map(|hash| hash >> 56).is_sorted());
            let mut counted: Vec<_> = tally.iter().map(|counted| (counted.word, counted.amount)).collect();
            counted.sort_unstable();
            let mut expected: Vec<_> = some.iter().map(|word| (word.as_str(), turn + 1)).collect();
            expected.sort_unstable();
            assert_eq!(counted, expected);
            assert!(some.iter().all(|word| tally.get(hasher.hash(word), word) == Some(turn + 1)));
            tally.clear();
            assert!(tally.is_empty() && some.iter().all(|word| tally.get(hasher.hash(word), word).is_none()));
        }
    }

    #[test]
    fn equal_hashes_do_not_merge_words() {
        let mut tally = WordCounts::new(WordHasher::new(1));
        tally.add_hashed(9, "a", 1).expect("fits");
        tally.add_hashed(9, "b", 2).expect("fits");
        assert_eq!((tally.get(9, "a"), tally.get(9, "b")), (Some(1), Some(2)));
    }
}
