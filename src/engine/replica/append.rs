//! Append requests: a replica takes the records of its leader, and answers where it stands.
//!
//! The order of the questions decides correctness: the epoch first, whoever asks; then who leads in it; then whether
//! the state can take records; then each record, before the log is touched.

use super::{LoadedDatabase, LoadedSnapshot, Replica, ReplicaAction, ReplicaFiles};
use crate::{
    base::{
        clock::Monotonic,
        failpoint::{self, inject},
    },
    data::store::{StateId, Store},
    replication::{AppendAnswer, AppendCommand, AppendOutcome, AppendRequest},
    storage::{
        file_header::{DatabaseIdentity, FileError},
        wal::{AppendError, RawRecord},
    },
};
use bytes::Bytes;

impl<T> Replica<T> {
    /// An append request has come from the leader, as bytes.
    pub fn on_append_request(&mut self, bytes: &[u8], reply: T, now: Monotonic, actions: &mut Vec<ReplicaAction<T>>) {
        match AppendRequest::decode(bytes) {
            // Who leads another database is not the leader that this replica waits for.
            Ok(offer) if self.is_other(&offer) => self.answer(reply, AppendOutcome::OtherDatabase, actions),
            Ok(offer) => {
                self.hear(now);
                self.on_decoded_request(&offer, reply, now, actions);
            }
            Err(what) => self.answer(reply, AppendOutcome::Unreadable(what), actions),
        }
    }

    pub(super) fn on_decoded_request(
        &mut self,
        offer: &AppendRequest<'_>,
        reply: T,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) {
        let outcome = self.take(offer, now, actions);
        if self.held.as_ref().and_then(|held| held.files.as_ref()).is_some_and(ReplicaFiles::is_overdue) {
            self.start_sync(actions);
        }
        let sequence = self.state_id().position.sequence;
        let wants_sync = offer.durable && outcome == AppendOutcome::Applied && self.synced_sequence().is_some();
        // Only the answer waits for the disk: probes, promises and the end of the sync itself are handled meanwhile.
        if wants_sync && self.synced_sequence() < Some(sequence) {
            self.waiting.push_back((sequence, reply));
            self.start_sync(actions);
        } else {
            self.answer(reply, outcome, actions);
        }
    }

    fn is_other(&self, offer: &AppendRequest<'_>) -> bool {
        match &self.held {
            Some(held) => held.identity != offer.identity,
            None => self.bound_to.is_some_and(|bound_to| bound_to != offer.identity.database_id),
        }
    }

    fn take(
        &mut self,
        offer: &AppendRequest<'_>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> AppendOutcome {
        // The epoch comes first, whatever is asked.
        if !self.term.admits(offer.epoch) {
            return AppendOutcome::OldEpoch;
        }
        // Before the question who leads: a candidate leads nobody yet.
        if offer.command == AppendCommand::Promise {
            return self.promise(offer, actions);
        }
        // Two copies of one directory lead in one epoch. Whoever came first stays, since their records differ under the
        // same positions.
        if self.term.has_other_leader(offer.epoch, offer.leader) {
            return AppendOutcome::OtherLeader;
        }
        // What is held is about to be replaced: records that were applied now would go with it, and yet count as
        // acknowledged.
        if self.loading {
            return AppendOutcome::Syncing;
        }
        // Anybody may probe. That binds to nobody.
        if offer.command != AppendCommand::Probe {
            self.term.meet_leader(offer.epoch, offer.leader);
        }
        match offer.command {
            AppendCommand::Probe | AppendCommand::Promise => AppendOutcome::Applied,
            AppendCommand::InstallSnapshot => {
                actions.push(ReplicaAction::Unready);
                self.note_members(&offer.members, actions);
                let is_newer = self.term.follow(offer.epoch, offer.epochs.clone());
                if is_newer && self.is_elsewhere() {
                    // The table is that of what will be loaded. Noted beside what is held, it would call positions
                    // reached or lost that are not, also after a restart: so the epoch alone is noted.
                    self.keep(|files| files.promise(offer.epoch, None), "an epoch cannot be noted", actions);
                } else if is_newer {
                    self.start_epoch(actions);
                }
                self.loading = true;
                actions.push(ReplicaAction::Load(offer.identity));
                AppendOutcome::Syncing
            }
            AppendCommand::Append if self.diverged => AppendOutcome::Diverged,
            AppendCommand::Append => self.stream(offer, now, actions),
        }
    }

    /// Goes on in the leader's history.
    fn stream(
        &mut self,
        offer: &AppendRequest<'_>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> AppendOutcome {
        let here = self.state_id().position;
        if here.epoch != offer.epoch && here != offer.after {
            return AppendOutcome::Gap; // the leader has classified another position than this one
        }
        if here.epoch != offer.epoch {
            self.term.follow(offer.epoch, offer.epochs.clone());
        }
        if self.held.is_none() {
            self.start_database(offer.identity, now, actions);
        } else if here.epoch != offer.epoch {
            self.start_epoch(actions);
        }
        self.note_members(&offer.members, actions);
        let outcome = self.apply_all(offer, now, actions);
        if outcome != AppendOutcome::Applied {
            return outcome;
        }
        self.publish_position(actions);
        let mark = self.state_id();
        let last = &offer.last;
        // Also without a record in the request: a heartbeat shows a difference as soon as both stand at one position.
        if mark.position.sequence == last.position.sequence && (mark.chain, mark.digest) != (last.chain, last.digest) {
            return self.diverge(&format!("at {} it is not what the leader is there", mark.position), actions);
        }
        // More may have been written, and sent, since the leader noted where it stands.
        let has_all = mark.position.sequence >= last.position.sequence;
        self.current_in = if has_all { offer.epoch } else { 0 };
        if has_all {
            actions.push(ReplicaAction::CaughtUp);
        }
        outcome
    }

    fn apply_all(
        &mut self,
        offer: &AppendRequest<'_>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> AppendOutcome {
        let mut rest = offer.records;
        while !rest.is_empty() {
            let raw = match RawRecord::parse(rest, offer.identity.hash_seed) {
                Ok(raw) => raw,
                Err(bad) => return AppendOutcome::Unreadable(bad.to_string()),
            };
            let (bytes, behind) = rest.split_at(raw.header.record_bytes());
            rest = behind;
            if raw.header.position.epoch > offer.epoch {
                return AppendOutcome::Unreadable(format!(
                    "record {} in an offer of epoch {}",
                    raw.header.position, offer.epoch
                ));
            }
            let held = self.held.as_ref().expect("begun before records are applied");
            let next = held.store.mark().position.sequence + 1;
            // A request may come twice, if its first answer was lost or late.
            if raw.header.position.sequence < next {
                continue; // it has this one
            }
            if raw.header.position.sequence > next {
                return AppendOutcome::Gap;
            }
            // Before the log is touched: its bytes must never be those of two histories.
            if !raw.follows(held.store.mark().chain) {
                return self.diverge(&format!("record {} does not follow its own", raw.header.position), actions);
            }
            if let Err(what) = self.append_and_apply(&raw, bytes, now, actions) {
                return self.diverge(&what, actions);
            }
        }
        AppendOutcome::Applied
    }

    /// The funnel: append, apply, publish.
    fn append_and_apply(
        &mut self,
        raw: &RawRecord<'_>,
        bytes: &[u8],
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> Result<(), String> {
        let record = raw.record().map_err(|bad| bad.to_string())?;
        if let Some(files) = self.held.as_mut().and_then(|held| held.files.as_mut())
            && let Err(AppendError::Undone(error) | AppendError::Poisoned(error)) = files.append(bytes)
        {
            // It goes on in memory: it can still serve reads and acknowledge at level `replica`, and the records are in
            // the leader's log.
            self.give_up_files("its log cannot be written", &FileError::io("the log")(error), actions);
        }
        failpoint::pass("follow.appended");
        let held = self.held.as_mut().expect("begun before records are applied");
        // The digest is compared at every record, so a difference is found where it begins and no reader sees it.
        held.store.apply(&record, raw.header.chain).map_err(|diverged| diverged.to_string())?;
        failpoint::pass("follow.applied");
        actions.push(ReplicaAction::Published(held.store.mark().position, Bytes::copy_from_slice(bytes)));
        self.count_from(record.position.epoch, record.time_ms, now);
        Ok(())
    }

    /// Begins with nothing: all records come from the leader's log.
    fn start_database(&mut self, identity: DatabaseIdentity, now: Monotonic, actions: &mut Vec<ReplicaAction<T>>) {
        let store = Store::new(identity.hasher(), self.settings.window);
        let nothing = LoadedSnapshot { identity, store, temporary: None };
        let files = self.replace_files(&nothing, now, actions);
        self.hold(LoadedDatabase { identity, store: nothing.store, files }, actions);
    }

    /// Serves what it holds now, and nothing else.
    pub(super) fn hold(&mut self, mut held: LoadedDatabase, actions: &mut Vec<ReplicaAction<T>>) {
        held.store.set_epochs(self.term.epochs().clone());
        let sequence = held.store.mark().position.sequence;
        actions.push(ReplicaAction::Serve(held.identity, held.store.reader(), sequence));
        // Whoever waits for a sync of what was held before is not answered by this one.
        for (_, reply) in std::mem::take(&mut self.waiting) {
            self.answer(reply, AppendOutcome::Gap, actions);
        }
        self.held = Some(held);
    }

    /// The leader leads in another epoch than before: that is noted first of all, and readers know how the epoch before
    /// ended when they see the new one.
    pub(super) fn start_epoch(&mut self, actions: &mut Vec<ReplicaAction<T>>) {
        let mut readers_learn = true;
        inject!(ForgetsEpochTables, readers_learn = false);
        if let Some(held) = self.held.as_mut().filter(|_| readers_learn) {
            held.store.set_epochs(self.term.epochs().clone());
        }
        let (epoch, epochs) = (self.term.epoch(), self.term.epochs().clone());
        self.keep(|files| files.start_epoch(epoch, &epochs), "a new epoch cannot be noted", actions);
    }

    /// Once all records of earlier epochs are there, it stands in this one, and its position says so, as the leader's
    /// does.
    fn publish_position(&mut self, actions: &mut Vec<ReplicaAction<T>>) {
        let held = self.held.as_mut().expect("begun before records are applied");
        let mark = held.store.mark();
        let position = self.term.standing_at(mark.position);
        if position != mark.position {
            let time_ms = held.store.time_ms();
            held.store.set_state_id(StateId { position, ..mark }, time_ms);
            actions.push(ReplicaAction::Stands(position));
        }
    }

    fn diverge(&mut self, what: &str, actions: &mut Vec<ReplicaAction<T>>) -> AppendOutcome {
        self.diverged = true;
        actions.push(ReplicaAction::Withdraw);
        actions.push(ReplicaAction::Alarm(format!("this copy is not the leader's: {what}; it is loaded anew")));
        AppendOutcome::Diverged
    }

    pub(super) fn answer(&self, reply: T, outcome: AppendOutcome, actions: &mut Vec<ReplicaAction<T>>) {
        actions.push(ReplicaAction::Answer(reply, AppendAnswer { outcome, hello: self.node_state() }));
    }
}
