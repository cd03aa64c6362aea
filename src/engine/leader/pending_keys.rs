//! The half of a commit group that knows idempotency keys: the named writes that the group has already.

use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::position::Position,
    data::command::{IdempotencyKey, WriteReceipt},
    data::record::KeyedWrite,
    data::store::{DedupEntry, DedupName, RepeatCheck, Store},
};
use std::collections::HashMap;

/// The named writes of a group, in front of the store's window: that knows them once their record is applied.
#[derive(Default)]
pub(super) struct PendingKeys {
    /// In the order they came: the posts of one stream may be several.
    entries: Vec<DedupEntry>,
    keys: NameSet,
    streams: NameSet,
}

/// The keys, or the streams, of a group.
#[derive(Default)]
struct NameSet {
    /// The last entry of each name, by its number.
    last: HashMap<DedupName, usize>,
    /// Room of the window that the names will take.
    room_taken: usize,
}

impl PendingKeys {
    /// Forgets all: another record starts.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        for names in [&mut self.keys, &mut self.streams] {
            names.last.clear();
            names.room_taken = 0;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks up a named write among those of the group, and then in the store's window.
    pub(super) fn check(
        &self,
        store: &Store,
        (namespace, key, fingerprint): (&str, &IdempotencyKey, u128),
        now: LoggedTime,
    ) -> RepeatCheck {
        let (is_stream, name, _) = key.dedup_key();
        let names = if is_stream { &self.streams } else { &self.keys };
        // The group first: it is not in the window before its record is applied, and a repeat may come in the same
        // group.
        let seen = match names.last.get(&DedupName::new(namespace, name)) {
            Some(&at) => self.entries[at].compare(key, fingerprint),
            None => store.check_repeat((namespace, key, fingerprint), now, names.room_taken),
        };
        inject!(CountsLinesAgain, {
            if let (RepeatCheck::Gap { expected }, IdempotencyKey::Lines { done, .. }) = (&seen, key)
                && done + 1 < *expected
            {
                return RepeatCheck::New;
            }
        });
        inject!(TakesAnyText, {
            if let (RepeatCheck::Reused, IdempotencyKey::Lines { .. }) = (&seen, key) {
                return RepeatCheck::New;
            }
        });
        seen
    }

    /// Remembers a named write that was admitted, with its receipt, for the record at `position`. Returns the number at
    /// which its stream stands then, if it is of one.
    pub(super) fn add(
        &mut self,
        store: &Store,
        (namespace, key, fingerprint): (&str, &IdempotencyKey, u128),
        receipt: &WriteReceipt,
        (position, now): (Position, LoggedTime),
    ) -> Option<u64> {
        let (is_stream, name, stream_sequence) = key.dedup_key();
        // Of lines, the entry has the sums over the whole stream.
        let (words, left_out) = match key {
            IdempotencyKey::Lines { words, left_out, .. } => (words + receipt.words, left_out + receipt.left_out),
            _ => (receipt.words, receipt.left_out),
        };
        let names = if is_stream { &mut self.streams } else { &mut self.keys };
        let scoped = DedupName::new(namespace, name);
        let is_first = names.last.insert(scoped.clone(), self.entries.len()).is_none();
        // What goes on with a stream takes no room, unless the stream had lost it: then only lines go on with it.
        let has_lost_it = || matches!(key, IdempotencyKey::Lines { .. }) && store.has_expired(namespace, name, now);
        let mut takes_room = is_first && (key.starts_stream() || has_lost_it());
        inject!(CountsStreamsTwice, takes_room = is_first);
        names.room_taken += usize::from(takes_room);
        self.entries.push(DedupEntry {
            name: scoped,
            stream_sequence,
            fingerprint,
            running: 0, // the window works it out
            position,
            time_ms: now,
            words,
            distinct: receipt.distinct,
            left_out,
            entries: receipt.entries,
        });
        is_stream.then_some(stream_sequence)
    }

    /// Gives the record's part about keys.
    pub(super) fn keyed_writes(&self) -> Vec<KeyedWrite<'_>> {
        let each = self.entries.iter();
        each.map(|entry| KeyedWrite {
            namespace: entry.name.namespace(),
            name: entry.name.name(),
            stream_sequence: entry.stream_sequence,
            fingerprint: entry.fingerprint,
            words: entry.words,
            distinct: entry.distinct,
            left_out: entry.left_out,
            entries: entry.entries,
        })
        .collect()
    }
}

/// The receipt of a repeat: that of the first write.
pub(super) fn receipt_of_repeat(entry: &DedupEntry, key: &IdempotencyKey) -> WriteReceipt {
    let mut receipt = WriteReceipt {
        words: entry.words,
        distinct: entry.distinct,
        left_out: entry.left_out,
        entries: entry.entries,
        replayed: true,
        ..WriteReceipt::at(entry.position)
    };
    if let IdempotencyKey::Stream { sequence, .. } = key {
        receipt.stream_last = Some(entry.stream_sequence);
        if *sequence < entry.stream_sequence {
            // Only the stream's last post is remembered: of this one, no more than that it counted.
            (receipt.words, receipt.distinct, receipt.left_out, receipt.entries) = (0, 0, 0, 0);
        }
    }
    receipt
}
