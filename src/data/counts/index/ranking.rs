//! The words that rank behind a place, of a namespace of any size, all at one position.
//!
//! A ranking beyond the candidates of a top looks at every word, for longer than a guard may be held. So it looks in
//! pieces, each read at some position, while the Writer notes in a [`ChangeJournal`] the places of the counts it
//! changes. At the end one guard is taken. A count that is not in the journal was the same all the while; those that
//! are, a bounded number, are read once more under the guard. What comes out is the ranking at the guard's position.

use super::{
    CountIndex, SEGMENTS,
    cell::Side,
    table::CellTable,
    top::{WordPlace, compare_ranks},
};
use crate::base::limits;
use parking_lot::Mutex;
use std::{cmp::Ordering, collections::BTreeSet, mem, sync::Arc};

/// The part of the order of the largest counts that is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankingQuery<'a> {
    /// The most words that are given.
    pub n: usize,
    /// Only words that begin with this.
    pub prefix: &'a str,
    /// Only words that rank behind this count and word.
    pub after: Option<(i64, &'a str)>,
}

impl RankingQuery<'_> {
    /// Returns whether a word with this count may be wanted, whatever its text.
    fn may_want(&self, count: i64) -> bool {
        count != 0 && self.after.is_none_or(|(last, _)| count <= last)
    }

    /// Returns whether a word with its count is wanted.
    pub(crate) fn wants(&self, count: i64, word: &str) -> bool {
        let is_behind = |last: (i64, &str)| compare_ranks((count, word), last) == Ordering::Greater;
        self.may_want(count) && word.starts_with(self.prefix) && self.after.is_none_or(is_behind)
    }
}

/// The places of the counts that the Writer changes while a ranking is made.
#[derive(Debug, Default)]
pub(crate) struct ChangeJournal {
    places: Mutex<Vec<WordPlace>>,
}

impl ChangeJournal {
    /// Notes places, up to one more than a ranking can use: from there on it is known to be in vain.
    pub(super) fn note(&self, changed: impl Iterator<Item = WordPlace>) {
        let mut places = self.places.lock();
        let room = (limits::RANKING_CHANGES + 1).saturating_sub(places.len());
        places.extend(changed.take(room));
    }
}

/// A word of a ranking, by its place.
#[derive(Clone, Copy, Debug)]
struct PlacedCount {
    count: i64,
    place: WordPlace,
}

/// A look at all words of a namespace.
pub(crate) struct RankingWalk<'a> {
    query: RankingQuery<'a>,
    /// All from one moment, and kept: places mean nothing in a table with another arena.
    tables: Vec<Arc<CellTable>>,
    segment: usize,
    slot: usize,
    piece: Vec<PlacedCount>,
    best: BestPlaces,
    /// Counts that the journal names, read under the last guard.
    changed: Vec<PlacedCount>,
    /// The places that the journal names.
    stale: BTreeSet<WordPlace>,
}

impl<'a> RankingWalk<'a> {
    pub(crate) fn new(words: &CountIndex, query: RankingQuery<'a>) -> Self {
        // As many more as may turn out to have changed: the best `n` of those that have not are among them.
        let best = BestPlaces::new(query.n + limits::RANKING_CHANGES);
        let tables = words.segments.iter().map(|table| table.load_full()).collect();
        let (changed, stale) = (Vec::new(), BTreeSet::new());
        Self { query, tables, segment: 0, slot: 0, piece: Vec::new(), best, changed, stale }
    }

    /// Returns whether there is another piece to [`RankingWalk::read`].
    pub(crate) fn has_more(&mut self) -> bool {
        while self.segment < SEGMENTS && self.slot >= self.tables[self.segment].slots() {
            (self.segment, self.slot) = (self.segment + 1, 0);
        }
        self.segment < SEGMENTS
    }

    /// Reads the counts of the next piece on one side. May be repeated until the caller knows that the side was right.
    pub(crate) fn read(&mut self, side: Side) {
        self.piece.clear();
        self.read_on(side);
    }

    /// The words of the piece that was read are looked at; the next piece is the one behind it.
    pub(crate) fn take(&mut self) {
        let piece = mem::take(&mut self.piece);
        let (query, tables) = (&self.query, &self.tables);
        piece.iter().for_each(|&placed| self.best.offer(placed, query, tables));
        self.piece = piece;
        self.slot += limits::WALK_ENTRIES;
    }

    /// Reads all that is left on one side, to be taken by [`RankingWalk::ranked`].
    pub(crate) fn read_all(&mut self, side: Side) {
        while self.has_more() {
            self.read_on(side);
            self.slot += limits::WALK_ENTRIES;
        }
    }

    fn read_on(&mut self, side: Side) {
        let table = &self.tables[self.segment];
        let end = (self.slot + limits::WALK_ENTRIES).min(table.slots());
        for offset in (self.slot..end).filter_map(|slot| table.entry_at(slot)) {
            let count = table.count(offset, side);
            if self.query.may_want(count) {
                self.piece.push(PlacedCount { count, place: (self.segment as u32, offset) });
            }
        }
    }

    /// Reads once more what the Writer has changed since the walk began. To be called under a guard of this side; gives
    /// whether the walk can be brought to its position.
    pub(crate) fn read_changed(&mut self, words: &CountIndex, journal: &ChangeJournal, side: Side) -> bool {
        self.piece.clear();
        // The journal first: the Writer notes a place before it moves the word elsewhere.
        let places = journal.places.lock().clone();
        if places.len() > limits::RANKING_CHANGES {
            return false;
        }
        self.stale = places.into_iter().collect();
        let segments: BTreeSet<u32> = self.stale.iter().map(|place| place.0).collect();
        for segment in segments {
            let (known, now) = (&mut self.tables[segment as usize], words.segments[segment as usize].load_full());
            if known.slots() == 0 {
                // Its first words have come meanwhile. All of them have changed, and there are no more than changes.
                self.changed.extend(now.entries().map(|offset| placed(&now, segment, offset, side)));
                *known = now;
            } else if Arc::ptr_eq(&known.arena, &now.arena) {
                // A larger index of the same arena does no harm, since places are offsets in the arena.
                let of_segment = self.stale.range((segment, 0)..=(segment, u32::MAX));
                self.changed.extend(of_segment.map(|&(_, offset)| placed(&now, segment, offset, side)));
            } else {
                return false; // it was rebuilt, and the places may be of either arena
            }
        }
        true
    }

    /// The wanted words with their counts, in order. Not under a guard: it takes longer than all that was read.
    pub(crate) fn ranked(self) -> Vec<(String, i64)> {
        let Self { query, tables, mut best, piece, changed, stale, .. } = self;
        piece.iter().for_each(|&placed| best.offer(placed, &query, &tables));
        best.places.retain(|known| !stale.contains(&known.place));
        changed.iter().for_each(|&placed| best.offer(placed, &query, &tables));
        let mut word = String::new();
        let text = |PlacedCount { count, place: (segment, offset) }: PlacedCount| {
            tables[segment as usize].arena.read_word(offset, &mut word);
            (word.clone(), count)
        };
        best.into_sorted(query.n, &tables).into_iter().map(text).collect()
    }
}

fn placed(table: &CellTable, segment: u32, offset: u32, side: Side) -> PlacedCount {
    PlacedCount { count: table.count(offset, side), place: (segment, offset) }
}

/// The best of all words that are offered, by their places: 16 bytes a word, however long it is.
#[derive(Default)]
struct BestPlaces {
    room: usize,
    places: Vec<PlacedCount>,
    /// The last of the best, once there are as many as there is room: what ranks behind it need not be kept.
    last: Option<(i64, String)>,
    word: String,
    other: String,
}

impl BestPlaces {
    fn new(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    fn offer(&mut self, placed: PlacedCount, query: &RankingQuery<'_>, tables: &[Arc<CellTable>]) {
        let PlacedCount { count, place: (segment, offset) } = placed;
        // By the count first: the text of most words is never read.
        if !query.may_want(count) || self.last.as_ref().is_some_and(|last| count < last.0) {
            return;
        }
        let is_chosen = query.after.is_some_and(|(last, _)| last == count) || !query.prefix.is_empty();
        let is_tied = self.last.as_ref().is_some_and(|last| count == last.0);
        if is_chosen || is_tied {
            tables[segment as usize].arena.read_word(offset, &mut self.word);
            let is_behind = |last: &(i64, String)| compare_ranks((count, &self.word), (last.0, &last.1)).is_gt();
            if !query.wants(count, &self.word) || self.last.as_ref().is_some_and(is_behind) {
                return;
            }
        }
        self.places.push(placed);
        if self.places.len() >= 2 * self.room {
            self.cut(self.room, tables);
            if let Some(PlacedCount { count, place: (segment, offset) }) = self.places.last() {
                let mut word = String::new();
                tables[*segment as usize].arena.read_word(*offset, &mut word);
                self.last = Some((*count, word));
            }
        }
    }

    /// Keeps the best `n`, the last of them at the end.
    fn cut(&mut self, n: usize, tables: &[Arc<CellTable>]) {
        if n > 0 && n < self.places.len() {
            let (word, other) = (&mut self.word, &mut self.other);
            self.places.select_nth_unstable_by(n - 1, |one, two| compare_places(one, two, tables, word, other));
        }
        self.places.truncate(n);
    }

    /// The best `n`, in order.
    fn into_sorted(mut self, n: usize, tables: &[Arc<CellTable>]) -> Vec<PlacedCount> {
        self.cut(n, tables);
        let (word, other) = (&mut self.word, &mut self.other);
        self.places.sort_unstable_by(|one, two| compare_places(one, two, tables, word, other));
        self.places
    }
}

/// Compares two words by rank; their texts are read if their counts are equal.
fn compare_places(
    one: &PlacedCount,
    two: &PlacedCount,
    tables: &[Arc<CellTable>],
    word: &mut String,
    other: &mut String,
) -> Ordering {
    if one.count != two.count {
        return two.count.cmp(&one.count);
    }
    for (placed, text) in [(one, &mut *word), (two, &mut *other)] {
        tables[placed.place.0 as usize].arena.read_word(placed.place.1, text);
    }
    word.as_str().cmp(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_wants_words_of_its_prefix_that_rank_behind_its_place() {
        let query = RankingQuery { n: 1, prefix: "ab", after: Some((5, "abc")) };
        for (count, word, is_wanted) in [
            (6, "abz", false),
            (5, "abb", false),
            (5, "abc", false),
            (5, "abca", true),
            (4, "ab", true),
            (-4, "aba", true),
            (4, "a", false),
            (0, "aba", false),
        ] {
            assert_eq!(query.wants(count, word), is_wanted, "{word} {count}");
            assert!(query.may_want(count) || !is_wanted, "{word} {count}");
        }
        assert!(RankingQuery::default().wants(i64::MIN, "a"));
    }

    #[test]
    fn a_journal_holds_no_more_than_a_ranking_can_use_and_one_to_tell() {
        let journal = ChangeJournal::default();
        for _ in 0..3 {
            journal.note((0..limits::RANKING_CHANGES as u32).map(|offset| (0, offset)));
        }
        assert_eq!(journal.places.lock().len(), limits::RANKING_CHANGES + 1);
    }
}
