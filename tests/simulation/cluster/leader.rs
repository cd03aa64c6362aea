//! A leader's process: recovery, the Writer and a snapshot job, a step at a time. What threads of
//! `src/node/{leading,writing}.rs` do, a step does here.

use super::{
    fetches::LeaderFetches,
    machines::Process,
    network::{PLACES, Place},
    serving::Served,
    simulation::{Cluster, ended},
    truth::Entry,
};
use crate::{
    model::{Verdict, answer_to},
    records::{Became, Before, Record, Records, Sent},
};
use memdb::{
    base::clock::LoggedClock,
    base::hash::WordHasher,
    base::position::{Epoch, EpochTable, Position, Sequence},
    data::counters::WorkerPace,
    data::store::StoreReader,
    engine::leader::{AckLevel, StepDownGate, WriteError, WriteSubmission, Writer, WriterAction, close},
    replication::{ClusterMembers, HistorySource, LeaderState, NodeId, ReplicationBacklog},
    storage::disk::Disk,
    storage::file_header::DatabaseIdentity,
    storage::manifest::{Manifest, ManifestState},
    storage::recovery::WritableDatabase,
    storage::snapshot::{JobStep, SnapshotJob},
    storage::wal,
    text::tokenizer::Analyzer,
};
use std::{io, sync::Arc};

/// A running leader.
pub struct Leading {
    /// This run.
    pub step_down_gate: StepDownGate,
    pub disk: Arc<dyn Disk>,
    pub manifest: Manifest,
    pub writer: Writer<usize>,
    pub reader: StoreReader,
    pub hasher: WordHasher,
    pub feed: Arc<ReplicationBacklog>,
    pub archive: HistorySource,
    pub queue: Vec<WriteSubmission<usize>>,
    /// What the Writer wants done and its thread has not come to yet.
    pub wanted: Vec<WriterAction<usize>>,
    sync: Option<(wal::SyncJob, Option<io::Result<()>>)>,
    snapshot: Option<SnapshotJob>,
    pub synced_upto: Sequence,
    wants_durable: bool,
    pub served: [Option<Served>; PLACES],
    /// Another leads, or is about to: it writes no more, and becomes a replica.
    pub stands_down: bool,
    /// How many increments the workers of counters may add.
    pace: WorkerPace,
    pub fetches: LeaderFetches,
}

impl Leading {
    pub fn position(&self) -> Position {
        self.writer.store().mark().position
    }

    pub fn epochs(&self) -> EpochTable {
        self.manifest.state.epochs.clone()
    }

    /// Whether any replica that is known keeps files.
    fn keeps_files(&self) -> bool {
        self.served.iter().flatten().any(|served| served.standing.is_some_and(|standing| standing.synced.is_some()))
    }

    /// Who belongs to the cluster, as replicas are told.
    fn members(&self) -> ClusterMembers {
        let replicas = (0..PLACES).filter(|&seat| self.served[seat].is_some()).map(url_of).collect();
        ClusterMembers { leader: self.step_down_gate.url.clone(), replicas }
    }

    pub fn lead(&self) -> LeaderState {
        let state = &self.manifest.state;
        LeaderState {
            node: self.step_down_gate.node,
            identity: self.manifest.identity,
            epoch: state.epoch,
            epochs: state.epochs.clone().into(),
            last: self.reader.read().state_id(),
            durable: self.wants_durable,
            members: Arc::new(self.members()),
        }
    }

    /// Whether waiting for a replica has a point.
    pub fn may_ack(&self, durable: bool) -> bool {
        let standings = self.served.iter().flatten().filter_map(|served| served.standing);
        let mut standings = standings.filter(|standing| standing.connected);
        standings.any(|standing| !durable || standing.synced.is_some())
    }
}

impl Cluster {
    /// A leader has begun its epoch behind what stood at `from`.
    pub fn lead(
        &mut self,
        at: Place,
        node: NodeId,
        disk: Arc<dyn Disk>,
        settled: WritableDatabase,
        from: Position,
    ) -> Result<(), String> {
        let state = &settled.manifest.state;
        if self.truth.last(from.epoch) > from.sequence {
            self.tally("leaders that lost records");
        }
        self.truth.began(state.epoch, from, &state.epochs)?;
        if self.truth.lost > 0 {
            self.tally("acknowledged records lost, and said so");
        }
        self.note(format_args!("epoch {} of leader {at} begins behind {from}", state.epoch));
        self.client_history.epoch = self.client_history.epoch.max(state.epoch);
        self.database = Some(settled.manifest.identity);
        self.nodes[at].promises(Position::new(state.epoch, from.sequence));
        let feed = Arc::new(ReplicationBacklog::new(from.sequence, self.settings.feed_bytes));
        let (now, last) = (self.monotonic(at), settled.store.time_ms());
        let before = self.nodes[at].logged;
        let logged = LoggedClock::of_a_leader(before, last, self.wall(at), now);
        if before.is_none_or(|before| before.behind(last, now) != before) {
            self.nodes[at].counts_from_ms = self.now_ms;
        }
        let epoch = settled.manifest.state.epoch;
        let away_ms = self.truth.counts(epoch, self.nodes[at].counts_from_ms, before.is_none());
        // A new database has logged no time that a clock could be ahead of.
        if before.is_none() && from.sequence > 0 && logged.read(now).since_ms(last) > away_ms + 1_000 {
            self.client_history.a_start_believes_too_much();
            self.tally("starts that believe a clock that is ahead");
        }
        self.nodes[at].logged = Some(logged);
        let writer = Writer::new(settled.store, settled.log, self.settings.writer, settled.snapshot, logged, now);
        let writer = writer.with_schedule(settled.schedule);
        let known = self.known_by(&settled.manifest);
        let served = std::array::from_fn(|seat| (seat != at && known.contains(&seat)).then(|| Served::new(seat)));
        let identity = settled.manifest.identity;
        let step_down_gate = StepDownGate::new(node, url_of(at), identity, settled.manifest.state.epoch);
        self.nodes[at].process = Process::Leads(Box::new(Leading {
            step_down_gate,
            reader: writer.store().reader(),
            hasher: writer.store().hasher(),
            synced_upto: from.sequence,
            writer,
            archive: HistorySource::new(Some(Arc::clone(&disk)), Arc::clone(&feed)),
            feed,
            disk,
            manifest: settled.manifest,
            queue: Vec::new(),
            wanted: Vec::new(),
            sync: None,
            snapshot: None,
            wants_durable: false,
            served,
            stands_down: false,
            pace: WorkerPace::new(&self.settings.writer.counters, now),
            fetches: LeaderFetches::default(),
        }));
        Ok(())
    }

    /// The nodes that a MANIFEST tells of, and the settings name.
    pub fn known_by(&self, manifest: &Manifest) -> Vec<Place> {
        let ManifestState { replicas, leader_url, .. } = &manifest.state;
        let is_known = |url: &String| replicas.contains(url) || leader_url.as_ref() == Some(url);
        (0..PLACES).filter(|&place| self.settings.configured || is_known(&url_of(place))).collect()
    }

    pub fn new_identity(&mut self) -> DatabaseIdentity {
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        DatabaseIdentity {
            database_id: u128::from(high) << 64 | u128::from(low),
            shard_id: 0,
            analyzer: Analyzer::Whitespace,
            hash_seed: self.random.next_u64(),
        }
    }

    /// The Writer takes what is in the queue; the model says what must become of it.
    pub fn write(&mut self, at: Place) -> Result<(), String> {
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        let submissions = std::mem::take(&mut leader.queue);
        if submissions.is_empty() {
            return Ok(());
        }
        let (now_ms, now, met) = (self.now_ms, self.monotonic(at), self.nodes[at].machine.lock().met);
        let logged = self.nodes[at].logged.expect("it leads");
        let leader = self.nodes[at].leading_mut().expect("it is there");
        let before = leader.position();
        let epoch = leader.manifest.state.epoch;
        let position = Position::new(epoch, before.sequence + 1);
        let refused = match (leader.writer.is_poisoned(), leader.stands_down) {
            (true, _) => Some(WriteError::Poisoned),
            (_, true) => Some(WriteError::SteppedDown),
            _ => None,
        };
        let keeps_files = leader.keeps_files();
        let alone = (!leader.may_ack(false), !leader.may_ack(true));
        let (mut batches, mut refused_at_once) = (Vec::new(), Vec::new());
        for WriteSubmission { batch, reply, level } in &submissions {
            let attempt = self.attempts.get_mut(reply).expect("it is under way");
            (attempt.since_ms, attempt.alone) = (now_ms, alone);
            if *level == Some(AckLevel::ReplicaDisk) && !keeps_files {
                refused_at_once.push(*reply);
            } else {
                batches.push((*reply, batch.clone(), Arc::clone(&self.clients.wishes[attempt.wish].entries)));
            }
        }
        let mut actions = Vec::new();
        leader.writer.write(submissions, now, &mut actions);
        let sent: Vec<_> = batches.iter().map(|(id, batch, entries)| Sent { id: *id, batch, entries }).collect();
        // It was found full a moment ago.
        let full = |action: &WriterAction<usize>| matches!(action, WriterAction::Answer(id, Err(WriteError::DiskFull)) if *id == sent[0].id);
        let found_full = !sent.is_empty() && actions.iter().any(full);
        let refusal = refused.clone().or(found_full.then_some(WriteError::DiskFull));
        let before = self.before(position, logged.read(now).as_ms(), refusal);
        let taken = Records::of(&sent, &before, &actions)?;
        let leader = self.nodes[at].leading_mut().expect("it has just written");
        leader.wanted.extend(actions);
        self.note_events();
        let machine = self.nodes[at].machine.lock();
        let (crashed, met_a_fault) = (machine.crashed(), machine.met > met);
        drop(machine);
        self.remembers_for_their_age(epoch, &taken)?;
        self.happens(taken, (crashed, met_a_fault))?;
        if crashed {
            return Ok(());
        }
        for id in refused_at_once.into_iter().filter(|_| refused.is_none()) {
            let attempt = self.attempts.get_mut(&id).expect("it is under way");
            attempt.expected = Some(Err(WriteError::NoReplicaKeepsFiles));
        }
        // Now and then the thread comes to it later: a record is applied and not in the feed yet.
        if self.random.percent(85) { self.carry_out(at) } else { Ok(()) }
    }

    /// What is known before a Writer makes records.
    fn before(&self, position: Position, time_ms: u64, refusal: Option<WriteError>) -> Before<'_> {
        let (limits, counters) = (&self.settings.window, &self.settings.writer.counters);
        let entry_bytes = self.settings.writer.admission.entry_bytes;
        let hash_seed = self.database.expect("somebody leads").hash_seed;
        let state = self.truth.state(position.epoch);
        Before { state, position, time_ms, limits, entry_bytes, counters, hash_seed, refusal }
    }

    /// Keys that were remembered are no older than they may be.
    fn remembers_for_their_age(&self, epoch: Epoch, taken: &Records) -> Result<(), String> {
        let verdicts = taken.records.iter().flat_map(|record| &record.verdicts);
        for (_, verdict) in verdicts {
            if let Verdict::Repeat(done) = verdict
                && done.number == 0
            {
                self.truth.may_remember(epoch, done.position.sequence, self.now_ms)?;
            }
        }
        Ok(())
    }

    /// What a Writer has made of batches is part of history, and what their clients must be told.
    fn happens(&mut self, taken: Records, (crashed, met_a_fault): (bool, bool)) -> Result<(), String> {
        if taken.look(met_a_fault)? {
            self.tally("large batches in bulk");
        }
        for record in taken.records {
            let (told, counts) = (record.told(), record.counted().map(|id| self.attempts[&id].wish).collect());
            let Record { position, state, verdicts, became, expired, evicts, is_work, .. } = record;
            let entry = Entry { position, state, counts, when: self.truth.moment(position.epoch, self.now_ms) };
            match became {
                Became::Written => {
                    self.tally("records");
                    if expired > 0 {
                        self.tally("records of entries that expired");
                    }
                    if is_work {
                        self.tally("records of the workers of counters");
                    }
                    if evicts {
                        self.tally("entries evicted");
                    }
                    self.truth.happened(entry)?;
                }
                Became::Failed => self.truth.may_have_happened(entry),
                Became::Nothing => {}
            }
            for (id, verdict) in verdicts.into_iter().filter(|_| !crashed) {
                let attempt = self.attempts.get_mut(&id).expect("it is under way");
                let expected = answer_to(&self.clients.wishes[attempt.wish], &verdict, told);
                // What was in the group of an append that failed may count or not.
                attempt.expected = (became != Became::Failed || expected.is_err()).then_some(expected);
            }
        }
        Ok(())
    }

    /// The Writer's thread does what the Writer wants done.
    pub fn carry_out(&mut self, at: Place) -> Result<(), String> {
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        for action in std::mem::take(&mut leader.wanted) {
            let leader = self.nodes[at].leading_mut().expect("it has just acted");
            match action {
                WriterAction::Answer(id, answer) => self.answered(at, id, &answer)?,
                WriterAction::Published(position, record) => leader.feed.push(position.sequence, record),
                WriterAction::Sidelined(_) => self.tally("increments set aside"),
                WriterAction::Clamped(_) | WriterAction::QueuesChanged(_) => {}
                WriterAction::WantDurable(wanted) => leader.wants_durable = wanted,
                WriterAction::Sync(sync) => {
                    if leader.sync.replace((sync, None)).is_some() {
                        return Err("a second sync was asked for while one is under way".into());
                    }
                }
                WriterAction::Snapshot(mark, place) => {
                    let (disk, identity) = (Arc::clone(&leader.disk), leader.manifest.identity);
                    match SnapshotJob::start(disk, identity, leader.reader.clone(), mark, place) {
                        Ok(job) => leader.snapshot = Some(job),
                        Err(error) => leader.writer.snapshot_ended(&Err(error), 1),
                    }
                }
                WriterAction::CheckFiles(check) => {
                    leader.writer.files_checked(&check, &check.run(), &mut leader.wanted);
                }
                WriterAction::FilesLost(what) => return Err(format!("files are missed that nobody took away: {what}")),
                WriterAction::Poisoned(what) => {
                    self.note(format_args!("leader {at} is poisoned: {what}"));
                    self.tally("poisoned logs");
                }
            }
        }
        Ok(())
    }

    /// The leader's sync that is under way runs, or its end is told.
    pub fn sync_leader(&mut self, at: Place) -> Result<(), String> {
        self.carry_out(at)?;
        let now = self.monotonic(at);
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        match leader.sync.take() {
            None => Ok(()),
            Some((sync, None)) => {
                let result = sync.run();
                leader.sync = Some((sync, Some(result)));
                Ok(())
            }
            Some((sync, Some(result))) => {
                if result.is_ok() {
                    leader.synced_upto = sync.upto;
                }
                leader.writer.synced(&sync, result, now, &mut leader.wanted);
                self.carry_out(at)
            }
        }
    }

    /// The leader's snapshot takes a step.
    pub fn snapshot_leader(&mut self, at: Place) -> Result<(), String> {
        let machine = Arc::clone(&self.nodes[at].machine);
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        let Some(job) = &mut leader.snapshot else { return Ok(()) };
        let met = machine.lock().met;
        let result = match job.step() {
            Ok(JobStep::More) => return Ok(()),
            Ok(JobStep::Done(published)) => Ok(published),
            Err(_) if machine.lock().crashed() => return Ok(()),
            Err(error) => Err(error),
        };
        leader.snapshot = None;
        leader.writer.snapshot_ended(&result, 5);
        let stands_down = leader.stands_down; // its log may have ended before its time
        match result {
            Ok(_) => self.tally("snapshots of the leader"),
            Err(_) if machine.lock().met > met || stands_down => {}
            Err(error) => return Err(format!("a snapshot of the leader failed without a fault: {error}")),
        }
        Ok(())
    }

    /// Time has passed: all that is due is taken out, and nothing else.
    pub fn tick_leader(&mut self, at: Place) -> Result<(), String> {
        let (now, met) = (self.monotonic(at), self.nodes[at].machine.lock().met);
        let logged = self.nodes[at].logged;
        let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
        let position = Position::new(leader.manifest.state.epoch, leader.position().sequence + 1);
        let refusal = if leader.writer.is_poisoned() {
            Some(WriteError::Poisoned)
        } else if leader.stands_down {
            Some(WriteError::SteppedDown)
        } else {
            let pauses = leader.writer.disk_full_left_ms(now) > 0 || leader.writer.pauses_expiry(now);
            pauses.then_some(WriteError::DiskFull)
        };
        let (mut actions, time_ms) = (Vec::new(), logged.expect("it leads").read(now).as_ms());
        let credit = leader.pace.available(now);
        leader.writer.tick(now, &mut actions);
        let taken = Records::of_tick(&self.before(position, time_ms, refusal), credit, &actions)?;
        let leader = self.nodes[at].leading_mut().expect("it has just ticked");
        leader.pace.spend(taken.worked, now);
        leader.wanted.extend(actions);
        self.note_events();
        let machine = self.nodes[at].machine.lock();
        let (crashed, met_a_fault) = (machine.crashed(), machine.met > met);
        drop(machine);
        self.happens(taken, (crashed, met_a_fault))?;
        if crashed { Ok(()) } else { self.carry_out(at) }
    }

    /// A graceful stop.
    pub fn stop_leader(&mut self, at: Place) -> Result<(), String> {
        self.write(at)?;
        for round in 0.. {
            if self.nodes[at].machine.lock().crashed() {
                return Ok(());
            }
            self.carry_out(at)?;
            self.now_ms += 10;
            if self.nodes[at].machine.lock().crashed() {
                return Ok(());
            }
            let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
            if leader.writer.is_at_rest() {
                break;
            }
            if round > 5_000 {
                return Err("the leader does not come to rest".into());
            }
            self.tick_leader(at)?;
            let Some(leader) = self.nodes[at].leading_mut() else { return Ok(()) };
            leader.writer.start_sync(&mut leader.wanted);
            self.sync_leader(at)?;
            self.snapshot_leader(at)?;
            for seat in 0..PLACES {
                self.poll(at, seat)?;
            }
            self.deliver(3)?;
        }
        let Process::Leads(leading) = std::mem::replace(&mut self.nodes[at].process, Process::None) else {
            return Ok(());
        };
        let position = leading.position();
        let Leading { writer, manifest, disk, .. } = *leading;
        let poisoned = writer.is_poisoned();
        if !poisoned && close(writer, manifest, &disk).is_ok() {
            self.nodes[at].promises(position);
            self.tally("clean stops");
            self.note(format_args!("leader {at} has stopped cleanly"));
        }
        self.note_events();
        if !self.nodes[at].machine.lock().crashed() {
            ended(self, at);
            let node = &mut self.nodes[at];
            node.logged = None;
            node.machine.lock().kill();
            node.killed_at = Some(position);
        }
        Ok(())
    }
}

pub fn url_of(at: Place) -> String {
    format!("node {at}")
}

pub fn place_of(url: &str) -> Option<Place> {
    url.strip_prefix("node ")?.parse().ok()
}
