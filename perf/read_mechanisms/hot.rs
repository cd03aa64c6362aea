//! One hot word and two threads: a reader beside the writer, both at that word flat out, and two readers.
//!
//! `cargo run --release --example bench-read-mechanisms hot [ROUNDS SECONDS]`; seconds, or some minutes on a busy
//! machine. The figure is a thread's own time for one read or one record, from runs in which each thread had a core all
//! the while: what contention costs is cache lines that go to and fro, and they do so only while both run.

use crate::{
    Mechanism,
    built::Built,
    left_right::{PackedArena, PairArena},
    locked::{Seqlock, Sharded},
    measure::{Clock, Passed, least_disturbed},
    summary::Summary,
    workload::{Workload, hasher},
};
use memdb::data::counts::word_counts::WordCounts;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use testkit::words::write_word;

/// The word on the command line that asks for this.
pub const VERB: &str = "hot";

/// Words beside the hot one.
const WORDS: u64 = 100_000;
/// Runs at most until one is not disturbed. They are shorter than a time slice, so some are not on a busy machine
/// either.
const TRIES: usize = 100;
/// Reads, or records, between two looks at the clock.
const AT_A_TIME: u64 = 64;

/// Who is at the hot word.
#[derive(Clone, Copy)]
struct Situation {
    title: &'static str,
    readers: usize,
    writes: bool,
}

const SITUATIONS: [Situation; 3] = [
    Situation { title: "one reader, nobody beside it", readers: 1, writes: false },
    Situation { title: "one reader beside the writer", readers: 1, writes: true },
    Situation { title: "two readers", readers: 2, writes: false },
];

/// What one run gave; times are of a thread that has a core.
struct Run {
    read_ns: f64,
    record_ns: f64,
    retries: f64,
    waited: f64,
}

struct Contender {
    title: &'static str,
    run: Box<dyn FnMut(Situation) -> Run>,
    runs: [Vec<Run>; SITUATIONS.len()],
}

fn contender<M: Mechanism + 'static>(title: &'static str, workload: &Workload, length: Duration) -> Contender {
    let (mechanism, mut writer) = M::new();
    workload.load().for_each(|record| mechanism.apply(&mut writer, &record));
    let mut word = String::new();
    write_word(0, &mut word);
    let run = move |situation| run(situation, &mechanism, &mut writer, &word, length);
    Contender { title, run: Box::new(run), runs: Default::default() }
}

/// Measures all in turn, round after round, and prints a table for each situation.
pub fn compare(options: &[String]) {
    let number = |at: usize, otherwise: f64| {
        options.get(at).map_or(otherwise, |given| given.parse().expect("ROUNDS and SECONDS are numbers"))
    };
    let (rounds, length) = (number(0, 31.0) as usize, Duration::from_secs_f64(number(1, 0.004)));
    let workload = Workload::new(WORDS);
    let mut contenders = [
        contender::<PackedArena>("M1 left-right, one packed cell; L1", &workload, length),
        contender::<PairArena>("M2 left-right, two cells; L1", &workload, length),
        contender::<Seqlock>("M3 seqlock; L1", &workload, length),
        contender::<Sharded>("M4 64 locked tables", &workload, length),
        contender::<Built>("M1, L1 as built (`src/data/store.rs`)", &workload, length),
    ];
    let mut thrown_away = 0;
    for _ in 0..rounds {
        for contender in &mut contenders {
            for (runs, situation) in contender.runs.iter_mut().zip(SITUATIONS) {
                let (run, disturbed) = least_disturbed(TRIES, || (contender.run)(situation), |run| run.waited);
                runs.push(run);
                thrown_away += disturbed;
            }
        }
    }
    println!("{rounds} rounds of {length:?}, interleaved: median (least to greatest);");
    println!("{thrown_away} runs disturbed by other programs were repeated");
    for (at, situation) in SITUATIONS.iter().enumerate() {
        print(situation, &contenders, at);
    }
}

fn print(situation: &Situation, contenders: &[Contender], at: usize) {
    println!("\n| **{}** | ns a read | ns a record | retries a read | waited for a core |", situation.title);
    println!("|---|---|---|---|---|");
    for Contender { title, runs, .. } in contenders {
        let figures = |of: fn(&Run) -> f64| Summary::of(&runs[at].iter().map(of).collect::<Vec<_>>());
        let record = if situation.writes { format!("{:.0}", figures(|run| run.record_ns)) } else { "".into() };
        println!(
            "| {title} | {:.1} | {record} | {:.2} | {:.1} % |",
            figures(|run| run.read_ns),
            figures(|run| run.retries),
            figures(|run| run.waited * 100.0),
        );
    }
}

fn run<M: Mechanism>(situation: Situation, mechanism: &M, writer: &mut M::Writer, word: &str, length: Duration) -> Run {
    let mut record = WordCounts::new(hasher());
    record.add(word, 1).expect("an amount of one fits");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || read(mechanism, word, &stop);
        let readers: Vec<_> = (0..situation.readers).map(|_| scope.spawn(read)).collect();
        let clock = Clock::start();
        let mut records = 0u64;
        if situation.writes {
            while clock.wall.elapsed() < length {
                (0..AT_A_TIME).for_each(|_| mechanism.apply(writer, &record));
                records += AT_A_TIME;
            }
        } else {
            std::thread::sleep(length);
        }
        let written = clock.stop();
        stop.store(true, Ordering::Relaxed);
        let reads: Vec<Reads> = readers.into_iter().map(|reader| reader.join().expect("the reader ends")).collect();
        let total: f64 = reads.iter().map(|reads| reads.count).sum();
        Run {
            read_ns: reads.iter().map(|reads| reads.passed.busy_ns).sum::<f64>() / total,
            record_ns: written.busy_ns / records as f64,
            retries: reads.iter().map(|reads| reads.retries as f64).sum::<f64>() / total,
            // Who had no core at all has read nothing: such a run is the last to be kept.
            waited: reads.iter().map(Reads::waited).fold(written.waited, f64::max),
        }
    })
}

struct Reads {
    count: f64,
    retries: u64,
    passed: Passed,
}

impl Reads {
    fn waited(&self) -> f64 {
        if self.count == 0.0 { f64::INFINITY } else { self.passed.waited }
    }
}

fn read<M: Mechanism>(mechanism: &M, word: &str, stop: &AtomicBool) -> Reads {
    let clock = Clock::start();
    let (mut count, mut retries, mut last) = (0, 0, 0);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..AT_A_TIME {
            let [seen] = mechanism.read([word], &mut retries);
            assert!(seen >= last, "a count went back from {last} to {seen}");
            last = seen;
        }
        count += AT_A_TIME;
    }
    Reads { count: count as f64, retries, passed: clock.stop() }
}
