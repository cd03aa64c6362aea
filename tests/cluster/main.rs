//! The simulation of a cluster: a leader, its replicas, their disks, the network between them and clients; in one thread,
//! from one seed.
//!
//! `docs/simulation.md` says what it does, and how to replay what it has found. Disks, clients and the model are those of
//! `tests/simulation`.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod bug;
mod candidates;
#[path = "../simulation/checker.rs"]
#[allow(dead_code, reason = "what is checked of one node alone")]
mod checker;
#[path = "../simulation/client.rs"]
#[allow(dead_code, reason = "levels are drawn for each attempt here")]
mod client;
mod clients;
mod cluster;
#[path = "../simulation/disk.rs"]
#[allow(dead_code, reason = "not all faults of one node's disk are met here")]
mod disk;
mod faults;
mod follower;
#[path = "../simulation/history.rs"]
mod history;
mod leader;
mod local;
mod machines;
#[path = "../simulation/model.rs"]
mod model;
mod network;
#[path = "../simulation/plant.rs"]
#[allow(dead_code, reason = "bugs of one node alone")]
mod plant;
#[path = "../simulation/random.rs"]
mod random;
#[path = "../simulation/run.rs"]
mod run;
mod serving;
mod taking;
mod truth;

use bug::Bug;
use cluster::{Cluster, Tallies};
use run::{first_line, guarded, number, quietly};

/// Histories in `make test`.
const SEEDS: u64 = 300;
/// Within so many histories a planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 500;
/// Histories from which on everything below must have happened.
const SEEDS_THAT_MEET_ALL: u64 = 300;
/// What the histories must have met, or they show nothing.
const MUST_HAPPEN: [&str; 31] = [
    "acknowledged records lost, and said so",
    "announcements",
    "answers at level disk",
    "answers at level leader",
    "answers at level replica",
    "answers at level replica+disk",
    "answers that no replica has acknowledged",
    "clean stops",
    "crashes in an operation of a disk",
    "exchanges that failed",
    "full syncs",
    "full syncs cut off",
    "kills of replicas",
    "kills of the leader",
    "lines cut",
    "local replicas complete",
    "local replicas that reload",
    "lost positions told to a reader",
    "pauses",
    "poisoned logs",
    "power losses of replicas",
    "power losses of the leader",
    "positions reached by a reader",
    "refusals because no replica keeps files",
    "refusals for want of a replica",
    "repeats answered as such",
    "replicas emptied",
    "replicas that go on",
    "replicas told to load a snapshot",
    "snapshots of replicas",
    "tails taken back",
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
            "{} histories fail. The first:\n{what}\nreplay it with: MEMDB_SIM_LOG=1 make sim-cluster SEED={seed}",
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
    for seed in 0..10 {
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

/// Runs one history; gives its hash, or what was found and the last of the history.
fn run(seed: u64, bug: Option<Bug>, tallies: &mut Tallies) -> Result<u64, String> {
    let print = std::env::var_os("MEMDB_SIM_LOG").is_some();
    let mut cluster = Cluster::new(seed, bug, print);
    let end = guarded(|| cluster.run());
    cluster.note_events();
    for (what, times) in &cluster.tallies {
        *tallies.entry(what).or_default() += times;
    }
    end.map_err(|what| format!("{what}\nthe last of its history:{}", cluster.history.tail(60)))?;
    *tallies.entry("histories").or_default() += 1;
    Ok(cluster.history.hash())
}
