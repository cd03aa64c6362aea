//! A node that is about to lead: carries out what its `TailRecovery` wants done, a question a step, so that anything
//! happens in between.

use super::{
    bug::Bug,
    candidates::Promoted,
    hand_over::Served,
    leader::{place_of, url_of},
    machines::Process,
    network::{PLACES, Place},
    simulation::Cluster,
};
use crate::disk::SimDisk;
use bytes::Bytes;
use memdb::{
    base::hash::fingerprint,
    base::position::{Position, PositionStatus},
    replication::{AppendAnswer, NodeId, NodeState, ProbeError, StartingNode, TailAction, TailRecovery, TailRefusal},
    storage::disk::Disk,
    storage::file_header::FileError,
    storage::recovery::{self, NodeRun, RecoveredDatabase, RecoveryError},
};
use std::{collections::BTreeMap, sync::Arc};

/// A process that has read its files and leads nobody yet.
pub struct Starting {
    /// This run.
    node: NodeId,
    disk: Arc<dyn Disk>,
    recovered: RecoveredDatabase,
    recovery: TailRecovery,
    promoted: Option<Promoted>,
    /// Those who have said where they stand.
    heard: BTreeMap<Place, NodeState>,
    /// Those whom the operator has stopped for this start.
    without: Vec<Place>,
    /// Faults that the disk had met before.
    met: usize,
    /// What is served meanwhile, where the role before had it in memory.
    pub view: Served,
}

impl Cluster {
    /// Starts a node that leads, as far as the faults let it.
    pub fn start_leader(&mut self, at: Place) -> Result<(), String> {
        let new = self.new_identity();
        let window = self.settings.window;
        let node = self.random.next_u64().into();
        self.begin_start(at, node, None, Vec::new(), |disk| recovery::look(disk, new, window).map(Some))
    }

    /// Reads the files and begins to ask; `look` gives nothing if there is nothing to lead with.
    pub fn begin_start(
        &mut self,
        at: Place,
        node: NodeId,
        promoted: Option<Promoted>,
        without: Vec<Place>,
        look: impl FnOnce(&dyn Disk) -> Result<Option<RecoveredDatabase>, RecoveryError>,
    ) -> Result<(), String> {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(&self.nodes[at].machine));
        let met = self.nodes[at].machine.lock().met;
        let looked = look(&*disk);
        self.note_events();
        let recovered = match looked {
            Ok(Some(recovered)) => recovered,
            Ok(None) => return Ok(()), // its files have been given up
            Err(error) => return self.did_not_start(at, &error, met),
        };
        self.note(format_args!("{at} is to lead and looked: {}", recovered.report));
        self.begins(at, node, promoted, without, (disk, met), recovered, None)
    }

    /// A replica that is to lead has ended its role, and goes on with what it has in memory.
    pub fn begins_in_memory(
        &mut self,
        at: Place,
        node: NodeId,
        promoted: Promoted,
        disk: Arc<dyn Disk>,
        kept: RecoveredDatabase,
        view: Served,
    ) -> Result<(), String> {
        let met = self.nodes[at].machine.lock().met;
        self.begins(at, node, Some(promoted), Vec::new(), (disk, met), kept, view)
    }

    #[allow(clippy::too_many_arguments, reason = "what a start has at hand")]
    fn begins(
        &mut self,
        at: Place,
        node: NodeId,
        promoted: Option<Promoted>,
        without: Vec<Place>,
        (disk, met): (Arc<dyn Disk>, usize),
        recovered: RecoveredDatabase,
        view: Served,
    ) -> Result<(), String> {
        if self.database.is_some_and(|database| recovered.new || recovered.manifest.identity != database) {
            return Err("it began a new database over the old one".into());
        }
        let state = &recovered.manifest.state;
        self.truth.may_have_begun(state.epoch, &state.epochs)?;
        self.truth.recovered(&format!("node {at}"), &recovered.store.reader(), recovered.stands())?;
        self.check_kept(at, recovered.stands())?;
        let follows = Some(self.nodes[at].follows).filter(|_| !self.nodes[at].is_to_lead);
        let named =
            (0..PLACES).filter(|place| self.settings.configured || follows == Some(*place)).map(url_of).collect();
        let starter = StartingNode {
            url: url_of(at),
            boot_id: self.boot_id(at),
            named,
            told_to_follow: follows.map(url_of),
            init: false,
            elected: promoted.as_ref().map(|promoted| promoted.elected.clone()),
        };
        let recovery = TailRecovery::new(starter, &recovered, self.now_ms);
        let heard = BTreeMap::new();
        let starting = Starting { node, disk, recovered, recovery, promoted, heard, without, met, view };
        self.nodes[at].process = Process::Starts(Box::new(starting));
        Ok(())
    }

    /// A run of the node that begins now.
    pub fn node_run(&mut self, at: Place) -> NodeRun {
        // Not drawn from the seed: a history stays the same whatever a start needs numbers for.
        let random = fingerprint(&[&self.now_ms.to_le_bytes(), &(at as u64).to_le_bytes()]) as u64 | 1;
        NodeRun { name: format!("n-{at}"), boot_id: self.boot_id(at), random: Some(random) }
    }

    pub fn boot_id(&self, at: Place) -> String {
        format!("boot {}", self.nodes[at].boots)
    }

    /// A node that is about to lead asks the next question, or waits.
    pub fn step_start(&mut self, at: Place) -> Result<(), String> {
        if !matches!(self.nodes[at].process, Process::Starts(_)) {
            return Ok(());
        }
        let Process::Starts(mut starting) = std::mem::replace(&mut self.nodes[at].process, Process::None) else {
            return Ok(());
        };
        loop {
            match starting.recovery.poll(&mut starting.recovered, self.now_ms) {
                TailAction::Ask(url, question, _) => {
                    let answer = self.asks_of_start(at, &url, &question, &mut starting)?;
                    starting.recovery.answered(&url, answer, self.now_ms);
                    break;
                }
                TailAction::Fetch(url, after) => {
                    let records = self.fetches(at, &url, after, &starting);
                    let fetched =
                        records.as_ref().is_ok_and(|records| records.as_ref().is_some_and(|it| !it.is_empty()));
                    starting.recovery.fetched(records, &mut starting.recovered);
                    if fetched {
                        self.tally("tails taken back");
                        if starting.recovered.open.is_some() {
                            self.tally("tails taken back in memory");
                        }
                    }
                    break;
                }
                TailAction::Wait(until_ms) => {
                    // Nothing else happens there: time goes faster.
                    if self.random.percent(30) {
                        let until_ms = until_ms.min(self.now_ms + 1_000);
                        self.now_ms = self.now_ms.max(until_ms) + *self.random.pick(&[0, 0, 300, 1_200]);
                    }
                    break;
                }
                TailAction::Alarm(what) => self.note(format_args!("node {at}: {what}")),
                TailAction::ReadAgain => {
                    if !self.reads_again(at, &mut starting)? {
                        return Ok(());
                    }
                }
                TailAction::Lead => return self.leads(at, *starting),
                TailAction::Refused(refusal) => return self.does_not_lead(at, *starting, refusal),
            }
        }
        if !self.nodes[at].machine.lock().crashed() {
            self.nodes[at].process = Process::Starts(starting);
        }
        Ok(())
    }

    /// The log that is open has not taken what was fetched: the files are read; `false` if that ends the process.
    fn reads_again(&mut self, at: Place, starting: &mut Starting) -> Result<bool, String> {
        if self.nodes[at].machine.lock().met == starting.met {
            // No disk here flips a bit, and one leader writes each epoch.
            return Err("what was taken back does not lead to what it states".into());
        }
        self.tally("files read again");
        starting.view = None;
        let epoch = starting.promoted.as_ref().map_or(0, |promoted| promoted.elected.epoch);
        match recovery::look_elected(&*starting.disk, self.settings.window, epoch) {
            Ok(Some(recovered)) => {
                self.truth.recovered(&format!("node {at}"), &recovered.store.reader(), recovered.stands())?;
                starting.recovered = recovered;
                Ok(true)
            }
            Ok(None) => Err("its files are gone".into()),
            Err(error) => self.did_not_start(at, &error, starting.met).map(|()| false),
        }
    }

    fn asks_of_start(
        &mut self,
        at: Place,
        url: &str,
        question: &[u8],
        starting: &mut Starting,
    ) -> Result<Result<AppendAnswer, ProbeError>, String> {
        let other = place_of(url).ok_or_else(|| format!("there is no {url}"))?;
        if !self.nodes[other].runs() || starting.without.contains(&other) {
            return Ok(Err(ProbeError::NotThere));
        }
        let answer = self.asks(at, other, question)?;
        if let Some(answer) = &answer {
            starting.heard.insert(other, answer.hello.clone());
            if self.bug == Some(Bug::TakesNothingBack) {
                return Ok(Err(ProbeError::NotThere));
            }
        }
        Ok(answer.ok_or_else(|| ProbeError::MayPass("no answer in time".to_owned())))
    }

    fn fetches(&mut self, at: Place, url: &str, after: Position, starting: &Starting) -> Result<Option<Bytes>, String> {
        let other = place_of(url).filter(|&other| self.reaches(at, other)).ok_or("it does not answer")?;
        let (archive, last) = match &self.nodes[other].process {
            Process::None | Process::Starts(_) => return Err("nothing listens there".to_owned()),
            Process::Leads(leading) => (&leading.archive, leading.position()),
            Process::Follows(following) => {
                (&following.archive, following.position().ok_or("it holds nothing that is good")?)
            }
        };
        let identity = starting.recovered.manifest.identity;
        let records = archive.records(after.sequence, last.sequence, &identity).map_err(|error| error.to_string())?;
        Ok(records.map(|records| records.concat().into()))
    }

    /// It has asked whom it knows, and leads.
    fn leads(&mut self, at: Place, starting: Starting) -> Result<(), String> {
        let Starting { node, disk, mut recovered, promoted, heard, without, met, .. } = starting;
        let forced = promoted.as_ref().is_some_and(|promoted| promoted.elected.force);
        let from = recovered.stands();
        self.truth.recovered(&format!("node {at}"), &recovered.store.reader(), from)?;
        let gives = |other: &Place, hello: &NodeState| {
            hello.database.is_some()
                && !hello.diverged
                && hello.position.epoch == from.epoch
                && !without.contains(other)
        };
        let most =
            heard.iter().filter(|(other, hello)| gives(other, hello)).map(|(_, hello)| hello.position.sequence).max();
        if most > Some(from.sequence) && !forced {
            return Err(format!("a replica that was there had {most:?}, and the leader goes on behind {from}"));
        }
        let allowed_losses = &mut self.client_history.allowed_losses;
        if let Some(promoted) = &promoted {
            allowed_losses.promoted = true;
            allowed_losses.led_without_all |= forced || promoted.promised.len() < PLACES - 1;
            if !forced {
                self.loses_nothing(at, from, &promoted.promised)?;
            }
        } else if !self.nodes[at].is_to_lead {
            self.tally("leaders that lead again, started as replicas");
        }
        if self.bug == Some(Bug::SameEpochAgain) && promoted.is_none() && recovered.manifest.state.epoch > 1 {
            begins_its_epoch_again(&mut recovered);
        }
        let mut run = self.node_run(at);
        let mut begun = recovered.begin(&disk, &mut run, self.settings.segment_bytes);
        if begun.as_ref().is_err_and(RecoveryError::is_no_room) && recovered.is_current(&*disk).is_ok_and(|it| it) {
            // There may be room by now; what was read is still good.
            begun = recovered.begin(&disk, &mut run, self.settings.segment_bytes);
            self.tally("starts that tried again for want of room");
        }
        self.note_events();
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) if self.tries_again(at, &error, met) => return self.starts_again(at, node, promoted, without),
            Err(error) => return self.did_not_start(at, &error, met),
        };
        let (reader, here) = (recovered.store.reader(), begun.position());
        let settled = recovered.into_settled(begun);
        if reader.position_status(from) != PositionStatus::Reached {
            return Err(format!("readers at {here} take {from} for lost, by {:?}", reader.epochs()));
        }
        if promoted.is_some() {
            self.tally(if forced { "forced promotions" } else { "promotions" });
            self.is_the_leader_now(at);
        }
        self.lead(at, node, disk, settled, from)
    }

    /// Whether a start that the disk has failed is tried again by the same process, as one is that waits for room.
    fn tries_again(&mut self, at: Place, error: &RecoveryError, met: usize) -> bool {
        let machine = self.nodes[at].machine.lock();
        let disk_failed = machine.met > met && matches!(error, RecoveryError::File(FileError::Io { .. }));
        let goes_on = disk_failed && !machine.crashed();
        drop(machine);
        goes_on && self.random.percent(50)
    }

    /// The files are read again, and all are asked again; what was promised to it still holds.
    fn starts_again(
        &mut self,
        at: Place,
        node: NodeId,
        promoted: Option<Promoted>,
        without: Vec<Place>,
    ) -> Result<(), String> {
        let (new, window) = (self.new_identity(), self.settings.window);
        let epoch = promoted.as_ref().map(|promoted| promoted.elected.epoch);
        self.begin_start(at, node, promoted, without, |disk| {
            epoch.map_or_else(
                || recovery::look(disk, new, window).map(Some),
                |epoch| recovery::look_elected(disk, window, epoch),
            )
        })?;
        self.tally("starts that failed and were tried again");
        if let (Process::Starts(starting), Some(epoch)) = (&self.nodes[at].process, epoch)
            && starting.recovered.manifest.state.has_begun(epoch)
        {
            self.tally("promotions that failed behind the MANIFEST, tried again");
        }
        Ok(())
    }

    fn does_not_lead(&mut self, at: Place, starting: Starting, refusal: TailRefusal) -> Result<(), String> {
        self.note(format_args!("node {at} does not lead: {refusal}"));
        match refusal {
            TailRefusal::Diverged(why) => Err(why),
            _ if starting.promoted.is_some() => {
                self.tally("promotions that end before they lead");
                if starting.recovered.open.is_some() {
                    return self.replica_goes_on(at, starting.disk, starting.recovered);
                }
                self.start_replica(at)
            }
            TailRefusal::Succeeded { .. } => {
                self.tally("leaders that start as replicas");
                self.start_replica(at)
            }
            // It takes from whoever leads what its files do not give.
            TailRefusal::NotLeader(_) if !self.nodes[at].is_to_lead => self.start_replica(at),
            TailRefusal::NotLeader(_) => {
                // The operator stops those replicas for this start: to lead without these records is asked for.
                self.tally("tails that could not be taken back");
                let end = starting.recovered.store.mark().position.sequence;
                let has_more = starting.heard.iter().filter(|(_, hello)| hello.position.sequence > end);
                let without = starting.without.iter().copied().chain(has_more.map(|(other, _)| *other)).collect();
                let (new, window) = (self.new_identity(), self.settings.window);
                let look = |disk: &dyn Disk| recovery::look(disk, new, window).map(Some);
                self.begin_start(at, starting.node, None, without, look)
            }
        }
    }

    /// Who is promoted without force has all that those have who have promised, unless it was lost before.
    fn loses_nothing(&self, at: Place, found: Position, promised: &BTreeMap<Place, NodeState>) -> Result<(), String> {
        for (other, hello) in promised {
            let theirs = hello.position;
            if hello.diverged || theirs.epoch < found.epoch {
                continue;
            }
            if let Some(id) = self.truth.entry_at(theirs)?
                && !self.truth.holds(found, id)
            {
                return Err(format!("{at} leads from {found} on, and {other}, which promised it, was at {theirs}"));
            }
        }
        Ok(())
    }

    /// The operator writes down who leads from now on; perhaps not everywhere.
    fn is_the_leader_now(&mut self, at: Place) {
        for place in (0..PLACES).filter(|_| self.settings.writes_down) {
            if place == at || self.random.percent(80) {
                self.nodes[place].is_to_lead = place == at;
            }
            if place != at {
                self.nodes[place].follows = at;
            }
        }
    }
}

/// For a planted bug.
fn begins_its_epoch_again(recovered: &mut RecoveredDatabase) {
    let state = &mut recovered.manifest.state;
    state.epoch -= 1;
    let before = std::mem::take(&mut state.epochs);
    before.ended().iter().filter(|ended| ended.epoch < state.epoch).for_each(|ended| state.epochs.end(*ended));
}
