//! Entries: their reads as queries, and the batches of their writes.
//!
//! A post is an entry whose text is counted; a text with a time to live is one of which only the words are kept. Both
//! are one batch with their words, so that no reader sees one without the other.

use super::{
    ReadQuery, Service,
    command::{EntryChanges, fingerprint},
    of_text,
    watch::WatchTime,
};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::clock::LoggedTime,
    base::position::PositionToken,
    data::command::{IdempotencyKey, WriteBatch},
    data::counts::{WriteOp, word_counts::WordCountsPool},
    data::entries::{
        CollectionId, CollectionKind, Entry, EntryOp, EntryPage, EntryWrite, Expiry, NewValue, WriteCondition,
    },
    data::posts::{count_words, encode_claim},
    engine::view::ServedDatabase,
};
use bytes::Bytes;
use std::{borrow::Cow, sync::Arc};

/// One entry, as it is read. One that has expired is still found: what is logged says when it goes.
#[derive(Clone, Copy, Debug)]
pub struct EntryOf<'a> {
    /// The collection.
    pub collection: CollectionId<'a>,
    /// The key.
    pub key: &'a str,
}

impl ReadQuery for EntryOf<'_> {
    type Answer = Option<Entry>;

    fn answer(self, current: &ServedDatabase) -> Option<(Option<Entry>, PositionToken)> {
        let guard = current.reader.read();
        let (entry, position) = (guard.entry(self.collection, self.key), guard.position());
        drop(guard);
        Some((entry, current.identity.token(position)))
    }
}

/// Entries of a collection in the order of their keys, all at one position.
#[derive(Clone, Copy, Debug)]
pub struct EntriesOf<'a> {
    /// The collection.
    pub collection: CollectionId<'a>,
    /// The keys.
    pub keys: &'a [Cow<'a, str>],
}

impl ReadQuery for EntriesOf<'_> {
    type Answer = Vec<Option<Entry>>;

    fn answer(self, current: &ServedDatabase) -> Option<(Vec<Option<Entry>>, PositionToken)> {
        let mut entries = Vec::with_capacity(self.keys.len());
        let guard = current.reader.read();
        entries.extend(self.keys.iter().map(|key| guard.entry(self.collection, key)));
        let position = guard.position();
        drop(guard);
        Some((entries, current.identity.token(position)))
    }
}

/// A page of the entries of a collection that are there at a time.
#[derive(Clone, Copy, Debug)]
pub struct EntryListing<'a> {
    /// The collection.
    pub collection: CollectionId<'a>,
    /// What the keys begin with.
    pub prefix: &'a str,
    /// The last key of the page before.
    pub after: Option<&'a str>,
    /// The most that are given.
    pub limit: usize,
    /// The time of the read.
    pub now: LoggedTime,
}

impl ReadQuery for EntryListing<'_> {
    type Answer = EntryPage;

    fn answer(self, current: &ServedDatabase) -> Option<(EntryPage, PositionToken)> {
        // The position first: what the walk then finds is at this position or a later one.
        let position = current.reader.read().position();
        let page = current.reader.entries_page(self.collection, self.prefix, self.after, self.limit, self.now);
        Some((page, current.identity.token(position)))
    }
}

impl Service {
    /// The time by which entries expire, at this moment.
    pub fn logged_time(&self) -> LoggedTime {
        // Before the first record there is nothing that could expire.
        self.view.logged_time(self.clock.monotonic()).unwrap_or(LoggedTime::ZERO)
    }

    /// The time of a watcher's look at this moment.
    pub fn watch_time(&self) -> WatchTime {
        let now = self.clock.monotonic();
        WatchTime { now, logged: self.view.logged_time(now).unwrap_or(LoggedTime::ZERO) }
    }

    /// Returns whether an entry is not there any more, though no record has said so yet.
    #[inline]
    pub fn has_expired(&self, entry: &Entry) -> bool {
        // Most never expire: of those no clock is read.
        entry.expires().is_some() && entry.has_expired(self.logged_time())
    }
}

/// The batch that changes entries.
pub(super) fn entry_batch(
    current: &ServedDatabase,
    namespace: Cow<'_, str>,
    changes: EntryChanges<'_>,
    once: Option<IdempotencyKey>,
    tallies: &Arc<WordCountsPool>,
) -> WriteBatch {
    let EntryChanges { writes: entries, text, is_post } = changes;
    let identity = &current.identity;
    let mut counts = tallies.take(identity.hasher());
    let (words, left_out) = count_words(identity.analyzer, &text, &mut counts);
    let fingerprint = if once.is_some() { fingerprint_of(once.as_ref(), &namespace, &entries) } else { 0 };
    let (namespace, op) = (namespace.into(), WriteOp::Add);
    WriteBatch { namespace, op, is_post, counts, entries, words, left_out, key: once, fingerprint }
}

/// The batch of a text whose words are taken back once its time has come. Only the words are kept until then.
pub(super) fn lent_text(
    current: &ServedDatabase,
    namespace: Cow<'_, str>,
    (text, expiry): (&str, Expiry),
    once: Option<IdempotencyKey>,
    tallies: &Arc<WordCountsPool>,
) -> WriteBatch {
    let identity = &current.identity;
    let mut batch = of_text(text, None, namespace.into(), identity.analyzer, tallies.take(identity.hasher()));
    if !batch.counts.is_empty() {
        let claim = Bytes::from(encode_claim(&batch.counts));
        let value = NewValue::new(claim, "").counted();
        batch.entries = vec![EntryWrite {
            kind: CollectionKind::Texts,
            key: "".into(),
            op: EntryOp::Put(value, expiry),
            condition: WriteCondition::Always,
        }];
    }
    let parts = [batch.namespace.as_bytes(), b"lend", &milliseconds(expiry), text.as_bytes()];
    batch.fingerprint = fingerprint(once.as_ref(), &parts);
    WriteBatch { key: once, ..batch }
}

/// The fingerprint of changes of entries: over everything that a client has said.
fn fingerprint_of(once: Option<&IdempotencyKey>, namespace: &str, writes: &[EntryWrite]) -> u128 {
    let described: Vec<[Cow<'_, [u8]>; 5]> = writes.iter().map(described).collect();
    let each = described.iter().flatten().map(|part| &**part);
    let parts: Vec<&[u8]> = [namespace.as_bytes(), b"entries".as_slice()].into_iter().chain(each).collect();
    fingerprint(once, &parts)
}

/// The parts of one change that tell it from others.
fn described(write: &EntryWrite) -> [Cow<'_, [u8]>; 5] {
    let (op, expiry, content_type, hash): (&[u8], _, &[u8], _) = match &write.op {
        EntryOp::Put(value, expiry) => {
            let op = if value.counts() { b"put counted".as_slice() } else { b"put" };
            (op, milliseconds(*expiry), value.content_type().as_bytes(), value.hash().to_vec())
        }
        EntryOp::SetExpiry(expiry) => (b"expire", milliseconds(*expiry), b"", Vec::new()),
        EntryOp::Remove => (b"remove", milliseconds(Expiry::Never), b"", Vec::new()),
    };
    let key = [write.kind.name().as_bytes(), b"/", write.key.as_bytes()].concat();
    let op = [op, b" ", &expiry].concat();
    let condition = described_condition(&write.condition).into_bytes();
    [key.into(), op.into(), condition.into(), content_type.into(), hash.into()]
}

fn described_condition(condition: &WriteCondition) -> String {
    match condition {
        WriteCondition::Always => String::new(),
        WriteCondition::Present => "=*".to_owned(),
        WriteCondition::Absent => "!*".to_owned(),
        WriteCondition::Matches(tags) => format!("={}", tags.join(",")),
        WriteCondition::MatchesNone(tags) => format!("!{}", tags.join(",")),
        WriteCondition::Leased(_) => "leased".to_owned(),
    }
}

fn milliseconds(expiry: Expiry) -> [u8; 8] {
    match expiry {
        Expiry::Never => u64::MAX.to_le_bytes(),
        Expiry::AfterMs(ms) => ms.to_le_bytes(),
    }
}

/// The error of a read that finds no entry.
pub fn no_entry(kind: CollectionKind, position: PositionToken, lag_ms: Option<u64>) -> ApiError {
    let (kind, what) = match kind {
        CollectionKind::Posts => (ErrorKind::PostNotFound, "post"),
        _ => (ErrorKind::EntryNotFound, "entry"),
    };
    ApiError::new(kind, format!("there is no such {what} in this namespace, or it has expired"))
        .read_at(position, lag_ms)
}
