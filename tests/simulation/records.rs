//! Which records a Writer makes of what it takes at once, by the model, and what became of each.
//!
//! Batches that come together are one record. A large one that was counted in bulk is a record of its own. What stands
//! behind a record that failed is taken without it.

use crate::{
    entries::EntryWish,
    model::{Changes, Into, QueueWork, State, Verdict},
};
use memdb::{
    base::hash::WordHasher,
    base::position::Position,
    data::command::WriteBatch,
    data::counters::{CounterLimits, QueueTotals},
    data::counts::WriteOp,
    data::entries::CollectionKind,
    data::record::{EntryChange, EntryEffect, RemovalCause},
    data::store::DedupLimits,
    engine::leader::{WriteError, WriterAction},
    storage::wal::RawRecord,
};
use std::collections::BTreeMap;

/// A batch that was counted in bulk and has so many words is a record of its own.
const BLOCK_WORDS: usize = 256;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    Written,
    /// The append failed, or the process ended in it.
    Failed,
    /// There was nothing to write.
    Nothing,
}

/// Batches that were taken together.
pub struct Record {
    pub position: Position,
    /// The state with them.
    pub state: State,
    pub verdicts: Vec<(usize, Verdict)>,
    pub became: Became,
    /// It is a large batch in bulk.
    pub is_block: bool,
    /// How many entries of clients it takes out whose time has come.
    pub expired: usize,
    /// Whether entries go for want of room.
    pub evicts: bool,
    /// Whether it is one of the workers of counters.
    pub is_work: bool,
    writes: Writes,
    changes: Changes,
}

/// A batch, and what its client has asked of entries with it.
pub struct Sent<'a> {
    pub id: usize,
    pub batch: &'a WriteBatch,
    pub entries: &'a [EntryWish],
}

/// What a record is to say.
#[derive(Default)]
struct Writes {
    settles: bool,
    /// Of each namespace, whether words have new counts, and whether all that was there before is taken away.
    namespaces: BTreeMap<String, (bool, bool)>,
}

/// All that was taken at once.
#[derive(Default)]
pub struct Records {
    pub records: Vec<Record>,
    /// What was not even looked at, and why.
    pub refused: Vec<(usize, WriteError)>,
    /// How many increments the workers have added.
    pub worked: u64,
}

/// What is known when batches are taken.
pub struct Before<'a> {
    pub state: &'a State,
    /// Where the first record is written.
    pub position: Position,
    pub time_ms: u64,
    pub limits: &'a DedupLimits,
    /// Memory for entries, in bytes.
    pub entry_bytes: usize,
    pub counters: &'a CounterLimits,
    /// With which records are read.
    pub hash_seed: u64,
    /// Why nothing is taken.
    pub refusal: Option<WriteError>,
}

/// What the Writer has done, in order.
struct Deeds<'a> {
    actions: &'a [WriterAction<usize>],
    at: usize,
    poisoned: bool,
}

/// Whether a record only takes out what has expired, and marks that nobody needs.
fn is_expiry(record: &memdb::data::record::Record<'_>) -> bool {
    let leaves = |change: &EntryChange<'_>| match change.effect {
        EntryEffect::Remove(RemovalCause::Expired) => true,
        EntryEffect::Remove(_) => change.collection.kind == CollectionKind::Removals,
        _ => false,
    };
    !record.body.entries.is_empty() && record.body.entries.iter().all(leaves)
}

impl Writes {
    fn anything(&self) -> bool {
        self.settles || self.namespaces.values().any(|(counts, dropped)| *counts || *dropped)
    }

    /// A batch counts, that has found words to take away or not, and is part of a record that found `first`.
    fn add(&mut self, batch: &WriteBatch, takes_away: bool, first: &State) {
        self.settles |= batch.key.is_some();
        let name = &*batch.namespace;
        let (counts, dropped) = self.namespaces.entry(name.to_owned()).or_default();
        match batch.op {
            WriteOp::Add | WriteOp::AddGiven | WriteOp::Exchange => *counts |= !batch.counts.is_empty(),
            WriteOp::Increment => *counts = true,
            WriteOp::RemoveWords | WriteOp::RemoveCounter => *counts |= takes_away,
            WriteOp::DropNamespace => (*counts, *dropped) = (false, first.counts.contains_key(name)),
        }
    }
}

impl Deeds<'_> {
    /// What became of the next record, which has these members.
    fn next(&mut self, position: Position, members: &[(usize, Verdict)]) -> Result<Became, String> {
        let is_member = |id: &usize| members.iter().any(|(member, _)| member == id);
        while let Some(action) = self.actions.get(self.at) {
            self.at += 1;
            let became = match action {
                WriterAction::Published(at, _) if *at == position => Became::Written,
                WriterAction::Published(at, _) => return Err(format!("{at} was written, and not {position}")),
                WriterAction::Answer(id, Err(WriteError::OutcomeUnknown)) if is_member(id) => Became::Failed,
                WriterAction::Poisoned(_) => {
                    self.poisoned = true;
                    continue;
                }
                _ => continue,
            };
            return match self.poisoned {
                true => Err(format!("{position} was appended behind what may be there in part")),
                false => Ok(became),
            };
        }
        Ok(Became::Failed)
    }

    /// What became of the next record if it takes out what has expired: another may be in its place.
    fn next_expiry(&mut self, position: Position, hash_seed: u64) -> Result<Became, String> {
        let published = self.actions[self.at..].iter().find_map(|action| match action {
            WriterAction::Published(_, bytes) => Some(bytes),
            _ => None,
        });
        let Some(bytes) = published else { return Ok(Became::Failed) };
        let record = RawRecord::parse(bytes, hash_seed).and_then(|raw| raw.record().map(|record| is_expiry(&record)));
        match record {
            Ok(true) => self.next(position, &[]),
            Ok(false) => Ok(Became::Failed),
            Err(error) => Err(format!("{position} cannot be read: {error}")),
        }
    }

    /// A record has failed. What stands behind it may be refused for that: `next` is the first of it.
    fn refusal(&self, next: Option<usize>) -> Option<WriteError> {
        self.actions[self.at..].iter().find_map(|action| match action {
            WriterAction::Answer(id, Err(error @ (WriteError::DiskFull | WriteError::Poisoned)))
                if Some(*id) == next =>
            {
                Some(error.clone())
            }
            _ => None,
        })
    }

    /// The lengths that the queues are said to have.
    fn lengths(&self) -> Option<&QueueTotals> {
        self.actions.iter().rev().find_map(|action| match action {
            WriterAction::QueuesChanged(totals) => Some(totals),
            _ => None,
        })
    }

    fn nothing_more(&self) -> Result<(), String> {
        match self.actions[self.at..].iter().find(|action| matches!(action, WriterAction::Published(..))) {
            Some(_) => Err("a record was written that nobody may have".into()),
            None => Ok(()),
        }
    }

    fn found_no_memory(&self, id: usize) -> bool {
        let refused = |action: &WriterAction<usize>| matches!(action, WriterAction::Answer(to, Err(WriteError::MemoryFull)) if *to == id);
        self.actions.iter().any(refused)
    }
}

impl Records {
    /// What must have become of `sent`, by the model and by what the Writer has done.
    ///
    /// # Errors
    /// If it has written what it must not.
    pub fn of(sent: &[Sent<'_>], before: &Before<'_>, actions: &[WriterAction<usize>]) -> Result<Self, String> {
        let mut deeds = Deeds { actions, at: 0, poisoned: false };
        let mut taken = Self::default();
        let mut refusal = before.refusal.clone();
        let mut record = Record::begin(before.position, before.state);
        let mut first = before.state.clone();
        for (at, Sent { id, batch, entries }) in sent.iter().enumerate() {
            let is_block = !batch.counts.is_indexed() && batch.counts.len() >= BLOCK_WORDS;
            let has_to_wait = is_block && record.anything() || record.changes.are_in_the_way_of(batch, entries);
            if has_to_wait && refusal.is_none() {
                (record, refusal) = taken.end(record, &mut first, before, &mut deeds, Some(*id))?;
            }
            if refusal.is_none() {
                (record, refusal) = taken.expire_named(record, &mut first, before, &mut deeds, &sent[at])?;
            }
            if let Some(error) = &refusal {
                taken.refused.push((*id, error.clone()));
                continue;
            }
            let is_there = |word: &str| record.state.count_of(&batch.namespace, word) != 0;
            let takes_away = match batch.op {
                WriteOp::RemoveWords => batch.counts.iter().any(|counted| is_there(counted.word)),
                _ => record.state.has_counter(batch),
            };
            let no_memory = deeds.found_no_memory(*id);
            let Before { time_ms, limits, entry_bytes, counters, hash_seed, .. } = *before;
            let hasher = WordHasher::new(hash_seed);
            let into = Into { position: record.position, time_ms, limits, entry_bytes, counters, hasher };
            let Record { state, changes, .. } = &mut record;
            let verdict = state.admit((batch, entries), &into, changes, no_memory);
            let counts = matches!(verdict, Verdict::Counted { .. });
            record.verdicts.push((*id, verdict));
            if counts {
                record.writes.add(batch, takes_away, &first);
            }
            record.is_block = counts && is_block;
            if record.is_block {
                let next = sent.get(at + 1).map(|sent| sent.id);
                (record, refusal) = taken.end(record, &mut first, before, &mut deeds, next)?;
            }
        }
        if record.anything() {
            taken.end(record, &mut first, before, &mut deeds, None)?;
        } else {
            taken.records.push(record);
        }
        deeds.nothing_more()?;
        Ok(taken)
    }

    /// What must have become of a tick in which workers may add `credit` increments: a record takes out what is due,
    /// and nothing that is not; another is what the workers have to do.
    ///
    /// # Errors
    /// If it has written what it must not.
    pub fn of_tick(before: &Before<'_>, credit: u64, actions: &[WriterAction<usize>]) -> Result<Self, String> {
        let mut deeds = Deeds { actions, at: 0, poisoned: false };
        let mut taken = Self::default();
        if before.refusal.is_none() && before.state.has_due_entries(before.time_ms, before.entry_bytes) {
            let mut record = Record::begin(before.position, before.state);
            let budget = (before.entry_bytes, WordHasher::new(before.hash_seed));
            record.expired = record.state.expire(before.time_ms, budget);
            taken.end(record, &mut before.state.clone(), before, &mut deeds, None)?;
        }
        if before.refusal.is_none() && taken.records.iter().all(|record| record.became == Became::Written) {
            taken.work(before, credit, &mut deeds)?;
        }
        deeds.nothing_more()?;
        Ok(taken)
    }

    /// The workers make a record of what they have to do.
    fn work(&mut self, before: &Before<'_>, credit: u64, deeds: &mut Deeds<'_>) -> Result<(), String> {
        let work = QueueWork { limits: before.counters, now_ms: before.time_ms, credit };
        let Before { state, position: Position { epoch, sequence }, .. } = *before;
        let mut last = self.records.last().map_or(state, |record| &record.state).clone();
        if last.has_work(&work) {
            let mut record = Record::begin(Position::new(epoch, sequence + self.records.len() as u64), &last);
            (_, self.worked) = record.state.work(&work);
            record.is_work = true;
            self.end(record, &mut last, before, deeds, None)?;
        }
        let is_written = self.records.iter().all(|record| record.became == Became::Written);
        let state = self.records.last().map_or(state, |record| &record.state);
        match deeds.lengths() {
            Some(told) if is_written && !state.has_lengths(told) => Err(format!("the queues are said to be {told:?}")),
            _ => Ok(()),
        }
    }

    /// Looks whether what failed had a reason, and whether a large batch was written.
    ///
    /// # Errors
    /// If it failed without a fault.
    pub fn look(&self, met_a_fault: bool) -> Result<bool, String> {
        if !met_a_fault && self.records.iter().any(|record| record.became == Became::Failed) {
            return Err("no record was written, and no fault was met".into());
        }
        Ok(self.records.iter().any(|record| record.became == Became::Written && record.is_block))
    }

    /// Posts that are named and whose time has come are taken out first, by a record of their own.
    fn expire_named(
        &mut self,
        mut record: Record,
        first: &mut State,
        before: &Before<'_>,
        deeds: &mut Deeds<'_>,
        Sent { id, batch, entries }: &Sent<'_>,
    ) -> Result<(Record, Option<WriteError>), String> {
        let mut state = record.state.clone();
        let expired = state.expire_named(&batch.namespace, entries, before.time_ms);
        if expired == 0 {
            return Ok((record, None));
        }
        if record.anything() {
            let refusal;
            (record, refusal) = self.end(record, first, before, deeds, Some(*id))?;
            if refusal.is_some() {
                return Ok((record, refusal));
            }
        } else {
            let next = Record::begin(record.position, first);
            self.records.push(std::mem::replace(&mut record, next));
        }
        record.expired = record.state.expire_named(&batch.namespace, entries, before.time_ms);
        self.end(record, first, before, deeds, Some(*id))
    }

    /// Ends a record; gives the next, and why nothing may be in it.
    fn end(
        &mut self,
        mut record: Record,
        first: &mut State,
        before: &Before<'_>,
        deeds: &mut Deeds<'_>,
        next: Option<usize>,
    ) -> Result<(Record, Option<WriteError>), String> {
        let Position { epoch, mut sequence } = record.position;
        record.evicts = record.changes.evicts;
        record.became = match record.expired {
            0 => deeds.next(record.position, &record.verdicts)?,
            _ => deeds.next_expiry(record.position, before.hash_seed)?,
        };
        record.state.time_ms = before.time_ms;
        let mut refusal = None;
        if record.became == Became::Written {
            record.state.forget(first, before.limits);
            *first = record.state.clone();
            sequence += 1;
        } else {
            refusal = deeds.refusal(next);
        }
        self.records.push(record);
        Ok((Record::begin(Position::new(epoch, sequence), first), refusal))
    }
}

impl Record {
    fn begin(position: Position, state: &State) -> Self {
        let (state, verdicts) = (state.clone(), Vec::new());
        let (became, is_block, expired, evicts, is_work) = (Became::Nothing, false, 0, false, false);
        let (writes, changes) = (Writes::default(), Changes::default());
        Self { position, state, verdicts, became, is_block, expired, evicts, is_work, writes, changes }
    }

    fn anything(&self) -> bool {
        self.writes.anything() || self.changes.anything()
    }

    /// Its members that count.
    pub fn counted(&self) -> impl Iterator<Item = usize> + '_ {
        let counted = |(id, verdict): &(usize, Verdict)| matches!(verdict, Verdict::Counted { .. }).then_some(*id);
        self.verdicts.iter().filter_map(counted)
    }

    /// Where its members are told that they are.
    pub fn told(&self) -> Position {
        let Position { epoch, sequence } = self.position;
        if self.became == Became::Nothing { Position::new(epoch, sequence - 1) } else { self.position }
    }
}
