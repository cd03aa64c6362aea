//! What clients sent and were told, and what readers saw: a history, which [`History::check`] holds to the guarantees.
//!
//! It knows no HTTP and no clock: times are numbers that whoever records gives, of one clock that never goes back. So
//! the simulation and runs of real processes use the same one.
//!
//! Entries have rules of their own (`entries`). Amounts are above zero: nobody deletes and nobody takes away. That
//! makes every count grow with the position, which is what lets sorting and adding up take the place of a search
//! through possible orders.

mod entries;
mod rules;

use memdb::{
    base::position::{EpochTable, Position, PositionStatus, Sequence},
    engine::leader::AckLevel,
};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

pub use entries::{EntryChange, EntryCondition, EntrySeen, EntryWriteId};
pub use rules::{Broken, Checked, Rule};

/// A moment, in any unit.
pub type Time = u64;
/// A write of this history.
pub type WriteId = usize;

/// A word, by its number in [`History::names`].
type Word = u32;

/// What became of a write, as far as its client knows.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It counts once, or not at all.
    Unknown,
    /// It does not count, and never will.
    Refused,
    /// It counts once.
    Acknowledged { ended: Time, position: Position, level: AckLevel },
}

#[derive(Debug)]
struct Write {
    began: Time,
    /// Its words, in [`History::amounts`].
    amounts: Range<usize>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Read {
    who: u32,
    began: Time,
    ended: Time,
    position: Position,
    asked: Option<Position>,
    leads: bool,
    /// What it saw, in [`History::values`].
    values: Range<usize>,
}

/// A read, as whoever made it tells it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub who: u32,
    pub began: Time,
    pub ended: Time,
    /// Where the node said that it was.
    pub position: Position,
    /// The `Memdb-Min-Position` that was asked for.
    pub asked: Option<Position>,
    /// The node led, with nobody else: it must have everything that was acknowledged before.
    pub leads: bool,
    pub values: &'a [(&'a str, i64)],
}

/// Where an epoch ended, and what may be lost with the records behind that.
#[derive(Debug)]
struct Ended {
    at: Position,
    forgives: Vec<AckLevel>,
}

/// The history that holds, where several may have led at a time.
#[derive(Debug)]
struct Holds {
    epochs: EpochTable,
    last: Ended,
}

/// All that one node holds at the end.
#[derive(Debug)]
struct Last {
    node: String,
    position: Position,
    counts: BTreeMap<String, i64>,
}

/// Writes and reads, in any order.
#[derive(Debug, Default)]
pub struct History {
    numbers: HashMap<String, Word>,
    names: Vec<String>,
    /// What each word counted before.
    base: Vec<i64>,
    /// Where that was.
    began_at: Sequence,
    writes: Vec<Write>,
    amounts: Vec<(Word, i64)>,
    reads: Vec<Read>,
    values: Vec<(Word, i64)>,
    ended: Vec<Ended>,
    holds: Option<Holds>,
    last: Vec<Last>,
    entries: entries::EntryHistory,
}

impl History {
    /// A history of a database that holds `base` at a position and has no write under way. What was before that, a node
    /// that begins again with an old snapshot may show: of such reads it is known only that they show no more than
    /// `base`.
    pub fn new(base: &BTreeMap<String, i64>, position: Position) -> Self {
        let mut history = Self { began_at: position.sequence, ..Self::default() };
        for (word, count) in base {
            let word = history.number(word);
            history.base[word as usize] = *count;
        }
        history
    }

    fn number(&mut self, word: &str) -> Word {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = self.names.len() as Word;
        self.numbers.insert(word.to_owned(), number);
        self.names.push(word.to_owned());
        self.base.push(0);
        number
    }

    /// A write is about to be sent for the first time. Unless something is said of it later, its outcome is unknown.
    /// Sent again under its key or number in its stream it is the same write.
    pub fn sent(&mut self, began: Time, words: &[(&str, i64)]) -> WriteId {
        let from = self.amounts.len();
        for (word, amount) in words {
            assert!(*amount > 0, "the rules know of growing counts only");
            let word = self.number(word);
            self.amounts.push((word, *amount));
        }
        self.writes.push(Write { began, amounts: from..self.amounts.len(), outcome: Outcome::Unknown });
        self.writes.len() - 1
    }

    /// It was answered that the write counts, at this position. What was told last holds: a write that was lost with an
    /// epoch may be sent again.
    pub fn acknowledged(&mut self, write: WriteId, ended: Time, position: Position, level: AckLevel) {
        self.writes[write].outcome = Outcome::Acknowledged { ended, position, level };
    }

    /// None of the times it was sent does it count.
    pub fn refused(&mut self, write: WriteId) {
        self.writes[write].outcome = Outcome::Refused;
    }

    /// Somebody has read.
    pub fn read(&mut self, seen: &Seen<'_>) {
        let from = self.values.len();
        for (word, value) in seen.values {
            let word = self.number(word);
            self.values.push((word, *value));
        }
        let Seen { who, began, ended, position, asked, leads, .. } = *seen;
        self.reads.push(Read { who, began, ended, position, asked, leads, values: from..self.values.len() });
    }

    /// An epoch ended at this position, and history went on from there without its later records. Of those, what was
    /// acknowledged at these levels may be lost.
    pub fn epoch_ended(&mut self, at: Position, forgives: &[AckLevel]) {
        self.ended.push(Ended { at, forgives: forgives.to_vec() });
    }

    /// Notes the history that holds: these epochs, up to `last`. Several may have led at a time, so that epochs are no
    /// chain, and all that was told of others was given up. Of that, what was acknowledged at these levels may be lost.
    pub fn holds(&mut self, epochs: EpochTable, last: Position, forgives: &[AckLevel]) {
        self.holds = Some(Holds { epochs, last: Ended { at: last, forgives: forgives.to_vec() } });
    }

    /// All that a node holds once nothing is under way and all speak to each other.
    pub fn ends(&mut self, node: &str, position: Position, counts: BTreeMap<String, i64>) {
        self.last.push(Last { node: node.to_owned(), position, counts });
    }

    /// Writes without a word of what became of them.
    pub fn unknown(&self) -> usize {
        self.writes.iter().filter(|write| matches!(write.outcome, Outcome::Unknown)).count()
    }

    /// The end of an epoch that a position is behind, if there is one: then it is of a history that was given up.
    fn given_up(&self, position: Position) -> Option<&Ended> {
        if let Some(Holds { epochs, last }) = &self.holds {
            // The begin of an epoch that was given up is nowhere in the history that holds, though nothing precedes it.
            let has_epoch = [0, last.at.epoch].contains(&position.epoch) || epochs.last_of(position.epoch).is_some();
            let is_there = has_epoch && epochs.position_status(position, last.at) == PositionStatus::Reached;
            return (!is_there).then_some(last);
        }
        let behind = |ended: &&Ended| ended.at.epoch >= position.epoch && ended.at.sequence < position.sequence;
        self.ended.iter().filter(behind).min_by_key(|ended| ended.at)
    }

    /// A position of before this history.
    fn is_older(&self, position: Position) -> bool {
        position.sequence < self.began_at
    }

    /// Where in the history that holds a position is.
    fn sequence(&self, position: Position) -> Option<Sequence> {
        self.given_up(position).is_none().then_some(position.sequence)
    }
}
