//! Many words at once: shared out by the top byte of their hashes, then counted part by part.
//!
//! An index over all words of a large text outgrows the fast caches, and each word waits for memory. Here words are
//! only written down at first, in 256 places, each in its order; what one part in 256 has of them fits a cache while it
//! is counted. And the parts come in the order that [`WordCounts::order_by_hash`] makes.

use super::{CountEntry, WordCounts, head_of};
use crate::base::limits::{MAX_BLOCK_BYTES, MAX_WORD_BYTES};
use prefetch_index::prefetch_index;
use std::ops::Range;

// As many as the store has segments, so that the parts come in its order. 64 and 128 were tried and dropped
// (decision 11).
const PARTS: usize = 256;
/// Items a part has room for at first.
const FIRST_ITEMS: usize = 2_048;
const FIRST_SLOTS: usize = 1_024;
/// Items whose words are fetched ahead of the one at hand.
const ITEMS_AHEAD: usize = 12;
const LEN_BITS: u32 = 8;
/// Room beyond this in bytes, which an unusual text has taken, is given back.
const KEPT_BYTES: usize = 32 << 20;

// An amount has 24 bits, and a word takes two bytes each time: one of a byte has something else behind it.
const _: () = assert!(MAX_BLOCK_BYTES / 2 < 1 << (u32::BITS - LEN_BITS));
const _: () = assert!(MAX_WORD_BYTES <= 1 << LEN_BITS);

/// Words of one text on their way into a [`WordCounts`]. Serves text after text.
#[derive(Debug)]
pub struct PartitionedCounter {
    parts: Vec<Vec<WordSpan>>,
    /// The index of the part that is counted: the number of an item from 1; 0 is free.
    slots: Vec<u32>,
}

/// A word by its place in the text.
#[derive(Clone, Copy, Debug)]
struct WordSpan {
    hash: u64,
    start: u32,
    /// The length less one in the lowest bits, above it how often the word came.
    len_amount: u32,
}

impl WordSpan {
    fn new(hash: u64, start: usize, len: usize, amount: u32) -> Self {
        Self { hash, start: start as u32, len_amount: amount << LEN_BITS | (len - 1) as u32 }
    }

    fn amount(self) -> u32 {
        self.len_amount >> LEN_BITS
    }

    fn range(self) -> Range<usize> {
        let (start, less_one) = (self.start as usize, self.len_amount & ((1 << LEN_BITS) - 1));
        start..start + less_one as usize + 1
    }

    fn word(self, text: &str) -> &[u8] {
        &text.as_bytes()[self.range()]
    }
}

impl Default for PartitionedCounter {
    fn default() -> Self {
        Self { parts: vec![Vec::new(); PARTS], slots: Vec::new() }
    }
}

impl PartitionedCounter {
    /// Takes a word with its hash. It is a part of `text`, which is the same text until
    /// [`PartitionedCounter::count_into`].
    ///
    /// # Panics
    /// If the word is empty, longer than [`MAX_WORD_BYTES`], or no part of the text.
    #[inline]
    pub fn push(&mut self, text: &str, hash: u64, word: &str) {
        assert!((1..=MAX_WORD_BYTES).contains(&word.len()), "a word of {} bytes", word.len());
        let start = word.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
        assert!(start <= text.len() - word.len(), "a word of another text");
        let part = &mut self.parts[(hash >> 56) as usize];
        if part.len() == part.capacity() {
            make_room(part, &mut self.slots, text);
        }
        // The place of the word and not the word: an item has 16 bytes, and the text stays where it is.
        part.push(WordSpan::new(hash, start, word.len(), 1));
    }

    /// Takes the words of `tally` with their amounts; they are put behind `text`.
    pub fn take_over(&mut self, text: &mut String, tally: &WordCounts) {
        let behind = text.len();
        text.push_str(&tally.text);
        for entry in &tally.entries {
            let amount = u32::try_from(entry.amount).expect("a text has no more words than bytes");
            let part = &mut self.parts[(entry.hash >> 56) as usize];
            part.push(WordSpan::new(entry.hash, behind + entry.start as usize, entry.len as usize, amount));
        }
    }

    /// Puts the words of `text` that were taken into `tally`, which is empty, in the order of the top bytes of their
    /// hashes.
    pub fn count_into(&mut self, text: &str, tally: &mut WordCounts) {
        assert!(tally.is_empty(), "the words come in an order of their own");
        // No index is made: a large block becomes a record of its own, whose words are gone through and not looked up.
        tally.slots.clear();
        for part in &mut self.parts {
            add_up(part, &mut self.slots, text);
            for item in part.drain(..) {
                let word = &text[item.range()];
                let start = tally.text.len() as u32;
                tally.text.push_str(word);
                let (hash, amount) = (item.hash, i64::from(item.amount()));
                tally.entries.push(CountEntry { hash, amount, head: head_of(word), start, len: word.len() as u32 });
            }
        }
        // It serves text after text, and would hold for good what one unusual text has taken.
        let room: usize = self.parts.iter().map(Vec::capacity).sum();
        if room * size_of::<WordSpan>() > KEPT_BYTES {
            *self = Self::default();
        }
    }
}

/// Room for one more item: equal words are added up, and only if that does not help there is more.
#[cold]
fn make_room(part: &mut Vec<WordSpan>, slots: &mut Vec<u32>, text: &str) {
    add_up(part, slots, text);
    if part.len() * 2 > part.capacity() || part.capacity() == 0 {
        part.reserve_exact(part.capacity().max(FIRST_ITEMS));
    }
}

/// Leaves each word once, with how often it came.
fn add_up(part: &mut Vec<WordSpan>, slots: &mut Vec<u32>, text: &str) {
    if part.len() < 2 {
        return; // most parts of a small text
    }
    slots.clear();
    slots.resize(FIRST_SLOTS, 0);
    let mut distinct = 0;
    for at in 0..part.len() {
        if let Some(ahead) = part.get(at + ITEMS_AHEAD) {
            prefetch_index(text.as_bytes(), ahead.start as usize);
        }
        let item = part[at];
        match find(slots, &part[..distinct], item, text) {
            Ok(first) => part[first].len_amount += item.amount() << LEN_BITS,
            Err(slot) => {
                // In place: there are never more distinct items than items read.
                part[distinct] = item;
                distinct += 1;
                slots[slot] = distinct as u32;
                if distinct * 4 > slots.len() * 3 {
                    grow(slots, &part[..distinct]);
                }
            }
        }
    }
    part.truncate(distinct);
}

/// The number of the item with the same word, or the slot for one.
#[inline]
fn find(slots: &[u32], items: &[WordSpan], wanted: WordSpan, text: &str) -> Result<usize, usize> {
    let mask = slots.len() - 1;
    let mut at = wanted.hash as usize & mask;
    // Ends at a free slot: a quarter of them is free.
    while let Some(number) = (slots[at] as usize).checked_sub(1) {
        let item = items[number];
        if item.hash == wanted.hash && item.word(text) == wanted.word(text) {
            return Ok(number);
        }
        at = (at + 1) & mask;
    }
    Err(at)
}

fn grow(slots: &mut Vec<u32>, items: &[WordSpan]) {
    let mask = slots.len() * 2 - 1;
    slots.clear();
    slots.resize(mask + 1, 0);
    for (item, number) in items.iter().zip(1..) {
        let mut at = item.hash as usize & mask;
        while slots[at] != 0 {
            at = (at + 1) & mask;
        }
        slots[at] = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::WordHasher;
    use proptest::prelude::*;

    const HASHER: WordHasher = WordHasher::new(1);

    /// What `text` is counted as, a word between blanks, by `partitioned` and word by word.
    fn counted(parts: &mut PartitionedCounter, text: &str) -> [WordCounts; 2] {
        let (mut sorted, mut plain) = (WordCounts::new(HASHER), WordCounts::new(HASHER));
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            parts.push(text, HASHER.hash(word), word);
            plain.add(word, 1).expect("few words");
        }
        parts.count_into(text, &mut sorted);
        [sorted, plain]
    }

    fn assert_same([sorted, plain]: &[WordCounts; 2]) {
        assert!(sorted.hashes().map(|hash| hash >> 56).is_sorted());
        let words_of = |tally: &WordCounts| {
            let mut all: Vec<_> = tally.iter().map(|word| (word.word.to_owned(), word.hash, word.amount)).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(words_of(sorted), words_of(plain));
    }

    #[test]
    fn many_words_and_a_word_many_times_are_counted_as_one_by_one() {
        let mut parts = PartitionedCounter::default();
        let distinct: Vec<String> = (0..400_000).map(|at| format!("{at}")).collect();
        assert_same(&counted(&mut parts, &distinct.join(" ")));
        assert_same(&counted(&mut parts, &"a b a ".repeat(200_000)));
        assert_same(&counted(&mut parts, ""));
    }

    #[test]
    fn equal_hashes_do_not_merge_words() {
        let (mut parts, mut tally) = (PartitionedCounter::default(), WordCounts::new(HASHER));
        let text = "a b";
        for word in [&text[..1], &text[2..], &text[..1]] {
            parts.push(text, 9, word);
        }
        parts.count_into(text, &mut tally);
        assert_eq!((tally.get(9, "a"), tally.get(9, "b")), (Some(2), Some(1)));
    }

    #[test]
    fn a_word_many_times_takes_no_room() {
        let text = "a ".repeat(100_000);
        let mut parts = PartitionedCounter::default();
        text.split_terminator(' ').for_each(|word| parts.push(&text, HASHER.hash("a"), word));
        assert_eq!(parts.parts.iter().map(Vec::capacity).sum::<usize>(), FIRST_ITEMS);
    }

    #[test]
    fn a_tally_in_order_takes_more_words_and_another_order() {
        let [mut tally, _] =
            counted(&mut PartitionedCounter::default(), &(0..1_000).map(|at| format!("{at} ")).collect::<String>());
        tally.add("7", 1).expect("fits");
        tally.add("x", 1).expect("fits");
        assert_eq!((tally.len(), tally.get(HASHER.hash("7"), "7")), (1_001, Some(2)));
        tally.order_by_hash();
        assert_eq!((tally.get(HASHER.hash("999"), "999"), tally.get(HASHER.hash("x"), "x")), (Some(1), Some(1)));
    }

    proptest! {
        #[test]
        fn any_words_are_counted_as_one_by_one(text in "([a-d]{0,3}|[a-z]{0,40}|[äö-]{1,12})( ([a-d]{0,3}|[äö-]{1,12})){0,300}") {
            let mut parts = PartitionedCounter::default();
            assert_same(&counted(&mut parts, &text));
        }
    }
}
