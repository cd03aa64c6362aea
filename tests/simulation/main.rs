//! The simulation: one node under a faulty disk, crashes and clients that repeat, in one thread, from one seed.
//!
//! `docs/simulation.md` says what it does and how to replay what it found.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod checker;
mod client;
mod disk;
mod history;
mod model;
mod node;
mod plant;
mod random;
mod simulation;

use plant::Bug;
use simulation::{End, Simulation, Tallies};
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEEDS: u64 = 2_000;

/// Runs one history; gives its hash, or what was found with the last lines.
fn run(seed: u64, bug: Option<Bug>, tallies: &mut Tallies) -> Result<(End, u64), String> {
    let print = std::env::var_os("MEMDB_SIM_LOG").is_some();
    let mut simulation = Simulation::new(seed, bug, print);
    let end = catch_unwind(AssertUnwindSafe(|| simulation.run()))
        .unwrap_or_else(|panic| Err(format!("panicked: {:?}", panic.downcast_ref::<String>())));
    simulation.note_events();
    for (what, times) in &simulation.tallies {
        *tallies.entry(what).or_default() += times;
    }
    match end {
        Ok(end) => Ok((end, simulation.history.hash())),
        Err(what) => Err(format!("{what}\n  the last of the history:{}", simulation.history.tail(40))),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn histories_hold() {
    let seeds = match number("MEMDB_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MEMDB_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let mut tallies = Tallies::new();
    let mut found = Vec::new();
    for seed in seeds {
        match run(seed, None, &mut tallies) {
            Ok((end, _)) => {
                *tallies.entry(if end == End::Exact { "histories exact" } else { "histories refused" }).or_default() +=
                    1
            }
            Err(what) => found.push((seed, what)),
        }
    }
    eprintln!("{tallies:#?}");
    for (seed, what) in found.iter().take(40) {
        eprintln!("seed {seed}: {}", what.lines().next().unwrap_or_default());
    }
    let seeds: Vec<u64> = found.iter().map(|(seed, _)| *seed).collect();
    if let Some((seed, what)) = found.first() {
        panic!(
            "{} histories fail: {seeds:?}\nseed {seed}: {what}\nreplay it with: MEMDB_SIM_LOG=1 make sim SEED={seed}",
            found.len()
        );
    }
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..20 {
        let once = run(seed, None, &mut Tallies::new()).expect("it holds");
        assert_eq!(once, run(seed, None, &mut Tallies::new()).expect("it holds"), "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    std::panic::set_hook(Box::new(|_| {})); // a bug may well end in a panic: that is not worth a trace
    for bug in Bug::ALL {
        let found = (0..500).find_map(|seed| run(seed, Some(bug), &mut Tallies::new()).err().map(|what| (seed, what)));
        let what = found.map(|(seed, what)| format!("seed {seed}: {}", what.lines().next().unwrap_or_default()));
        eprintln!("{bug:?}: {what:?}");
    }
}
