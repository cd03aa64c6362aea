//! What the database must do, said once more and as simply as can be: maps, no log, no sharing.

mod counters;
mod entries;

pub use counters::{QueueWork, gained};
pub use entries::{Changes, EntryKey, Held};

use crate::{client::Wish, entries::EntryWish};
use counters::CounterOutcome;
use memdb::{
    base::hash::WordHasher,
    base::position::Position,
    data::command::{IdempotencyKey, WriteBatch},
    data::counters::{COUNTERS, CounterLimits, RateQuota},
    data::counts::WriteOp,
    data::store::DedupLimits,
    engine::leader::{WriteError, WriteReceipt},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A step that counts in place have room for (`src/data/counts/index/cell.rs`).
const NARROW: u64 = 524_287;

/// Counts by word. States share what is the same in them.
pub type Words = BTreeMap<Arc<str>, i64>;
/// Counts by namespace and word; zero is absent, and so is a namespace without a word.
pub type Counts = BTreeMap<String, Arc<Words>>;

/// One write that has counted, under its key or as the last of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub number: u64,
    pub fingerprint: u128,
    pub position: Position,
    pub time_ms: u64,
    pub words: u64,
    pub distinct: u64,
    pub left_out: u64,
    pub entries: u64,
}

/// The whole state at one position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub counts: Counts,
    /// By namespace and name ([`scoped`]), as the streams.
    pub keys: Arc<BTreeMap<String, Done>>,
    pub streams: Arc<BTreeMap<String, Done>>,
    /// All entries, marks of what was taken away among them.
    pub entries: Arc<BTreeMap<EntryKey, Held>>,
    /// Streams that are too old and have left the window, which does not happen at once.
    pub forgotten: BTreeSet<String>,
    pub time_ms: u64,
}

/// What must become of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With so many entries that the client asked for; of an increment, with what is left of its key's rate.
    Counted {
        entries: u64,
        quota: Option<RateQuota>,
        /// Of a counter that was taken away: its value, and the increments that waited for it.
        removed: Option<(u64, u64)>,
    },
    Repeat(Done),
    Reused,
    Gap(u64),
    Full,
    Overflow,
    NoMemory,
    Precondition,
    EntriesFull,
    BelowZero,
    /// The main queue of counters is full.
    QueueFull(Option<RateQuota>),
    /// The key is beyond its rate, and EXCESS is full.
    RateExceeded(Option<RateQuota>),
}

/// What a batch is taken into: the record, and the bounds.
pub struct Into<'a> {
    pub position: Position,
    pub time_ms: u64,
    pub limits: &'a DedupLimits,
    /// Memory for entries, in bytes.
    pub entry_bytes: usize,
    pub counters: &'a CounterLimits,
    pub hasher: WordHasher,
}

impl State {
    /// Takes one batch into a record that has changed so much, or says why not. `found_no_memory`: its answer.
    pub fn admit(
        &mut self,
        (batch, entries): (&WriteBatch, &[EntryWish]),
        into: &Into<'_>,
        so_far: &mut Changes,
        found_no_memory: bool,
    ) -> Verdict {
        let Into { position, time_ms: now_ms, limits, entry_bytes, counters, hasher } = *into;
        if let Some(once) = &batch.key
            && let Some(verdict) = self.settled((&batch.namespace, once), batch.fingerprint, now_ms, limits)
        {
            return verdict;
        }
        let plan = match self.plan((batch, entries), so_far, (entry_bytes, hasher), (position, now_ms)) {
            Ok(plan) => plan,
            Err(refusal) => return refusal,
        };
        let entries = plan.requested;
        let before = self.counts.get(&*batch.namespace).cloned();
        let (mut exchanged, mut told) = (BTreeMap::new(), CounterOutcome::default());
        let counted = if *batch.namespace == *COUNTERS {
            self.admit_counters(batch, (counters, now_ms), found_no_memory).map(|outcome| told = outcome)
        } else if plan.ends_a_claim {
            batch.counts.iter().for_each(|counted| *exchanged.entry(counted.word).or_default() += counted.amount);
            plan.given_back.iter().for_each(|(word, count)| *exchanged.entry(&**word).or_default() -= count);
            exchanged.retain(|_, amount: &mut i64| *amount != 0);
            self.count(&batch.namespace, WriteOp::Exchange, exchanged.iter().map(|(word, amount)| (*word, *amount)))
        } else {
            let words = batch.counts.iter().map(|counted| (counted.word, counted.amount));
            self.count(&batch.namespace, batch.op, words)
        };
        if let Err(refusal) = counted {
            return refusal;
        }
        // How many bytes a word takes is not for a model to know; that one without new words, and without a step that
        // counts in place are too narrow for, takes none, is.
        let is_new = |word: &str| before.as_ref().is_none_or(|words| !words.contains_key(word));
        let grows = |word: &str, amount: i64| is_new(word) || amount.unsigned_abs() > NARROW;
        let adds = matches!(batch.op, WriteOp::Add | WriteOp::AddGiven);
        if found_no_memory && adds && batch.counts.iter().any(|counted| grows(counted.word, counted.amount)) {
            match before {
                Some(words) => drop(self.counts.insert(batch.namespace.to_string(), words)),
                None => drop(self.counts.remove(&*batch.namespace)),
            }
            return Verdict::NoMemory;
        }
        drop(exchanged);
        self.carry_out(plan, batch, so_far);
        if let Some(once) = &batch.key {
            let (is_stream, name, number) = once.dedup_key();
            let of = if is_stream { &mut self.streams } else { &mut self.keys };
            // Of a text in pieces all is kept in mind that was counted.
            let (words, left_out) = match once {
                IdempotencyKey::Lines { words, left_out, .. } => (*words, *left_out),
                _ => (0, 0),
            };
            let (words, distinct, left_out) = match told.removed {
                Some((value, waited)) => (u64::from(value + waited > 0), value, waited),
                None => (words + batch.words, batch.counts.len() as u64, left_out + batch.left_out),
            };
            let done = Done {
                number,
                fingerprint: batch.fingerprint,
                position,
                time_ms: now_ms,
                words,
                distinct,
                left_out,
                entries,
            };
            let scoped = scoped(&batch.namespace, name);
            self.forgotten.remove(&scoped);
            Arc::make_mut(of).insert(scoped, done);
        }
        Verdict::Counted { entries, quota: told.quota, removed: told.removed }
    }

    /// What the window says against counting it.
    fn settled(
        &self,
        (namespace, once): (&str, &IdempotencyKey),
        fingerprint: u128,
        now_ms: u64,
        limits: &DedupLimits,
    ) -> Option<Verdict> {
        let (of, name, number, room, age_ms) = match once {
            IdempotencyKey::Key(name) => (&self.keys, name, 0, limits.keys, limits.key_age_ms),
            IdempotencyKey::Stream { name, sequence } => {
                (&self.streams, name, *sequence, limits.streams, limits.stream_age_ms)
            }
            IdempotencyKey::Lines { .. } => return self.settled_lines(namespace, once, now_ms, limits),
        };
        let young = |done: &&Done| now_ms.saturating_sub(done.time_ms) < age_ms;
        let repeat_if = |done: &Done, same: bool| if same { Verdict::Repeat(done.clone()) } else { Verdict::Reused };
        match of.get(&scoped(namespace, name)).filter(young) {
            Some(done) if number == 0 || number == done.number => {
                Some(repeat_if(done, done.fingerprint == fingerprint))
            }
            Some(done) if number < done.number => Some(Verdict::Repeat(done.clone())),
            Some(done) if number == done.number + 1 => None,
            Some(done) => Some(Verdict::Gap(done.number + 1)),
            None if number > 1 => Some(Verdict::Gap(1)),
            None if of.values().filter(young).count() >= room => Some(Verdict::Full),
            None => None,
        }
    }

    /// What the window says against counting lines: they go on where their stream stands, and their text is the one
    /// that it has.
    fn settled_lines(
        &self,
        namespace: &str,
        once: &IdempotencyKey,
        now_ms: u64,
        limits: &DedupLimits,
    ) -> Option<Verdict> {
        let IdempotencyKey::Lines { name, done: begin, so_far, .. } = once else {
            unreachable!("asked for lines only")
        };
        let young = |done: &&Done| now_ms.saturating_sub(done.time_ms) < limits.stream_age_ms;
        let name = scoped(namespace, name);
        match self.streams.get(&name).filter(|_| !self.forgotten.contains(&name)) {
            Some(stream) if *begin != stream.number => Some(Verdict::Gap(stream.number + 1)),
            Some(stream) if *so_far != stream.fingerprint => Some(Verdict::Reused),
            Some(stream) if young(&stream) => None,
            None if *begin > 0 => Some(Verdict::Gap(1)),
            // What is too old takes no room, and needs it again.
            _ if self.streams.values().filter(young).count() >= limits.streams => Some(Verdict::Full),
            _ => None,
        }
    }

    /// A record was written behind `before`: where streams had no room left, those have gone that are too old.
    pub fn forget(&mut self, before: &Self, limits: &DedupLimits) {
        if before.streams.len() - before.forgotten.len() < limits.streams {
            return;
        }
        for (name, done) in &*before.streams {
            let old = self.time_ms.saturating_sub(done.time_ms) >= limits.stream_age_ms;
            if old && self.streams[name] == *done {
                self.forgotten.insert(name.clone());
            }
        }
    }

    /// The count of a word.
    pub fn count_of(&self, namespace: &str, word: &str) -> i64 {
        self.counts.get(namespace).and_then(|words| words.get(word)).copied().unwrap_or(0)
    }

    /// Does this to the words, all of them or, if one may not have its count, none.
    fn count<'a>(
        &mut self,
        namespace: &str,
        op: WriteOp,
        amounts: impl Iterator<Item = (&'a str, i64)>,
    ) -> Result<(), Verdict> {
        let mut all = self.counts.get(namespace).cloned().unwrap_or_default();
        let words = Arc::make_mut(&mut all);
        for (word, amount) in amounts {
            let before = words.get(word).copied().unwrap_or(0);
            let after = match op {
                WriteOp::Add => before.checked_add(amount),
                // Up to the bound, or from beyond it toward zero.
                WriteOp::AddGiven => before
                    .checked_add(amount)
                    .filter(|after| after.unsigned_abs() <= before.unsigned_abs().max(1 << 62)),
                WriteOp::Exchange if amount < 0 && before.saturating_add(amount) < 0 => return Err(Verdict::BelowZero),
                WriteOp::Exchange => before.checked_add(amount),
                _ => Some(0),
            };
            match after.ok_or(Verdict::Overflow)? {
                0 => drop(words.remove(word)),
                after => match words.get_mut(word) {
                    Some(count) => *count = after,
                    None => drop(words.insert(word.into(), after)),
                },
            }
        }
        if words.is_empty() || op == WriteOp::DropNamespace {
            self.counts.remove(namespace);
        } else {
            self.counts.insert(namespace.to_owned(), all);
        }
        Ok(())
    }

    /// Without what the window has forgotten by now.
    pub fn young(&self, limits: &DedupLimits) -> Self {
        let mut state = self.clone();
        Arc::make_mut(&mut state.keys).retain(|_, done| self.time_ms.saturating_sub(done.time_ms) < limits.key_age_ms);
        Arc::make_mut(&mut state.streams)
            .retain(|_, done| self.time_ms.saturating_sub(done.time_ms) < limits.stream_age_ms);
        state
    }
}

/// The name of a key or stream of a namespace.
pub fn scoped(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Whether a client was told what it should be: of a refusal for the sake of a word it does not matter which.
pub fn is_as_expected(answer: &Result<WriteReceipt, WriteError>, expected: &Result<WriteReceipt, WriteError>) -> bool {
    match (answer, expected) {
        (Err(WriteError::BeyondBound { .. }), Err(WriteError::BeyondBound { .. })) => true,
        // Where words are exchanged, one of them may be too many and another too few.
        (
            Err(WriteError::Overflow { .. } | WriteError::BelowZero { .. }),
            Err(WriteError::Overflow { .. } | WriteError::BelowZero { .. }),
        ) => true,
        _ => answer == expected,
    }
}

/// What a client must be told, if nothing fails.
pub fn answer_to(wish: &Wish, verdict: &Verdict, position: Position) -> Result<WriteReceipt, WriteError> {
    let stream = match &wish.once {
        Some(IdempotencyKey::Stream { sequence: last, .. } | IdempotencyKey::Lines { upto: last, .. }) => Some(*last),
        _ => None,
    };
    let mut receipt = WriteReceipt { stream_last: stream, ..WriteReceipt::at(position) };
    match verdict {
        Verdict::Counted { removed: Some((value, waited)), .. } => {
            receipt.words = u64::from(value + waited > 0);
            (receipt.distinct, receipt.left_out) = (*value, *waited);
        }
        Verdict::Counted { entries, quota, removed: None } => {
            (receipt.entries, receipt.quota) = (*entries, *quota);
            (receipt.words, receipt.left_out) = (wish.words.len() as u64, wish.words.len() as u64 % 2);
            let mut words: Vec<&str> = wish.words.iter().map(|(word, _)| *word).collect();
            words.sort_unstable();
            words.dedup();
            receipt.distinct = words.len() as u64;
        }
        Verdict::Repeat(done) => {
            (receipt.position, receipt.replayed) = (done.position, true);
            if stream.is_none_or(|number| number == done.number) {
                (receipt.words, receipt.distinct, receipt.left_out) = (done.words, done.distinct, done.left_out);
                receipt.entries = done.entries;
            }
            receipt.stream_last = stream.map(|_| done.number);
        }
        Verdict::Reused => return Err(WriteError::KeyReused),
        Verdict::Gap(expected) => return Err(WriteError::StreamGap { expected: *expected }),
        Verdict::Full if wish.once.as_ref().is_some_and(|once| once.dedup_key().0) => {
            return Err(WriteError::StreamWindowFull);
        }
        Verdict::Full => return Err(WriteError::WindowFull),
        Verdict::Overflow if wish.verb == WriteOp::AddGiven => {
            return Err(WriteError::BeyondBound { word: String::new() });
        }
        Verdict::Overflow => return Err(WriteError::Overflow { word: String::new() }),
        Verdict::NoMemory => return Err(WriteError::MemoryFull),
        Verdict::Precondition => return Err(WriteError::PreconditionFailed),
        Verdict::EntriesFull => return Err(WriteError::EntriesFull),
        Verdict::QueueFull(quota) => return Err(WriteError::CounterQueueFull(*quota)),
        Verdict::RateExceeded(quota) => return Err(WriteError::RateExceeded(*quota)),
        Verdict::BelowZero => return Err(WriteError::BelowZero { word: String::new() }),
    }
    Ok(receipt)
}
