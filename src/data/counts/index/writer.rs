//! The Writer's half of a namespace: sets counts, grows and rebuilds tables, keeps the candidates of `/top`.

use super::{
    CountIndex, SEGMENTS,
    arena::{ARENA_HAS_ROOM, PAIR_UNITS, PackedWord, WordArena},
    cell::{self, CountCell, Side},
    segment_buffer::SegmentBuffer,
    segment_of,
    table::{CellTable, HotEntries},
    top::{RankedWord, TopHeap},
};
use crate::{
    base::atomics::Ordering,
    base::hash::{WordHasher, weight},
    base::limits,
};
use std::sync::Arc;

/// An arena is called full below its very end: what one record may still add fits above this mark.
const ARENA_FULL_UNITS: u32 = (1 << super::arena::OFFSET_BITS) / 10 * 9;
/// Segments smaller than this are not worth rebuilding.
const REBUILD_FROM_UNITS: u32 = 256;

/// The one mutable handle of a namespace.
pub(crate) struct IndexWriter {
    shared: Arc<CountIndex>,
    hasher: WordHasher,
    pub(super) segments: Vec<IndexSegment>,
    touched: Vec<ChangedCells>,
    /// Of an image that is being loaded.
    pub(super) gathered: SegmentBuffer,
    /// Every word that ranks at or before this one is in the hot list of its segment; `None`: every word is.
    threshold: Option<RankedWord>,
    /// False if no word ranks: nobody asks for the largest, and what comes and goes all the time would be ranked in
    /// vain.
    is_ranked: bool,
    /// Words that rank at or before the threshold.
    pub(super) above: u64,
    /// Entries of all hot lists.
    pub(super) listed: usize,
    pub(super) distinct: u64,
    /// The sum of all counts: wider than a count, so that no order of changes overflows it.
    pub(super) total: i128,
    pub(super) digest: u64,
    bytes: usize,
    fullest_units: u32,
}

pub(super) struct IndexSegment {
    pub(super) table: Arc<CellTable>,
    pub(super) entries: u32,
    free: u32,
    /// Units of entries whose count is zero.
    dead_units: u32,
}

/// The offset of a word, found before a record is applied: it holds until the end of that record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryOffset(u32);

impl EntryOffset {
    /// The word is not there, or nobody has looked.
    pub(crate) const UNKNOWN: EntryOffset = EntryOffset(0); // in an arena, offset 0 is no entry
}

struct ChangedCells {
    segment: u8,
    offset: u32,
    count: i64,
}

impl IndexWriter {
    /// Memory of a namespace before its first word.
    pub(crate) const EMPTY_BYTES: usize = SEGMENTS * (size_of::<IndexSegment>() + size_of::<CellTable>());

    /// An index whose largest counts nobody asks for.
    pub(crate) fn unranked(hasher: WordHasher) -> Self {
        Self { is_ranked: false, ..Self::new(hasher) }
    }

    pub(crate) fn new(hasher: WordHasher) -> Self {
        let shared = Arc::new(CountIndex::new());
        let segments = shared
            .segments
            .iter()
            .map(|table| IndexSegment { table: table.load_full(), entries: 0, free: 0, dead_units: 0 })
            .collect();
        Self {
            shared,
            hasher,
            segments,
            touched: Vec::new(),
            gathered: SegmentBuffer::default(),
            is_ranked: true,
            threshold: None,
            above: 0,
            listed: 0,
            distinct: 0,
            total: 0,
            digest: 0,
            bytes: Self::EMPTY_BYTES,
            fullest_units: 0,
        }
    }

    /// Gives the part that readers hold.
    pub(crate) fn shared(&self) -> &Arc<CountIndex> {
        &self.shared
    }

    /// The count the Writer has last set, and where the word lies.
    // Between records a cell reads the same on both sides.
    #[inline]
    pub(crate) fn locate(&self, hash: u64, word: &str) -> (i64, EntryOffset) {
        let table = &self.segments[segment_of(hash)].table;
        table
            .find(hash, &PackedWord::new(word))
            .map_or((0, EntryOffset::UNKNOWN), |at| (table.count(at, Side(false)), EntryOffset(at)))
    }

    /// Fetches what is about to be looked up, the first of two steps: one after the other, cache misses are half of
    /// what a record of many words costs.
    #[inline]
    pub(crate) fn prefetch_slot(&self, hash: u64) {
        self.segments[segment_of(hash)].table.prefetch_slot(hash);
    }

    /// The second step, once the slot has come: where the place is known, the only one.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u64, EntryOffset(offset): EntryOffset) {
        let table = &self.segments[segment_of(hash)].table;
        if EntryOffset(offset) == EntryOffset::UNKNOWN {
            table.prefetch_entry(hash);
        } else {
            table.arena.prefetch_cell(offset);
        }
    }

    /// Σ hash · count over all words, mod 2^64, with the counts last set.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Counts the words with a count.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }

    /// Memory in bytes, as far as it grows with the words.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether another record's words are sure to fit.
    pub(crate) fn has_room(&self) -> bool {
        self.fullest_units < ARENA_FULL_UNITS
    }

    /// First pass: sets a count on `side`, which nobody reads.
    pub(crate) fn set(&mut self, hash: u64, word: &str, count: i64, side: Side) {
        self.set_at(EntryOffset::UNKNOWN, hash, word, count, side);
    }

    /// [`IndexWriter::set`] for a word whose place may be known.
    #[inline]
    pub(crate) fn set_at(&mut self, place: EntryOffset, hash: u64, word: &str, count: i64, side: Side) {
        let segment = segment_of(hash);
        let packed = PackedWord::new(word);
        let table = &self.segments[segment].table;
        // Nothing moves an entry within a record. The digest would notice a wrong place only where the counts differ.
        debug_assert!(
            place == EntryOffset::UNKNOWN || table.arena.holds(place.0, &packed),
            "{word} is not there any more"
        );
        let offset = match if place == EntryOffset::UNKNOWN { table.find(hash, &packed) } else { Some(place.0) } {
            Some(offset) => offset,
            // A record that is applied a second time takes words away that are gone already.
            None if count == 0 => return,
            None => self.insert(segment, hash, &packed),
        };
        let (old, was_wide) = self.store(segment, offset, count, side);
        self.digest = self.digest.wrapping_sub(weight(hash, old)).wrapping_add(weight(hash, count));
        self.total += i128::from(count) - i128::from(old);
        match (old != 0, count != 0) {
            (false, true) => {
                self.distinct += 1;
                self.segments[segment].dead_units -= units_of(&packed, was_wide);
            }
            (true, false) => {
                self.distinct -= 1;
                let is_wide = self.segments[segment].is_wide(offset);
                self.segments[segment].dead_units += units_of(&packed, is_wide);
            }
            _ => {}
        }
        match (self.ranks(old, word), self.ranks(count, word)) {
            (false, true) => {
                self.above += 1;
                self.list(segment, offset);
            }
            (true, false) => self.above -= 1,
            _ => {}
        }
        self.touched.push(ChangedCells { segment: segment as u8, offset, count });
    }

    /// After the last [`IndexWriter::set`] of a record, before readers move to `side`.
    pub(crate) fn before_flip(&mut self, side: Side) {
        self.publish_sizes(side);
        // Before the flip, because readers of the new side have to find every word that ranks.
        if self.is_ranked && self.above < limits::MAX_TOP as u64 && self.above < self.distinct {
            self.lower_threshold(side);
        }
    }

    /// Sets the number of words and their sum for the readers of one side.
    fn publish_sizes(&self, side: Side) {
        let total = self.total.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.shared.distinct[side.index()].store(self.distinct, Ordering::Relaxed);
        self.shared.totals[side.index()].store(total as u64, Ordering::Relaxed);
        self.shared.bytes.store(self.bytes as u64, Ordering::Relaxed);
    }

    /// Notes what this record has changed, for the rankings that are being made. Before the flip: who sees the record
    /// finds its changes noted.
    pub(crate) fn note_changes(&self) {
        for journal in self.shared.journals.lock().iter() {
            journal.note(self.touched.iter().map(|change| (u32::from(change.segment), change.offset)));
        }
    }

    /// Second pass, once nobody reads the other side of `side`: both sides become equal.
    pub(crate) fn reconcile(&mut self, side: Side) {
        self.publish_sizes(side.other());
        let mut touched = std::mem::take(&mut self.touched);
        for (at, ChangedCells { segment, offset, count }) in touched.iter().enumerate() {
            if let Some(ahead) = touched.get(at + limits::WORDS_AHEAD) {
                self.segments[ahead.segment as usize].table.arena.prefetch_cell(ahead.offset);
            }
            let table = &self.segments[*segment as usize].table;
            let cell = table.cell(*offset);
            match cell::decode(cell.load(Ordering::Relaxed), side) {
                CountCell::Count(_) => {
                    cell.store(cell::folded(*count).expect("it fitted in flight"), Ordering::Relaxed);
                }
                CountCell::Wide(pair) => table.set_pair(pair, side.other(), *count),
            }
        }
        // Only now that all cells are done: a rebuild moves entries, and the changes name them by their offsets.
        for ChangedCells { segment, .. } in &touched {
            let state = &self.segments[*segment as usize];
            if state.free > REBUILD_FROM_UNITS && state.dead_units > state.free / 4 {
                self.rebuild(*segment as usize);
            }
        }
        // After the flip, because this takes words off the lists that readers of the old side may still have needed.
        if self.listed > limits::TOP_CANDIDATES {
            self.raise_threshold(side);
        }
        touched.clear();
        self.touched = touched;
    }

    /// Stores a count on `side`, in the cell or in a pair. Gives the one it takes the place of, and whether that was
    /// in a pair.
    #[inline]
    fn store(&mut self, segment: usize, offset: u32, count: i64, side: Side) -> (i64, bool) {
        let state = &mut self.segments[segment];
        let cell = state.table.cell(offset);
        let raw = cell.load(Ordering::Relaxed);
        // `before` is what readers see until the flip. `old` is what was last set for this record: another count if a
        // word comes twice in it.
        let (before, old) = (state.table.value(raw, side.other()), state.table.value(raw, side));
        if let CountCell::Wide(pair) = cell::decode(raw, side) {
            state.table.set_pair(pair, side, count);
            return (old, true);
        }
        match cell::in_flight(side, count, before) {
            // Relaxed: readers of the other side read the same count before and after this store, and the flip shows
            // them the new one.
            Some(in_flight) => cell.store(in_flight, Ordering::Relaxed),
            None => {
                let (pair, free) = state.table.arena.push_pair(state.free).expect(ARENA_HAS_ROOM);
                state.table.set_pair(pair, side.other(), before);
                state.table.set_pair(pair, side, count);
                // Release: a reader that finds the pair's offset finds its counts.
                cell.store(cell::wide(pair), Ordering::Release);
                self.bytes += (free - state.free) as usize * size_of::<u64>();
                state.free = free;
                self.fullest_units = self.fullest_units.max(free);
            }
        }
        (old, false)
    }

    fn insert(&mut self, segment: usize, hash: u64, word: &PackedWord<'_>) -> u32 {
        if self.segments[segment].table.is_full(self.segments[segment].entries) {
            self.grow_to(segment, self.segments[segment].table.grown_slots());
        }
        let state = &mut self.segments[segment];
        let (offset, free) = state.table.arena.push(state.free, word).expect(ARENA_HAS_ROOM);
        self.bytes += (free - state.free) as usize * size_of::<u64>();
        state.dead_units += units_of(word, false); // its count is still zero
        state.free = free;
        state.entries += 1;
        state.table.publish(hash, offset);
        self.fullest_units = self.fullest_units.max(free);
        offset
    }

    /// Adds a word with its count, on both sides. It is not there, and the index has room for it; nobody reads.
    pub(super) fn place(&mut self, segment: usize, hash: u64, word: &PackedWord<'_>, count: i64) -> u32 {
        let state = &mut self.segments[segment];
        let (offset, free) = state.table.place(state.free, hash, word, count);
        self.bytes += (free - state.free) as usize * size_of::<u64>();
        state.free = free;
        state.entries += 1;
        self.fullest_units = self.fullest_units.max(free);
        offset
    }

    /// Gives a segment a larger index; its arena stays.
    pub(super) fn grow_to(&mut self, segment: usize, slots: usize) {
        let old = &self.segments[segment].table;
        // All segments begin with one empty table between them; the first word gives a segment an arena of its own.
        let arena = if old.slots() == 0 { Arc::default() } else { Arc::clone(&old.arena) };
        // Filled before readers see it, and put in place whole: if words moved within an index, a reader could miss one
        // that is there. Hashes are computed again, since storing them would cost 8 bytes a word.
        let table = CellTable::with_slots(slots, arena, Arc::clone(&old.hot));
        let mut word = String::new();
        for offset in old.entries() {
            old.arena.read_word(offset, &mut word);
            table.publish(self.hasher.hash(&word), offset);
        }
        self.replace(segment, table);
    }

    /// Moves the living words of a segment to an arena of their own. Only between records: both sides are equal.
    fn rebuild(&mut self, segment: usize) {
        let old = Arc::clone(&self.segments[segment].table);
        let living: Vec<(u32, i64)> = old
            .entries()
            .map(|offset| (offset, old.count(offset, Side(false))))
            .filter(|&(_, count)| count != 0)
            .collect();
        let slots = (living.len() * 2).next_power_of_two().max(4);
        // The old arena is left as it is: a walk that began before still reads counts of that moment in it (decision
        // 2).
        let arena = Arc::new(WordArena::default());
        let hot = Arc::new(HotEntries::with_capacity(living.len().min(old.hot.len())));
        let table = CellTable::with_slots(slots, arena, hot);
        let mut free = 0;
        let mut word = String::new();
        for &(offset, count) in &living {
            old.arena.read_word(offset, &mut word);
            let (moved, next) = table.place(free, self.hasher.hash(&word), &PackedWord::new(&word), count);
            free = next;
            if self.ranks(count, &word) {
                assert!(table.hot.push(moved), "every ranking word was listed before");
            }
        }
        let state = &mut self.segments[segment];
        // In another order, entries may leave more room at the ends of chunks: `free` may even be larger than before.
        self.bytes = self.bytes + free as usize * size_of::<u64>() - state.free as usize * size_of::<u64>();
        self.listed = self.listed + table.hot.len() - old.hot.len();
        state.entries = living.len() as u32;
        state.free = free;
        state.dead_units = 0;
        self.replace(segment, table);
        self.fullest_units = self.segments.iter().map(|segment| segment.free).max().unwrap_or(0);
    }

    fn replace(&mut self, segment: usize, table: CellTable) {
        let table = Arc::new(table);
        let state = &mut self.segments[segment];
        self.bytes = self.bytes + table.slots() * size_of::<u32>() - state.table.slots() * size_of::<u32>();
        // The Writer keeps a handle of its own: an `ArcSwap` load for each word made a record take twice as long
        // (decision 1).
        state.table = Arc::clone(&table);
        self.shared.segments[segment].store(table);
    }

    /// Returns whether a word with this count ranks at or before the threshold.
    #[inline]
    pub(super) fn ranks(&self, count: i64, word: &str) -> bool {
        match &self.threshold {
            _ if count == 0 || !self.is_ranked => false,
            None => true,
            Some(last) => last.compare(count, word).is_le(),
        }
    }

    pub(super) fn list(&mut self, segment: usize, offset: u32) {
        self.listed += 1;
        let table = &self.segments[segment].table;
        if !table.hot.push(offset) {
            let hot = Arc::new(HotEntries::with_capacity((table.hot.len() * 2).max(4)));
            for listed in table.hot.iter().chain([offset]) {
                assert!(hot.push(listed), "twice the room");
            }
            let table = table.with_hot(hot);
            self.replace(segment, table);
        }
    }

    /// Too many candidates: keeps the better half of them. Between records.
    pub(super) fn raise_threshold(&mut self, side: Side) {
        let mut best = TopHeap::new(limits::TOP_CANDIDATES_KEPT);
        let mut word = String::new();
        for (segment, IndexSegment { table, .. }) in self.segments.iter().enumerate() {
            let mut entries: Vec<u32> = table.hot.iter().collect();
            entries.sort_unstable();
            entries.dedup();
            for offset in entries {
                let count = table.count(offset, side);
                table.arena.read_word(offset, &mut word);
                // Only words that rank: between them and those that have fallen may be others that were never listed.
                if self.ranks(count, &word) {
                    best.offer(count, &word, (segment as u32, offset));
                }
            }
        }
        self.choose(best, false);
    }

    /// Too few candidates, after many were decremented: looks at every word again. Rare, because it takes thousands
    /// of such steps to come here; `docs/decisions/0006-candidates-for-top.md` says what it costs.
    fn lower_threshold(&mut self, side: Side) {
        let mut best = TopHeap::new(limits::TOP_CANDIDATES_KEPT);
        let mut word = String::new();
        for (segment, IndexSegment { table, .. }) in self.segments.iter().enumerate() {
            for offset in table.entries() {
                let count = table.count(offset, side);
                if count != 0 && best.may_enter(count) {
                    table.arena.read_word(offset, &mut word);
                    best.offer(count, &word, (segment as u32, offset));
                }
            }
        }
        // What was listed stays: readers still at the last record look into the same lists.
        self.choose(best, true);
    }

    /// Puts the threshold behind the last of the best and lists them, alone or beside what is listed already.
    fn choose(&mut self, best: TopHeap, keep_listed: bool) {
        let best = best.into_sorted();
        let mut lists = vec![Vec::new(); SEGMENTS];
        for RankedWord { place: (segment, offset), .. } in &best {
            lists[*segment as usize].push(*offset);
        }
        self.above = best.len() as u64;
        // With every word listed there is no threshold, so that new words are listed without being compared.
        self.threshold = if self.above == self.distinct { None } else { best.into_iter().next_back() };
        self.listed = 0;
        for (segment, mut entries) in lists.into_iter().enumerate() {
            if keep_listed {
                entries.extend(self.segments[segment].table.hot.iter());
                entries.sort_unstable();
                entries.dedup();
            }
            self.list_anew(segment, &entries);
        }
    }

    fn list_anew(&mut self, segment: usize, entries: &[u32]) {
        let hot = HotEntries::with_capacity(entries.len());
        for &offset in entries {
            assert!(hot.push(offset), "made for them");
        }
        self.listed += entries.len();
        let table = self.segments[segment].table.with_hot(Arc::new(hot));
        self.replace(segment, table);
    }
}

impl IndexSegment {
    fn is_wide(&self, offset: u32) -> bool {
        matches!(cell::decode(self.table.cell(offset).load(Ordering::Relaxed), Side(false)), CountCell::Wide(_))
    }
}

/// Units that an entry takes with its cell, and with its pair if it has one.
fn units_of(word: &PackedWord<'_>, wide: bool) -> u32 {
    1 + word.units() + if wide { PAIR_UNITS } else { 0 }
}
