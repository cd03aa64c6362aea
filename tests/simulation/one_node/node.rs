//! The process: starts by recovery, drives the real Writer, syncs and takes snapshots a piece at a time, stops.
//!
//! What a thread does in a node, a step does here; between any two steps anything else may happen.

use super::{answers::name_of, simulation::Simulation};
use crate::{
    client::Wish,
    disk::SimDisk,
    model::{QueueWork, Verdict, answer_to, is_as_expected},
    plant::Bug,
    records::{Became, Before, Record, Records, Sent},
};
use memdb::{
    base::clock::{LoggedClock, Monotonic},
    base::hash::{WordHasher, fingerprint},
    base::position::{Position, Sequence},
    data::command::WriteBatch,
    data::counters::WorkerPace,
    data::counts::word_counts::WordCounts,
    data::store::{NamespaceScan, StoreReader},
    engine::leader::{AckLevel, WriteError, WriteReceipt, WriteSubmission, Writer, WriterAction, close},
    storage::disk::Disk,
    storage::file_header::{DatabaseIdentity, FileError},
    storage::manifest::Manifest,
    storage::recovery::{self, NodeRun, RecoveredDatabase, RecoveryError, WritableDatabase},
    storage::snapshot::{JobStep, SnapshotJob},
    storage::wal,
    text::tokenizer::Analyzer,
};
use std::{io, sync::Arc};

/// As often a start that finds no room tries again; an armed fault lasts for fewer operations.
const MOST_ATTEMPTS: usize = 8;

/// A running process.
pub struct Node {
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    writer: Writer<usize>,
    pub reader: StoreReader,
    hasher: WordHasher,
    queue: Vec<WriteSubmission<usize>>,
    sync: Option<Syncing>,
    snapshot: Option<SnapshotJob>,
    synced_upto: Sequence,
    full_until: Monotonic,
    /// What records are stamped with.
    logged: LoggedClock,
    /// How many increments the workers may add.
    pace: WorkerPace,
    /// A walk that goes on over several looks: namespace, and the sequence at which it began.
    pub walk: Option<(&'static str, Sequence, NamespaceScan)>,
}

/// A sync that is under way.
struct Syncing {
    sync: wal::SyncJob,
    /// The disk takes until then, in true time.
    until_ms: u64,
    result: Option<io::Result<()>>,
}

impl Node {
    /// Puts a wish into the queue of the Writer.
    pub fn queue(&mut self, wish: &Wish, id: usize, again: bool, bug: Option<Bug>) {
        let mut batch = wish.batch(self.hasher);
        if bug == Some(Bug::DropsKeysOfRepeats) && again {
            batch.key = None;
        }
        if bug == Some(Bug::CountsInPart) && id.is_multiple_of(7) && batch.counts.len() > 1 {
            let mut part = WordCounts::new(self.hasher);
            for counted in batch.counts.iter().skip(1) {
                part.set_hashed(counted.hash, counted.word, counted.amount);
            }
            batch.counts = part;
        }
        self.queue.push(WriteSubmission { batch, level: wish.level, reply: id });
    }

    fn position(&self) -> Position {
        self.writer.store().mark().position
    }

    /// Where the next record is written.
    fn next_position(&self) -> Position {
        Position::new(self.manifest.state.epoch, self.position().sequence + 1)
    }
}

impl Simulation {
    /// Starts the process, as far as the faults let it.
    pub fn start(&mut self) -> Result<(), String> {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(&self.machine));
        let met = self.machine.lock().met;
        let new = self.new_identity();
        let looked = recovery::look(&*disk, new, self.settings.window);
        self.note_events();
        if self.database.is_none() && looked.as_ref().is_ok_and(|recovered| recovered.new) && self.was_emptied {
            self.tally("new databases on an emptied disk");
        }
        let recovered = match looked {
            Ok(recovered) => recovered,
            Err(error) => return self.did_not_start(&error, met),
        };
        let report = &recovered.report;
        self.history.note(format_args!("looked: {report}"));
        if report.cut.is_some() {
            self.tally("cuts of the log");
        }
        if let Some(database) = &self.database
            && (recovered.new || recovered.manifest.identity != *database)
        {
            return Err("it began a new database over the old one".into());
        }
        let (reader, end) = (recovered.store.reader(), recovered.store.mark().position.sequence);
        let cut = recovered.report.cut.is_some() || !recovered.report.passed_over.is_empty();
        let outcome = self.truth.recovered(&reader, end, cut)?;
        self.history.note(format_args!("recovered to {end}: {outcome}"));
        self.tally(outcome);
        let settled = self.settle(recovered, &disk);
        self.note_events();
        let settled = match settled {
            Ok(settled) => settled,
            Err(error) => return self.did_not_start(&error, met),
        };
        self.database = Some(settled.manifest.identity);
        let state = &settled.manifest.state;
        self.truth.began(state.epoch, &state.epochs)?;
        self.truth.remembers(&settled.store.reader());
        self.history.note(format_args!("epoch {} begins", state.epoch));
        self.started_ms = self.now_ms - self.random.below(1_000) as u64;
        let (now, last) = (self.monotonic(), settled.store.time_ms());
        let logged = LoggedClock::of_a_leader(None, last, self.wall(), now);
        self.truth.starts(self.now_ms);
        let writer = Writer::new(settled.store, settled.log, self.settings.writer, settled.snapshot, logged, now);
        self.node = Some(Node {
            reader: writer.store().reader(),
            hasher: writer.store().hasher(),
            synced_upto: writer.store().mark().position.sequence,
            writer,
            disk,
            manifest: settled.manifest,
            queue: Vec::new(),
            sync: None,
            snapshot: None,
            full_until: Monotonic::default(),
            logged,
            pace: WorkerPace::new(&self.settings.writer.counters, now),
            walk: None,
        });
        Ok(())
    }

    /// Begins the epoch. Where there is no room, what was read stays good, and it is tried again; in the end it is
    /// given up.
    fn settle(
        &mut self,
        mut recovered: RecoveredDatabase,
        disk: &Arc<dyn Disk>,
    ) -> Result<WritableDatabase, RecoveryError> {
        // Not drawn from the seed: a history stays the same whatever a start needs numbers for.
        let random = Some(fingerprint(&[&self.now_ms.to_le_bytes()]) as u64 | 1);
        let mut run = NodeRun { name: "n-0".into(), boot_id: "boot".into(), random };
        let mut begun = recovered.begin(disk, &mut run, self.settings.segment_bytes);
        for _ in 0..MOST_ATTEMPTS {
            if !begun.as_ref().is_err_and(RecoveryError::is_no_room) || !recovered.is_current(&**disk)? {
                break;
            }
            self.tally("starts that tried again for want of room");
            begun = recovered.begin(disk, &mut run, self.settings.segment_bytes);
        }
        Ok(recovered.into_settled(begun?))
    }

    fn new_identity(&mut self) -> DatabaseIdentity {
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        DatabaseIdentity {
            database_id: u128::from(high) << 64 | u128::from(low),
            shard_id: 0,
            analyzer: Analyzer::Whitespace,
            hash_seed: self.random.next_u64(),
        }
    }

    /// A start may fail for a fault that was met just now, or for a flipped bit; and it names what is wrong.
    fn did_not_start(&mut self, error: &RecoveryError, met: usize) -> Result<(), String> {
        self.history.note(format_args!("did not start: {error}"));
        let machine = self.machine.lock();
        if machine.crashed() {
            return Ok(());
        }
        let fault_met = machine.met > met && matches!(error, RecoveryError::File(FileError::Io { .. }));
        drop(machine);
        if fault_met {
            self.tally("starts that met a fault");
            self.machine.lock().kill();
            return Ok(());
        }
        if self.truth.misfortunes.damaged() {
            self.tally("refusals after damage");
            self.refused = true;
            return Ok(());
        }
        Err(format!("it refused to start: {error}"))
    }

    /// The Writer takes what is in the queue; the model says what must become of it.
    pub fn write(&mut self) -> Result<(), String> {
        let Some(node) = &mut self.node else { return Ok(()) };
        let mut submissions = std::mem::take(&mut node.queue);
        if submissions.is_empty() {
            return Ok(());
        }
        let position = node.next_position();
        let (now, refusal) = (self.monotonic(), self.refusal());
        let wished = |sent: &WriteSubmission<usize>| {
            let wish = &self.clients.wishes[self.attempts[&sent.reply].wish];
            (sent.reply, self.as_wished(sent.reply, &sent.batch), Arc::clone(&wish.entries))
        };
        let batches: Vec<_> = submissions.iter().map(wished).collect();
        if self.bug == Some(Bug::MixesUpAnswers) && submissions.len() > 1 {
            let (first, rest) = submissions.split_at_mut(1);
            std::mem::swap(&mut first[0].batch, &mut rest[0].batch);
        }
        let (met, mut actions) = (self.machine.lock().met, Vec::new());
        let node = self.node.as_mut().expect("it was there");
        let bytes = node.writer.store().bytes();
        node.writer.write(submissions, now, &mut actions);
        let grown_to = Some(node.writer.store().bytes()).filter(|&grown_to| grown_to > bytes);
        let time_ms = node.logged.read(now).as_ms();
        let before = self.before(position, time_ms, refusal);
        let sent: Vec<_> = batches.iter().map(|(id, batch, entries)| Sent { id: *id, batch, entries }).collect();
        let taken = Records::of(&sent, &before, &actions)?;
        self.note_events();
        let machine = self.machine.lock();
        let (crashed, met_a_fault) = (machine.crashed(), machine.met > met);
        drop(machine);
        if grown_to.is_some_and(|bytes| bytes > self.settings.writer.admission.memory_bytes) {
            return Err(format!("{grown_to:?} bytes are taken by what was admitted: more than may be"));
        }
        if grown_to.is_some() && self.settings.writer.admission.memory_bytes < usize::MAX {
            self.tally("words that found memory, of little");
        }
        self.remembers_for_their_age(&taken)?;
        self.happens(taken, (crashed, met_a_fault))?;
        if crashed {
            return Ok(());
        }
        self.carry_out(actions)?;
        match sent.iter().find(|sent| self.is_overdue(sent.id)) {
            Some(Sent { id, .. }) => Err(format!("attempt {id} was not answered and waits for nothing")),
            None => Ok(()),
        }
    }

    /// What is known before the Writer makes records.
    fn before(&self, position: Position, time_ms: u64, refusal: Option<WriteError>) -> Before<'_> {
        let (limits, counters) = (&self.settings.window, &self.settings.writer.counters);
        let entry_bytes = self.settings.writer.admission.entry_bytes;
        let hash_seed = self.database.expect("it has started").hash_seed;
        Before { state: self.truth.state(), position, time_ms, limits, entry_bytes, counters, hash_seed, refusal }
    }

    /// Why the Writer takes nothing just now.
    fn refusal(&self) -> Option<WriteError> {
        let node = self.node.as_ref().expect("it runs");
        if node.writer.is_poisoned() {
            return Some(WriteError::Poisoned);
        }
        (self.monotonic() < node.full_until).then_some(WriteError::DiskFull)
    }

    /// What the Writer has made of batches is part of history, and what their clients must be told.
    fn happens(&mut self, taken: Records, (crashed, met_a_fault): (bool, bool)) -> Result<(), String> {
        let node = self.node.as_ref().expect("it has just written");
        let states_synced = node.synced_upto;
        let syncs_slowly = node.sync.as_ref().is_some_and(|syncing| syncing.until_ms > self.now_ms);
        if taken.records.iter().filter(|record| record.became == Became::Written).count() > 1 {
            self.tally("several records at once");
        }
        if taken.look(met_a_fault)? {
            self.tally("large batches in bulk");
        }
        for record in taken.records {
            let (told, counts) = (record.told(), record.counted().map(|id| self.attempts[&id].wish).collect());
            let Record { position, state, verdicts, became, expired, evicts, is_work, .. } = record;
            let entry = self.truth.entry(position, state, counts, states_synced, self.now_ms);
            match became {
                Became::Written => {
                    self.tally("records");
                    self.tally_entries(expired, evicts);
                    if is_work {
                        self.tally("records of the workers of counters");
                    }
                    if syncs_slowly {
                        self.tally("records during a slow sync");
                    }
                    self.truth.happened(entry)?;
                }
                Became::Failed => self.truth.may_have_happened(entry),
                Became::Nothing => {}
            }
            match became {
                _ if crashed => {}
                Became::Failed => self.append_failed(&verdicts),
                _ => self.expect(&verdicts, |wish, verdict| answer_to(wish, verdict, told)),
            }
        }
        for (id, refusal) in taken.refused.into_iter().filter(|_| !crashed) {
            self.tally("refusals after a failure");
            self.attempts.get_mut(&id).expect("it is under way").expected = Some(Err(refusal));
        }
        Ok(())
    }

    fn tally_entries(&mut self, expired: usize, evicts: bool) {
        if expired > 0 {
            self.tally("records of entries that expired");
        }
        if evicts {
            self.tally("entries evicted");
        }
    }

    /// Keys that were remembered are no older than they may be.
    fn remembers_for_their_age(&self, taken: &Records) -> Result<(), String> {
        let verdicts = taken.records.iter().flat_map(|record| &record.verdicts);
        for (_, verdict) in verdicts {
            if let Verdict::Repeat(done) = verdict
                && done.number == 0
            {
                self.truth.may_remember(done.position.sequence, self.now_ms)?;
            }
        }
        Ok(())
    }

    /// What the client meant, whatever a planted bug has made of it.
    fn as_wished(&self, id: usize, batch: &WriteBatch) -> WriteBatch {
        match self.bug {
            Some(Bug::DropsKeysOfRepeats | Bug::CountsInPart) => self.clients.wishes[self.attempts[&id].wish]
                .batch(self.node.as_ref().expect("it is about to write").hasher),
            _ => batch.clone(),
        }
    }

    /// Whether an attempt should have been answered by now: only a sync is worth waiting for.
    fn is_overdue(&self, id: usize) -> bool {
        let Some(attempt) = self.attempts.get(&id) else { return false };
        let node = self.node.as_ref().expect("it has just written");
        let waits_for =
            |receipt: &WriteReceipt| attempt.level == AckLevel::Disk && receipt.position.sequence > node.synced_upto;
        !matches!(&attempt.expected, Some(Ok(receipt)) if waits_for(receipt))
    }

    /// Notes what each client must be told.
    fn expect(
        &mut self,
        verdicts: &[(usize, Verdict)],
        answer: impl Fn(&Wish, &Verdict) -> Result<WriteReceipt, WriteError>,
    ) {
        for (id, verdict) in verdicts {
            let attempt = self.attempts.get_mut(id).expect("it is under way");
            let expected = answer(&self.clients.wishes[attempt.wish], verdict);
            let what = name_of(&expected, &self.clients.wishes[attempt.wish]);
            attempt.expected = Some(expected);
            self.tally(what);
        }
    }

    /// What was in the group has an unknown outcome; what was refused before is refused.
    fn append_failed(&mut self, verdicts: &[(usize, Verdict)]) {
        self.tally("appends that failed");
        self.expect(verdicts, |wish, verdict| {
            answer_to(wish, verdict, Position::ZERO).and(Err(WriteError::OutcomeUnknown))
        });
        let (full, now) = (self.machine.lock().was_full, self.monotonic());
        let node = self.node.as_mut().expect("it has just written");
        if full && !node.writer.is_poisoned() {
            node.full_until = now.after_ms(1_000);
            self.tally("full disks");
        }
    }

    fn carry_out(&mut self, actions: Vec<WriterAction<usize>>) -> Result<(), String> {
        for action in actions {
            let node = self.node.as_mut().expect("it has just acted");
            match action {
                WriterAction::Answer(id, answer) => self.answered(id, &answer)?,
                WriterAction::Published(position, _) => {
                    if position > node.position() {
                        return Err(format!("{position} was published, the store is at {}", node.position()));
                    }
                }
                WriterAction::Sync(sync) => {
                    let slow_ms = self.random.between(100, 5_000) as u64;
                    let is_slow = self.random.percent(self.settings.slow_syncs);
                    let until_ms = self.now_ms + if is_slow { slow_ms } else { 0 };
                    if node.sync.replace(Syncing { sync, until_ms, result: None }).is_some() {
                        return Err("a second sync was asked for while one is under way".into());
                    }
                    if is_slow {
                        self.tally("fault: slow sync");
                    }
                }
                WriterAction::Snapshot(mark, place) => {
                    let (disk, identity) = (Arc::clone(&node.disk), node.manifest.identity);
                    match SnapshotJob::start(disk, identity, node.reader.clone(), mark, place) {
                        Ok(job) => node.snapshot = Some(job),
                        Err(error) => node.writer.snapshot_ended(&Err(error), 1),
                    }
                }
                WriterAction::Sidelined(_) => self.tally("increments set aside"),
                WriterAction::Clamped(_) | WriterAction::QueuesChanged(_) => {}
                WriterAction::WantDurable(_) => return Err("a replica was asked for, and there is none".into()),
                WriterAction::CheckFiles(check) => {
                    let mut more = Vec::new();
                    node.writer.files_checked(&check, &check.run(), &mut more);
                    self.carry_out(more)?;
                }
                WriterAction::FilesLost(what) => return Err(format!("files are missed that nobody took away: {what}")),
                WriterAction::Poisoned(what) => {
                    self.history.note(format_args!("poisoned: {what}"));
                    self.tally("poisoned logs");
                }
            }
        }
        Ok(())
    }

    /// A client has its answer.
    fn answered(&mut self, id: usize, answer: &Result<WriteReceipt, WriteError>) -> Result<(), String> {
        self.history.note(format_args!("answer {id}: {answer:?}"));
        let attempt = self.attempts.remove(&id).ok_or_else(|| format!("attempt {id} was answered twice"))?;
        let node = self.node.as_ref().expect("it has just answered");
        let expected = attempt.expected.ok_or_else(|| format!("attempt {id} was answered before it was taken"))?;
        let poisoned = node.writer.is_poisoned() && *answer == Err(WriteError::OutcomeUnknown);
        if !(is_as_expected(answer, &expected) || poisoned && expected.is_ok()) {
            return Err(format!("attempt {id} was answered {answer:?}, and should have been {expected:?}"));
        }
        let wish = &mut self.clients.wishes[attempt.wish];
        wish.open -= 1;
        match answer {
            Ok(receipt) => {
                (wish.acknowledged, wish.unknown) = (true, false);
                if attempt.level == AckLevel::Disk && receipt.position.sequence > node.synced_upto {
                    return Err(format!("attempt {id} was acknowledged as synced before the sync"));
                }
                self.truth.acknowledged(attempt.wish, receipt.position, attempt.level)?;
            }
            Err(WriteError::OutcomeUnknown) => wish.unknown = true,
            Err(error) => self.clients.refused(attempt.wish, error),
        }
        Ok(())
    }

    /// The sync that is under way runs, or its end is told to the Writer.
    pub fn go_on_with_sync(&mut self) -> Result<(), String> {
        let now = self.monotonic();
        let Some(node) = &mut self.node else { return Ok(()) };
        let Some(Syncing { sync, until_ms, result }) = node.sync.take() else { return Ok(()) };
        match result {
            None if self.now_ms < until_ms => node.sync = Some(Syncing { sync, until_ms, result: None }),
            None => {
                let mut result = sync.run();
                if result.is_err() && self.bug == Some(Bug::SwallowsSyncErrors) {
                    result = Ok(());
                }
                node.sync = Some(Syncing { sync, until_ms, result: Some(result) });
            }
            Some(result) => {
                if result.is_ok() {
                    node.synced_upto = sync.upto;
                }
                self.history.note(format_args!("synced up to {}: {result:?}", sync.upto));
                let mut actions = Vec::new();
                node.writer.synced(&sync, result, now, &mut actions);
                return self.carry_out(actions);
            }
        }
        Ok(())
    }

    /// The snapshot that is under way takes a step.
    pub fn go_on_with_snapshot(&mut self) -> Result<(), String> {
        let Some(node) = &mut self.node else { return Ok(()) };
        let Some(job) = &mut node.snapshot else { return Ok(()) };
        let met = self.machine.lock().met;
        let ended = match job.step() {
            Ok(JobStep::More) => return Ok(()),
            Ok(JobStep::Done(published)) => Ok(published),
            Err(_) if self.machine.lock().crashed() => return Ok(()),
            Err(error) => Err(error),
        };
        node.snapshot = None;
        let took_ms = if self.random.percent(5) { 150 } else { 5 };
        node.writer.snapshot_ended(&ended, took_ms);
        match ended {
            Ok(published) => {
                self.history.note(format_args!("snapshot at {}", published.position));
                self.tally("snapshots");
                Ok(())
            }
            Err(error) if self.machine.lock().met > met => {
                self.history.note(format_args!("the snapshot failed: {error}"));
                self.tally("snapshots that failed");
                Ok(())
            }
            Err(error) => Err(format!("a snapshot failed without a fault: {error}")),
        }
    }

    /// Until when the disk takes for the sync that is under way.
    fn slow_until_ms(&self) -> u64 {
        self.node.as_ref().and_then(|node| node.sync.as_ref()).map_or(0, |syncing| syncing.until_ms)
    }

    /// Time has passed: all that is due is taken out, and nothing else.
    pub fn tick(&mut self) -> Result<(), String> {
        let now = self.monotonic();
        let Some(node) = &mut self.node else { return Ok(()) };
        let (position, time_ms) = (node.next_position(), node.logged.read(now).as_ms());
        let (wakes, credit) = (node.writer.next_tick(), node.pace.available(now));
        let (met, mut actions) = (self.machine.lock().met, Vec::new());
        let pause = node.writer.pauses_expiry(now).then_some(WriteError::DiskFull);
        let before = self.before(position, time_ms, self.refusal().or(pause));
        let work = QueueWork { limits: before.counters, now_ms: time_ms, credit };
        let is_due = before.refusal.is_none()
            && (before.state.has_due_entries(time_ms, before.entry_bytes) || before.state.has_work(&work));
        if is_due && wakes.is_none_or(|at| at > now) {
            return Err(format!("something is due, and the Writer sleeps until {wakes:?}"));
        }
        let refusal = before.refusal;
        self.node.as_mut().expect("it runs").writer.tick(now, &mut actions);
        let taken = Records::of_tick(&self.before(position, time_ms, refusal), credit, &actions)?;
        self.node.as_mut().expect("it runs").pace.spend(taken.worked, now);
        self.note_events();
        let machine = self.machine.lock();
        let (crashed, met_a_fault) = (machine.crashed(), machine.met > met);
        drop(machine);
        self.happens(taken, (crashed, met_a_fault))?;
        if crashed { Ok(()) } else { self.carry_out(actions) }
    }

    /// A graceful stop: drain, sync, snapshot, MANIFEST.
    pub fn stop(&mut self) -> Result<(), String> {
        self.write()?;
        let claims = self.bug == Some(Bug::ClaimsACleanStop);
        while !self.machine.lock().crashed() {
            let Some(node) = &mut self.node else { return Ok(()) };
            if node.writer.is_at_rest() || claims {
                break;
            }
            let mut actions = Vec::new();
            node.writer.start_sync(&mut actions);
            self.carry_out(actions)?;
            self.now_ms = self.slow_until_ms().max(self.now_ms);
            self.go_on_with_sync()?;
            self.go_on_with_snapshot()?;
        }
        let Some(node) = &mut self.node else { return Ok(()) };
        if self.machine.lock().crashed() {
            return Ok(());
        }
        if claims {
            node.manifest.state.clean_stop = Some(node.position());
        }
        if !node.writer.is_poisoned() || claims {
            let Node { writer, mut manifest, disk, .. } = self.node.take().expect("it was there");
            let closed = if claims { manifest.write(&*disk) } else { close(writer, manifest, &disk).map(drop) };
            match closed {
                Ok(()) => {
                    self.truth.stopped_cleanly();
                    self.tally("clean stops");
                    self.history.note(format_args!("stopped cleanly"));
                }
                Err(error) => self.history.note(format_args!("did not stop cleanly: {error}")),
            }
        }
        if !self.machine.lock().crashed() {
            self.process_ended();
            self.machine.lock().kill();
        }
        Ok(())
    }
}
