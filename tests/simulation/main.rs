//! The simulation: one node under a faulty disk, crashes, and clients that repeat; in one thread, from one seed.
//!
//! `docs/simulation.md` says what it does, and how to replay what it has found.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod checker;
mod client;
mod disk;
mod history;
mod model;
mod node;
mod plant;
mod random;
mod run;
mod simulation;

use plant::Bug;
use run::{first_line, guarded, number, quietly};
use simulation::{End, Simulation, Tallies};

/// Histories in `make test`.
const SEEDS: u64 = 2_000;
/// Within so many histories a planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 500;
/// Histories from which on everything below must have happened.
const SEEDS_THAT_MEET_ALL: u64 = 500;
/// What the histories must have met, or they show nothing.
const MUST_HAPPEN: [&str; 22] = [
    "appends that failed",
    "clean stops",
    "crashes between operations",
    "crashes in an operation of the disk",
    "cuts of the log",
    "flipped bits",
    "full disks",
    "gaps in streams",
    "histories exact",
    "histories refused",
    "kills",
    "names used again",
    "poisoned logs",
    "power losses",
    "refusals by a full window",
    "refusals of an overflow",
    "repeats answered as such",
    "snapshots",
    "snapshots that failed",
    "starts that met a fault",
    "starts with a write whose outcome was unknown",
    "starts without writes that were not synced",
];

#[test]
fn histories_hold() {
    let only = number("MEMDB_SIM_SEED");
    let seeds = only.map_or(0..number("MEMDB_SIM_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let many = seeds.end - seeds.start >= SEEDS_THAT_MEET_ALL;
    let (mut tallies, mut found) = (Tallies::new(), Vec::new());
    for seed in seeds {
        match run(seed, None, &mut tallies) {
            Ok(_) => {}
            Err(what) => found.push((seed, what)),
        }
    }
    eprintln!("{tallies:#?}");
    for (seed, what) in &found {
        eprintln!("seed {seed}: {}", first_line(what));
    }
    if let Some((seed, what)) = found.first() {
        panic!(
            "{} histories fail. The first:\n{what}\nreplay it with: MEMDB_SIM_LOG=1 make sim SEED={seed}",
            found.len()
        );
    }
    for what in MUST_HAPPEN.iter().filter(|_| many) {
        assert!(tallies.contains_key(what), "no history has met: {what}");
    }
}

#[test]
fn a_seed_is_one_history() {
    if number("MEMDB_SIM_SEED").is_some() {
        return; // one history is being replayed
    }
    for seed in 0..20 {
        let once = run(seed, None, &mut Tallies::new());
        assert_eq!(once, run(seed, None, &mut Tallies::new()), "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    if number("MEMDB_SIM_SEED").is_some() {
        return; // one history is being replayed
    }
    quietly(|| {
        let mut missed = Vec::new();
        for bug in Bug::ALL {
            let mut seeds = 0..SEEDS_FOR_A_BUG;
            match seeds.find_map(|seed| run(seed, Some(bug), &mut Tallies::new()).err().map(|what| (seed, what))) {
                Some((seed, what)) => eprintln!("{bug:?}: seed {seed}: {}", first_line(&what)),
                None => missed.push(bug),
            }
        }
        assert!(missed.is_empty(), "not found within {SEEDS_FOR_A_BUG} histories: {missed:?}");
    });
}

/// Runs one history; gives how it ended and its hash, or what was found and the last of the history.
fn run(seed: u64, bug: Option<Bug>, tallies: &mut Tallies) -> Result<(End, u64), String> {
    let print = std::env::var_os("MEMDB_SIM_LOG").is_some();
    let mut simulation = Simulation::new(seed, bug, print);
    let end = guarded(|| simulation.run());
    simulation.note_events();
    for (what, times) in &simulation.tallies {
        *tallies.entry(what).or_default() += times;
    }
    let end = end.map_err(|what| format!("{what}\nthe last of its history:{}", simulation.history.tail(40)))?;
    let how = if end == End::Exact { "histories exact" } else { "histories refused" };
    *tallies.entry(how).or_default() += 1;
    Ok((end, simulation.history.hash()))
}
