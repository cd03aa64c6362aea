//! The Writer: the one place where writes happen, in one order.
//!
//! A state machine: its owner gives it what has come, with the time, and carries out the [`WriterAction`]s it gives
//! back. It appends itself, because nothing may come between append and apply, and never waits for a sync or snapshot.
//!
//! Here is the way of a write to its answer. Beside it: entries that expire (`writer/expiry.rs`), queues of counters
//! (`writer/queue_work.rs`), snapshots (`writer/upkeep.rs`), failures (`writer/failure.rs`), start and end
//! (`writer/lifetime.rs`).

mod action;
mod expiry;
mod failure;
mod lifetime;
mod queue_work;
mod settings;
mod upkeep;

pub use action::{WriteSubmission, WriterAction};
pub use settings::WriterSettings;

use super::{
    commit_group::CommitGroup,
    pending_acks::{DueAnswer, PendingAcks, UnansweredWrite},
};
use crate::{
    base::clock::{LoggedClock, Monotonic},
    base::failpoint::{self, inject},
    base::trace::TraceSpan,
    data::command::{AckLevel, WriteBatch, WriteError, WriteReceipt},
    data::store::Store,
    replication::{PeerEvent, PeerIndex},
    storage::snapshot::SnapshotSchedule,
    storage::wal::{AppendError, CheckSchedule, Log, SyncJob},
};
use bytes::Bytes;
use std::io;

/// Logs, applies and acknowledges.
pub struct Writer<T> {
    settings: WriterSettings,
    store: Store,
    log: Log,
    group: CommitGroup,
    /// The writes of the group.
    members: Vec<UnansweredWrite<T>>,
    waiting: PendingAcks<T>,
    /// Answers that are due, on their way out.
    due: Vec<DueAnswer<T>>,
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
    /// An append has failed, so no entry is taken out until then.
    expiry_paused_until: Monotonic,
    expiry_ended: bool,
    /// Entries written since expired ones were last looked for.
    entries_written: usize,
    queue_work: queue_work::QueueWork,
    /// The clock that records are stamped with.
    clock: LoggedClock,
}

impl<T> Writer<T> {
    /// Takes batches in the order they came; each record of the log takes as many as fit.
    pub fn write(
        &mut self,
        batches: impl IntoIterator<Item = WriteSubmission<T>>,
        now: Monotonic,
        actions: &mut Vec<WriterAction<T>>,
    ) {
        let time_ms = self.clock.read(now);
        self.group.start(self.log.next(), time_ms, &self.store);
        for WriteSubmission { mut batch, level: asked, reply } in batches {
            let level = self.settings.effective(asked.unwrap_or(self.settings.ack));
            let is_strict = asked.is_some();
            // A batch that is refused whatever it holds ends no record.
            if self.group.has_no_room_for(&batch) && self.check_level(level, is_strict, now).is_ok() {
                self.commit(now, actions);
                self.group.start(self.log.next(), time_ms, &self.store);
            }
            if !batch.entries.is_empty() && self.check_level(level, is_strict, now).is_ok() {
                self.entries_written += batch.entries.len();
                self.expire_named(&batch, now, actions);
            }
            match self.admit(&mut batch, level, is_strict, now) {
                // A repeat too: what it repeats may still be in this group, and it is not answered before that.
                Ok(receipt) => self.members.push(UnansweredWrite { reply, receipt, level, is_strict }),
                Err(error) => actions.push(WriterAction::Answer(reply, Err(error))),
            }
        }
        self.commit(now, actions);
        self.answer_due(now, actions);
    }

    /// Takes a batch into the group, or refuses it.
    fn admit(
        &mut self,
        batch: &mut WriteBatch,
        level: AckLevel,
        is_strict: bool,
        now: Monotonic,
    ) -> Result<WriteReceipt, WriteError> {
        // Asked for each batch: the record before may have failed, and nothing goes behind what may be there in part.
        self.check_level(level, is_strict, now)?;
        self.group.admit(&self.store, &self.settings.admission, batch)
    }

    /// Refuses a write that the log does not take, or whose level cannot be had: nothing that counts may stay behind.
    fn check_level(&self, level: AckLevel, is_strict: bool, now: Monotonic) -> Result<(), WriteError> {
        if let Some(error) = self.refusal(now) {
            return Err(error);
        }
        if is_strict && level == AckLevel::ReplicaDisk && !self.waiting.progress.keeps_files() {
            return Err(WriteError::NoReplicaKeepsFiles);
        }
        Ok(())
    }

    /// Makes the group a record, and answers its writes or lets them wait for their level.
    fn commit(&mut self, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        if !self.group.is_empty()
            && let Err(error) = self.log_and_apply(actions)
        {
            return self.append_failed(error, now, actions);
        }
        for mut write in self.members.drain(..) {
            // A batch that changed nothing and settled nothing has no record: it stands where the store stands.
            write.receipt.position = write.receipt.position.min(self.store.mark().position);
            if self.waiting.is_reached(write.level, write.receipt.position.sequence, self.log.synced_upto()) {
                actions.push(WriterAction::Answer(write.reply, Ok(self.waiting.with_acks(write.receipt))));
            } else {
                self.waiting.add(write, now);
            }
        }
    }

    /// The funnel of all writes: makes the group one record, appends it, applies it, publishes it.
    fn log_and_apply(&mut self, actions: &mut Vec<WriterAction<T>>) -> Result<(), AppendError> {
        // The digest is known before anything is applied, so the record can state it and `apply` can check it.
        let (record, mut lookups) = self.group.record(&self.store);
        inject!(PublishesBeforeAppend, {
            let _ = self.store.apply(&record, 0);
            lookups.words.iter_mut().for_each(|lookup| lookup.offsets = &[]); // they were found before that
        });
        // Append before apply. The other way round, readers could see counts that a kill takes back, and a failed
        // append would leave a state that no log leads to.
        let logging = TraceSpan::within("log");
        let (chain, bytes) = self.log.append(record.time_ms, record.digest_after, &record.body)?;
        logging.end();
        failpoint::pass("write.appended");
        // One copy for all replicas; the log's own buffer serves the next record.
        let bytes = Bytes::copy_from_slice(bytes);
        self.schedule.appended(bytes.len() as u64);
        self.store
            .apply_known(&record, &lookups, chain)
            // The record is in the log, and these counts are not what it states: nothing more may be built on them.
            .map_err(|diverged| AppendError::Poisoned(io::Error::other(diverged)))?;
        failpoint::pass("write.applied");
        actions.push(WriterAction::Published(record.position, bytes));
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
}
