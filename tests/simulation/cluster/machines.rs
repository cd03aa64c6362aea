//! The machines: each with a clock, a disk, pauses and boots, and a process that leads or follows, or none.

use super::{
    bug::Bug,
    follower::Following,
    leader::Leading,
    network::Place,
    simulation::{Cluster, ended},
    starting::Starting,
};
use crate::disk::{Machine, SimDisk, Survives};
use memdb::{
    base::clock::{LoggedClock, Monotonic, WallClock},
    base::position::{Epoch, Position, Sequence},
    data::store::StoreReader,
    replication::leads_at_start,
    storage::file_header::FileError,
    storage::manifest::Manifest,
    storage::recovery::RecoveryError,
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use testkit::Random;

/// What runs on a machine.
pub enum Process {
    None,
    /// It asks others before it leads.
    Starts(Box<Starting>),
    Leads(Box<Leading>),
    Follows(Box<Following>),
}

/// What wall clocks that are right are ahead of true time, as it is reckoned here.
const WALL_MS: u64 = 1_780_000_000_000;

/// A machine.
pub struct Node {
    pub machine: Arc<Mutex<Machine>>,
    pub keeps_files: bool,
    pub process: Process,
    /// Whether it is started by the verb of a leader; else of a replica.
    pub is_to_lead: bool,
    /// The leader that its settings name.
    pub follows: Place,
    /// How often it was switched on.
    pub boots: usize,
    pub paused_until_ms: u64,
    /// How far off its wall clock is.
    pub clock_ms: i64,
    /// What its process has counted of logged time, in whatever role.
    pub logged: Option<LoggedClock>,
    /// The true time from which on that counts, behind the last record.
    pub counts_from_ms: u64,
    /// How far it ever was in each epoch, as a replica.
    pub had: BTreeMap<Epoch, Sequence>,
    /// How far it has ever said to have synced in each epoch, as a replica.
    pub has_synced: BTreeMap<Epoch, Sequence>,
    /// What its disk has promised, and still must have.
    pub claimed: Option<Position>,
    /// The latest epoch that it has promised, and still must know of.
    pub promised_epoch: Epoch,
    /// Where it was when its process ended by a kill: what it kept it must still have.
    pub killed_at: Option<Position>,
    /// For a planted bug.
    pub was_at: Position,
}

impl Node {
    pub fn new(random: Random, page: usize, keeps_files: bool, bug: Option<Bug>) -> Self {
        Self {
            machine: Arc::new(Mutex::new(new_disk(random, page, bug))),
            keeps_files,
            process: Process::None,
            is_to_lead: false,
            follows: 0,
            boots: 1,
            paused_until_ms: 0,
            clock_ms: 0,
            logged: None,
            counts_from_ms: 0,
            had: BTreeMap::new(),
            has_synced: BTreeMap::new(),
            claimed: None,
            promised_epoch: 0,
            killed_at: None,
            was_at: Position::ZERO,
        }
    }

    pub fn runs(&self) -> bool {
        !matches!(self.process, Process::None)
    }

    pub fn leading(&self) -> Option<&Leading> {
        match &self.process {
            Process::Leads(leading) => Some(leading),
            _ => None,
        }
    }

    pub fn leading_mut(&mut self) -> Option<&mut Leading> {
        match &mut self.process {
            Process::Leads(leading) => Some(leading),
            _ => None,
        }
    }

    pub fn following(&self) -> Option<&Following> {
        match &self.process {
            Process::Follows(following) => Some(following),
            _ => None,
        }
    }

    pub fn following_mut(&mut self) -> Option<&mut Following> {
        match &mut self.process {
            Process::Follows(following) => Some(following),
            _ => None,
        }
    }

    /// What is served there.
    pub fn view(&self) -> Option<StoreReader> {
        match &self.process {
            Process::None => None,
            Process::Starts(starting) => starting.view.clone(),
            Process::Leads(leading) => Some(leading.reader.clone()),
            Process::Follows(following) => following.view.clone(),
        }
    }

    /// Its disk has promised this: it has to be there after any crash.
    pub fn promises(&mut self, position: Position) {
        self.claimed = self.claimed.max(Some(position));
    }

    /// Its files are another history's from here on.
    pub fn forgets_its_files(&mut self) {
        (self.claimed, self.killed_at, self.promised_epoch) = (None, None, 0);
    }
}

/// An empty disk.
fn new_disk(random: Random, page: usize, bug: Option<Bug>) -> Machine {
    let plant = (bug == Some(Bug::ReplicaSyncDoesNothing)).then_some(crate::plant::Bug::SyncDoesNothing);
    Machine::new(random, page, plant)
}

impl Cluster {
    /// What the clock of a machine reads that counts the time that passes: true time, from another moment on after each
    /// boot.
    pub fn monotonic(&self, at: Place) -> Monotonic {
        let boots = self.nodes[at].boots as u64;
        Monotonic::from_ms(self.now_ms + at as u64 * 10_000_000 + boots * 100_000_000)
    }

    /// What the wall clock of a machine shows.
    pub fn wall(&self, at: Place) -> WallClock {
        WallClock::from_ms((WALL_MS + self.now_ms).saturating_add_signed(self.nodes[at].clock_ms))
    }

    /// Whether a process runs there and is not stopped just now.
    pub fn is_awake(&self, at: Place) -> bool {
        self.nodes[at].runs() && self.now_ms >= self.nodes[at].paused_until_ms
    }

    /// Whether `from` can ask `to` and gets an answer.
    pub fn reaches(&self, from: Place, to: Place) -> bool {
        self.network.is_whole(from, to) && self.is_awake(to)
    }

    pub fn leaders(&self) -> Vec<Place> {
        (0..self.nodes.len()).filter(|&at| self.nodes[at].leading().is_some()).collect()
    }

    /// Starts what is to run there.
    pub fn start(&mut self, at: Place) -> Result<(), String> {
        let Node { machine, keeps_files, is_to_lead, .. } = &self.nodes[at];
        let disk = SimDisk::new(machine);
        let manifest = Manifest::read(&disk).ok().flatten().filter(|_| *keeps_files);
        // A full sync that was not finished leaves no MANIFEST. The verb of a leader refuses such files, or would begin
        // a new database where all of them are gone: who knows that there is one starts the node as a replica.
        let begins = *is_to_lead && (manifest.is_some() || self.database.is_none());
        let leads = leads_at_start(manifest.as_ref(), begins);
        self.note_events();
        if leads { self.start_leader(at) } else { self.start_replica(at) }
    }

    /// What a disk has promised is there. Nothing may come back that nobody wrote.
    pub fn check_kept(&self, at: Place, found: Position) -> Result<(), String> {
        if self.truth.is_blind {
            return Ok(());
        }
        let Node { claimed, killed_at, .. } = &self.nodes[at];
        for (what, kept) in [("has promised as synced", claimed), ("had when it was killed", killed_at)] {
            if let Some(kept) = *kept
                && let Some(id) = self.truth.entry_at(kept)?
                && !self.truth.holds(found, id)
            {
                return Err(format!("node {at} {what} {kept}, and starts at {found}"));
            }
        }
        Ok(())
    }

    /// A start may fail for a fault that was met just now.
    pub fn did_not_start(&mut self, at: Place, error: &RecoveryError, met: usize) -> Result<(), String> {
        self.note(format_args!("node {at} did not start: {error}"));
        self.nodes[at].logged = None;
        let mut machine = self.nodes[at].machine.lock();
        if machine.crashed() {
            return Ok(());
        }
        if machine.met > met && matches!(error, RecoveryError::File(FileError::Io { .. })) {
            machine.kill();
            return Ok(());
        }
        Err(format!("node {at} cannot use its files: {error}"))
    }

    /// Processes that met their end in an operation of their disk.
    pub fn check_after_crash(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].machine.lock().crashed() {
                self.tally("crashes in an operation of a disk");
                self.goes_down(at);
            }
        }
        Ok(())
    }

    /// The process on a machine ends, or the machine does, or all of it is replaced.
    pub fn goes_down(&mut self, at: Place) {
        let crashed = self.nodes[at].machine.lock().crashed();
        let leads = self.is_the_leaders(at);
        let begins = self.nodes[at].is_to_lead;
        let stood_at = match &self.nodes[at].process {
            Process::Leads(leading) => Some(leading.position()),
            // What a replica could not write it has applied all the same.
            Process::Follows(following) if following.keeps() && !crashed => following.position(),
            _ => None,
        };
        ended(self, at);
        self.nodes[at].logged = None;
        self.nodes[at].paused_until_ms = 0;
        let what = match self.random.below(100) {
            0..10 if !leads && !begins => {
                let mut machine = new_disk(self.random.fork(), self.settings.page, self.bug);
                machine.tells = self.history.is_kept();
                let node = &mut self.nodes[at];
                node.machine = Arc::new(Mutex::new(machine));
                node.forgets_its_files();
                node.was_at = Position::ZERO;
                self.leaves_its_local(at);
                "replicas emptied"
            }
            0..50 => {
                let survives = *self.random.pick(&[Survives::Nothing, Survives::Nothing, Survives::Anything]);
                let node = &mut self.nodes[at];
                node.machine.lock().lose_power(survives);
                node.killed_at = None;
                node.boots += 1;
                self.leaves_its_local(at);
                if leads { "power losses of the leader" } else { "power losses of replicas" }
            }
            _ => {
                let node = &mut self.nodes[at];
                node.machine.lock().kill();
                node.killed_at = stood_at.or(node.killed_at);
                if leads { "kills of the leader" } else { "kills of replicas" }
            }
        };
        self.note(format_args!("node {at} goes down: {what}"));
        self.client_history.allowed_losses.lost_power |= what.starts_with("power");
        self.client_history.allowed_losses.emptied |= what == "replicas emptied";
        self.tally(what);
    }

    /// The machine goes down, and with it the local replica on it.
    fn leaves_its_local(&mut self, at: Place) {
        self.local = self.local.take().filter(|local| local.at != at);
    }
}
