//! The true history of a cluster, with its lost branches.
//!
//! One leader writes each epoch, so a position names one record for ever: which state belongs to it is known, also when
//! it was lost later. Every node must show exactly the state of the position it says it is at.

use crate::{
    checker::{Moment, once_each, remembers, shows},
    model::State,
};
use memdb::{
    base::position::{Epoch, EpochTable, Position, PositionStatus, Sequence},
    data::store::{DedupLimits, StoreReader},
};
use std::collections::{BTreeMap, BTreeSet};

/// A record as the model has it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub position: Position,
    /// The state after it.
    pub state: State,
    /// The wishes it counts.
    pub counts: Vec<usize>,
    pub when: Moment,
}

/// An entry, for ever.
pub type Id = usize;

/// All that one epoch's leader had, from the first record of the database on.
#[derive(Default)]
struct Line {
    entries: Vec<Id>,
    /// The epochs that it goes on from.
    before: Vec<Epoch>,
    /// Appends of this epoch that failed or met a crash: they may be in its leader's log, or not.
    ghosts: Vec<Entry>,
    /// A start came as far as its MANIFEST and no further: after a power loss it may not have been.
    is_tentative: bool,
    /// What its leader goes on from.
    moment: Moment,
}

pub struct Truth {
    pub limits: DedupLimits,
    /// It finds nothing wrong, so that others can be seen to find it.
    pub is_blind: bool,
    genesis: State,
    entries: Vec<Entry>,
    lines: BTreeMap<Epoch, Line>,
    /// What was acknowledged, with the record it is part of.
    told: Vec<(usize, Id)>,
    /// Acknowledged records that the epoch that has begun last is without.
    pub lost: usize,
}

impl Truth {
    pub fn new(limits: DedupLimits) -> Self {
        Self {
            limits,
            is_blind: false,
            genesis: State::default(),
            entries: Vec::new(),
            lines: BTreeMap::from([(0, Line::default())]),
            told: Vec::new(),
            lost: 0,
        }
    }

    fn line(&self, epoch: Epoch) -> Result<&Line, String> {
        self.lines.get(&epoch).ok_or_else(|| format!("epoch {epoch} never was"))
    }

    fn line_mut(&mut self, epoch: Epoch) -> &mut Line {
        self.lines.get_mut(&epoch).expect("it has begun")
    }

    /// The last sequence of an epoch's leader.
    pub fn last(&self, epoch: Epoch) -> Sequence {
        self.lines.get(&epoch).map_or(0, |line| line.entries.len() as Sequence)
    }

    /// What an epoch's leader has come to.
    pub fn state(&self, epoch: Epoch) -> &State {
        let last = self.lines[&epoch].entries.last();
        last.map_or(&self.genesis, |&id| &self.entries[id].state)
    }

    /// A record was appended and applied.
    ///
    /// # Errors
    /// If its time is not what has passed.
    pub fn happened(&mut self, entry: Entry) -> Result<(), String> {
        let Position { epoch, sequence } = entry.position;
        assert_eq!(sequence, self.last(epoch) + 1);
        if let Some(&last) = self.lines[&epoch].entries.last().filter(|_| !self.is_blind) {
            let Entry { when, state, .. } = &self.entries[last];
            entry.when.check_pace(entry.state.time_ms, when, state.time_ms)?;
        }
        self.entries.push(entry);
        let id = self.entries.len() - 1;
        self.line_mut(epoch).entries.push(id);
        Ok(())
    }

    /// The leader of an epoch has begun to count from `counts_from_ms` on, which is when it has heard of the last
    /// record, or when its process was started. Gives the true time from that record on until then.
    pub fn counts(&mut self, epoch: Epoch, counts_from_ms: u64, is_a_start: bool) -> u64 {
        let last = self.lines[&epoch].entries.last().map(|&id| self.entries[id].when);
        let last = last.unwrap_or_else(|| Moment::default().at(counts_from_ms));
        let moment = last.gone_on(counts_from_ms);
        self.line_mut(epoch).moment = Moment { starts: last.starts + u64::from(is_a_start), ..moment };
        counts_from_ms.saturating_sub(last.at_ms)
    }

    /// A record of an epoch is written at this true time.
    pub fn moment(&self, epoch: Epoch, now_ms: u64) -> Moment {
        self.lines[&epoch].moment.at(now_ms)
    }

    /// A key was remembered by the leader of an epoch that this record has counted, if it is written already.
    ///
    /// # Errors
    /// If it should have been forgotten by now.
    pub fn may_remember(&self, epoch: Epoch, sequence: Sequence, now_ms: u64) -> Result<(), String> {
        let known = self.lines[&epoch].entries.get(sequence as usize - 1).filter(|_| !self.is_blind);
        let Some(Entry { when, position, .. }) = known.map(|&id| &self.entries[id]) else { return Ok(()) };
        self.moment(epoch, now_ms).check_young(when, self.limits.key_age_ms, *position)
    }

    /// An append has failed, or the process ended in it.
    pub fn may_have_happened(&mut self, entry: Entry) {
        self.line_mut(entry.position.epoch).ghosts.push(entry);
    }

    /// The record that is the last one at a position; `None` before the first.
    pub fn entry_at(&self, position: Position) -> Result<Option<Id>, String> {
        let Some(at) = (position.sequence as usize).checked_sub(1) else { return Ok(None) };
        let entries = &self.line(position.epoch)?.entries;
        entries.get(at).copied().map(Some).ok_or_else(|| format!("{position} was never written"))
    }

    /// Whether an epoch's leader ever had a record.
    pub fn is_part(&self, epoch: Epoch, id: Id) -> bool {
        let at = self.entries[id].position.sequence as usize - 1;
        self.lines.get(&epoch).is_some_and(|line| line.entries.get(at) == Some(&id))
    }

    /// Whether the history that stands at `position` holds a record.
    pub fn holds(&self, position: Position, id: Id) -> bool {
        self.entries[id].position.sequence <= position.sequence && self.is_part(position.epoch, id)
    }

    /// A store shows the state of the position it says it is at, in every respect.
    pub fn check(&self, who: &str, reader: &StoreReader) -> Result<(), String> {
        if self.is_blind {
            return Ok(());
        }
        let position = reader.read().position();
        let wrong = |what: String| format!("{who} is at {position}: {what}");
        let state = self.entry_at(position).map_err(wrong)?.map_or(&self.genesis, |id| &self.entries[id].state);
        shows(reader, state).and_then(|()| remembers(reader, state, &self.limits)).map_err(wrong)
    }

    /// The leader of an epoch has told a client that its wish is part of the record at `position`.
    pub fn acknowledged(&mut self, epoch: Epoch, wish: usize, position: Position) -> Result<Option<Id>, String> {
        let Some(id) = self.entry_at(Position::new(epoch, position.sequence))? else { return Ok(None) };
        if !self.is_blind && self.entry_at(position)? != Some(id) {
            return Err(format!("wish {wish} was acknowledged at {position}, which is not on the history of {epoch}"));
        }
        self.told.push((wish, id));
        Ok(Some(id))
    }

    /// Files have given back the history that stands at `position`. A ghost that is there has happened.
    pub fn recovered(&mut self, who: &str, reader: &StoreReader, position: Position) -> Result<(), String> {
        let is_blind = self.is_blind;
        let shows_all = |state: &State| {
            if is_blind { Ok(()) } else { shows(reader, state).and_then(|()| remembers(reader, state, &self.limits)) }
        };
        if position.sequence > self.last(position.epoch) {
            let ghosts = self.line(position.epoch)?.ghosts.iter();
            let mut there = ghosts.filter(|ghost| ghost.position == position && shows_all(&ghost.state).is_ok());
            let Some(ghost) = there.next().cloned().filter(|_| position.sequence == self.last(position.epoch) + 1)
            else {
                return Err(format!("{who}: the files give {position}, a state that never was there"));
            };
            return self.happened(ghost);
        }
        let id = self.entry_at(position)?;
        let state = id.map_or(&self.genesis, |id| &self.entries[id].state);
        shows_all(state).map_err(|what| format!("{who}: recovered to {position}: {what}"))
    }

    /// An epoch is in the MANIFEST of a leader that has come no further than that, if it is one of those.
    pub fn may_have_begun(&mut self, epoch: Epoch, epochs: &EpochTable) -> Result<(), String> {
        if self.lines.contains_key(&epoch) {
            return Ok(());
        }
        let from = epochs.ended().last().copied().unwrap_or(Position::ZERO);
        self.began(epoch, from, epochs)?;
        self.line_mut(epoch).is_tentative = true;
        Ok(())
    }

    /// The next epoch has begun behind what stood at `from`. Each epoch has one leader, once.
    pub fn began(&mut self, epoch: Epoch, from: Position, epochs: &EpochTable) -> Result<(), String> {
        if epoch <= from.epoch || self.lines.get(&epoch).is_some_and(|line| !line.is_tentative) {
            return Err(format!("epoch {epoch} began behind {from}, and it was there before"));
        }
        let entries = self.line(from.epoch)?.entries.get(..from.sequence as usize);
        let entries = entries.ok_or_else(|| format!("epoch {epoch} began behind {from}, which was never written"))?;
        let before = self.line(from.epoch)?.before.iter().copied().chain([from.epoch]).collect();
        let line = Line { entries: entries.to_vec(), before, ..Line::default() };
        self.lines.insert(epoch, line);
        let applied = Position::new(epoch, from.sequence);
        self.lost = 0;
        for &(wish, id) in &self.told {
            let (here, position) = (self.holds(applied, id), self.entries[id].position);
            let standing = epochs.position_status(position, applied);
            self.lost += usize::from(!here);
            if !self.is_blind && here != (standing == PositionStatus::Reached) {
                return Err(format!(
                    "wish {wish} was acknowledged at {position}, which is said to be {standing:?}, and is{} there",
                    if here { "" } else { " not" }
                ));
            }
        }
        Ok(())
    }

    /// A reader asks for a position it knows of a record; what a node says of it must be so.
    pub fn check_standing(
        &self,
        (asked, id): (Position, Id),
        applied: Position,
        standing: PositionStatus,
    ) -> Result<(), String> {
        let here = self.holds(applied, id);
        let right = match standing {
            PositionStatus::Reached => here,
            // Perhaps it has the record, and does not know yet that a later epoch goes on behind it.
            PositionStatus::Ahead => !here || applied.epoch < asked.epoch,
            // Where a history has gone on from, nothing is added later.
            // Of an epoch of another branch nobody here knows where it began: whoever stood in it is told to ask again.
            PositionStatus::OtherDatabase => false, // there is one here
            PositionStatus::Lost => {
                !self.is_part(applied.epoch, id) || !self.line(applied.epoch)?.before.contains(&asked.epoch)
            }
        };
        if right || self.is_blind { Ok(()) } else { Err(format!("at {applied}, {asked} is said to be {standing:?}")) }
    }

    pub fn position_of(&self, id: Id) -> Position {
        self.entries[id].position
    }

    /// On an epoch's history every key and every line of a stream counts at most once, but for those that were used
    /// again after their age.
    pub fn once_each(&self, epoch: Epoch, names: impl Fn(usize) -> BTreeSet<String>) -> Result<(), String> {
        let entries = self.lines[&epoch].entries.iter().map(|&id| &self.entries[id]).filter(|_| !self.is_blind);
        let records = entries.map(|entry| (entry.position, (entry.when, entry.state.time_ms), &*entry.counts));
        once_each(records, names, &self.limits)
    }
}
