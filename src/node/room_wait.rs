//! The time before a leader's epoch can begin. That writes to the disk before anything else may: where the disk has no
//! room, or can only be read, reads are served from what was recovered, writes are refused, and it is tried again.

use super::{
    NodeError,
    leader_files::LeaderFiles,
    leader_start::{LeaderParts, LeaderStart},
};
use crate::{
    base::position::Epoch,
    engine::leader::{LeaderEvent, StepDownGate, StepDownReaction, Successor, WriteError, WriteSubmission},
    net::peer_link::is_address,
    replication::{AppendAnswer, AppendOutcome, AppendRequest},
    storage::disk::Disk,
    storage::manifest::Manifest,
    storage::recovery::{self, RecoveredDatabase},
};
use bytes::Bytes;
use std::{collections::VecDeque, io, time::Duration};
use tokio::sync::oneshot;

/// The pause before the disk is tried again, in milliseconds.
const PAUSE_MS: u64 = 1_000;
/// The longest pause after it took a little and not enough, in milliseconds: each try fills it to its end.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// The reason why an attempt has failed.
enum Attempt {
    /// There is no room at all.
    NoRoom(String),
    /// There is some, and something else was in the way, or it was not enough.
    Failed(String),
    /// Another leads, or is about to.
    Succeeded(Successor),
    /// The files were taken away.
    FilesLost(String),
}

/// The time before there is room.
pub(super) struct RoomWait {
    step_down_gate: StepDownGate,
    /// The files there are. One that is gone later was taken away.
    names: Vec<String>,
    pause_ms: u64,
    /// True if another leads, or the files are gone: nothing is tried any more.
    is_over: bool,
    /// True if a promise could not be noted: from then on other nodes hear as much of this one as if it did not run, so
    /// that they lead without it, in an epoch that it would not take.
    is_silent: bool,
    /// True if the files have to be read again before the next attempt.
    reads_again: bool,
    events: VecDeque<LeaderEvent>,
}

impl RoomWait {
    pub(super) fn new(start: &LeaderStart, recovered: &RecoveredDatabase) -> Self {
        let Manifest { identity, state } = &recovered.manifest;
        let starter = &start.files.starter;
        let epoch = state.highest().max(starter.elected.as_ref().map_or(0, |elected| elected.epoch));
        Self {
            step_down_gate: StepDownGate::new(start.node, starter.url.clone(), *identity, epoch),
            names: recovery::names(&*start.files.disk).unwrap_or_default(),
            pause_ms: PAUSE_MS,
            is_over: false,
            is_silent: false,
            reads_again: false,
            events: VecDeque::new(),
        }
    }

    /// Waits until the epoch has begun. `None` if it was told to stop before.
    pub(super) fn run(
        mut self,
        mut start: LeaderStart,
        mut recovered: RecoveredDatabase,
    ) -> io::Result<Option<LeaderParts>> {
        loop {
            if self.pause(&start) {
                return Ok(None);
            }
            match self.attempt(&mut start, &mut recovered) {
                Ok(begun) => {
                    let settled = recovered.into_settled(begun);
                    tracing::warn!(epoch = settled.manifest.state.epoch, "the disk has room: this node leads");
                    return start.lead(settled).map(Some);
                }
                Err(why) => self.failed(&start, why),
            }
        }
    }

    /// Lets the time pass before the next attempt, and answers what comes meanwhile; true if it was told to stop.
    fn pause(&mut self, start: &LeaderStart) -> bool {
        let LeaderStart { leader, clock, .. } = start;
        let until = clock.monotonic().after_ms(self.pause_ms);
        loop {
            let left_ms = until.since_ms(clock.monotonic());
            if left_ms == 0 && !self.is_over {
                return false;
            }
            let patience = (!self.is_over).then(|| Duration::from_millis(left_ms));
            leader.take(&mut self.events, patience);
            while let Some(event) = self.events.pop_front() {
                match event {
                    LeaderEvent::Stop | LeaderEvent::HandOver => return true,
                    LeaderEvent::Offer(..) if self.is_silent => {}
                    LeaderEvent::Offer(bytes, reply) => self.offered(start, &bytes, reply),
                    LeaderEvent::Write(WriteSubmission { reply, .. }) => {
                        let refusal = leader.refusal().unwrap_or(WriteError::DiskFull);
                        let _ = reply.send(Err(refusal)); // whoever asked may have gone
                    }
                    LeaderEvent::Probe(sign) => drop(sign.send(())), // whoever asked may have gone
                    LeaderEvent::Replica(..)
                    | LeaderEvent::Synced(..)
                    | LeaderEvent::SnapshotEnded(..)
                    | LeaderEvent::FilesChecked(..) => {}
                }
            }
        }
    }

    /// Another node asks, or is about to lead: it may, once this one has noted that.
    fn offered(&mut self, start: &LeaderStart, bytes: &Bytes, reply: oneshot::Sender<AppendAnswer>) {
        let LeaderStart { files, leader, .. } = start;
        let answer = |waiting: &Self, outcome| {
            let current = leader.view().current();
            let mark = current.as_ref().map(|current| current.reader.read().state_id()).unwrap_or_default();
            let _ = reply.send(waiting.step_down_gate.answer(outcome, mark)); // whoever asked may have gone
        };
        let offer = match AppendRequest::decode(bytes) {
            Ok(offer) => offer,
            Err(what) => return answer(self, AppendOutcome::Unreadable(what)),
        };
        match self.step_down_gate.on_append_request(&offer) {
            StepDownReaction::Answer(outcome) => answer(self, outcome),
            // A promise that a restart would forget is none.
            StepDownReaction::StepDown(epoch, _) if !note(&*files.disk, epoch) => self.is_silent = true,
            StepDownReaction::StepDown(epoch, outcome) => {
                let url = offer.members.map(|members| members.leader).filter(|url| is_address(url));
                tracing::warn!(epoch, by = url.as_deref().unwrap_or("unknown"), "another leads: this node does not");
                self.is_over = true;
                answer(self, outcome);
                leader.stepped_down(Successor(url));
            }
        }
    }

    /// Tries to begin the epoch. Others may have led since they were last asked.
    fn attempt(
        &mut self,
        start: &mut LeaderStart,
        recovered: &mut RecoveredDatabase,
    ) -> Result<recovery::NewEpoch, Attempt> {
        let failed = |error: &dyn std::fmt::Display| Attempt::Failed(error.to_string());
        self.check_files(&start.files)?;
        recovery::try_room(&*start.files.disk).map_err(|error| Attempt::NoRoom(error.to_string()))?;
        let disk = &*start.files.disk;
        if self.reads_again || !recovered.is_current(disk).map_err(|error| failed(&error))? {
            let again = start.files.read().map_err(|error| failed(&error))?;
            if again.manifest.identity != recovered.manifest.identity {
                return Err(Attempt::FilesLost("the data directory holds another database now".into()));
            }
            *recovered = again;
            self.reads_again = false;
        }
        match start.files.recover_tail(recovered) {
            // Only what is whole is served: a recovery that failed may have given its store up.
            Ok(()) => start.serve_recovered(recovered),
            Err(NodeError::Succeeded { by, told }) => {
                tracing::warn!("another leads ({told}): this node does not");
                return Err(Attempt::Succeeded(Successor(by)));
            }
            Err(error) => {
                self.reads_again = true; // what was taken back may be the reason
                return Err(failed(&error));
            }
        }
        let begun = start.files.begin(recovered);
        begun.map_err(|error| {
            self.reads_again = !error.is_no_room();
            failed(&error)
        })
    }

    /// Nothing may begin on files that were taken away meanwhile.
    fn check_files(&self, files: &LeaderFiles) -> Result<(), Attempt> {
        let lost = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Attempt::FilesLost(error.to_string()),
            _ => Attempt::Failed(error.to_string()),
        };
        files.disk.check_in_place().map_err(lost)?;
        let there = recovery::names(&*files.disk).map_err(|error| Attempt::Failed(error.to_string()))?;
        match self.names.iter().find(|name| !there.contains(name)) {
            Some(name) => Err(Attempt::FilesLost(format!("{name} was removed, moved or replaced"))),
            None => Ok(()),
        }
    }

    fn failed(&mut self, start: &LeaderStart, why: Attempt) {
        let leader = &start.leader;
        let (why, pause_ms) = match why {
            Attempt::NoRoom(why) => (why, PAUSE_MS),
            Attempt::Failed(why) => (why, (2 * self.pause_ms).min(LONGEST_PAUSE_MS)),
            Attempt::Succeeded(successor) => {
                self.is_over = true;
                return leader.stepped_down(successor);
            }
            Attempt::FilesLost(what) => {
                self.is_over = true;
                tracing::error!(
                    "{what}: the counts are in memory alone. Before this process is stopped, save them (GET /sync of each \
                     namespace), or promote a replica"
                );
                return leader.files_lost(what);
            }
        };
        self.pause_ms = pause_ms;
        if leader.no_room().as_ref() != Some(&why) {
            tracing::warn!("still no writes: {why}; it is tried again");
            leader.set_no_room(Some(why));
        }
        // What the attempt has removed was of no use.
        if let Ok(names) = recovery::names(&*start.files.disk) {
            self.names.retain(|name| names.contains(name));
        }
    }
}

/// Notes, durably, that another is to lead in this epoch.
fn note(disk: &dyn Disk, epoch: Epoch) -> bool {
    let noted = Manifest::read(disk).map_err(|error| error.to_string()).and_then(|manifest| {
        let mut manifest = manifest.ok_or("the MANIFEST is gone")?;
        // It has begun no epoch, so it has no lead to take back.
        let highest = manifest.state.promised.max(epoch);
        manifest.state.promise(highest, None);
        manifest.write(disk).map_err(|error| error.to_string())
    });
    noted.inspect_err(|error| tracing::error!(error, "that {epoch} is the epoch now cannot be noted")).is_ok()
}
