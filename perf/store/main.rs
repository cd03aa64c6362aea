//! The store and the Writer as built: reads beside a Writer that is flat out, records a second, what a word costs,
//! the longest stop while the store grows, and the walk of a snapshot.
//!
//! `cargo run --release --example bench-store [-- SECONDS]` prints a table; `-- write SECONDS` does nothing but write,
//! for `perf record`. One writer and one reader: give it two cores. `-- entries NUMBER` measures so many entries of
//! each size beside Redis, `-- expiry NUMBER` how long writes wait while as many expire, `-- values FILE..` what it
//! saves to compress text, and costs.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for a person to run")]

mod entries;
mod expiry;
mod loaded;
mod redis;
mod values;

use loaded::{IDENTITY, Loaded, RECORD_WORDS, batch, resident_bytes};
use memdb::{
    base::limits::DEFAULT_NAMESPACE,
    data::command::WriteBatch,
    data::counts::{WriteOp, word_counts::WordCounts},
    data::store::StoreReader,
};
use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use testkit::{Random, words::write_word};
use tikv_jemallocator::Jemalloc;

/// That of the binary `memdb`: what is measured is memory too.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Records made beforehand; the writer goes round them.
const RECORDS: usize = 256;

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
        ["entries", entries] => entries::compare(number(entries)),
        ["entries", entries, bytes, ttl] => entries::measure(number(entries), number(bytes) as usize, ttl == "ttl"),
        ["expiry", entries] => expiry::entries(number(entries)),
        ["expiry", entries, "counted"] => expiry::counted(number(entries)),
        ["values", ..] => values::measure(&arguments[1..]),
        _ => panic!(
            "bench-store [SECONDS] | write SECONDS | grow WORDS | entries NUMBER | expiry NUMBER [counted] | values FILE.."
        ),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
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
