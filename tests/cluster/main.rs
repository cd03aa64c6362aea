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
use cluster::Cluster;
use memdb::failpoint::Bug as Core;
use run::{Plant, Ran, Suite, Task, guarded};

const SUITE: Suite<Bug> = Suite {
    verb: "sim-cluster",
    run,
    seeds: 300,
    seeds_that_meet_all: 300,
    must_happen: &[
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
        "forced promotions",
        "leaders that become replicas",
        "leaders that hear of another",
        "leaders that stand down",
        "local replicas complete",
        "local replicas that reload",
        "lost positions told to a reader",
        "pauses",
        "poisoned logs",
        "power losses of replicas",
        "power losses of the leader",
        "positions reached by a reader",
        "promotions",
        "promotions refused",
        "promotions without a promise",
        "refusals because no replica keeps files",
        "refusals for want of a replica",
        "repeats answered as such",
        "replicas emptied",
        "replicas that go on",
        "replicas told to load a snapshot",
        "snapshots of replicas",
        "tails taken back",
    ],
    bugs: &[
        Plant::Core(Core::AcceptsALowerEpoch),
        Plant::Core(Core::SkipsOneInTheFeed),
        Plant::Core(Core::CountsAFailedSend),
        Plant::Core(Core::TakesBackFromAnotherHistory),
        Plant::Core(Core::PromotesIntoTheNextEpoch),
        Plant::Core(Core::LeadsWithoutWhatItWasTold),
        Plant::Core(Core::LeadsOnAfterItsPromise),
        Plant::Core(Core::LeadsWithAnotherHistory),
        Plant::Core(Core::ForgetsItsPromise),
        Plant::Played(Bug::CountsBeforeApplied),
        Plant::Played(Bug::ClaimsItsOldPosition),
        Plant::Played(Bug::SkipsGaps),
        Plant::Played(Bug::ResumesALostBranch),
        Plant::Played(Bug::CountsOtherEpochs),
        Plant::Played(Bug::SnapshotAtItsBegin),
        Plant::Played(Bug::LosesTheWindow),
        Plant::Played(Bug::TakesNothingBack),
        Plant::Played(Bug::SameEpochAgain),
        Plant::Played(Bug::SaysSyncedTooSoon),
        Plant::Played(Bug::ReplicaSyncDoesNothing),
        Plant::Played(Bug::ForgetsEpochTables),
    ],
};

#[test]
fn histories_hold() {
    run::histories_hold(&SUITE);
}

#[test]
fn a_seed_is_one_history() {
    run::a_seed_is_one_history(&SUITE, 10);
}

#[test]
fn planted_bugs_are_found() {
    run::planted_bugs_are_found(&SUITE);
}

#[test]
fn a_failing_history_shrinks() {
    run::a_failing_history_shrinks(&SUITE, Plant::Played(Bug::ReplicaSyncDoesNothing));
}

fn run(task: &Task<'_, Bug>) -> Ran {
    let mut cluster = Cluster::new(task);
    let end = guarded(|| cluster.run());
    cluster.note_events();
    let mut tallies = std::mem::take(&mut cluster.tallies);
    for node in &cluster.nodes {
        for (what, times) in &node.machine.lock().met_by_kind {
            *tallies.entry(what).or_default() += times;
        }
    }
    Ran {
        wrong: end.err(),
        hash: cluster.history.hash(),
        tail: cluster.history.tail(60),
        tallies,
        steps: cluster.steps,
        faults: cluster.faults.number,
        simulated_ms: cluster.simulated_ms(),
    }
}
