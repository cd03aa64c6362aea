//! The order of `/top`: larger counts first, equal counts by word.

use crate::base::position::Position;
use std::{cmp::Ordering, collections::BinaryHeap};

/// A word with its count and where it lies, ordered so that the better one is the smaller one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RankedWord {
    pub(super) count: i64,
    pub(super) word: Box<str>,
    pub(super) place: WordPlace,
}

/// Compares two words with their counts by rank: the better one is the smaller one.
#[inline]
pub(super) fn compare_ranks(one: (i64, &str), two: (i64, &str)) -> Ordering {
    two.0.cmp(&one.0).then_with(|| one.1.cmp(two.1))
}

/// The segment of an entry, and its offset there.
pub(super) type WordPlace = (u32, u32);

impl RankedWord {
    /// Compares a word with this count to this one, by rank.
    #[inline]
    pub(super) fn compare(&self, count: i64, word: &str) -> Ordering {
        compare_ranks((count, word), (self.count, &self.word))
    }
}

impl Ord for RankedWord {
    fn cmp(&self, other: &Self) -> Ordering {
        other.compare(self.count, &self.word)
    }
}

impl PartialOrd for RankedWord {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The largest words at one position.
pub(super) struct TopCache {
    position: Position,
    /// Number of words asked for.
    n: usize,
    top: Box<[(String, i64)]>,
}

impl TopCache {
    pub(super) fn new(position: Position, n: usize, top: &[(String, i64)]) -> Self {
        Self { position, n, top: top.into() }
    }

    /// The `n` largest at this position, if they are among these.
    pub(super) fn at(&self, position: Position, n: usize) -> Option<Vec<(String, i64)>> {
        // Fewer than were asked for are all there are.
        let has_all = n <= self.n || self.top.len() < self.n;
        (position == self.position && has_all).then(|| self.top[..n.min(self.top.len())].to_vec())
    }
}

/// Keeps the best `room` of all words it is offered.
pub(super) struct TopHeap {
    room: usize,
    heap: BinaryHeap<RankedWord>,
}

impl TopHeap {
    pub(super) fn new(room: usize) -> Self {
        Self { room, heap: BinaryHeap::with_capacity(room + 1) }
    }

    /// Returns whether a word with this count could be among the best; if not, its text need not be read.
    pub(super) fn may_enter(&self, count: i64) -> bool {
        self.heap.len() < self.room || self.heap.peek().is_some_and(|worst| count >= worst.count)
    }

    pub(super) fn offer(&mut self, count: i64, word: &str, place: WordPlace) {
        if self.heap.len() == self.room {
            // Compared before it is copied: most are not among the best.
            match self.heap.peek() {
                Some(worst) if worst.compare(count, word) == Ordering::Less => self.heap.pop(),
                _ => return,
            };
        }
        self.heap.push(RankedWord { count, word: word.into(), place });
    }

    /// The words kept, best first.
    pub(super) fn into_sorted(self) -> Vec<RankedWord> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_best_in_order_with_ties_by_word() {
        let mut best = TopHeap::new(3);
        for (word, count) in [("d", 1), ("b", 2), ("a", 1), ("c", 2), ("e", -5), ("d", 1)] {
            best.offer(count, word, (0, word.as_bytes()[0].into()));
        }
        let kept: Vec<_> = best
            .into_sorted()
            .into_iter()
            .map(|ranked| (ranked.word.to_string(), ranked.count, ranked.place))
            .collect();
        assert_eq!(kept, [("b".into(), 2, (0, 98)), ("c".into(), 2, (0, 99)), ("a".into(), 1, (0, 97))]);
    }

    #[test]
    fn a_cached_top_serves_one_position_and_no_more_words_than_it_has() {
        let top = [("b".to_owned(), 2), ("a".to_owned(), 1)];
        let (here, later) = (Position::new(1, 5), Position::new(1, 6));
        let known = TopCache::new(here, 2, &top);
        assert_eq!(known.at(here, 2).as_deref(), Some(&top[..]));
        assert_eq!(known.at(here, 1).as_deref(), Some(&top[..1]));
        assert_eq!((known.at(here, 3), known.at(later, 2)), (None, None));
        assert_eq!(TopCache::new(here, 9, &top).at(here, 100).as_deref(), Some(&top[..]), "there are no more");
    }

    #[test]
    fn a_best_of_none_keeps_none() {
        let mut best = TopHeap::new(0);
        best.offer(1, "a", (0, 0));
        assert!(best.into_sorted().is_empty());
    }
}
