//! The words and counts of one namespace: the hot structure.
//!
//! One Writer sets counts through an `IndexWriter`; any number of readers look through `CountIndex`, without a lock,
//! under a guard of the store that fixes the side they read (`data/store/left_right.rs`). The words lie in 256 segments
//! chosen by the top byte of their hash, so that growing one index stops nothing else.
//!
//! A record is applied in two passes: `IndexWriter::set` for each word on the side that nobody reads, then, once
//! the store has moved every reader to that side, `IndexWriter::reconcile` for all of them.

mod arena;
mod bulk_load;
mod cell;
mod prefetch;
mod ranking;
mod reservation;
mod segment_buffer;
mod table;
mod top;
mod writer;

pub use cell::Side;
pub(crate) use prefetch::Prefetcher;
pub use ranking::RankingQuery;
pub(crate) use ranking::{ChangeJournal, RankingWalk};
pub(crate) use reservation::{MemoryReservation, PAIR_BYTES};
pub(crate) use writer::{EntryOffset, IndexWriter};

use crate::{
    base::atomics::{ArcSwap, ArcSwapOption, AtomicU64, Ordering},
    base::limits,
    base::position::Position,
};
use arena::PackedWord;
use parking_lot::Mutex;
use std::sync::Arc;
use table::CellTable;
use top::{TopCache, TopHeap};

const SEGMENTS: usize = 256;

/// The counts of one namespace, as readers see them.
pub(crate) struct CountIndex {
    segments: Box<[ArcSwap<CellTable>]>,
    distinct: [AtomicU64; 2],
    /// The sum of all counts, as the bits of an `i64`, on each side.
    totals: [AtomicU64; 2],
    /// Memory in bytes, as far as it grows with the words, as of the last record.
    bytes: AtomicU64,
    /// The last that was asked for: as long as nobody writes, it is the answer.
    top: ArcSwapOption<TopCache>,
    /// Of the rankings that are being made.
    pub(crate) journals: Mutex<Vec<Arc<ChangeJournal>>>,
}

impl CountIndex {
    fn new() -> Self {
        let empty = Arc::new(CellTable::empty());
        Self {
            segments: (0..SEGMENTS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect(),
            distinct: [AtomicU64::new(0), AtomicU64::new(0)],
            totals: [AtomicU64::new(0), AtomicU64::new(0)],
            bytes: AtomicU64::new(0),
            top: ArcSwapOption::empty(),
            journals: Mutex::default(),
        }
    }

    /// The count of a word on one side; 0 if it is not there.
    #[inline]
    pub(crate) fn count(&self, hash: u64, word: &str, side: Side) -> i64 {
        if word.is_empty() || word.len() > limits::MAX_WORD_BYTES {
            return 0; // such a word is never counted
        }
        // `load` and not `load_full`: no reference count is touched, which readers on other cores would contend for.
        let table = self.segments[segment_of(hash)].load();
        match table.find(hash, &PackedWord::new(word)) {
            Some(offset) => table.count(offset, side),
            None => 0,
        }
    }

    /// Counts the words with a count on one side.
    pub(crate) fn distinct(&self, side: Side) -> u64 {
        self.distinct[side.index()].load(Ordering::Relaxed)
    }

    /// The sum of all counts on one side; the nearest `i64` where it is beyond.
    pub(crate) fn total(&self, side: Side) -> i64 {
        self.totals[side.index()].load(Ordering::Relaxed) as i64
    }

    /// Memory in bytes, as far as it grows with the words, as of the last record.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Every word that may be among the [`limits::MAX_TOP`] largest, with its count on one side. To be taken under a
    /// guard, and ranked after it.
    pub(crate) fn candidates(&self, side: Side) -> TopCandidates {
        let mut counts = Vec::new();
        // The tables are kept beyond the guard: the words are read in them later, and an offset means nothing in
        // another table. Reading thousands of words here would hold up the Writer.
        let tables: Vec<Arc<CellTable>> = self.segments.iter().map(ArcSwap::load_full).collect();
        for (segment, table) in tables.iter().enumerate() {
            for offset in table.hot.iter() {
                let count = table.count(offset, side);
                if count != 0 {
                    counts.push((count, segment as u32, offset));
                }
            }
        }
        TopCandidates { tables, counts }
    }
}

impl CountIndex {
    /// The `n` largest at this position, if it was asked for last.
    pub(crate) fn known_top(&self, position: Position, n: usize) -> Option<Vec<(String, i64)>> {
        self.top.load().as_ref().and_then(|known| known.at(position, n))
    }

    /// Remembers the `n` largest at a position.
    pub(crate) fn keep_top(&self, position: Position, n: usize, top: &[(String, i64)]) {
        // Two readers may store in either order: no read asks for an older position again, so one in here does no harm.
        self.top.store(Some(Arc::new(TopCache::new(position, n, top))));
    }
}

#[inline]
const fn segment_of(hash: u64) -> usize {
    (hash >> 56) as usize
}

/// Words that may be in a top, read at one position.
pub(crate) struct TopCandidates {
    tables: Vec<Arc<CellTable>>,
    counts: Vec<(i64, u32, u32)>,
}

impl TopCandidates {
    /// The `n` largest, descending, ties by word.
    pub(crate) fn top(mut self, n: usize) -> Vec<(String, i64)> {
        // An entry that fell out of the top and came back is listed twice.
        self.counts.sort_unstable_by_key(|&(count, segment, offset)| (std::cmp::Reverse(count), segment, offset));
        self.counts.dedup();
        let mut best = TopHeap::new(n);
        let mut word = String::new();
        for (count, segment, offset) in self.counts {
            if !best.may_enter(count) {
                break; // descending: nothing behind it may either
            }
            self.tables[segment as usize].arena.read_word(offset, &mut word);
            best.offer(count, &word, (segment, offset));
        }
        best.into_sorted().into_iter().map(|ranked| (ranked.word.into_string(), ranked.count)).collect()
    }
}

/// A walk over all words of a namespace, in pieces that are each read on one side.
pub(crate) struct IndexWalk {
    words: Arc<CountIndex>,
    segment: usize,
    table: Option<Arc<CellTable>>,
    slot: usize,
    piece: Vec<(u32, i64)>,
    word: String,
}

impl IndexWalk {
    pub(crate) fn new(words: Arc<CountIndex>) -> Self {
        Self { words, segment: 0, table: None, slot: 0, piece: Vec::new(), word: String::new() }
    }

    /// Returns whether there is another piece to [`IndexWalk::read`].
    pub(crate) fn has_more(&mut self) -> bool {
        while self.segment < SEGMENTS {
            // One table for the whole segment, however many guards that takes: a rebuilt one has its words in another
            // order, and a walk that changed over would miss some or give them twice (decision 2).
            let table = self.table.get_or_insert_with(|| self.words.segments[self.segment].load_full());
            if self.slot < table.slots() {
                return true;
            }
            self.segment += 1;
            self.slot = 0;
            self.table = None;
        }
        false
    }

    /// Reads the counts of the next piece on one side. May be repeated until the caller knows that the side was right.
    ///
    /// Words that come after the walk has begun may be missed; a count is the one of some position since then.
    pub(crate) fn read(&mut self, side: Side) {
        self.piece.clear();
        let Some(table) = &self.table else { return };
        let end = (self.slot + limits::WALK_ENTRIES).min(table.slots());
        for offset in (self.slot..end).filter_map(|slot| table.entry_at(slot)) {
            let count = table.count(offset, side);
            if count != 0 {
                self.piece.push((offset, count));
            }
        }
    }

    /// Gives the words of the piece that was read, and goes on to the next.
    pub(crate) fn give(&mut self, mut each: impl FnMut(&str, i64)) {
        let Some(table) = &self.table else { return };
        for &(offset, count) in &self.piece {
            table.arena.read_word(offset, &mut self.word);
            each(&self.word, count);
        }
        self.slot += limits::WALK_ENTRIES;
    }
}
