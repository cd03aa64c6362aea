//! The simulation of a cluster: a leader, its replicas, their disks, the network between them and clients; in one
//! thread, from one seed.
//!

mod bug;
mod candidates;
mod client_history;
mod clients;
mod faults;
mod fetches;
mod follower;
mod hand_over;
mod leader;
mod local;
mod machines;
mod network;
mod serving;
mod simulation;
mod starting;
mod truth;
mod walk;
mod watcher;

use crate::run::{self, Plant, Ran, Suite, Task, guarded};
use bug::Bug;
use memdb::base::failpoint::Defect as Core;
use simulation::Cluster;

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
        "changes of counters accepted",
        "clean stops",
        "clocks put right",
        "clocks wrong by hours or years",
        "clocks wrong by less",
        "crashes in an operation of a disk",
        "entries evicted",
        "exchanges that failed",
        "failures remembered",
        "fetches that a read waits for",
        "fetches that failed",
        "full syncs",
        "full syncs cut off",
        "kills of replicas",
        "kills of the leader",
        "increments set aside",
        "large batches in bulk",
        "lines counted",
        "lines cut",
        "lines of another text",
        "lines that stand elsewhere",
        "forced promotions",
        "leaders that become replicas",
        "leaders that become replicas in memory",
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
        "promotions in memory",
        "promotions refused",
        "promotions without a promise",
        "records of entries that expired",
        "records of the workers of counters",
        "refusals because no replica keeps files",
        "refusals beyond the rate of a counter",
        "refusals by a full queue of counters",
        "refusals for want of a replica",
        "reads that wait for a fetch under way",
        "repeats answered as such",
        "replicas emptied",
        "replicas that go on",
        "replicas told to load a snapshot",
        "snapshots of replicas",
        "rules: lines counted once",
        "rules: values read",
        "rules: writes acknowledged",
        "rules: writes lost as they may",
        "stale values served",
        "tails taken back",
        "tails taken back in memory",
        "values of the origin stored",
        "values of the origin that a write has overtaken",
        "values served",
        "events of a watcher",
        "watchers that wait for their position",
        "watchers told to begin anew",
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
        Plant::Core(Core::ForgetsEpochTables),
        Plant::Core(Core::ResumesFromAnyPosition),
        Plant::Core(Core::KeepsValuesOfALostHistory),
        Plant::Core(Core::CandidatePromisesFirst),
        Plant::Core(Core::CountsLinesAgain),
        Plant::Core(Core::BelievesAnyWallClock),
        Plant::Core(Core::PromotesByTheWallClock),
        Plant::Core(Core::FetchesTwice),
        Plant::Core(Core::StoresBehindADelete),
        Plant::Core(Core::KeepsAFailureAsAValue),
        Plant::Core(Core::ServesAnotherKeysAnswer),
        Plant::Core(Core::ForgetsFailures),
        Plant::Core(Core::LosesWhatTurnsStale),
        Plant::Core(Core::WorksWithoutTaking),
        Plant::Core(Core::ForgetsWhatWaits),
        Plant::Core(Core::RemovesTheCounterAlone),
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
    ],
};

/// Bugs that are seen in what clients are shown and told.
const FOUND_ALONE: [Plant<Bug>; 3] = [
    Plant::Core(Core::ForgetsTheWindowAtRestart),
    Plant::Core(Core::CountsLinesAgain),
    Plant::Core(Core::LosesWhatTurnsStale),
];

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

/// What clients see is enough to find bugs: the model and the true history look away.
#[test]
fn the_rules_of_the_clients_find_bugs_alone() {
    let (schedule, lines) = (run::schedule::Schedule::default(), run::Lines::Dropped);
    let finds = |plant, seed| {
        let (core, bug) = match plant {
            Plant::Core(bug) => (Some(bug), None),
            Plant::Played(bug) => (None, Some(bug)),
        };
        let _injected = memdb::base::failpoint::inject_defect(core);
        let mut cluster = Cluster::new(&Task { seed, schedule: &schedule, bug, lines });
        cluster.truth.is_blind = true;
        let wrong = guarded(|| cluster.run()).err().unwrap_or_default();
        wrong.split_once("the rules of the clients are broken: ").map(|(_, what)| what.to_owned())
    };
    let all = std::env::var_os("MEMDB_SIM_ALONE").is_some();
    let mut missed = Vec::new();
    for plant in if all { SUITE.bugs } else { &FOUND_ALONE } {
        match (0..300).find_map(|seed| finds(*plant, seed).map(|what| (seed, what))) {
            Some((seed, what)) => eprintln!("{plant:?}: seed {seed}: {what}"),
            None => missed.push(plant),
        }
    }
    assert!(missed.is_empty() || all, "not found within 300 histories: {missed:?}");
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
