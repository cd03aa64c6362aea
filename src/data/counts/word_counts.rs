//! The words of one text, or of one request, each with its amount.

mod order;
mod partitioned;
mod pool;
#[cfg(test)]
mod tests;

pub use partitioned::PartitionedCounter;
pub use pool::WordCountsPool;

use crate::base::hash::WordHasher;
use order::OrderBuffer;
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

    /// Forgets the words whose amounts are zero.
    pub fn retain_nonzero(&mut self) {
        if self.entries.iter().all(|entry| entry.amount != 0) {
            return;
        }
        let mut kept = Self::new(self.hasher);
        for counted in self.iter().filter(|counted| counted.amount != 0) {
            kept.set_hashed(counted.hash, counted.word, counted.amount);
        }
        kept.home = self.home.take();
        *self = kept;
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
