//! A local replica: another process on the leader's machine, which reads the leader's files and outlives its process.

use crate::{
    cluster::Cluster,
    disk::{Machine, SimDisk},
};
use memdb::{
    disk::{Disk, DiskFile},
    local_replica::{LocalReplica, Step},
};
use parking_lot::Mutex;
use std::{io, sync::Arc};

/// The leader's disk, as a process sees it that only reads.
pub struct Neighbour(pub Arc<Mutex<Machine>>);

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
        if self.leader_machine.lock().crashed() {
            return Ok(());
        }
        let disk = || Arc::new(Neighbour(Arc::clone(&self.leader_machine)));
        let local = self.local.get_or_insert_with(|| LocalReplica::new(disk(), self.settings.window));
        let step = local.step();
        match step {
            Step::Complete(_) => self.tally("local replicas complete"),
            Step::Applied(_) => self.tally("steps of local replicas"),
            Step::Reloading(why) => {
                self.tally("local replicas that reload");
                self.note(format_args!("the local replica reloads: {why}"));
            }
            Step::Waiting(why) => self.note(format_args!("the local replica waits: {why}")),
            Step::Loading | Step::Nothing => {}
        }
        let Some(reader) = self.local.as_ref().and_then(LocalReplica::reader) else { return Ok(()) };
        let position = reader.read().position();
        // The leader may have ended right behind an append: that record is history once it has started again.
        if position.sequence > self.truth.last() && position.epoch == self.truth.epoch && self.leader.is_none() {
            return Ok(());
        }
        // A start that ended behind its MANIFEST has begun an epoch that is known to all once the next has come as far.
        if position.epoch > self.truth.epoch && self.leader.is_none() {
            return Ok(());
        }
        self.truth.check("the local replica", &reader)
    }
}
