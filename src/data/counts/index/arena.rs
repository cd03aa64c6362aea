//! The storage of a segment's words: entries of 8-byte units that never move.
//!
//! ```text
//! unit 0      the cell (cell.rs)
//! unit 1 …    length less one in the lowest byte, then the bytes of the word, little-endian, zero-padded
//! ```
//!
//! A count too large for a cell has a pair of units between the entries, one for each side.
//!
//! Units are atomics because readers look while the Writer adds; an entry becomes visible by the Release store of its
//! offset into the index, so its own units are plain relaxed stores. Chunks double, so a large arena is a few large
//! allocations, whose untouched pages cost nothing.

use super::cell::Side;
use crate::base::atomics::{AtomicU64, Ordering, zeros};
use prefetch_index::prefetch_index;
use std::sync::OnceLock;

/// Units of the first chunk, and of the second; every later chunk is as large as all before it.
const FIRST_CHUNK_UNITS: u32 = 16;
/// Offsets have 24 bits.
pub(super) const OFFSET_BITS: u32 = 24;
/// Units of a pair of counts.
pub(super) const PAIR_UNITS: u32 = 2;
/// Units behind the cell that are fetched with it: those of words of up to 15 bytes.
const PREFETCHED_UNITS: usize = 2;
/// The reason why a push succeeds, for `expect`.
pub(super) const ARENA_HAS_ROOM: &str = "admission refuses words once an arena is nearly full";
const CHUNKS: usize = (OFFSET_BITS - FIRST_CHUNK_UNITS.ilog2() + 1) as usize;

#[derive(Debug, Default)]
pub(super) struct WordArena {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
}

/// The units of a word, made as they are compared or stored.
#[derive(Clone, Copy)]
pub(super) struct PackedWord<'a> {
    word: &'a [u8],
    first: u64,
}

impl<'a> PackedWord<'a> {
    /// # Panics
    /// If the word is empty or longer than [`crate::base::limits::MAX_WORD_BYTES`]: callers have bounded it.
    #[inline]
    pub(super) fn new(word: &'a str) -> Self {
        let word = word.as_bytes();
        assert!(
            !word.is_empty() && word.len() <= crate::base::limits::MAX_WORD_BYTES,
            "a word of {} bytes",
            word.len()
        );
        let head = &word[..word.len().min(7)];
        Self { word, first: little_endian(head) << 8 | (word.len() - 1) as u64 }
    }

    /// Units of the word, without its cell.
    #[inline]
    pub(super) fn units(&self) -> u32 {
        word_units(self.word.len())
    }

    #[inline]
    fn unit(&self, at: u32) -> u64 {
        if at == 0 {
            return self.first;
        }
        let rest = &self.word[at as usize * 8 - 1..];
        match rest.first_chunk::<8>() {
            Some(whole) => u64::from_le_bytes(*whole),
            None => little_endian(rest),
        }
    }
}

/// Up to 8 bytes as a number, without a call to memcpy.
#[inline]
fn little_endian(bytes: &[u8]) -> u64 {
    if let Some(low) = bytes.first_chunk::<4>() {
        // Two loads that may overlap: the low four bytes, and the last four where they belong.
        let high = bytes.last_chunk::<4>().expect("at least four bytes");
        let shift = (bytes.len() - 4) * 8;
        return u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << shift;
    }
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Units that a word of `bytes` bytes takes, without its cell.
#[inline]
const fn word_units(bytes: usize) -> u32 {
    (bytes as u32 + 1).div_ceil(8)
}

/// The chunk an offset lies in, and its place there.
#[inline]
const fn locate(offset: u32) -> (usize, usize) {
    if offset < FIRST_CHUNK_UNITS {
        return (0, offset as usize);
    }
    let chunk = (offset / FIRST_CHUNK_UNITS).ilog2() + 1;
    (chunk as usize, (offset - (FIRST_CHUNK_UNITS << (chunk - 1))) as usize)
}

/// The units of a chunk.
const fn chunk_units(chunk: usize) -> u32 {
    FIRST_CHUNK_UNITS << chunk.saturating_sub(1)
}

impl WordArena {
    /// Writes an entry at or after `free`, with a count of zero on both sides. Gives its offset and the next free
    /// one; `None` when the arena is full.
    pub(super) fn push(&self, free: u32, word: &PackedWord<'_>) -> Option<(u32, u32)> {
        let (offset, entry) = self.take(free, 1 + word.units())?;
        // Unit 0, the cell, stays zero as it was allocated: that reads as a count of zero on both sides. Relaxed,
        // because nobody finds the entry before its offset is published.
        for (unit, slot) in entry[1..].iter().enumerate() {
            slot.store(word.unit(unit as u32), Ordering::Relaxed);
        }
        Some((offset, offset + entry.len() as u32))
    }

    /// Makes room for a pair of counts at or after `free`. Gives its offset and the next free one; `None` when the
    /// arena is full.
    pub(super) fn push_pair(&self, free: u32) -> Option<(u32, u32)> {
        let (offset, _) = self.take(free, PAIR_UNITS)?;
        Some((offset, offset + PAIR_UNITS))
    }

    /// The first `units` units at or after `free` that lie in one chunk, all zero.
    fn take(&self, free: u32, units: u32) -> Option<(u32, &[AtomicU64])> {
        let mut offset = free.max(1); // offset 0 says "no entry" in the index
        loop {
            if u64::from(offset) + u64::from(units) > 1 << OFFSET_BITS {
                return None;
            }
            let (chunk, at) = locate(offset);
            // An entry lies in one chunk, so that a word is compared as one slice. What is left at the end of a chunk
            // is lost.
            if at as u32 + units <= chunk_units(chunk) {
                return Some((offset, &self.chunk_or_new(chunk)[at..][..units as usize]));
            }
            offset += chunk_units(chunk) - at as u32;
        }
    }

    /// The cell of an entry.
    #[inline]
    pub(super) fn cell(&self, offset: u32) -> &AtomicU64 {
        let (chunk, at) = locate(offset);
        &self.chunk(chunk)[at]
    }

    /// Fetches an entry of a word of ordinary length: its cell, and what may lie in the next cache line.
    #[inline]
    pub(super) fn prefetch(&self, offset: u32) {
        let (chunk, at) = locate(offset);
        let chunk = self.chunk(chunk);
        prefetch_index(chunk, at);
        prefetch_index(chunk, at + PREFETCHED_UNITS);
    }

    /// Fetches the cell of an entry alone.
    #[inline]
    pub(super) fn prefetch_cell(&self, offset: u32) {
        let (chunk, at) = locate(offset);
        prefetch_index(self.chunk(chunk), at);
    }

    /// The count that a pair has for one side, as the bits of an `i64`.
    #[inline]
    pub(super) fn pair(&self, offset: u32, side: Side) -> &AtomicU64 {
        self.cell(offset + side.index() as u32)
    }

    /// Returns whether the entry at `offset` is this word.
    #[inline]
    pub(super) fn holds(&self, offset: u32, word: &PackedWord<'_>) -> bool {
        let (chunk, at) = locate(offset);
        let entry = &self.chunk(chunk)[at + 1..];
        entry[0].load(Ordering::Relaxed) == word.first
            && (1..word.units()).all(|unit| entry[unit as usize].load(Ordering::Relaxed) == word.unit(unit))
    }

    /// Puts the word of an entry into `text`.
    pub(super) fn read_word(&self, offset: u32, text: &mut String) {
        let (chunk, at) = locate(offset);
        let entry = &self.chunk(chunk)[at + 1..];
        let first = entry[0].load(Ordering::Relaxed);
        let len = (first & 0xff) as usize + 1;
        // One unit beyond the longest word: its length lies in front of it, and units are copied whole.
        let mut bytes = [0; crate::base::limits::MAX_WORD_BYTES + 8];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        for unit in 1..word_units(len) as usize {
            bytes[unit * 8..][..8].copy_from_slice(&entry[unit].load(Ordering::Relaxed).to_le_bytes());
        }
        text.clear();
        text.push_str(std::str::from_utf8(&bytes[1..=len]).expect("an entry holds the bytes of a str"));
    }

    #[inline]
    fn chunk(&self, chunk: usize) -> &[AtomicU64] {
        self.chunks[chunk].get().expect("an offset in the index lies in a chunk that exists")
    }

    fn chunk_or_new(&self, chunk: usize) -> &[AtomicU64] {
        self.chunks[chunk].get_or_init(|| {
            // Zeros from the allocator are pages that the kernel has not handed out yet: a chunk that doubles the arena
            // costs memory only as it is filled.
            let units = chunk_units(chunk) as usize;
            zeros(units).expect("memory for a chunk of words")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::MAX_WORD_BYTES;

    #[test]
    fn chunks_cover_every_offset_once() {
        let mut expected = (0, 0);
        for offset in 0..5_000 {
            assert_eq!(locate(offset), expected, "offset {offset}");
            expected.1 += 1;
            if expected.1 as u32 == chunk_units(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert_eq!(locate((1 << OFFSET_BITS) - 1).0, CHUNKS - 1);
    }

    #[test]
    fn words_of_every_length_come_back_and_only_they() {
        let arena = WordArena::default();
        let words: Vec<String> =
            (1..=MAX_WORD_BYTES).map(|len| "abcdefghijk".chars().cycle().take(len).collect()).collect();
        let mut free = 0;
        let mut offsets = Vec::new();
        for word in &words {
            let (offset, next) = arena.push(free, &PackedWord::new(word)).expect("room");
            offsets.push(offset);
            free = next;
        }
        let mut text = String::new();
        for (word, &offset) in words.iter().zip(&offsets) {
            arena.read_word(offset, &mut text);
            assert_eq!(&text, word);
            for other in &words {
                assert_eq!(arena.holds(offset, &PackedWord::new(other)), word == other, "{word} {other}");
            }
        }
    }

    #[test]
    fn a_word_of_nul_bytes_is_a_word() {
        let arena = WordArena::default();
        let (offset, _) = arena.push(0, &PackedWord::new("\0")).expect("room");
        assert!(arena.holds(offset, &PackedWord::new("\0")) && !arena.holds(offset, &PackedWord::new("\0\0")));
    }

    #[test]
    fn a_full_arena_says_so() {
        let arena = WordArena::default();
        assert!(arena.push((1 << OFFSET_BITS) - 2, &PackedWord::new("a")).is_some());
        assert!(arena.push((1 << OFFSET_BITS) - 1, &PackedWord::new("a")).is_none());
    }
}
