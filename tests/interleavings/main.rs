//! A Writer and readers of one store, in every order that the memory model allows (loom).
//!
//! `data/store`, `data/counts/index` and `data/counts/stored.rs` beside this file are links to the sources under `src`:
//! the same text, compiled over the modelled atomics of `base/atomics.rs`. So what is run here is `Store::apply` and
//! `StoreReader::read` themselves, with the gate, the cells, the indexes and the arenas, not a copy of their protocol.
//!
//! All orders with up to [`PREEMPTIONS`] switches away from a thread that could go on; which store a load sees is not
//! bounded. More of them: `make interleavings PREEMPTIONS=3`.
//!
//! Not modelled: `arc_swap`, `thread_local` and `OnceLock` themselves, for which there are stand-ins that order no more
//! than these promise (the last one is std's, but what lies in it is modelled); and loads that see stores of the
//! future, which the memory model has and loom has not. For these a reader leaves a [`Trace`] of what it does inside.
//!
//! That it can fail: the tests of faults plant weaker orderings, or no wait, for good. By hand, in the sources, these
//! were noticed (21 November 2026): in `data/store/left_right.rs` the mark `Release`, the side read `Acquire` or before
//! the mark, no fence at a first visit, the flip `Release`, no fence behind it, the look at a slot or the wait
//! `Relaxed`, no wait, leaving `Relaxed`, a look from outside that begins `Relaxed`, has no fence or is not checked; in
//! `data/store.rs` the flip before the first pass, before the mark or left out, both marks or the fold before it, names
//! shown on both sides at once, counts set on the side that is read; in `words` an entry published or found `Relaxed`,
//! a cell of a large count stored or read `Relaxed` or stored before its pair, the wrong side in flight, no fold. A
//! look at a slot that is `Acquire` is noticed too, though C++ would allow it behind the fence: loom orders such a
//! fence with fences only.

#![allow(dead_code, unused_imports, reason = "of the modules that are compiled here once more, a part is used")]
#![allow(clippy::print_stderr, reason = "a failing test says how many orders it had")]

/// The rooms of `src` as far as the sources below name them, with the modelled atomics.
mod base {
    pub mod atomics;
    pub use memdb::base::{clock, hash, limits, position};
    pub mod failpoint {
        /// Defects are for the simulation: none is injected here.
        macro_rules! inject {
            ($defect:ident, $statement:expr) => {
                if false {
                    $statement;
                }
            };
        }
        pub(crate) use inject;
    }
}
mod data {
    pub mod store;
    pub use memdb::data::{command, record};
    pub mod counts {
        pub mod index;
        pub mod stored;
        pub use memdb::data::counts::word_counts;
    }
    pub mod entries {
        pub mod entry;
        mod eviction_order;
        pub mod stored;
        mod table;
        mod totals;
        pub mod view;
        pub use entry::Entry;
        pub use memdb::data::entries::{CollectionId, CollectionKind};
        pub use totals::{CollectionTotals, EntryTotals};
        pub use view::EntryPage;
        pub type CollectionNumber = u16;
    }
}

use base::atomics::{AtomicU64, Fault, Ordering, with_fault};
use data::entries::{CollectionId, CollectionKind, Entry};
use data::store::{DedupLimits, StateId, Store, StoreReader};
use loom::thread;
use memdb::{
    base::{
        hash::{WordHasher, weight},
        position::{EpochTable, Position, PositionStatus},
    },
    data::record::{
        EntryChange, EntryEffect, EntryValue, NamespaceChange, Record, RecordBody, ValueEncoding, WordCount,
    },
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

const HASHER: WordHasher = WordHasher::new(7);
/// Switches that are forced upon threads, at most, in one order.
const PREEMPTIONS: usize = 2;
const NAMESPACE: &str = "words";
const CACHE: CollectionId<'static> = CollectionId::new(CollectionKind::Cache, NAMESPACE);
const KEY: &str = "k";

/// What records do.
#[derive(Clone, Copy, Debug)]
struct Story {
    /// Each record sets those that have come. Those of one segment share an index, and are walked in one piece.
    words: [&'static str; 2],
    /// The record that the second word comes with.
    second_from: u64,
    /// The record from which on counts are too large for a cell, if there is one.
    large_from: Option<u64>,
    /// Records before the readers begin.
    before: u64,
    /// Records beside them.
    beside: u64,
    /// The record that an entry comes with, if one does; each later one puts another value over it.
    entry_from: Option<u64>,
    /// Readers leave no trace: only what they see tells of a fault.
    untraced: bool,
}

/// More than a cell holds.
const LARGE: i64 = 1 << 50;

/// Two words with the same segment under [`HASHER`]; a test holds that.
const WORDS: [&str; 2] = ["w0", "w102"];

impl Story {
    const PLAIN: Story = Story {
        words: WORDS,
        second_from: 1,
        large_from: None,
        before: 1,
        beside: 1,
        entry_from: None,
        untraced: false,
    };

    /// The counts at a position.
    fn counts_at(&self, sequence: u64) -> [i64; 2] {
        let large = if self.large_from.is_some_and(|from| sequence >= from) { LARGE } else { 0 };
        [1, self.second_from].map(|from| if sequence < from { 0 } else { (sequence + 1 - from) as i64 + large })
    }

    /// The value of the entry at a position.
    fn value_at(&self, sequence: u64) -> Option<String> {
        self.entry_from.filter(|&from| sequence >= from).map(|_| sequence.to_string())
    }

    fn write(&self, store: &mut Store, sequence: u64) {
        let counts = self.words.into_iter().zip(self.counts_at(sequence));
        let counts: Vec<_> =
            counts.filter(|&(_, count)| count != 0).map(|(word, count)| WordCount { word, count }).collect();
        let digest = counts.iter().map(|counted| weight(HASHER.hash(counted.word), counted.count));
        let digest = digest.fold(0, u64::wrapping_add).wrapping_mul(HASHER.namespace_factor(NAMESPACE));
        let change = NamespaceChange { namespace: NAMESPACE, dropped: false, counts };
        let text = sequence.to_string();
        let value = EntryValue {
            content_type: "",
            expires: None,
            counted: false,
            encoding: ValueEncoding::Plain,
            raw_bytes: text.len() as u32,
            hash: &[],
            bytes: text.as_bytes(),
        };
        let put = EntryChange { collection: CACHE, key: KEY, effect: EntryEffect::Put(value) };
        let entries = Vec::from_iter(self.value_at(sequence).map(|_| put));
        let weights = entries.iter().map(|_| Entry::new(0, KEY, &value, sequence).digest_weight(HASHER, CACHE));
        let digest_after = weights.fold(digest, u64::wrapping_add);
        let body = RecordBody { entries, changes: vec![change], keyed_writes: Vec::new() };
        let time_ms = memdb::base::clock::LoggedTime::from_ms(sequence);
        let record = Record { position: Position::new(1, sequence), time_ms, digest_after, body };
        store.apply(&record, 0).expect("the digest is that of the counts");
    }

    /// Applies the records of the beginning.
    fn begin(&self) -> Store {
        let mut store = Store::new(HASHER, DedupLimits::default());
        (1..=self.before).for_each(|sequence| self.write(&mut store, sequence));
        store
    }

    /// Applies the others; after each, whoever was inside before it must be gone.
    fn go_on(&self, store: &mut Store, traces: &[Arc<Trace>]) {
        for sequence in self.before + 1..=self.before + self.beside {
            self.write(store, sequence);
            if !self.untraced {
                traces.iter().for_each(|trace| trace.is_not_inside_before(sequence));
            }
        }
    }

    /// Reads all words so many times under a guard each.
    fn read(&self, reader: &StoreReader, times: usize, trace: &Trace) {
        let mut last = self.before;
        for _ in 0..times {
            let guard = reader.read();
            let sequence = guard.position().sequence;
            trace.inside(sequence);
            let counts = self.words.map(|word| guard.count(NAMESPACE, word));
            if self.entry_from.is_some() {
                let value = guard.entry(CACHE, KEY).map(|entry| String::from_utf8_lossy(&entry.value()).into_owned());
                assert_eq!(value, self.value_at(sequence), "at position {sequence}");
            }
            if self.before == 0 {
                let distinct = self.counts_at(sequence).iter().filter(|&&count| count != 0).count() as u64;
                let expected = (distinct > 0).then(|| (NAMESPACE.to_owned(), distinct));
                assert_eq!(guard.namespaces(), expected.into_iter().collect::<Vec<_>>(), "at position {sequence}");
            }
            trace.leaving(sequence);
            drop(guard);
            assert_eq!(counts, self.counts_at(sequence), "at position {sequence}");
            assert!(sequence >= last, "from position {last} back to {sequence}");
            last = sequence;
        }
    }

    /// Walks over all words, from outside if that can be.
    fn walk(&self, reader: &StoreReader) {
        let mut scan = reader.scan(NAMESPACE).expect("it is there from the beginning");
        let mut seen = [0; 2];
        while scan.step(|word, count| seen[self.words.iter().position(|&other| other == word).expect("ours")] = count) {
        }
        let mut positions = self.before..=self.before + self.beside;
        assert!(positions.any(|sequence| self.counts_at(sequence) == seen), "{seen:?} was at no position");
    }
}

/// Where a reader is, told without any order of its own: what the Writer sees of it shows whether the gate has ordered
/// what the reader did inside before what the Writer does next.
#[derive(Default)]
struct Trace(AtomicU64);

impl Trace {
    fn inside(&self, sequence: u64) {
        self.0.store(sequence * 2 + 1, Ordering::Relaxed);
    }

    fn leaving(&self, sequence: u64) {
        self.0.store(sequence * 2, Ordering::Relaxed);
    }

    fn is_not_inside_before(&self, sequence: u64) {
        let seen = self.0.load(Ordering::Relaxed);
        assert!(seen.is_multiple_of(2) || seen / 2 >= sequence, "inside at {} when {sequence} is folded", seen / 2);
    }
}

/// Readers, each with its reads, beside the Writer.
fn reading(story: Story, reads: &'static [usize]) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut store = story.begin();
        let traces: Vec<Arc<Trace>> = reads.iter().map(|_| Arc::default()).collect();
        let readers: Vec<_> = traces
            .iter()
            .zip(reads)
            .map(|(trace, &times)| {
                let (reader, trace) = (store.reader(), Arc::clone(trace));
                thread::spawn(move || story.read(&reader, times, &trace))
            })
            .collect();
        story.go_on(&mut store, &traces);
        readers.into_iter().for_each(|reader| reader.join().expect("it reads whole records"));
    }
}

/// A walk beside the Writer.
fn walking(story: Story) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut store = story.begin();
        let reader = store.reader();
        let walker = thread::spawn(move || story.walk(&reader));
        story.go_on(&mut store, &[]);
        walker.join().expect("it sees whole records");
    }
}

/// A reader that asks for the last position of an epoch while the next one begins: by its first record, or, where
/// there is none, by the position alone.
fn asking_over_an_epoch(by_a_record: bool) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut store = Story::PLAIN.begin();
        let (last, reader) = (store.mark().position, store.reader());
        let asking = thread::spawn(move || {
            for _ in 0..2 {
                assert_eq!(reader.position_status(last), PositionStatus::Reached);
            }
        });
        let mut epochs = EpochTable::default();
        epochs.end(last);
        store.set_epochs(epochs);
        let next = Position::new(last.epoch + 1, last.sequence + u64::from(by_a_record));
        if by_a_record {
            let (digest_after, time_ms) = (store.digest(), store.time_ms());
            store
                .apply(&Record { position: next, time_ms, digest_after, body: RecordBody::default() }, 0)
                .expect("good");
        } else {
            store.set_state_id(StateId { position: next, ..store.mark() }, store.time_ms());
        }
        asking.join().expect("no position is lost");
    }
}

/// Runs a model in all its orders; gives how many there were.
fn explore(fault: Fault, model: impl Fn() + Send + Sync + 'static) -> u64 {
    let orders = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    with_fault(fault, || {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS)); // LOOM_MAX_PREEMPTIONS, if given
        builder.max_branches = 20_000;
        builder.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            model();
        });
    });
    orders.load(Ordering::Relaxed)
}

fn holds(model: impl Fn() + Send + Sync + 'static) {
    let orders = explore(Fault::None, model);
    eprintln!("{orders} orders");
    assert!(orders > 100, "{orders}: do the threads meet?");
}

#[test]
fn a_reader_sees_whole_records() {
    holds(reading(Story::PLAIN, &[2]));
}

#[test]
fn a_reader_sees_whole_records_of_several() {
    holds(reading(Story { beside: 2, ..Story::PLAIN }, &[1]));
}

#[test]
fn two_readers_see_whole_records() {
    holds(reading(Story::PLAIN, &[1, 1]));
}

#[test]
fn a_word_that_comes_is_there_whole_or_not_at_all() {
    holds(reading(Story { second_from: 2, ..Story::PLAIN }, &[1]));
}

/// The second word, when it comes, is the first of its segment: the index is replaced, and the arena.
const IN_A_NEW_SEGMENT: Story = Story { words: ["w0", "w1"], second_from: 2, ..Story::PLAIN };

#[test]
fn an_index_that_is_replaced_is_there_whole() {
    holds(reading(IN_A_NEW_SEGMENT, &[1]));
}

/// The second word, when it comes, lies in a piece of the arena that did not exist.
const IN_A_NEW_CHUNK: Story = Story { words: LONG_WORDS, second_from: 2, ..Story::PLAIN };
const LONG_WORDS: [&str; 2] = [
    "w0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "w18xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

#[test]
fn a_piece_of_the_arena_is_there_before_a_word_in_it() {
    holds(reading(IN_A_NEW_CHUNK, &[1]));
}

#[test]
fn a_namespace_that_comes_is_there_whole_or_not_at_all() {
    holds(reading(Story { before: 0, ..Story::PLAIN }, &[1]));
}

#[test]
fn counts_that_leave_their_cells_do_so_whole() {
    holds(reading(Story { large_from: Some(2), beside: 2, ..Story::PLAIN }, &[1]));
}

/// An entry that is replaced by each record, beside words.
const WITH_AN_ENTRY: Story = Story { entry_from: Some(1), ..Story::PLAIN };

#[test]
fn a_reader_sees_an_entry_and_words_of_one_position() {
    holds(reading(WITH_AN_ENTRY, &[1]));
}

#[test]
fn an_entry_that_comes_is_there_with_its_words_or_not_at_all() {
    holds(reading(Story { entry_from: Some(2), ..Story::PLAIN }, &[1]));
}

#[test]
fn a_walk_from_outside_sees_whole_records() {
    holds(walking(Story { beside: 2, ..Story::PLAIN }));
}

#[test]
fn a_walk_from_outside_sees_whole_large_counts() {
    holds(walking(LARGE_FROM_THE_START));
}

const LARGE_FROM_THE_START: Story = Story { large_from: Some(1), beside: 2, ..Story::PLAIN };

#[test]
fn a_position_of_an_ended_epoch_is_never_lost_while_the_next_begins() {
    holds(asking_over_an_epoch(true));
    holds(asking_over_an_epoch(false));
}

#[test]
fn the_words_share_a_segment_where_they_should() {
    let segment = |word| HASHER.hash(word) >> 56;
    assert_eq!(segment(WORDS[0]), segment(WORDS[1]));
    assert_eq!(segment(LONG_WORDS[0]), segment(LONG_WORDS[1]));
    assert_ne!(segment(IN_A_NEW_SEGMENT.words[0]), segment(IN_A_NEW_SEGMENT.words[1]));
}

/// Holds that a model fails with this fault in it.
#[track_caller]
fn notices(fault: Fault, model: impl Fn() + Send + Sync + 'static) {
    let outcome = catch_unwind(AssertUnwindSafe(|| explore(fault, model)));
    assert!(outcome.is_err(), "{fault:?} is not noticed in {outcome:?} orders");
}

#[test]
fn a_fault_in_the_gate_is_noticed_by_what_is_read() {
    for fault in [Fault::WeakStores, Fault::WeakLoads, Fault::NoFullFence, Fault::NoWait] {
        notices(fault, reading(Story { untraced: true, ..Story::PLAIN }, &[2]));
    }
}

#[test]
fn a_fault_in_the_gate_is_noticed_beside_an_entry() {
    for fault in [Fault::NoFullFence, Fault::NoWait] {
        notices(fault, reading(Story { untraced: true, ..WITH_AN_ENTRY }, &[1]));
    }
}

#[test]
fn a_fault_in_what_is_published_is_noticed() {
    for fault in [Fault::NoRelease, Fault::NoAcquire] {
        notices(fault, reading(Story { untraced: true, ..IN_A_NEW_SEGMENT }, &[1]));
        notices(fault, reading(Story { untraced: true, ..IN_A_NEW_CHUNK }, &[1]));
    }
}

#[test]
fn a_reader_that_leaves_without_order_is_noticed_by_its_trace() {
    for fault in [Fault::NoRelease, Fault::NoAcquire] {
        notices(fault, reading(Story::PLAIN, &[2]));
    }
}

#[test]
fn a_fault_is_noticed_by_a_walk() {
    for fault in [Fault::NoFullFence, Fault::NoAcquireFence] {
        notices(fault, walking(LARGE_FROM_THE_START));
    }
    notices(Fault::NoAcquire, walking(Story { beside: 2, ..Story::PLAIN }));
}
