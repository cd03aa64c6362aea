//! Entries that expire: the Writer makes records of them, so that all nodes agree at every position.
//!
//! A record takes a bounded number of entries, and writes that have come meanwhile go first: however many entries
//! expire in one moment, no write waits for more than one such record.

use super::{Writer, WriterAction};
use crate::{
    base::clock::Monotonic,
    base::limits,
    data::command::WriteBatch,
    data::entries::stored::DueEntry,
    data::entries::{CollectionId, EntryWrite},
    data::record::RemovalCause,
};

impl<T> Writer<T> {
    /// Takes out entries whose time has come at `now`, in a record for so many that were written since the last time:
    /// what comes with a time to live never outruns what goes.
    pub(super) fn expire(&mut self, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        let records = 1 + std::mem::take(&mut self.entries_written) / limits::EXPIRED_PER_RECORD;
        for _ in 0..records {
            if !self.has_due_entries(now) || self.refusal(now).is_some() {
                return;
            }
            self.expire_one_record(now, actions);
        }
    }

    fn expire_one_record(&mut self, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        let time_ms = self.clock.read(now);
        self.group.start(self.log.next(), time_ms, &self.store);
        // Bounded twice: by entries, and by the texts whose words they take back, since each has to be found.
        for due in self.store.entries().due(time_ms).take(limits::EXPIRED_PER_RECORD) {
            if !self.group.may_expire_more() {
                break;
            }
            self.group.expire(&self.store, due);
        }
        for mark in self.store.entries().idle_removals(limits::EXPIRED_PER_RECORD) {
            self.group.remove(&self.store, mark, RemovalCause::Deleted);
        }
        self.group.trim(&self.store, &self.settings.admission);
        self.commit_expired(now, actions);
    }

    fn commit_expired(&mut self, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        let (clamped, before) = (self.group.clamped(), self.log.sequence());
        self.commit(now, actions);
        if clamped > 0 && self.log.sequence() > before {
            actions.push(WriterAction::Clamped(clamped));
        }
    }

    /// Takes nothing out any more: this role ends, and a record behind each sync would keep it from its rest.
    pub fn end_expiry(&mut self) {
        self.expiry_ended = true;
    }

    /// Takes out, by a record of their own, posts that a batch names and whose time has come: their words go before
    /// those of the batch come, as they would have gone a moment ago.
    pub(super) fn expire_named(&mut self, batch: &WriteBatch, now: Monotonic, actions: &mut Vec<WriterAction<T>>) {
        let time_ms = self.clock.read(now);
        let (namespace, entries) = (&*batch.namespace, self.store.entries());
        let expired = |write: &EntryWrite| {
            let entry = entries.get(CollectionId::new(write.kind, namespace), &write.key)?;
            let is_due = entry.is_counted() && entry.has_expired(time_ms);
            is_due.then(|| DueEntry { kind: write.kind, namespace: namespace.into(), entry })
        };
        let named = batch.entries.iter().filter(|write| write.kind.may_count());
        let due: Vec<DueEntry> = named.filter_map(expired).collect();
        if due.is_empty() {
            return;
        }
        self.commit(now, actions);
        if self.refusal(now).is_none() {
            self.group.start(self.log.next(), time_ms, &self.store);
            due.into_iter().for_each(|due| self.group.expire(&self.store, due));
            self.commit_expired(now, actions);
        }
        self.group.start(self.log.next(), time_ms, &self.store);
    }

    /// Returns whether an append has failed a moment ago, so that nothing is taken out yet.
    pub fn pauses_expiry(&self, now: Monotonic) -> bool {
        self.expiry_paused_until > now
    }

    /// Returns whether there are entries to be taken out at `now`.
    pub fn has_due_entries(&self, now: Monotonic) -> bool {
        self.next_expiry().is_some_and(|due| due <= now)
    }

    /// Gives the time at which entries are taken out: those that expire, marks that nobody needs, those beyond the
    /// budget; `None`: never.
    pub(super) fn next_expiry(&self) -> Option<Monotonic> {
        if self.stepped_down || self.poisoned || self.expiry_ended {
            return None;
        }
        let entries = self.store.entries();
        let is_over = entries.is_over(self.settings.admission.entry_bytes);
        let due = match is_over || entries.has_idle_removals() {
            true => Some(Monotonic::default()),
            false => entries.next_expiry().map(|due| self.clock.when(due)),
        };
        // Behind an append that failed nothing is tried at once again: nobody waits for it.
        due.map(|due| due.max(self.disk_full_until).max(self.expiry_paused_until))
    }
}
