//! The store and the Writer as built: reads beside a Writer that is flat out, records a second, what a word costs,
//! the longest stop while the store grows, and the walk of a snapshot.
//!
//! `cargo run --release --example bench-store [-- SECONDS]` prints a table; `-- write SECONDS` does nothing but write,
//! for `perf record`. One writer and one reader: give it two cores.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for a person to run")]

use memdb::{
    base::clock::{LoggedClock, Monotonic},
    base::limits::DEFAULT_NAMESPACE,
    data::command::WriteBatch,
    data::counts::{WriteOp, word_counts::WordCounts},
    data::store::{DedupLimits, StateId, Store, StoreReader},
    engine::leader::{WriteSubmission, Writer, WriterAction, WriterSettings},
    storage::disk::{Disk, DiskFile},
    storage::file_header::DatabaseIdentity,
    storage::wal::Log,
    text::tokenizer::Analyzer,
};
use std::{
    hint::black_box,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use testkit::{Random, words::write_word};

/// Words of a record.
const RECORD_WORDS: u64 = 1_000;
/// Records made beforehand; the writer goes round them.
const RECORDS: usize = 256;
const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 0x6d65 };

/// A disk that forgets: what is measured is the Writer.
struct NoDisk;

impl Disk for NoDisk {
    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NoDisk))
    }
    fn open(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NoDisk))
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for NoDisk {
    fn append(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A Writer over an empty store, driven by hand.
struct Loaded {
    writer: Writer<()>,
    actions: Vec<WriterAction<()>>,
}

impl Loaded {
    fn new() -> Self {
        let store = Store::new(IDENTITY.hasher(), DedupLimits::default());
        let log = Log::create(Arc::new(NoDisk), IDENTITY, 1, StateId::default(), 64 << 20).expect("nothing can fail");
        let (now, clock) = (Monotonic::default(), LoggedClock::default());
        Self { writer: Writer::new(store, log, WriterSettings::default(), 0, clock, now), actions: Vec::new() }
    }

    /// Counts each of the first `words` words once.
    fn with_words(words: u64) -> Self {
        let mut loaded = Self::new();
        for first in (0..words).step_by(RECORD_WORDS as usize) {
            loaded.write(batch(first..(first + RECORD_WORDS).min(words)));
        }
        loaded
    }

    fn write(&mut self, batch: WriteBatch) {
        self.writer.write([WriteSubmission { batch, level: None, reply: () }], Monotonic::default(), &mut self.actions);
        for action in self.actions.drain(..) {
            if let WriterAction::Answer((), answer) = action {
                answer.expect("every batch is admitted");
            }
        }
    }

    fn reader(&self) -> StoreReader {
        self.writer.store().reader()
    }

    fn sequence(&self) -> u64 {
        self.writer.store().mark().position.sequence
    }
}

fn batch(numbers: impl Iterator<Item = u64>) -> WriteBatch {
    let mut tally = WordCounts::new(IDENTITY.hasher());
    let mut word = String::new();
    for number in numbers {
        write_word(number, &mut word);
        tally.add(&word, 1).expect("small amounts");
    }
    let words = tally.len() as u64;
    let namespace = DEFAULT_NAMESPACE.into();
    WriteBatch {
        entries: Vec::new(),
        namespace,
        op: WriteOp::Add,
        counts: tally,
        words,
        left_out: 0,
        key: None,
        fingerprint: 0,
    }
}

/// Batches of distinct words by Zipf's law.
fn batches(words: u64) -> Vec<WriteBatch> {
    let mut numbers = Random::new(words);
    let mut one = || {
        let mut chosen = std::collections::BTreeSet::new();
        while (chosen.len() as u64) < RECORD_WORDS {
            chosen.insert(numbers.zipf(words));
        }
        batch(chosen.into_iter())
    };
    (0..RECORDS).map(|_| one()).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(3.0),
        [seconds] => compare(seconds.parse().expect("seconds")),
        ["write", seconds] => {
            let (records, ..) = write_and_read::<0>(1_000_000, seconds.parse().expect("seconds"));
            println!("{records:.0} records/s");
        }
        ["grow", words] => grow(words.parse().expect("a number of words")),
        _ => panic!("bench-store [SECONDS] | write SECONDS | grow WORDS"),
    }
}

fn compare(seconds: f64) {
    println!("| 1 M words, records of 1,000 | reads/s, millions | records/s | slowest record, ms |\n|---|---|---|---|");
    let rows = [
        ("no reader", write_and_read::<0>(1_000_000, seconds)),
        ("reads of 1 word", write_and_read::<1>(1_000_000, seconds)),
        ("reads of 3 words", write_and_read::<3>(1_000_000, seconds)),
    ];
    for (title, (records, reads, slowest)) in rows {
        println!("| {title} | {:.2} | {records:.0} | {:.2} |", reads / 1e6, slowest.as_secs_f64() * 1e3);
    }
    println!(
        "\n| words | bytes a word, resident | as the store says | slowest insert, ms | mean insert, ns | walk, words/s |"
    );
    println!("|---|---|---|---|---|---|");
    let program = std::env::current_exe().expect("a running program has a path");
    for words in ["1000000", "10000000"] {
        // In a process of its own, so that nothing freed before is counted as free.
        let output = std::process::Command::new(&program).args(["grow", words]).output().expect("it starts again");
        print!("{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Records and reads a second, and the slowest record.
fn write_and_read<const WORDS: usize>(words: u64, seconds: f64) -> (f64, f64, Duration) {
    let mut loaded = Loaded::with_words(words);
    let reader = loaded.reader();
    let batches = batches(words);
    let mut next = batches.iter().cycle();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| if WORDS == 0 { 0 } else { read::<WORDS>(&reader, words, &ended) });
        let (begin, before, mut slowest) = (Instant::now(), loaded.sequence(), Duration::ZERO);
        while begin.elapsed().as_secs_f64() < seconds {
            // Handing a batch over takes a copy, which a handler makes on its own core.
            let batch = next.next().expect("it goes round").clone();
            let start = Instant::now();
            loaded.write(batch);
            slowest = slowest.max(start.elapsed());
        }
        let took = begin.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        let reads = reads.join().expect("the reader ends");
        ((loaded.sequence() - before) as f64 / took, reads as f64 / took, slowest)
    })
}

fn read<const WORDS: usize>(reader: &StoreReader, words: u64, ended: &AtomicBool) -> u64 {
    let mut numbers = Random::new(words + 1);
    let mut asked = || {
        let mut word = String::new();
        write_word(numbers.zipf(words), &mut word);
        word.into_boxed_str()
    };
    let requests: Vec<[Box<str>; WORDS]> = (0..1 << 16).map(|_| std::array::from_fn(|_| asked())).collect();
    let mut reads = 0;
    while !ended.load(Ordering::Relaxed) {
        for request in &requests[reads as usize & 0xff00..][..256] {
            let guard = reader.read();
            for word in request {
                black_box(guard.count(DEFAULT_NAMESPACE, word));
            }
        }
        reads += 256;
    }
    reads
}

/// Grows to `words` words, one a record, and prints a row.
fn grow(words: u64) {
    let mut loaded = Loaded::new();
    let before = resident_bytes();
    let (mut slowest, mut total) = (Duration::ZERO, Duration::ZERO);
    for number in 0..words {
        let batch = batch(number..number + 1);
        let start = Instant::now();
        loaded.write(batch);
        let took = start.elapsed();
        slowest = slowest.max(took);
        total += took;
    }
    let resident = (resident_bytes() - before) / words as f64;
    let told = loaded.writer.store().bytes() as f64 / words as f64;
    let mut scan = loaded.reader().scan(DEFAULT_NAMESPACE).expect("it was filled");
    let (begin, mut walked) = (Instant::now(), 0u64);
    while scan.step(|word, count| walked += u64::from(!black_box(word).is_empty() && count != 0)) {}
    let walk = walked as f64 / begin.elapsed().as_secs_f64();
    let anew = remove_the_largest(&mut loaded).as_secs_f64() * 1e3;
    let (slowest, mean) = (slowest.as_secs_f64() * 1e3, total.as_nanos() as f64 / words as f64);
    println!("| {words} | {resident:.1} | {told:.1} | {slowest:.2} | {mean:.0} | {walk:.0} | {anew:.1} |");
}

/// The slowest record while the largest words go, until the candidates of `/top` have been chosen anew. All counts
/// are equal, which is the worst case: the text of every word decides.
fn remove_the_largest(loaded: &mut Loaded) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..9 {
        let (_, top) = loaded.reader().top(DEFAULT_NAMESPACE, 1_000);
        let mut tally = WordCounts::new(IDENTITY.hasher());
        top.iter().for_each(|(word, _)| tally.add(word, 0).expect("nothing"));
        let start = Instant::now();
        loaded.write(WriteBatch {
            entries: Vec::new(),
            op: WriteOp::RemoveWords,
            counts: tally,
            ..batch(std::iter::empty())
        });
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process its size");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("every process has a size");
    let kib: f64 = line.split_whitespace().nth(1).expect("VmRSS has a number").parse().expect("in KiB");
    kib * 1024.0
}
