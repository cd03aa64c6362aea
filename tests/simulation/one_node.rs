//! The simulation: one node under a faulty disk, crashes, and clients that repeat; in one thread, from one seed.
//!
//! `docs/simulation.md` says what it does, and how to replay what it has found.

mod answers;
mod faults;
mod node;
mod simulation;

use crate::{
    plant::Bug,
    run::{self, Plant, Ran, Suite, Task, guarded},
};
use memdb::base::failpoint::Defect as Core;
use simulation::{End, Simulation};

const SUITE: Suite<Bug> = Suite {
    verb: "sim",
    run,
    seeds: 2_000,
    seeds_that_meet_all: 500,
    must_happen: &[
        "appends that failed",
        "clean stops",
        "counters taken away",
        "cuts of the log",
        "entries evicted",
        "entries written",
        "fault: append fails",
        "fault: bit flipped",
        "fault: clock put back a little",
        "fault: clock put back by years",
        "fault: clock put on by hours",
        "fault: clock put on by years",
        "fault: clock put right",
        "fault: directory emptied",
        "fault: disk full for long",
        "fault: kill",
        "fault: no room for an operation",
        "fault: old copy of the directory put back",
        "fault: page misplaced",
        "fault: power loss",
        "fault: process ends in an operation of the disk",
        "fault: read fails",
        "fault: slow sync",
        "fault: sync fails",
        "fault: sync of the directory fails",
        "fault: truncation fails",
        "full disks",
        "gaps in streams",
        "histories exact",
        "histories refused",
        "increments accepted",
        "increments set aside",
        "large batches in bulk",
        "lines counted",
        "lines of another text",
        "lines that stand elsewhere",
        "names used again",
        "new databases on an emptied disk",
        "poisoned logs",
        "records during a slow sync",
        "records of entries that expired",
        "records of the workers of counters",
        "refusals after damage",
        "refusals beyond the rate of a counter",
        "refusals by a full queue of counters",
        "refusals by a full window",
        "refusals for want of memory",
        "refusals for want of room for entries",
        "refusals of a condition",
        "refusals of an overflow",
        "refusals to go below zero",
        "repeats answered as such",
        "room on the disk again",
        "several records at once",
        "snapshots",
        "snapshots that failed",
        "starts that met a fault",
        "starts that tried again for want of room",
        "starts with a write whose outcome was unknown",
        "starts without writes that were not synced",
        "words that found memory, of little",
    ],
    bugs: &[
        Plant::Core(Core::SkipsTheSync),
        Plant::Core(Core::ForgetsTheDirectorySync),
        Plant::Core(Core::SyncsOnlyTheNewSegment),
        Plant::Core(Core::DropsTheBatchOfARotation),
        Plant::Core(Core::KeepsAFailedAppend),
        Plant::Core(Core::AcksBeforeAppend),
        Plant::Core(Core::PublishesBeforeAppend),
        Plant::Core(Core::AnswersARecordTooEarly),
        Plant::Core(Core::SnapshotsWithoutTheWindow),
        Plant::Core(Core::SnapshotsWithoutEntries),
        Plant::Core(Core::ImagesWithoutVersions),
        Plant::Core(Core::ServesASnapshotBeforeItsEnd),
        Plant::Core(Core::ForgetsTheWindowAtRestart),
        Plant::Core(Core::TrustsAnUncleanStop),
        Plant::Core(Core::ReusesAnEpoch),
        Plant::Core(Core::CutsWhatWasSynced),
        Plant::Core(Core::ReadsPastATornRecord),
        Plant::Core(Core::CountsStreamsTwice),
        Plant::Core(Core::CountsLinesAgain),
        Plant::Core(Core::TakesAnyText),
        Plant::Core(Core::TakesOverAmounts),
        Plant::Core(Core::BelievesAnyWallClock),
        Plant::Core(Core::ExpiresEarly),
        Plant::Core(Core::ExpiresWithoutItsWords),
        Plant::Core(Core::CountsReplacedPostsToo),
        Plant::Core(Core::TakesBackWhatIsGone),
        Plant::Core(Core::MixesRemovalsWithPosts),
        Plant::Core(Core::TakesBackBelowZero),
        Plant::Core(Core::TakesExpiredForPresent),
        Plant::Core(Core::EvictsTheYoungest),
        Plant::Core(Core::EvictsCountedPosts),
        Plant::Core(Core::BudgetsWithoutTheGroup),
        Plant::Core(Core::ExpiryMakesAVersion),
        Plant::Core(Core::ExpiryEndsAClaim),
        Plant::Core(Core::KeepsIdleMarks),
        Plant::Core(Core::LosesWhatTurnsStale),
        Plant::Core(Core::WorksWithoutTaking),
        Plant::Core(Core::AdmitsOneTooMany),
        Plant::Core(Core::CountsExcessBesideItsWindow),
        Plant::Core(Core::ForgetsWhatWaits),
        Plant::Core(Core::KeepsStepsOfAFailedAppend),
        Plant::Core(Core::RemovesTheCounterAlone),
        Plant::Played(Bug::SyncDoesNothing),
        Plant::Played(Bug::DirectorySyncDoesNothing),
        Plant::Played(Bug::RenameInTwoSteps),
        Plant::Played(Bug::ShortAppendIsOk),
        Plant::Played(Bug::SwallowsSyncErrors),
        Plant::Played(Bug::CountsInPart),
        Plant::Played(Bug::ClaimsACleanStop),
        Plant::Played(Bug::DropsKeysOfRepeats),
        Plant::Played(Bug::MixesUpAnswers),
        Plant::Played(Bug::TakesTheWallForElapsed),
    ],
};

#[test]
fn histories_hold() {
    run::histories_hold(&SUITE);
}

#[test]
fn a_seed_is_one_history() {
    run::a_seed_is_one_history(&SUITE, 20);
}

#[test]
fn planted_bugs_are_found() {
    run::planted_bugs_are_found(&SUITE);
}

#[test]
fn a_failing_history_shrinks() {
    run::a_failing_history_shrinks(&SUITE, Plant::Played(Bug::SwallowsSyncErrors));
}

fn run(task: &Task<'_, Bug>) -> Ran {
    let mut simulation = Simulation::new(task);
    let end = guarded(|| simulation.run());
    simulation.note_events();
    let mut tallies = std::mem::take(&mut simulation.tallies);
    tallies.extend(&simulation.machine.lock().met_by_kind);
    match &end {
        Ok(End::Exact) => *tallies.entry("histories exact").or_default() += 1,
        Ok(End::Refused) => *tallies.entry("histories refused").or_default() += 1,
        Err(_) => {}
    }
    Ran {
        wrong: end.err(),
        hash: simulation.history.hash(),
        tail: simulation.history.tail(40),
        tallies,
        steps: simulation.steps,
        faults: simulation.faults.number,
        simulated_ms: simulation.simulated_ms(),
    }
}
