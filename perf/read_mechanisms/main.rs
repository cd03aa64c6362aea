//! Read mechanisms and layouts beside each other: one writer flat out with 1,000-word records, one reader of one word,
//! or of three words at one position (`docs/decisions/0001-read-mechanism.md`).
//!
//! `cargo run --release --example bench-read-mechanisms [-- ROUNDS SECONDS]`; some 5 minutes with 5 rounds of half a
//! second. Rounds are interleaved, and a run that lost its core to other programs is repeated, so that what else the
//! machine does meets all alike; every three-word read is checked. With `hot` before ROUNDS, one word that everybody is
//! at instead (`hot.rs`).
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for a person to run")]

mod built;
mod growth;
mod hot;
mod layout;
mod left_right;
mod locked;
mod measure;
mod summary;
mod workload;

use built::Built;
use left_right::{PackedArena, PackedTable, PairArena};
use locked::{Seqlock, Sharded};
use measure::{Run, SITUATIONS, Situation, measure};
use memdb::data::counts::word_counts::WordCounts;
use std::time::Duration;
use summary::Summary;
use workload::Workload;

/// One writer, readers on other threads.
trait Mechanism: Sized + Sync {
    /// What the one writer keeps to itself.
    type Writer;
    /// One without words.
    fn new() -> (Self, Self::Writer);
    /// Adds a record, which readers see whole or not at all.
    fn apply(&self, writer: &mut Self::Writer, record: &WordCounts);
    /// Counts of some words at one position; adds to `retries` what had to be read again.
    fn read<const N: usize>(&self, words: [&str; N], retries: &mut u64) -> [i64; N];
}

/// One mechanism with its words loaded, and what its runs gave in each situation.
struct Contender<'a> {
    title: &'static str,
    run: Box<dyn FnMut(Situation) -> (Run, usize) + 'a>,
    runs: [Vec<Run>; SITUATIONS.len()],
}

fn contender<'a, M: Mechanism + 'a>(title: &'static str, workload: &'a Workload, length: Duration) -> Contender<'a> {
    let (mechanism, mut writer) = M::new();
    workload.load().for_each(|record| mechanism.apply(&mut writer, &record));
    let run = move |situation| measure(situation, &mechanism, &mut writer, workload, length);
    Contender { title, run: Box::new(run), runs: Default::default() }
}

fn compare(words: u64, rounds: usize, length: Duration) {
    let workload = Workload::new(words);
    let mut contenders = [
        contender::<PackedArena>("M1 left-right, one packed cell; L1", &workload, length),
        contender::<PairArena>("M2 left-right, two cells; L1", &workload, length),
        contender::<Seqlock>("M3 seqlock; L1", &workload, length),
        contender::<Sharded>("M4 64 locked tables", &workload, length),
        contender::<PackedTable>("M1 left-right, one packed cell; L2", &workload, length),
        contender::<Built>("M1, L1 as built (`src/data/store.rs`)", &workload, length),
    ];
    let mut thrown_away = 0;
    for _ in 0..rounds {
        for contender in &mut contenders {
            for (runs, situation) in contender.runs.iter_mut().zip(SITUATIONS) {
                let (run, disturbed) = (contender.run)(situation);
                runs.push(run);
                thrown_away += disturbed;
            }
        }
    }
    println!("\n{words} distinct words ({thrown_away} runs disturbed by other programs were repeated):");
    for (at, situation) in SITUATIONS.iter().enumerate() {
        println!(
            "\n| {} | thousand reads/s | records/s | retries a read | torn |\n|---|---|---|---|---|",
            situation.title
        );
        for contender in &contenders {
            let runs = &contender.runs[at];
            let figures = |of: fn(&Run) -> f64| Summary::of(&runs.iter().map(of).collect::<Vec<_>>());
            println!(
                "| {} | {:.1} | {:.0} | {:.1} | {} |",
                contender.title,
                figures(|run| run.reads / 1e3),
                figures(|run| run.records),
                figures(|run| run.retries),
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
    if let [verb, options @ ..] = &arguments[..]
        && verb == hot::VERB
    {
        return hot::compare(options);
    }
    let number = |at: usize, otherwise: f64| {
        arguments.get(at).map_or(otherwise, |given| given.parse().expect("ROUNDS and SECONDS are numbers"))
    };
    let (rounds, seconds) = (number(0, 5.0) as usize, number(1, 0.5));
    println!("{rounds} rounds of {seconds} s, interleaved: median (least to greatest)");
    for words in [100_000, 1_000_000] {
        compare(words, rounds, Duration::from_secs_f64(seconds));
    }
    growth::compare(&[1_000_000, 10_000_000], rounds);
}
