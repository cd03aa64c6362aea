//! The rules for entries, each key a register: a read shows the last write before its position, or one that is under
//! way. A value names its write, since no two writes of a history have one value.

use super::{Broken, History, Outcome, Rule, Time, rules::broken};
use memdb::{
    base::position::{Position, Sequence},
    engine::leader::AckLevel,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
};

/// A write of one entry in a history.
pub type EntryWriteId = usize;

/// The time by which a value may be late, in nanoseconds.
const SLACK: Time = 500_000_000;

/// The time by which a value may go early, in nanoseconds: records and entries know milliseconds.
const EARLY: Time = 5_000_000;

/// The change that a write makes to its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryChange {
    /// There is this value, for so long if a time is given.
    Put {
        value: String,
        ttl: Option<Time>,
    },
    Remove,
}

/// The condition that a write depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryCondition {
    Always,
    /// Nothing is there: `If-None-Match: *`.
    Absent,
    /// The value of that write is there: `If-Match` with its tag.
    Matches(EntryWriteId),
}

#[derive(Clone, Debug)]
struct EntryWrite {
    key: String,
    change: EntryChange,
    condition: EntryCondition,
    began: Time,
    outcome: Outcome,
    /// When it was refused for its condition.
    refused: Option<Time>,
}

/// One entry in one read. Times are nanoseconds here, as those of expiry are.
#[derive(Clone, Debug)]
pub struct EntrySeen<'a> {
    pub who: u32,
    pub began: Time,
    pub ended: Time,
    pub position: Position,
    /// The `Memdb-Min-Position` that was asked for.
    pub asked: Option<Position>,
    /// The node led, with nobody else.
    pub leads: bool,
    /// The node's time is that of the leader, which has not moved: a follower tells time by the last record it has.
    pub hides_on_time: bool,
    pub key: &'a str,
    pub value: Option<&'a str>,
}

#[derive(Clone, Debug)]
struct EntryRead {
    who: String,
    began: Time,
    ended: Time,
    position: Position,
    asked: Option<Position>,
    leads: bool,
    hides_on_time: bool,
    key: String,
    value: Option<String>,
}

/// Writes and reads of entries.
#[derive(Debug, Default)]
pub struct EntryHistory {
    writes: Vec<EntryWrite>,
    by_value: HashMap<String, EntryWriteId>,
    by_key: HashMap<String, Vec<EntryWriteId>>,
    reads: Vec<EntryRead>,
    last: Vec<(String, BTreeMap<String, String>)>,
}

impl EntryHistory {
    fn push(&mut self, write: EntryWrite) -> EntryWriteId {
        let id = self.writes.len();
        if let EntryChange::Put { value, .. } = &write.change {
            assert_eq!(self.by_value.insert(value.clone(), id), None, "a value names its write");
        }
        self.by_key.entry(write.key.clone()).or_default().push(id);
        self.writes.push(write);
        id
    }

    /// The history that goes on behind this one, from what is there at its end.
    #[must_use]
    pub fn carried(&self, position: Position) -> Self {
        let mut next = Self::default();
        let values: BTreeSet<&String> = self.last.iter().flat_map(|(_, entries)| entries.values()).collect();
        for value in values {
            let write = self.writes[self.by_value[value]].clone();
            let ended = if let Outcome::Acknowledged { ended, .. } = write.outcome { ended } else { Time::MAX };
            let outcome = Outcome::Acknowledged { ended, position, level: AckLevel::Replica };
            next.push(EntryWrite { condition: EntryCondition::Always, outcome, ..write });
        }
        next
    }

    /// The number of writes and of reads.
    pub fn len(&self) -> (usize, usize) {
        (self.writes.len(), self.reads.len())
    }
}

/// A write that is known to be somewhere in the history that holds, with the others of the same record.
type Placed = BTreeMap<Sequence, Vec<EntryWriteId>>;

/// The writes of one key.
struct OfKey {
    placed: Placed,
    /// Of unknown outcome, or of a history that was given up.
    open: Vec<EntryWriteId>,
    /// The record at which an open one was first seen.
    glimpsed: HashMap<EntryWriteId, Sequence>,
}

impl History {
    /// A write of an entry is about to be sent for the first time, as [`History::sent`].
    pub fn entry_sent(
        &mut self,
        began: Time,
        key: &str,
        change: EntryChange,
        condition: EntryCondition,
    ) -> EntryWriteId {
        let (key, outcome) = (key.to_owned(), Outcome::Unknown);
        self.entries.push(EntryWrite { key, change, condition, began, outcome, refused: None })
    }

    /// It was answered that the write is done, at this position.
    pub fn entry_acknowledged(&mut self, write: EntryWriteId, ended: Time, position: Position, level: AckLevel) {
        self.entries.writes[write].outcome = Outcome::Acknowledged { ended, position, level };
    }

    /// It was answered that its condition does not hold.
    pub fn entry_refused(&mut self, write: EntryWriteId, ended: Time) {
        let write = &mut self.entries.writes[write];
        (write.outcome, write.refused) = (Outcome::Refused, Some(ended));
    }

    /// The write that has put a value.
    pub fn entry_of(&self, value: &str) -> Option<EntryWriteId> {
        self.entries.by_value.get(value).copied()
    }

    /// Somebody has read an entry.
    pub fn entry_read(&mut self, seen: &EntrySeen<'_>) {
        let EntrySeen { who, began, ended, position, asked, leads, hides_on_time, key, value } = *seen;
        let (who, key, value) = (format!("reader {who}"), key.to_owned(), value.map(str::to_owned));
        self.entries.reads.push(EntryRead { who, began, ended, position, asked, leads, hides_on_time, key, value });
    }

    /// All entries that a node holds between these moments, once nothing is under way.
    pub fn entries_end(
        &mut self,
        node: &str,
        (began, ended): (Time, Time),
        position: Position,
        entries: BTreeMap<String, String>,
    ) {
        let keys: HashSet<&String> = self.entries.by_key.keys().chain(entries.keys()).collect();
        for key in keys {
            let (who, value) = (format!("{node} at the end"), entries.get(key).cloned());
            let (asked, leads, hides_on_time) = (None, false, false);
            self.entries.reads.push(EntryRead {
                who,
                began,
                ended,
                position,
                asked,
                leads,
                hides_on_time,
                key: key.clone(),
                value,
            });
        }
        self.entries.last.push((node.to_owned(), entries));
    }

    /// Goes on with the entries of an earlier history.
    pub fn goes_on(&mut self, before: &Self, position: Position) {
        self.entries = before.entries.carried(position);
    }

    /// The number of writes and of reads of entries.
    pub fn entries_recorded(&self) -> (usize, usize) {
        self.entries.len()
    }

    /// Holds all writes and reads of entries to the rules.
    pub(super) fn check_entries(&self) -> Result<(), Broken> {
        let mut reads: HashMap<&str, Vec<&EntryRead>> = HashMap::new();
        for read in &self.entries.reads {
            self.check_entry_asked(read)?;
            reads.entry(&read.key).or_default().push(read);
        }
        for (key, mut reads) in reads {
            // What is of before, or of a history given up, is not at any place of this one.
            reads.retain(|read| !self.is_older(read.position) && self.sequence(read.position).is_some());
            reads.sort_by_key(|read| read.position.sequence);
            let of_key = self.of_key(key, &reads);
            for read in &reads {
                self.check_entry_read(&of_key, read)?;
            }
            let seen = reads.iter().filter_map(|read| read.value.as_ref().map(|value| (read, value)));
            let seen: Vec<_> = seen.collect();
            for pair in seen.windows(2) {
                let [(one, value), (other, another)] = pair else { unreachable!("windows of two") };
                if one.position == other.position && value != another {
                    let what =
                        format!("at {} {key} is {value} for {}, {another} for {}", one.position, one.who, other.who);
                    return broken(Rule::Monotone, what);
                }
            }
        }
        for key in self.entries.by_key.keys() {
            self.check_conditions(&self.of_key(key, &[]), key)?;
        }
        self.check_entries_equal()
    }

    fn check_entry_asked(&self, read: &EntryRead) -> Result<(), Broken> {
        let EntryRead { who, position, asked, .. } = read;
        let both = self.sequence(*position).zip(asked.and_then(|asked| self.sequence(asked)));
        match both {
            Some((position, asked)) if position < asked => {
                broken(Rule::OwnWrites, format!("{who} asked for {asked}, and was answered at {position}"))
            }
            _ => Ok(()),
        }
    }

    fn entry_place(&self, write: EntryWriteId) -> Option<Sequence> {
        match self.entries.writes[write].outcome {
            Outcome::Acknowledged { position, .. } => self.sequence(position),
            Outcome::Unknown | Outcome::Refused => None,
        }
    }

    fn of_key(&self, key: &str, reads: &[&EntryRead]) -> OfKey {
        let (mut placed, mut open) = (Placed::new(), Vec::new());
        for &write in self.entries.by_key.get(key).into_iter().flatten() {
            match (self.entry_place(write), &self.entries.writes[write].outcome) {
                (Some(sequence), _) => placed.entry(sequence).or_default().push(write),
                (None, Outcome::Refused) => {}
                (None, _) => open.push(write),
            }
        }
        let mut glimpsed = HashMap::new();
        for read in reads {
            if let Some(write) = read.value.as_ref().and_then(|value| self.entries.by_value.get(value)) {
                glimpsed.entry(*write).or_insert(read.position.sequence);
            }
        }
        OfKey { placed, open, glimpsed }
    }

    /// Whether what this write has put may have expired by then, or it has put nothing.
    fn may_be_gone(&self, write: EntryWriteId, by: Time) -> bool {
        let EntryWrite { change, began, .. } = &self.entries.writes[write];
        match change {
            EntryChange::Remove => true,
            EntryChange::Put { ttl, .. } => {
                ttl.is_some_and(|ttl| by.saturating_add(EARLY) >= began.saturating_add(ttl))
            }
        }
    }

    /// What was seen of one entry, against what was sent of it.
    fn check_entry_read(&self, of: &OfKey, read: &EntryRead) -> Result<(), Broken> {
        let EntryRead { who, began, ended, position, key, value, leads, .. } = read;
        let fail = |rule, why: &str| {
            let shown = value.as_deref().unwrap_or("nothing");
            broken(rule, format!("{key} is {shown} for {who} at {position}, between {began} and {ended}; {why}"))
        };
        let upto = position.sequence;
        if *leads && let Some((behind, _)) = of.placed.range((Bound::Excluded(upto), Bound::Unbounded)).find(|(_, writes)| {
            let was_told = |write: &EntryWriteId| {
                matches!(self.entries.writes[*write].outcome, Outcome::Acknowledged { ended, .. } if ended < *began)
            };
            writes.iter().any(was_told)
        }) {
            return fail(Rule::Fresh, &format!("a write at {behind} was acknowledged before"));
        }
        let last = of.placed.range(..=upto).next_back();
        let Some(value) = value else {
            let written = last.is_some_and(|(_, writes)| writes.iter().all(|write| !self.may_be_gone(*write, *ended)));
            let mut open = of.open.iter();
            let is_open =
                open.any(|write| self.entries.writes[*write].began <= *ended && self.may_be_gone(*write, *ended));
            return if written && !is_open { fail(Rule::Position, "what was put up to there is gone") } else { Ok(()) };
        };
        let Some(&write) = self.entries.by_value.get(value) else {
            return fail(Rule::Invented, "nobody has put that");
        };
        let put = &self.entries.writes[write];
        if put.key != *key {
            return fail(Rule::Invented, &format!("that is of {}", put.key));
        }
        if put.began > *ended || matches!(put.outcome, Outcome::Refused) {
            return fail(Rule::Invented, "that was refused, or sent later");
        }
        let (from, rule) = match self.entry_place(write) {
            Some(place) if place > upto => return fail(Rule::Position, &format!("that was put at {place}")),
            Some(place) => (place, Rule::Position),
            None => (of.glimpsed.get(&write).copied().unwrap_or(upto), Rule::Monotone),
        };
        if let Some((over, _)) = of.placed.range((Bound::Excluded(from), Bound::Included(upto))).next() {
            return fail(rule, &format!("that was put by {from}, and another write was at {over}"));
        }
        if let (EntryChange::Put { ttl: Some(ttl), .. }, Outcome::Acknowledged { ended: told, .. }) =
            (&put.change, &put.outcome)
            && read.hides_on_time
            && *began > told.saturating_add(*ttl).saturating_add(SLACK)
        {
            return fail(Rule::Expired, &format!("it had {ttl} from {told} at the latest"));
        }
        Ok(())
    }

    /// Of conditional writes those succeeded whose condition held, and no others.
    fn check_conditions(&self, of: &OfKey, key: &str) -> Result<(), Broken> {
        let mut matched: HashMap<EntryWriteId, EntryWriteId> = HashMap::new();
        for &write in &self.entries.by_key[key] {
            let EntryWrite { condition, refused, change, .. } = &self.entries.writes[write];
            let fail = |why: String| broken(Rule::Condition, format!("{key}, {change:?} under {condition:?}: {why}"));
            match (condition, self.entry_place(write), refused) {
                (EntryCondition::Matches(wanted), Some(place), _) => {
                    if let Some(other) = matched.insert(*wanted, write) {
                        return fail(format!("so did {:?}", self.entries.writes[other].change));
                    }
                    let from = self.entry_place(*wanted).unwrap_or(place);
                    let between = (Bound::Excluded(from), Bound::Excluded(place));
                    if from > place {
                        return fail(format!("at {place}, and what it names was put at {from}"));
                    }
                    if from < place
                        && let Some((over, _)) = of.placed.range(between).next()
                    {
                        return fail(format!("at {place}, though another write was at {over}"));
                    }
                }
                (EntryCondition::Absent, Some(place), _) => {
                    let is_alone = of.placed[&place].len() == 1;
                    let ended = match self.entries.writes[write].outcome {
                        Outcome::Acknowledged { ended, .. } => ended,
                        Outcome::Unknown | Outcome::Refused => Time::MAX,
                    };
                    let stays = |write: &EntryWriteId| !self.may_be_gone(*write, ended);
                    let there = of.placed.range(..place).next_back();
                    let is_there = there.is_some_and(|(_, writes)| writes.iter().all(stays));
                    if is_alone && is_there && of.open.iter().all(stays) {
                        return fail(format!("at {place}, where something was"));
                    }
                }
                (EntryCondition::Matches(wanted), None, Some(refused)) => {
                    let from = self.entry_place(*wanted);
                    let others = of.placed.range(from.unwrap_or(0)..).flat_map(|(_, writes)| writes);
                    let others = others.chain(&of.open).filter(|other| *other != wanted);
                    let is_over = others.into_iter().any(|other| self.entries.writes[*other].began <= *refused);
                    if from.is_some() && !is_over && !self.may_be_gone(*wanted, *refused) {
                        return fail("refused, though what it names was there".to_owned());
                    }
                }
                (EntryCondition::Absent, None, Some(refused)) => {
                    let mut others = of.placed.values().flatten().chain(&of.open);
                    let is_put = |other: &EntryWriteId| {
                        let EntryWrite { change, began, .. } = &self.entries.writes[*other];
                        *began <= *refused && *change != EntryChange::Remove
                    };
                    if !others.any(is_put) {
                        return fail("refused, though nothing was ever there".to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// At the end all nodes hold the same entries, but for those that expire while they are asked.
    fn check_entries_equal(&self) -> Result<(), Broken> {
        let Some((first, entries)) = self.entries.last.first() else { return Ok(()) };
        let stays = |value: &&String| {
            let write = self.entries.by_value.get(*value).map(|write| &self.entries.writes[*write].change);
            !matches!(write, Some(EntryChange::Put { ttl: Some(_), .. }))
        };
        let of = |entries: &'_ BTreeMap<String, String>| -> BTreeMap<String, String> {
            entries.iter().filter(|(_, value)| stays(value)).map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let expected = of(entries);
        for (node, entries) in &self.entries.last[1..] {
            let found = of(entries);
            if found != expected {
                let keys = found.keys().chain(expected.keys());
                let differ: Vec<_> = keys.filter(|key| found.get(*key) != expected.get(*key)).take(5).collect();
                return broken(Rule::Equal, format!("{node} and {first} differ at {differ:?}"));
            }
        }
        Ok(())
    }

    /// Entries that were acknowledged, and are of a history that was given up, were such as may be.
    pub(super) fn check_entries_lost(&self) -> Result<usize, Broken> {
        let mut lost = 0;
        for EntryWrite { key, change, outcome, .. } in &self.entries.writes {
            let Outcome::Acknowledged { position, level, .. } = outcome else { continue };
            match self.given_up(*position) {
                None => {}
                Some(ended) if ended.forgives.contains(level) => lost += 1,
                Some(ended) => {
                    let at = ended.at;
                    let what =
                        format!("{key}: {change:?} was acknowledged at {position} at {level:?}, and it ended at {at}");
                    return broken(Rule::Lost, what).map(|()| 0);
                }
            }
        }
        Ok(lost)
    }
}
