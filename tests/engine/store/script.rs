//! Random records: mostly small, some with thousands of words, with counts at every edge of a cell.

use super::model::Changed;
use proptest::{prelude::*, sample::Index};
use std::ops::Range;

pub const NAMESPACES: [&str; 3] = ["words", "a", "other.name-1"];
/// Words there are in all.
const VOCABULARY: u32 = 12_000;

/// What a record does to one namespace.
#[derive(Clone, Debug)]
pub struct Step {
    namespace: usize,
    dropped: bool,
    counts: Counts,
}

#[derive(Clone, Debug)]
enum Counts {
    None,
    /// Some words, a count each.
    Some(Vec<(u32, i64)>),
    /// Many words: counts fall from the first by a step, so that tops have an order and ties.
    Range(Range<u32>, i64, i64),
    /// Many words taken away, one in so many spared.
    Remove(Range<u32>, u32),
}

impl Step {
    pub fn change(&self) -> Changed {
        let counts = match &self.counts {
            Counts::None => Vec::new(),
            Counts::Some(counts) => {
                // The last count of a word is the one that holds; a record names a word once.
                let counts: std::collections::BTreeMap<u32, i64> = counts.iter().copied().collect();
                counts.into_iter().map(|(id, count)| (word(id), count)).collect()
            }
            Counts::Range(ids, first, step) => ids
                .clone()
                .map(|id| (word(id), first.saturating_sub(step.saturating_mul(i64::from((id - ids.start) / 3)))))
                .collect(),
            Counts::Remove(ids, spared) => ids.clone().filter(|id| id % spared != 0).map(|id| (word(id), 0)).collect(),
        };
        Changed { namespace: NAMESPACES[self.namespace], dropped: self.dropped, counts }
    }
}

/// The word of a number: of every length from 1 to 256 bytes, of NULs, and of letters outside ASCII among them.
pub fn word(id: u32) -> String {
    match id {
        0..256 => "\0".repeat(id as usize + 1),
        256..512 => "ab".chars().cycle().take(id as usize - 255).collect(),
        512..640 => "é".repeat(id as usize - 511),
        640..700 => format!("{}{id}", "\0".repeat(id as usize % 9)),
        _ => format!("word{id}"),
    }
}

fn count() -> impl Strategy<Value = i64> {
    let edge = |bits: u32| {
        (-2i64..=2, prop::bool::ANY)
            .prop_map(move |(off, negative)| if negative { -(1i64 << bits) + off } else { (1i64 << bits) + off })
    };
    prop_oneof![
        4 => -5i64..=5,
        1 => Just(0i64),
        2 => edge(19),
        1 => edge(20),
        2 => edge(41),
        1 => edge(42),
        1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX]),
        1 => any::<i64>(),
    ]
}

fn range() -> impl Strategy<Value = Range<u32>> {
    (any::<Index>(), any::<Index>()).prop_map(|(one, other)| {
        let (one, other) = (one.index(VOCABULARY as usize) as u32, other.index(VOCABULARY as usize) as u32);
        one.min(other)..one.max(other) + 1
    })
}

fn counts() -> impl Strategy<Value = Counts> {
    prop_oneof![
        1 => Just(Counts::None),
        5 => prop::collection::vec((0..VOCABULARY, count()), 1..40).prop_map(Counts::Some),
        4 => prop::collection::vec((0..60u32, count()), 1..40).prop_map(Counts::Some),
        4 => (range(), count(), 0i64..4).prop_map(|(ids, first, step)| Counts::Range(ids, first, step)),
        3 => (range(), 2u32..50).prop_map(|(ids, spared)| Counts::Remove(ids, spared)),
    ]
}

/// One record: each namespace at most once.
pub fn step() -> impl Strategy<Value = Vec<Step>> {
    let one = |namespace: usize| {
        (prop::bool::weighted(0.08), counts()).prop_map(move |(dropped, counts)| Step { namespace, dropped, counts })
    };
    prop_oneof![
        6 => one(0).prop_map(|step| vec![step]),
        2 => (one(1), one(0)).prop_map(|(a, b)| vec![a, b]),
        1 => (one(2), one(0), one(1)).prop_map(|(a, b, c)| vec![a, b, c]),
    ]
}
