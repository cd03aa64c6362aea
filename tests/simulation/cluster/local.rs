//! A local replica: another process on a leader's machine, which reads the files there and outlives the leader's
//! process.

use super::{network::Place, simulation::Cluster};
use crate::disk::{Machine, SimDisk};
use memdb::{
    engine::file_follower::{FileFollower, FollowStep},
    storage::disk::{Disk, DiskFile},
};
use parking_lot::Mutex;
use std::{io, sync::Arc};

/// A disk, as a process sees it that only reads.
struct Neighbour(Arc<Mutex<Machine>>);

/// A local replica, and where it runs.
pub struct Local {
    pub at: Place,
    pub core: FileFollower,
}

impl Neighbour {
    fn now(&self) -> SimDisk {
        SimDisk::new(&self.0)
    }
}

fn never() -> io::Error {
    unreachable!("a local replica writes nothing")
}

impl Disk for Neighbour {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.now().open(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.now().list()
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(never())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(never())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(never())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Err(never())
    }
}

impl Cluster {
    /// The local replica takes a step. What it shows must be the state at its position.
    pub fn step_local(&mut self) -> Result<(), String> {
        let Some(at) = self.local.as_ref().map(|local| local.at).or_else(|| self.leaders().first().copied()) else {
            return Ok(());
        };
        if self.nodes[at].machine.lock().crashed() {
            return Ok(());
        }
        let disk = || Arc::new(Neighbour(Arc::clone(&self.nodes[at].machine)));
        let local =
            self.local.get_or_insert_with(|| Local { at, core: FileFollower::new(disk(), self.settings.window) });
        let step = local.core.step();
        match step {
            FollowStep::Complete(_) => self.tally("local replicas complete"),
            FollowStep::Applied(_) => self.tally("steps of local replicas"),
            FollowStep::Reloading(why) => {
                self.tally("local replicas that reload");
                self.note(format_args!("the local replica reloads: {why}"));
            }
            FollowStep::Waiting(why) => self.note(format_args!("the local replica waits: {why}")),
            FollowStep::Loading | FollowStep::Nothing => {}
        }
        let Some(reader) = self.local.as_ref().and_then(|local| local.core.reader()) else { return Ok(()) };
        let position = reader.read().position();
        // The process may have ended right behind an append, or behind its MANIFEST: that record or epoch is history
        // once it has started again.
        if !self.nodes[at].runs() && self.truth.entry_at(position).is_err() {
            return Ok(());
        }
        self.truth.check("the local replica", &reader)
    }
}
