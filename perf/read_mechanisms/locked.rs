//! What left-right is compared with: a seqlock over each record, and sharded locks.

use crate::{
    Mechanism,
    layout::{ArenaLayout, Layout},
    workload::hasher,
};
use crossbeam_utils::CachePadded;
use hashbrown::HashTable;
use memdb::data::counts::word_counts::WordCounts;
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Mechanism 3: one stamp for everything, odd while a record is applied. A reader repeats until the stamp was even and
/// stayed the same: nothing bounds how often.
#[derive(Default)]
pub struct Seqlock {
    layout: ArenaLayout<1>,
    stamp: CachePadded<AtomicU64>,
}

impl Mechanism for Seqlock {
    type Writer = <ArenaLayout<1> as Layout>::Writer;

    fn new() -> (Self, Self::Writer) {
        Default::default()
    }

    fn apply(&self, writer: &mut Self::Writer, record: &WordCounts) {
        let stamp = self.stamp.load(Ordering::Relaxed);
        self.stamp.store(stamp + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for counted in record.iter() {
            let cell = self.layout.cell(self.layout.find_or_insert(writer, counted.hash, counted.word), 0);
            let count = cell.load(Ordering::Relaxed).cast_signed() + counted.amount;
            cell.store(count.cast_unsigned(), Ordering::Relaxed);
        }
        self.stamp.store(stamp + 2, Ordering::Release);
    }

    #[inline]
    fn read<const N: usize>(&self, words: [&str; N], retries: &mut u64) -> [i64; N] {
        let hashes = words.map(|word| hasher().hash(word));
        loop {
            let before = self.stamp.load(Ordering::Acquire);
            if before & 1 == 0 {
                let counts = std::array::from_fn(|at| {
                    let place = self.layout.find(hashes[at], words[at]);
                    place.map_or(0, |place| self.layout.cell(place, 0).load(Ordering::Relaxed).cast_signed())
                });
                fence(Ordering::Acquire);
                if self.stamp.load(Ordering::Relaxed) == before {
                    return counts;
                }
            }
            *retries += 1;
            std::hint::spin_loop();
        }
    }
}

const SHARDS: usize = 64;

/// Mechanism 4: hash tables behind 64 locks. A record holds the locks of all its words at once, a read those of its
/// words, both taken in order: that is what one position for several words costs here.
pub struct Sharded {
    shards: Box<[CachePadded<Shard>]>,
}

type Table = HashTable<(Box<str>, i64)>;
type Shard = RwLock<Table>;

fn add(table: &mut Table, hash: u64, word: &str, amount: i64) {
    if let Some((_, count)) = table.find_mut(hash, |(kept, _)| **kept == *word) {
        *count += amount;
    } else {
        table.insert_unique(hash, (word.into(), amount), |(kept, _)| hasher().hash(kept));
    }
}

impl Default for Sharded {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| CachePadded::default()).collect() }
    }
}

impl Sharded {
    /// Adds to one word.
    pub fn add(&self, hash: u64, word: &str, amount: i64) {
        add(&mut self.shards[shard_of(hash)].write(), hash, word, amount);
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

impl Mechanism for Sharded {
    type Writer = ();

    fn new() -> (Self, Self::Writer) {
        Default::default()
    }

    fn apply(&self, (): &mut (), record: &WordCounts) {
        let mut wanted = [false; SHARDS];
        for counted in record.iter() {
            wanted[shard_of(counted.hash)] = true;
        }
        let mut tables: [_; SHARDS] = std::array::from_fn(|at| wanted[at].then(|| self.shards[at].write()));
        for counted in record.iter() {
            let table = tables[shard_of(counted.hash)].as_mut().expect("locked above");
            add(table, counted.hash, counted.word, counted.amount);
        }
    }

    #[inline]
    fn read<const N: usize>(&self, words: [&str; N], _retries: &mut u64) -> [i64; N] {
        let hashes = words.map(|word| hasher().hash(word));
        let mut order: [usize; N] = std::array::from_fn(|at| shard_of(hashes[at]));
        order.sort_unstable();
        // A lock taken twice by one thread would wait for a writer that waits for it: equal shards are locked once.
        let tables: [Option<RwLockReadGuard<'_, _>>; N] = std::array::from_fn(|at| {
            let repeated = at > 0 && order[at] == order[at - 1];
            (!repeated).then(|| self.shards[order[at]].read())
        });
        std::array::from_fn(|at| {
            let held = order.partition_point(|&shard| shard < shard_of(hashes[at]));
            let table = tables[held].as_ref().expect("the first of equal shards is the locked one");
            table.find(hashes[at], |(kept, _)| **kept == *words[at]).map_or(0, |(_, count)| *count)
        })
    }
}
