//! The store as memdb has it (`src/data/store.rs`), measured beside its rivals: left-right with packed cells over
//! arenas, plus all it does besides (digest, positions, namespaces, idempotency window, candidates of `/top`).

use crate::{Mechanism, workload::hasher};
use hashbrown::HashTable;
use memdb::{
    base::hash::weight,
    base::limits::DEFAULT_NAMESPACE,
    base::position::Position,
    data::counts::word_counts::WordCounts,
    data::record::{NamespaceChange, Record, RecordBody, WordCount},
    data::store::{DedupLimits, Store, StoreReader},
};

/// What readers have of the store.
pub struct Built {
    reader: StoreReader,
}

/// The store, and what the leader knows when it makes a record: the counts so far, and the digest they lead to.
pub struct Writer {
    store: Store,
    counts: HashTable<(u64, i64)>,
    digest: u64,
    sequence: u64,
}

impl Writer {
    /// Adds to a word's count and gives the new one; words are told apart by hash, which is enough for a measurement.
    fn add(&mut self, hash: u64, amount: i64) -> i64 {
        let entry = self.counts.entry(hash, |&(kept, _)| kept == hash, |&(kept, _)| kept);
        let mut entry = entry.or_insert((hash, 0));
        let (_, count) = entry.get_mut();
        let old = *count;
        *count += amount;
        let step = weight(hash, *count).wrapping_sub(weight(hash, old));
        self.digest = self.digest.wrapping_add(step.wrapping_mul(hasher().namespace_factor(DEFAULT_NAMESPACE)));
        old + amount
    }
}

impl Mechanism for Built {
    type Writer = Writer;

    fn new() -> (Self, Writer) {
        let store = Store::new(hasher(), DedupLimits::default());
        (Self { reader: store.reader() }, Writer { store, counts: HashTable::new(), digest: 0, sequence: 0 })
    }

    fn apply(&self, writer: &mut Writer, record: &WordCounts) {
        let counts = record.iter().map(|counted| {
            let count = writer.add(counted.hash, counted.amount);
            WordCount { word: counted.word, count }
        });
        let change = NamespaceChange { namespace: DEFAULT_NAMESPACE, dropped: false, counts: counts.collect() };
        writer.sequence += 1;
        let record = Record {
            position: Position::new(1, writer.sequence),
            time_ms: memdb::base::clock::LoggedTime::from_ms(writer.sequence),
            digest_after: writer.digest,
            body: RecordBody { entries: Vec::new(), changes: vec![change], keyed_writes: Vec::new() },
        };
        writer.store.apply(&record, 0).expect("the digest is the one the counts lead to");
    }

    #[inline]
    fn read<const N: usize>(&self, words: [&str; N], _retries: &mut u64) -> [i64; N] {
        let guard = self.reader.read();
        words.map(|word| guard.count(DEFAULT_NAMESPACE, word))
    }
}
