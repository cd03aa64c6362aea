//! A leader on its thread: it leads, or waits for room on the disk first.

use super::{
    leader_start::{LeaderEnd, LeaderParts, LeaderStart},
    room_wait::RoomWait,
    threads::writer,
};
use crate::{
    engine::leader::Leader,
    storage::recovery::{RecoveredDatabase, RecoveryError},
};

/// The state in which a leader's thread starts.
pub(super) enum StartState {
    /// Its epoch has begun.
    Leads(Box<LeaderParts>),
    /// The disk had no room for that.
    Waits(Box<(LeaderStart, RecoveredDatabase, RoomWait)>),
}

impl StartState {
    /// Waits for the epoch to begin, where `error` says why it has not; readers are served from here on.
    pub(super) fn waits(mut start: LeaderStart, recovered: RecoveredDatabase, error: &RecoveryError) -> Self {
        tracing::error!(
            "{error}: reads are served and writes refused until there is room, or the file system can be written; then this node \
             leads by itself"
        );
        start.serve_recovered(&recovered);
        start.leader.set_no_room(Some(error.to_string()));
        start.leader.view().set_ready(true);
        let waiting = RoomWait::new(&start, &recovered);
        StartState::Waits(Box::new((start, recovered, waiting)))
    }

    /// Runs on a thread of its own until the leader was told to stop. `None` if it has never led.
    pub(super) fn run(self, leader: Leader) -> Option<LeaderEnd> {
        let _end = writer::NotifyOnExit(leader);
        let leading = match self {
            StartState::Leads(leading) => Some(*leading),
            StartState::Waits(waits) => {
                let (start, recovered, waiting) = *waits;
                let led = waiting.run(start, recovered);
                led.inspect_err(|error| tracing::error!(%error, "this node cannot lead: no thread")).ok().flatten()
            }
        };
        let LeaderParts { hands, replicating, manifest } = leading?;
        Some(LeaderEnd { writer: writer::run(hands), replicating, manifest })
    }
}
