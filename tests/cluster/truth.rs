//! The true history of a cluster, with its lost branches.
//!
//! One leader writes each epoch, so a position names one record for ever: which state belongs to it is known, also when
//! it was lost later. Every node must show exactly the state of the position it says it is at.

use crate::{
    checker::{remembers, shows},
    model::State,
};
use memdb::{
    position::{Epoch, EpochTable, Position, Sequence, Standing},
    store::{Reader, WindowLimits},
};
use std::collections::BTreeMap;

/// A record as the model has it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub position: Position,
    /// The state after it.
    pub state: State,
    /// The wishes it counts.
    pub counts: Vec<usize>,
}

/// An entry, for ever.
pub type Id = usize;

pub struct Truth {
    pub limits: WindowLimits,
    genesis: State,
    entries: Vec<Entry>,
    /// Of each epoch: every record from the first on, as its leader had them.
    lines: BTreeMap<Epoch, Vec<Id>>,
    pub epoch: Epoch,
    /// Appends of this epoch that failed or met a crash: they may be in the log, or not.
    ghosts: Vec<Entry>,
    /// What was acknowledged, with the record it is part of.
    told: Vec<(usize, Id)>,
    /// Up to there the leader's disk has promised this epoch's line.
    pub kept: Sequence,
    /// Whether the leader's machine has lost power since the epoch began.
    pub power_lost: bool,
    /// Acknowledged records that were lost in the end.
    pub lost: usize,
}

impl Truth {
    pub fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            genesis: State::default(),
            entries: Vec::new(),
            lines: BTreeMap::from([(0, Vec::new())]),
            epoch: 0,
            ghosts: Vec::new(),
            told: Vec::new(),
            kept: 0,
            power_lost: false,
            lost: 0,
        }
    }

    fn line(&self) -> &Vec<Id> {
        &self.lines[&self.epoch]
    }

    /// The last sequence of this epoch's leader.
    pub fn last(&self) -> Sequence {
        self.line().len() as Sequence
    }

    pub fn state(&self) -> &State {
        self.line().last().map_or(&self.genesis, |&id| &self.entries[id].state)
    }

    /// A record was appended and applied.
    pub fn happened(&mut self, entry: Entry) {
        assert_eq!(entry.position, Position::new(self.epoch, self.last() + 1));
        self.entries.push(entry);
        let id = self.entries.len() - 1;
        self.lines.get_mut(&self.epoch).expect("it has begun").push(id);
    }

    /// An append has failed, or the process ended in it.
    pub fn may_have_happened(&mut self, entry: Entry) {
        self.ghosts.push(entry);
    }

    /// The record that is the last one at a position; `None` before the first.
    pub fn entry_at(&self, position: Position) -> Result<Option<Id>, String> {
        let Some(at) = (position.sequence as usize).checked_sub(1) else { return Ok(None) };
        let line =
            self.lines.get(&position.epoch).ok_or_else(|| format!("{position} is of an epoch that never was"))?;
        line.get(at).copied().map(Some).ok_or_else(|| format!("{position} was never written"))
    }

    /// Whether the history that stands at `position` holds a record.
    pub fn holds(&self, position: Position, id: Id) -> bool {
        let at = self.entries[id].position.sequence as usize - 1;
        at < position.sequence as usize && self.lines.get(&position.epoch).is_some_and(|line| line.get(at) == Some(&id))
    }

    /// A store shows the state of the position it says it is at, in every respect.
    pub fn check(&self, who: &str, reader: &Reader) -> Result<(), String> {
        let position = reader.read().position();
        let wrong = |what: String| format!("{who} is at {position}: {what}");
        let state = self.entry_at(position).map_err(wrong)?.map_or(&self.genesis, |id| &self.entries[id].state);
        shows(reader, state).and_then(|()| remembers(reader, state, &self.limits)).map_err(wrong)
    }

    /// A client was told that its wish is part of the record at `position`.
    pub fn acknowledged(&mut self, wish: usize, position: Position) -> Result<Option<Id>, String> {
        let id = self.entry_at(Position::new(self.epoch, position.sequence))?;
        let Some(id) = id else { return Ok(None) };
        if self.entry_at(position)? != Some(id) {
            return Err(format!("wish {wish} was acknowledged at {position}, which is not on this history"));
        }
        self.told.push((wish, id));
        Ok(Some(id))
    }

    /// The leader's files have given back what the epoch's line has up to `end`. Ghosts that are there have happened.
    pub fn recovered(&mut self, reader: &Reader, end: Sequence) -> Result<(), String> {
        if end > self.last() {
            let is = |ghost: &&Entry| {
                ghost.position == Position::new(self.epoch, end)
                    && shows(reader, &ghost.state).and_then(|()| remembers(reader, &ghost.state, &self.limits)).is_ok()
            };
            let ghost = self.ghosts.iter().find(is).cloned();
            let Some(ghost) = ghost.filter(|_| end == self.last() + 1) else {
                return Err(format!("the files give {end} records, to a state that never was there"));
            };
            self.happened(ghost);
            return Ok(());
        }
        let id = self.entry_at(Position::new(self.epoch, end))?;
        let state = id.map_or(&self.genesis, |id| &self.entries[id].state);
        shows(reader, state)
            .and_then(|()| remembers(reader, state, &self.limits))
            .map_err(|what| format!("recovered to {end}: {what}"))?;
        if !self.power_lost && end < self.last() {
            return Err(format!("recovered to {end} of {}, and the machine never went down", self.last()));
        }
        if end < self.kept {
            return Err(format!("{} was promised as synced, and only {end} is there", self.kept));
        }
        Ok(())
    }

    /// The next epoch has begun behind the record `end`.
    pub fn began(&mut self, epoch: Epoch, end: Sequence, epochs: &EpochTable) -> Result<(), String> {
        if epoch <= self.epoch {
            return Err(format!("epoch {epoch} began after {}", self.epoch));
        }
        let line = self.line()[..end as usize].to_vec();
        self.lines.insert(epoch, line);
        (self.epoch, self.kept, self.power_lost) = (epoch, end, false);
        self.ghosts.clear();
        let applied = Position::new(epoch, end);
        self.lost = 0;
        for &(wish, id) in &self.told {
            let (here, position) = (self.holds(applied, id), self.entries[id].position);
            let standing = epochs.standing(position, applied);
            self.lost += usize::from(!here);
            if here != (standing == Standing::Reached) {
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
        standing: Standing,
    ) -> Result<(), String> {
        let here = self.holds(applied, id);
        // Where a history has gone on from, nothing is added later.
        let is_part = self.lines.get(&applied.epoch).is_some_and(|line| line.contains(&id));
        let right = match standing {
            Standing::Reached => here,
            // Perhaps it has the record, and does not know yet that a later epoch goes on behind it.
            Standing::Ahead => !here || applied.epoch < asked.epoch,
            Standing::Lost => !is_part,
        };
        if right { Ok(()) } else { Err(format!("at {applied}, {asked} is said to be {standing:?}")) }
    }

    pub fn position_of(&self, id: Id) -> Position {
        self.entries[id].position
    }

    /// Every key counts at most once, but for those that were used again after their age.
    pub fn once_each(&self, key: impl Fn(usize) -> Option<String>) -> Result<(), String> {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for entry in self.line().iter().map(|&id| &self.entries[id]) {
            for name in entry.counts.iter().filter_map(|&wish| key(wish)) {
                let time_ms = entry.state.time_ms;
                if let Some(before_ms) = seen.insert(name.clone(), time_ms)
                    && time_ms - before_ms < self.limits.key_age_ms
                {
                    return Err(format!("{name} counts twice, the second time at {}", entry.position));
                }
            }
        }
        Ok(())
    }
}
