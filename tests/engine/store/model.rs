//! A store beside the model of its counts, and random histories that both are put through.

use super::script::{self, Step};
use memdb::{
    base::clock::LoggedTime,
    base::hash::WordHasher,
    base::position::Position,
    data::record::{NamespaceChange, Record, RecordBody, WordCount},
    data::store::{DedupLimits, StateId, Store},
};
use proptest::prelude::*;
use testkit::counts_model::CountsModel;

pub const HASHER: WordHasher = WordHasher::new(0x5eed);

/// The new absolute counts of one namespace.
#[derive(Clone, Debug)]
pub struct Changed {
    pub namespace: &'static str,
    pub dropped: bool,
    pub counts: Vec<(String, i64)>,
}

impl Changed {
    pub fn as_change(&self) -> NamespaceChange<'_> {
        let counts = self.counts.iter().map(|(word, count)| WordCount { word, count: *count }).collect();
        NamespaceChange { namespace: self.namespace, dropped: self.dropped, counts }
    }
}

/// A store beside its model.
pub struct Pair {
    pub store: Store,
    pub model: CountsModel,
}

impl Pair {
    pub fn new() -> Self {
        Self { store: Store::new(HASHER, DedupLimits::default()), model: CountsModel::default() }
    }

    pub fn apply(&mut self, changes: &[Changed]) {
        let changes_made: Vec<_> = changes.iter().map(Changed::as_change).collect();
        self.model.apply(&changes_made);
        let position = Position::new(1, self.store.mark().position.sequence + 1);
        let body = RecordBody { entries: Vec::new(), changes: changes_made, keyed_writes: Vec::new() };
        let record = Record {
            position,
            time_ms: LoggedTime::from_ms(position.sequence),
            digest_after: self.model.digest(HASHER),
            body,
        };
        let chain = position.sequence * 3;
        self.store.apply(&record, chain).expect("the record states the digest its counts lead to");
        let mark = StateId { position, digest: record.digest_after, chain };
        assert_eq!((self.store.mark(), self.store.reader().read().state_id()), (mark, mark));
        for change in changes {
            for (word, _) in &change.counts {
                self.check_count(change.namespace, word);
            }
        }
    }

    fn check_count(&self, namespace: &str, word: &str) {
        let count = self.store.reader().read().count(namespace, word);
        assert_eq!(count, self.model.count(namespace, word), "{word:?} in {namespace}");
    }

    /// Compares everything that can be asked.
    pub fn check_all(&self) {
        let reader = self.store.reader();
        let names: Vec<(String, u64)> =
            self.model.namespaces.iter().map(|(name, words)| (name.clone(), words.len() as u64)).collect();
        assert_eq!(reader.read().namespaces(), names);
        assert_eq!(self.store.namespaces(), names.len());
        assert_eq!(self.store.digest(), self.model.digest(HASHER));
        assert_eq!(self.store.bytes() as u64, reader.bytes());
        for (name, words) in &self.model.namespaces {
            let units: usize = words.keys().map(|word| 8 + (word.len() + 1).next_multiple_of(8)).sum();
            assert!(self.store.bytes() >= units, "{} bytes for words that take {units} alone", self.store.bytes());
            for word in words.keys() {
                self.check_count(name, word);
            }
        }
        assert_eq!(CountsModel::of(&self.store), self.model, "what a walk gives");
        for name in script::NAMESPACES {
            assert_eq!(reader.scan(name).is_some(), self.model.namespaces.contains_key(name));
            for n in [0, 1, 2, 10, 999, 1_000] {
                assert_eq!(reader.top(name, n), (self.store.mark().position, self.model.top(name, n)), "top {n}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_store_holds_what_its_records_say(steps in proptest::collection::vec(script::step(), 1..12)) {
        let mut pair = Pair::new();
        for (at, step) in steps.iter().enumerate() {
            let changes = step.iter().map(Step::change).collect::<Vec<_>>();
            pair.apply(&changes);
            if at % 4 == 3 {
                pair.check_all();
            }
        }
        pair.check_all();
    }
}

#[test]
fn taking_everything_away_gives_everything_back() {
    let mut pair = Pair::new();
    let empty = pair.store.bytes();
    for _ in 0..3 {
        let counts = |count| (0..20_000).map(|id| (script::word(id), count)).collect::<Vec<_>>();
        pair.apply(&[Changed { namespace: "words", dropped: false, counts: counts(i64::MAX) }]);
        pair.apply(&[Changed { namespace: "words", dropped: false, counts: counts(0) }]);
        assert_eq!((pair.store.bytes(), pair.store.namespaces(), pair.store.digest()), (empty, 0, 0));
    }
}

/// Long words do not fit the first chunks of an arena: moved before short ones, all take more room than they did.
#[test]
fn a_rebuild_that_needs_more_room_than_before_keeps_the_books() {
    // All words of one segment. Long ones (34 units) come first in the index, and so in a rebuild.
    let words = |len: usize, slots: std::ops::Range<u64>| {
        (0u32..).map(move |id| format!("{id:0len$}")).filter(move |word| {
            let hash = HASHER.hash(word);
            hash >> 56 == 7 && slots.contains(&(hash & 0xff))
        })
    };
    let long_words: Vec<String> = words(256, 0..24).take(5).collect();
    let mut short = words(7, 40..240); // 2 units each
    let mut pair = Pair::new();
    let mut set = |words: &[String], count| {
        let counts = words.iter().map(|word| (word.clone(), count)).collect();
        pair.apply(&[Changed { namespace: "words", dropped: false, counts }]);
    };
    // Short words fill exactly what long ones leave of each chunk.
    for (fill, long) in [(31, 0..1), (15, 1..4), (13, 4..5)] {
        set(&short.by_ref().take(fill).collect::<Vec<_>>(), 1);
        set(&long_words[long], 2);
    }
    let passing: Vec<String> = short.by_ref().take(51).collect();
    set(&passing, 3);
    set(&passing, 0);
    assert!(pair.store.bytes() < 1 << 20, "{} bytes", pair.store.bytes());
    pair.check_all();
}
