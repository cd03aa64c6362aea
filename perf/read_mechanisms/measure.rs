//! One run of one mechanism: a writer flat out, a reader beside it, and how far the machine let them.

use crate::{Mechanism, workload::Workload};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// What the reader does and what else runs.
#[derive(Clone, Copy)]
pub struct Situation {
    /// For the table.
    pub title: &'static str,
    /// Words of a read: 3, or else 1.
    width: usize,
    /// Reads in one go, after which the reader sleeps a millisecond.
    burst: u64,
    /// Threads that only burn time.
    busy: usize,
}

/// What is compared. An HTTP server on two cores reads at the pace of the third one, not of the first two.
pub const SITUATIONS: [Situation; 4] = [
    Situation { title: "1 word, flat out", width: 1, burst: u64::MAX, busy: 0 },
    Situation { title: "3 words, flat out", width: 3, burst: u64::MAX, busy: 0 },
    Situation { title: "3 words, 200 a ms", width: 3, burst: 200, busy: 0 },
    Situation { title: "3 words, flat out, 2 busy threads more", width: 3, burst: u64::MAX, busy: 2 },
];

/// What one run gave.
pub struct Run {
    /// Reads a second.
    pub reads: f64,
    /// Records a second.
    pub records: f64,
    /// How often a read was repeated, on average.
    pub retries: f64,
    /// Reads that saw part of a record.
    pub torn: u64,
    /// The share of its time that a thread could have run but had no core: what others on the machine took away.
    pub waited: f64,
}

/// More of [`Run::waited`] than this, without busy threads of our own, and a run tells about the neighbours.
const DISTURBED: f64 = 0.02;
/// Runs at most until one is not disturbed.
const TRIES: usize = 4;

/// Runs a mechanism until the machine was quiet meanwhile: the least disturbed run, and how many were thrown away.
pub fn measure<M: Mechanism>(
    situation: Situation,
    mechanism: &M,
    writer: &mut M::Writer,
    workload: &Workload,
    length: Duration,
) -> (Run, usize) {
    let mut torn = 0;
    let again = || {
        let run = match situation.width {
            3 => run::<3, M>(situation, mechanism, writer, workload, length),
            _ => run::<1, M>(situation, mechanism, writer, workload, length),
        };
        torn += run.torn;
        run
    };
    let tries = if situation.busy == 0 { TRIES } else { 1 };
    let (best, thrown_away) = least_disturbed(tries, again, |run| run.waited);
    (Run { torn, ..best }, thrown_away)
}

/// Runs until the machine was quiet meanwhile, `tries` times at most: the least disturbed run, and how many were thrown
/// away.
pub fn least_disturbed<R>(tries: usize, mut again: impl FnMut() -> R, waited: fn(&R) -> f64) -> (R, usize) {
    let (mut best, mut tried) = (again(), 1);
    while waited(&best) > DISTURBED && tried < tries {
        let other = again();
        if waited(&other) < waited(&best) {
            best = other;
        }
        tried += 1;
    }
    (best, tried - 1)
}

fn run<const N: usize, M: Mechanism>(
    situation: Situation,
    mechanism: &M,
    writer: &mut M::Writer,
    workload: &Workload,
    length: Duration,
) -> Run {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..situation.busy {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let reader = scope.spawn(|| {
            let clock = Clock::start();
            let (mut reads, mut retries, mut torn) = (0u64, 0u64, 0u64);
            for three in workload.reads.iter().cycle() {
                let words: [&str; N] = std::array::from_fn(|at| &*three[at]);
                let counts = mechanism.read(words, &mut retries);
                torn += u64::from(counts[0] == 0 || counts.iter().any(|&count| count != counts[0]));
                reads += 1;
                if reads % 16 == 0 && stop.load(Ordering::Relaxed) {
                    break;
                }
                if reads % situation.burst == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            let Passed { seconds, waited, .. } = clock.stop();
            (reads as f64, retries as f64 / reads as f64, torn, seconds, waited)
        });
        let clock = Clock::start();
        let mut records = 0u64;
        for record in workload.records.iter().cycle() {
            mechanism.apply(writer, record);
            records += 1;
            if clock.wall.elapsed() >= length {
                break;
            }
        }
        let Passed { seconds: writer_seconds, waited: writer_waited, .. } = clock.stop();
        stop.store(true, Ordering::Relaxed);
        let (reads, retries, torn, seconds, waited) = reader.join().expect("the reader ends");
        Run {
            reads: reads / seconds,
            records: records as f64 / writer_seconds,
            retries,
            torn,
            waited: waited.max(writer_waited),
        }
    })
}

/// Time passed, and what this thread had of it.
pub struct Clock {
    pub wall: Instant,
    waited_ns: f64,
}

/// What a [`Clock`] saw.
pub struct Passed {
    /// Time on the wall.
    pub seconds: f64,
    /// The share of it that the thread waited for a core.
    pub waited: f64,
    /// The rest of it, in ns: the time it had a core, of a thread that never sleeps.
    pub busy_ns: f64,
}

impl Clock {
    /// Of the calling thread.
    pub fn start() -> Self {
        Self { waited_ns: waited_ns(), wall: Instant::now() }
    }

    /// On the thread that started it.
    pub fn stop(&self) -> Passed {
        let seconds = self.wall.elapsed().as_secs_f64();
        let waited_ns = waited_ns() - self.waited_ns;
        Passed { seconds, waited: waited_ns / 1e9 / seconds, busy_ns: seconds * 1e9 - waited_ns }
    }
}

/// How long this thread has waited for a core.
fn waited_ns() -> f64 {
    // The field before it, the time with a core, is brought up to date at ticks only: too seldom for short runs.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts a thread's waiting");
    text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).expect("its second field, in ns")
}
