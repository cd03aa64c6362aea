//! The Writer: the one place where writes happen, in one order.
//!
//! A state machine without threads or clocks. Its owner gives it what has come, with the time, and carries out the
//! [`WriterAction`]s it gives back. Appending is the one thing it does itself, because nothing may come between append
//! and apply. Syncs and snapshots are handed out and reported back, so the Writer never waits for them.

use super::{
    AckLevel, WriteError, WriteReceipt,
    commit_group::{AdmissionLimits, CommitGroup},
    pending_acks::{DueAnswer as Answered, PendingAcks},
};
use crate::{
    base::clock::{LoggedClock, LoggedTime, Monotonic},
    base::failpoint::{self, inject},
    base::limits,
    base::position::{Position, Sequence},
    data::counts::word_counts::WriteBatch,
    data::record::Record,
    data::store::{StateId, Store},
    replication::{PeerEvent, PeerIndex},
    storage::file_header::FileError,
    storage::manifest::Manifest,
    storage::recovery::{OpenFiles, RecoveredDatabase},
    storage::snapshot::{DueWork, PublishedSnapshot, SnapshotSchedule, SnapshotSettings},
    storage::wal::{AppendError, CheckSchedule, FileCheck, FileCheckResult, LiveLogOffset, Log, SyncJob},
};
use bytes::Bytes;
use std::io;

/// Time for which writes are refused after the disk was found full, before the next is tried, in milliseconds.
const DISK_FULL_PAUSE_MS: u64 = 1_000;

/// A batch with the level it is acknowledged at and where the answer goes.
pub struct WriteSubmission<T> {
    /// The words to count.
    pub batch: WriteBatch,
    /// The level at which it is acknowledged; `None`: as the settings say.
    pub level: Option<AckLevel>,
    /// The recipient of the answer.
    pub reply: T,
}

/// An effect that the Writer's owner carries out.
pub enum WriterAction<T> {
    /// Give an answer.
    Answer(T, Result<WriteReceipt, WriteError>),
    /// Tell readers who wait that this position can be seen, and replicas that this is its record.
    Published(Position, Bytes),
    /// Sync, and report to [`Writer::synced`].
    Sync(SyncJob),
    /// There is now a write that waits for a replica's sync, or none any more.
    WantDurable(bool),
    /// Take a snapshot from here on, and report to [`Writer::snapshot_ended`].
    Snapshot(StateId, LiveLogOffset),
    /// No write will succeed until a restart: this happened.
    Poisoned(String),
    /// Look whether the files are still there, and report to [`Writer::files_checked`].
    CheckFiles(FileCheck),
    /// Files were taken away: the counts are in memory alone, and no write will succeed. This is gone.
    FilesLost(String),
}

/// The rules by which the Writer acknowledges and admits.
#[derive(Clone, Copy, Debug)]
pub struct WriterSettings {
    /// The level of a write that names none.
    pub ack: AckLevel,
    /// True if every write is synced before its answer, whatever its level.
    pub synced: bool,
    /// Time that an answer waits for replicas, in milliseconds.
    pub ack_timeout_ms: u64,
    /// Bounds of what is admitted.
    pub admission: AdmissionLimits,
    /// The intervals of snapshots.
    pub snapshot: SnapshotSettings,
}

impl WriterSettings {
    /// The level a write that names none is acknowledged at.
    pub fn default_ack(&self) -> AckLevel {
        self.effective(self.ack)
    }

    fn effective(&self, level: AckLevel) -> AckLevel {
        if self.synced { level.synced() } else { level }
    }
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            ack: AckLevel::Leader,
            synced: false,
            ack_timeout_ms: limits::EXCHANGE_TIMEOUT_MS,
            admission: AdmissionLimits::default(),
            snapshot: SnapshotSettings::default(),
        }
    }
}

/// Logs, applies and acknowledges.
pub struct Writer<T> {
    settings: WriterSettings,
    store: Store,
    log: Log,
    group: CommitGroup,
    /// Batches of the group, with their answers.
    members: Vec<(T, (AckLevel, bool), WriteReceipt)>,
    waiting: PendingAcks<T>,
    /// Answers that are due, on their way out.
    due: Vec<Answered<T>>,
    wants_durable: bool,
    syncing: bool,
    schedule: SnapshotSchedule,
    snapshot_running: bool,
    poisoned: bool,
    file_checks: CheckSchedule,
    files_lost: bool,
    /// Another leader has a later epoch.
    stepped_down: bool,
    disk_full_until: Monotonic,
    /// The clock that records are stamped with.
    clock: LoggedClock,
}

impl<T> Writer<T> {
    /// A Writer over what recovery has settled. `snapshot` is the sequence the newest snapshot is a state at, `clock`
    /// what records are stamped with from `now` on.
    ///
    /// # Panics
    /// If the clock reads less than what is logged already.
    pub fn new(
        store: Store,
        log: Log,
        settings: WriterSettings,
        snapshot: Sequence,
        clock: LoggedClock,
        now: Monotonic,
    ) -> Self {
        assert!(clock.read(now) >= store.time_ms(), "logged time never goes back");
        Self {
            settings,
            group: CommitGroup::new(store.hasher()),
            schedule: SnapshotSchedule::new(settings.snapshot, snapshot, now),
            store,
            log,
            members: Vec::new(),
            waiting: PendingAcks::new(settings.ack_timeout_ms),
            due: Vec::new(),
            wants_durable: false,
            stepped_down: false,
            syncing: false,
            snapshot_running: false,
            poisoned: false,
            file_checks: CheckSchedule::new(now),
            files_lost: false,
            disk_full_until: now,
            clock,
        }
    }

    /// Goes on with a schedule of snapshots that the role before has counted on.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Option<SnapshotSchedule>) -> Self {
        self.schedule = schedule.unwrap_or(self.schedule);
        self
    }

    /// Takes batches in the order they came; each record of the log takes as many as fit.
    pub fn write(
        &mut self,
        batches: impl IntoIterator<Item = WriteSubmission<T>>,
        now: Monotonic,
        actions: &mut Vec<WriterAction<T>>,
    ) {
        let time_ms = self.clock.read(now);
        self.group.start(self.log.next(), time_ms, &self.store);
        for WriteSubmission { mut batch, level, reply } in batches {
            // Asked for each batch, since the record before it may have failed.
            if let Some(error) = self.refusal(now) {
                actions.push(WriterAction::Answer(reply, Err(error)));
                continue;
            }
            let strict = level.is_some();
            let level = self.settings.effective(level.unwrap_or(self.settings.ack));
            // Before the batch is admitted: a level that cannot be had must not leave a write behind that counts.
            if strict && level == AckLevel::ReplicaDisk && !self.waiting.progress.keeps_files() {
                actions.push(WriterAction::Answer(reply, Err(WriteError::NoReplicaKeepsFiles)));
                continue;
            }
            if CommitGroup::wants_alone(&batch) && !self.group.is_empty() {
                self.commit(time_ms, now, actions);
                self.group.start(self.log.next(), time_ms, &self.store);
                // Nothing is appended behind what may be there in part.
                if let Some(error) = self.refusal(now) {
                    actions.push(WriterAction::Answer(reply, Err(error)));
                    continue;
                }
            }
            match self.group.admit(&self.store, &self.settings.admission, &mut batch) {
                // A repeat too: what it repeats may still be in this group, and it is not answered before that.
                Ok(receipt) => self.members.push((reply, (level, strict), receipt)),
                Err(error) => actions.push(WriterAction::Answer(reply, Err(error))),
            }
            if self.group.is_full() {
                self.commit(time_ms, now, actions);
                self.group.start(self.log.next(), time_ms, &self.store);
            }
        }
        self.commit(time_ms, now, actions);
        self.answer_due(now, actions);
    }

    /// Takes what an exchange with a replica has shown.
    pub fn on_peer_event(
        &mut self,
        peer: PeerIndex,
        told: &PeerEvent,
        now: Monotonic,
        actions: &mut Vec<WriterAction<T>>,
    ) {
        match told {
            PeerEvent::Progress(standing) => self.waiting.progress.update(peer, *standing),
            PeerEvent::Lost => self.waiting.progress.lost(peer),
            PeerEvent::Gone => self.waiting.progress.gone(peer),
            PeerEvent::StepDown(_) => self.step_down(actions),
            PeerEvent::Alarm(_) => {}
        }
        self.answer_due(now, actions);
    }

    /// Another leads in a later epoch, or is about to: nothing is appended any more. What waits for its level counts if
    /// that leader has it, which is not known here.
    pub fn step_down(&mut self, actions: &mut Vec<WriterAction<T>>) {
        inject!(LeadsOnAfterItsPromise, return);
        self.stepped_down = true;
        self.release_all(actions);
    }

    /// Nobody waits any longer: what becomes of what they have sent is not known.
    fn release_all(&mut self, actions: &mut Vec<WriterAction<T>>) {
        let unknown = |reply| WriterAction::Answer(reply, Err(WriteError::OutcomeUnknown));
        actions.extend(self.waiting.take_all().map(unknown));
    }

    /// A sync that was asked for has ended.
    pub fn synced(
        &mut self,
        sync: &SyncJob,
        result: io::Result<()>,
        now: Monotonic,
        actions: &mut Vec<WriterAction<T>>,
    ) {
        self.syncing = false;
        if let Err(error) = result {
            // It is never tried again: the kernel may have dropped the pages that it could not write, and a second sync
            // would succeed without them.
            self.disk_failed("a sync of the log failed", &error, actions);
            return;
        }
        self.log.synced(sync);
        self.answer_due(now, actions);
    }

    /// A snapshot that was asked for has ended, after `took_ms`.
    pub fn snapshot_ended(&mut self, result: &Result<PublishedSnapshot, FileError>, took_ms: u64) {
        self.snapshot_running = false;
        self.schedule.ended(result, took_ms);
        if result.is_err() {
            // It may have failed because the files are gone, which decides what is said to clients.
            self.file_checks.hurry();
        }
    }

    /// A look at the files that was asked for has ended.
    pub fn files_checked(&mut self, check: &FileCheck, found: &FileCheckResult, actions: &mut Vec<WriterAction<T>>) {
        self.file_checks.ended();
        if let Some(gone) = self.log.checked(check, found).filter(|_| !self.poisoned) {
            self.lose_files(gone, actions);
        }
    }

    /// Time has passed: makes the backup current if it is due.
    pub fn tick(&mut self, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        if self.poisoned {
            return;
        }
        self.answer_due(now, actions);
        if self.file_checks.due(now) {
            actions.push(WriterAction::CheckFiles(self.log.check()));
        }
        match self.schedule.due(now, self.log.sequence(), self.snapshot_running) {
            DueWork::Nothing => {}
            DueWork::Sync => self.start_sync(actions),
            DueWork::Snapshot => {
                // The log is synced too: until the snapshot is published, it is the backup.
                self.start_sync(actions);
                self.start_snapshot(actions);
            }
        }
    }

    /// Asks for a snapshot of what is there now, due or not.
    pub fn start_snapshot(&mut self, actions: &mut Vec<WriterAction<T>>) {
        self.schedule.started();
        self.snapshot_running = true;
        actions.push(WriterAction::Snapshot(self.store.mark(), self.log.live_offset()));
    }

    /// Asks for a sync of everything, if it is not synced or under way.
    pub fn start_sync(&mut self, actions: &mut Vec<WriterAction<T>>) {
        if !self.syncing
            && !self.poisoned
            && let Some(sync) = self.log.sync()
        {
            self.syncing = true;
            // Not waited for: every other write would wait for the disk too, also those that asked for less. What comes
            // meanwhile shares the next sync (decision 4).
            actions.push(WriterAction::Sync(sync));
        }
    }

    /// Gives the time at which [`Writer::tick`] has something to do again; `None`: never.
    pub fn next_tick(&self) -> Option<Monotonic> {
        let due = [self.schedule.next(), self.waiting.next(), self.file_checks.next()];
        due.into_iter().flatten().min().filter(|_| !self.poisoned)
    }

    /// Returns whether everything is answered, synced and at rest.
    pub fn is_at_rest(&self) -> bool {
        let synced = self.poisoned || self.log.synced_upto() == self.log.sequence();
        synced && !self.syncing && !self.snapshot_running && self.waiting.is_empty()
    }

    /// Returns whether a failed write to the disk has ended writing.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// The state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// State, log, and the sequence of the newest snapshot; `None` if writing has ended in failure.
    pub(super) fn into_parts(self) -> Option<(Store, Log, Sequence)> {
        (!self.poisoned).then(|| (self.store, self.log, self.schedule.last()))
    }

    /// Has a snapshot that is being written end soon, with an error: this role ends, and nobody is to wait for that.
    pub fn cancel_snapshot(&mut self) {
        if self.snapshot_running {
            self.log.end_live_work();
        }
    }

    /// What the next role of this process goes on with, of a Writer at rest; `None` if writing has ended in failure:
    /// what the files hold has to be read then. `manifest` is what the MANIFEST says.
    ///
    /// # Panics
    /// If the Writer is not at rest.
    pub fn hand_over(self, manifest: Manifest) -> Option<RecoveredDatabase> {
        assert!(self.is_at_rest(), "a role ends once everything is answered and synced");
        let Self { store, log, schedule, poisoned, .. } = self;
        (!poisoned).then(|| RecoveredDatabase::with_open_files(manifest, store, OpenFiles { log, schedule }))
    }

    /// Certain refusals, before anything is tried.
    fn refusal(&self, now: Monotonic) -> Option<WriteError> {
        if self.poisoned {
            return Some(if self.files_lost { WriteError::FilesLost } else { WriteError::Poisoned });
        }
        if self.stepped_down {
            return Some(WriteError::SteppedDown);
        }
        (self.disk_full_left_ms(now) > 0).then_some(WriteError::DiskFull)
    }

    /// For how long writes are still refused for want of room on the disk, in milliseconds; 0: they are tried.
    pub fn disk_full_left_ms(&self, now: Monotonic) -> u64 {
        self.disk_full_until.since_ms(now)
    }

    /// Makes the group a record, and answers its members or lets them wait for the sync.
    fn commit(&mut self, time_ms: LoggedTime, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        if !self.group.is_empty()
            && let Err(error) = self.log_and_apply(time_ms, actions)
        {
            if matches!(&error, AppendError::Undone(cause) if crate::storage::disk::is_no_room(cause)) {
                // For a while nothing is tried: each try would write a part of a record, take it back, and sync that.
                self.disk_full_until = now.after_ms(DISK_FULL_PAUSE_MS);
            }
            // Unknown also where the append was undone: a plain refusal promises that nothing was tried, so that it may
            // be sent again without a key.
            for (reply, _, receipt) in self.members.drain(..) {
                let mut outcome = Err(WriteError::OutcomeUnknown);
                inject!(AcksBeforeAppend, outcome = Ok(receipt));
                actions.push(WriterAction::Answer(reply, outcome));
            }
            match error {
                AppendError::Poisoned(cause) => self.disk_failed("an append to the log failed", &cause, actions),
                AppendError::Undone(cause) if is_gone(&cause) => self.lose_files(cause.to_string(), actions),
                AppendError::Undone(_) => {}
            }
            return;
        }
        for (reply, level, mut receipt) in self.members.drain(..) {
            // A batch that changed nothing and settled nothing has no record: it stands where the store stands.
            receipt.position = receipt.position.min(self.store.mark().position);
            if self.waiting.is_reached(level.0, receipt.position.sequence, self.log.synced_upto()) {
                actions.push(WriterAction::Answer(reply, Ok(self.waiting.with_acks(receipt))));
            } else {
                self.waiting.add(receipt.position.sequence, level, now, (reply, receipt));
            }
        }
    }

    /// The funnel: append, apply, publish.
    fn log_and_apply(&mut self, time_ms: LoggedTime, actions: &mut Vec<WriterAction<T>>) -> Result<(), AppendError> {
        let position = self.log.next();
        // The digest is known before anything is applied, so the record can state it and `apply` can check it.
        let (body, mut known, digest_after) = self.group.body(&self.store);
        let record = Record { position, time_ms, digest_after, body };
        inject!(PublishesBeforeAppend, {
            let _ = self.store.apply(&record, 0);
            known.iter_mut().for_each(|known| known.places = &[]); // they were found before that
        });
        // Append before apply. The other way round, readers could see counts that a kill takes back, and a failed
        // append would leave a state that no log leads to.
        let (chain, bytes) = self.log.append(time_ms, digest_after, &record.body)?;
        failpoint::pass("write.appended");
        // One copy for all replicas; the log's own buffer serves the next record.
        let bytes = Bytes::copy_from_slice(bytes);
        self.schedule.appended(bytes.len() as u64);
        self.store
            .apply_known(&record, &known, chain)
            // The record is in the log, and these counts are not what it states: nothing more may be built on them.
            .map_err(|diverged| AppendError::Poisoned(io::Error::other(diverged)))?;
        failpoint::pass("write.applied");
        actions.push(WriterAction::Published(position, bytes));
        Ok(())
    }

    /// Gives the answers that are due, and asks for the sync that the others wait for.
    fn answer_due(&mut self, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        self.waiting.due(self.log.synced_upto(), now, &mut self.due);
        // The disk first: it works while those who waited are answered.
        if self.waiting.want_sync() || self.log.is_overdue() {
            self.start_sync(actions);
        }
        actions.extend(self.due.drain(..).map(|(reply, answer)| WriterAction::Answer(reply, answer)));
        let wants_durable = self.waiting.want_replica_sync();
        if wants_durable != self.wants_durable {
            self.wants_durable = wants_durable;
            actions.push(WriterAction::WantDurable(wants_durable));
        }
    }

    /// Poisons the Writer after a failed write: the content of the log is unknown from here on.
    fn disk_failed(&mut self, what: &str, error: &io::Error, actions: &mut Vec<WriterAction<T>>) {
        let what = format!("{what}: {error}");
        if is_gone(error) {
            return self.lose_files(what, actions);
        }
        self.poisoned = true;
        self.release_all(actions);
        actions.push(WriterAction::Poisoned(what));
    }

    /// Stops writing after files were taken away: no start would find records that are appended from here on.
    fn lose_files(&mut self, what: String, actions: &mut Vec<WriterAction<T>>) {
        (self.poisoned, self.files_lost) = (true, true);
        self.release_all(actions);
        actions.push(WriterAction::FilesLost(what));
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
