//! Word counts in the order in which the store keeps words.

use super::{CountEntry, WordCounts};

#[derive(Debug, Default)]
pub(super) struct OrderBuffer {
    pub(super) entries: Vec<CountEntry>,
    /// Of each entry the number in the new order, from 1.
    pub(super) numbers: Vec<u32>,
    pub(super) text: String,
}

impl WordCounts {
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
}
