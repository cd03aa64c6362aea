//! Read mechanisms and layouts beside each other: one writer flat out with 1,000-word records, one reader of one word,
//! or of three words at one position (`docs/decisions/0001-read-mechanism.md`).
//!
//! `cargo run --release --example bench-read-mechanisms [-- ROUNDS SECONDS]`; some 6 minutes with 5 rounds of 1 second.
//! Rounds are interleaved, so that what else the machine does meets all alike; every three-word read is checked.
#![allow(clippy::print_stdout, reason = "a program for a person to run")]

mod growth;
mod layout;
mod left_right;
mod locked;
mod summary;
mod workload;

use left_right::{PackedArena, PackedTable, PairArena};
use locked::{Seqlock, Sharded};
use memdb::tally::Tally;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use summary::Summary;
use workload::Workload;

/// One writer, readers on other threads.
trait Mechanism: Default + Sync {
    /// Adds a record, which readers see whole or not at all. One thread only.
    fn apply(&self, record: &Tally);
    /// Counts of some words at one position; adds to `retries` what had to be read again.
    fn read<const N: usize>(&self, words: [&str; N], retries: &mut u64) -> [i64; N];
}

/// What one run of one mechanism gave.
struct Run {
    reads_per_second: f64,
    records_per_second: f64,
    retries_per_read: f64,
    torn: u64,
}

fn run<const N: usize>(mechanism: &impl Mechanism, workload: &Workload, length: Duration) -> Run {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut retries, mut torn) = (0u64, 0u64, 0u64);
            let start = Instant::now();
            for three in workload.reads.iter().cycle() {
                let words = std::array::from_fn(|at| &*three[at]);
                let counts = mechanism.read::<N>(words, &mut retries);
                torn += u64::from(counts[0] == 0 || counts.iter().any(|&count| count != counts[0]));
                reads += 1;
                if reads % 16 == 0 && stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            (reads as f64, retries as f64, torn, start.elapsed().as_secs_f64())
        });
        let start = Instant::now();
        let mut records = 0u64;
        for record in workload.records.iter().cycle() {
            mechanism.apply(record);
            records += 1;
            if start.elapsed() >= length {
                break;
            }
        }
        let records_per_second = records as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let (reads, retries, torn, seconds) = reader.join().expect("the reader ends");
        Run { reads_per_second: reads / seconds, records_per_second, retries_per_read: retries / reads, torn }
    })
}

/// The same mechanism over all rounds, for reads of one and of three words.
struct Contender<'a> {
    title: &'static str,
    /// Runs it for reads of one word (`false`) or three.
    run: Box<dyn Fn(bool) -> Run + 'a>,
    one: Vec<Run>,
    three: Vec<Run>,
}

fn contender<'a, M: Mechanism + 'a>(title: &'static str, workload: &'a Workload, length: Duration) -> Contender<'a> {
    let mechanism = M::default();
    workload.load().for_each(|record| mechanism.apply(&record));
    let run = move |three| {
        if three { run::<3>(&mechanism, workload, length) } else { run::<1>(&mechanism, workload, length) }
    };
    Contender { title, run: Box::new(run), one: Vec::new(), three: Vec::new() }
}

fn compare(words: u64, rounds: usize, length: Duration) {
    let workload = Workload::new(words);
    let mut contenders = [
        contender::<PackedArena>("M1 left-right, one packed cell; L1", &workload, length),
        contender::<PairArena>("M2 left-right, two cells; L1", &workload, length),
        contender::<Seqlock>("M3 seqlock; L1", &workload, length),
        contender::<Sharded>("M4 64 locked tables", &workload, length),
        contender::<PackedTable>("M1 left-right, one packed cell; L2", &workload, length),
    ];
    for _ in 0..rounds {
        for contender in &mut contenders {
            contender.one.push((contender.run)(false));
            contender.three.push((contender.run)(true));
        }
    }
    println!("\n{words} distinct words:\n");
    println!("| mechanism; layout | words a read | M reads/s | records/s | retries a read | torn |");
    println!("|---|---|---|---|---|---|");
    for contender in &contenders {
        for (width, runs) in [(1, &contender.one), (3, &contender.three)] {
            let figures = |of: fn(&Run) -> f64| Summary::of(&runs.iter().map(of).collect::<Vec<_>>());
            println!(
                "| {} | {width} | {:.2} | {:.0} | {:.2} | {} |",
                contender.title,
                figures(|run| run.reads_per_second / 1e6),
                figures(|run| run.records_per_second),
                figures(|run| run.retries_per_read),
                runs.iter().map(|run| run.torn).sum::<u64>(),
            );
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, layout, words] = &arguments[..]
        && verb == growth::VERB
    {
        return growth::grow(layout, words.parse().expect("a number of words"));
    }
    let number = |at: usize, otherwise: f64| {
        arguments.get(at).map_or(otherwise, |given| given.parse().expect("ROUNDS and SECONDS are numbers"))
    };
    let (rounds, seconds) = (number(0, 5.0) as usize, number(1, 1.0));
    println!("{rounds} rounds of {seconds} s, interleaved: median (least to greatest)");
    for words in [100_000, 1_000_000] {
        compare(words, rounds, Duration::from_secs_f64(seconds));
    }
    growth::compare(&[1_000_000, 10_000_000], rounds);
}
