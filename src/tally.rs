//! What one request asks of the counts: words with amounts, and how often it may count.
//!
//! A handler builds a [`Batch`] on its own core; from then on the batch belongs to the Writer.

use crate::hash::WordHasher;
use hashbrown::HashTable;

/// An amount or a count left the range of an `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a count would leave the range of a 64-bit integer")]
pub struct CountOverflow;

/// Words with an amount each, in the order they first came, found again by hash.
///
/// The words lie one after the other in one buffer: counting a word that is already there allocates nothing.
#[derive(Clone, Debug)]
pub struct Tally {
    hasher: WordHasher,
    text: String,
    entries: Vec<Entry>,
    by_hash: HashTable<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    amount: i64,
    start: u32,
    len: u32,
}

/// One word of a [`Tally`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// The word's hash under the database's seed.
    pub hash: u64,
    /// The word.
    pub word: &'a str,
    /// What is to be added, or what was counted.
    pub amount: i64,
}

impl Tally {
    /// An empty tally for a database with this hasher.
    pub fn new(hasher: WordHasher) -> Self {
        Self { hasher, text: String::new(), entries: Vec::new(), by_hash: HashTable::new() }
    }

    /// Adds `amount` to a word.
    ///
    /// # Errors
    /// [`CountOverflow`] if the word's amount leaves the range of an `i64`; the tally is as before.
    #[inline]
    pub fn add(&mut self, word: &str, amount: i64) -> Result<(), CountOverflow> {
        self.add_hashed(self.hasher.hash(word), word, amount)
    }

    /// [`Tally::add`] for a word whose hash is known.
    ///
    /// # Errors
    /// As [`Tally::add`].
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

    /// The amount of a word, or `None` if it never came.
    pub fn get(&self, hash: u64, word: &str) -> Option<i64> {
        self.position(hash, word).map(|at| self.entries[at].amount)
    }

    /// The words in the order they first came.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Counted<'_>> {
        self.entries.iter().map(|entry| Counted { hash: entry.hash, word: self.word(entry), amount: entry.amount })
    }

    /// The hashes of the words, in the same order.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = u64> + Clone + '_ {
        self.entries.iter().map(|entry| entry.hash)
    }

    /// How many distinct words there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no word ever came.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all distinct words together.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Forgets all words and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.by_hash.clear();
    }

    fn position(&self, hash: u64, word: &str) -> Option<usize> {
        let same = |&at: &u32| {
            let entry = &self.entries[at as usize];
            entry.hash == hash && self.word(entry) == word
        };
        self.by_hash.find(hash, same).map(|&at| at as usize)
    }

    fn push(&mut self, hash: u64, word: &str, amount: i64) {
        let start = u32::try_from(self.text.len()).expect("the text bounds keep a tally under 4 GiB");
        let at = u32::try_from(self.entries.len()).expect("fewer words than bytes");
        self.text.push_str(word);
        self.entries.push(Entry { hash, amount, start, len: word.len() as u32 });
        self.by_hash.insert_unique(hash, at, |&at| self.entries[at as usize].hash);
    }

    fn word(&self, entry: &Entry) -> &str {
        &self.text[entry.start as usize..][..entry.len as usize]
    }
}

/// What a batch does with its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Adds each amount to the word's count.
    Add,
    /// Takes the words away, whatever their counts.
    RemoveWords,
    /// Takes the whole namespace away; the tally is empty.
    DropNamespace,
}

/// How a write that may be repeated names itself, so that it counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once {
    /// An idempotency key.
    Key(Box<str>),
    /// The `sequence`-th post of a producer's stream, from 1 without a gap.
    Stream {
        /// The stream's name.
        name: Box<str>,
        /// The post's number in the stream.
        sequence: u64,
    },
}

/// One write, ready for the Writer.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The namespace it goes to.
    pub namespace: Box<str>,
    /// What it does.
    pub verb: Verb,
    /// Its words with their amounts.
    pub tally: Tally,
    /// Words counted, repeats included.
    pub words: u64,
    /// Tokens that were too long to be counted.
    pub left_out: u64,
    /// Its name, if it may be repeated.
    pub once: Option<Once>,
    /// What a repeat must have equal: over namespace, verb and decoded text ([`crate::hash::fingerprint`]).
    pub fingerprint: u128,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_words_in_order_of_first_sight() {
        let mut tally = Tally::new(WordHasher::new(1));
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
    fn overflow_leaves_the_amount_as_it_was() {
        let hasher = WordHasher::new(1);
        let mut tally = Tally::new(hasher);
        tally.add("a", i64::MAX).expect("fits");
        assert_eq!(tally.add("a", 1), Err(CountOverflow));
        assert_eq!(tally.get(hasher.hash("a"), "a"), Some(i64::MAX));
    }

    #[test]
    fn equal_hashes_do_not_merge_words() {
        let mut tally = Tally::new(WordHasher::new(1));
        tally.add_hashed(9, "a", 1).expect("fits");
        tally.add_hashed(9, "b", 2).expect("fits");
        assert_eq!((tally.get(9, "a"), tally.get(9, "b")), (Some(1), Some(2)));
    }
}
