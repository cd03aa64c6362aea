//! A client that watches counts, at one node for a while and then at another, and comes again with what it has.

use super::{
    network::{PLACES, Place},
    simulation::Cluster,
};
use crate::client::WORDS;
use memdb::{
    api::service::watch::{SharedRankings, WatchState, WatchTime},
    base::clock::{LoggedTime, Monotonic},
    base::position::{PositionStatus, PositionToken},
    engine::view::ServedDatabase,
};
use std::{borrow::Cow, sync::Arc};
use testkit::Random;

/// The client, and the stream that it has open.
pub struct Watcher {
    /// Of its own: what else happens is what it was before there were watchers.
    random: Random,
    stream: Option<(Place, WatchState)>,
    counts: [i64; WORDS.len()],
    told: Option<PositionToken>,
}

impl Watcher {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed ^ 0x3a7c_4e55), stream: None, counts: [0; WORDS.len()], told: None }
    }

    /// The node that it watches next, and its stream there.
    fn stream(&mut self) -> (Place, WatchState) {
        let moves = self.random.percent(20);
        if let Some(open) = self.stream.take().filter(|_| !moves) {
            return open;
        }
        let names = WORDS.map(Cow::Borrowed);
        // One in a while has lost everything.
        if self.random.percent(5) {
            self.told = None;
        }
        (self.random.below(PLACES), WatchState::of_values("words", &names, &[]).resume(self.told))
    }
}

impl Cluster {
    /// The watcher's stream looks at what its node shows: what is sent has to be the truth of its position, and what
    /// the client has then that of the node.
    pub fn watch(&mut self) -> Result<(), String> {
        let (at, mut watched) = self.watcher.stream();
        let shown = self.nodes[at].view().filter(|_| self.is_awake(at));
        let (Some(reader), Some(identity)) = (shown, self.database) else { return Ok(()) };
        self.truth.check(&format!("node {at}"), &reader)?;
        let wrong = |what: String| Err(format!("a watcher at node {at}: {what}"));
        let current = Arc::new(ServedDatabase { identity, reader });
        let time = WatchTime { now: Monotonic::from_ms(self.now_ms), logged: LoggedTime::ZERO };
        if let Some(event) = watched.look(&current, &SharedRankings::default(), time) {
            let is_older = |told: PositionToken| current.position_status(told) != PositionStatus::Reached;
            match event.reset {
                Some(_) => self.tally("watchers told to begin anew"),
                None if self.watcher.told.is_some_and(is_older) => {
                    return wrong(format!("it is sent {} and has {:?}", event.position, self.watcher.told));
                }
                None => self.tally("events of a watcher"),
            }
            for number in event.words {
                self.watcher.counts[number] = watched.word(number).1;
            }
            self.watcher.told = Some(event.position);
        } else if self.watcher.random.percent(20) {
            self.watcher.told = watched.heartbeat().or(self.watcher.told);
        }
        match self.watcher.told.map(|told| current.position_status(told)) {
            Some(PositionStatus::Ahead) => self.tally("watchers that wait for their position"),
            Some(PositionStatus::Reached) => {
                let guard = current.reader.read();
                let counts = WORDS.map(|word| guard.count("words", word));
                if counts != self.watcher.counts {
                    return wrong(format!("it has {:?}, and there is {counts:?}", self.watcher.counts));
                }
            }
            standing => return wrong(format!("it was not told that {:?} is {standing:?}", self.watcher.told)),
        }
        self.watcher.stream = Some((at, watched));
        Ok(())
    }
}
