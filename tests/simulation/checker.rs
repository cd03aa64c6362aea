//! The checker: what was acknowledged is there exactly once, what is unknown is there once or not at all, and nothing
//! is there in part.
//!
//! It keeps the state after every record as the model has it ([`crate::model`]). What a store shows must be one of
//! these states, whole, and which one is bounded by what clients were told and by what happened to the machine.

use crate::{
    client::{GROWING_WORDS, NAMESPACES, WORDS},
    entries::EntryClients,
    model::{Done, EntryKey, State, scoped},
};
use memdb::{
    base::hash::weight,
    base::limits::MAX_BELIEVED_LEAP_MS,
    base::position::{EpochTable, Position, PositionStatus, Sequence},
    data::counters::QUEUES_STORED,
    data::store::{DedupCursor, DedupLimits, StoreReader},
    engine::leader::AckLevel,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

/// A record as the model has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Tells apart two records that were written under the same position, one of which was undone.
    pub id: usize,
    pub position: Position,
    /// The state after it.
    pub state: State,
    /// The wishes it counts.
    pub counts: Vec<usize>,
    /// The last sequence that was known to be synced when it was written.
    pub states_synced: Sequence,
    pub when: Moment,
}

/// A moment in the history of a database, for whoever asks how old something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// True time.
    pub at_ms: u64,
    /// Starts up to then: each may have believed a wall clock that was wrong, by a bounded time.
    pub starts: u64,
    /// The true time up to then that nobody who wrote has counted.
    pub uncounted_ms: u64,
}

impl Moment {
    /// The least and the most that logged time may have gone on since `earlier`.
    fn counts_since(&self, earlier: &Moment) -> (u64, u64) {
        let passed_ms = self.at_ms - earlier.at_ms;
        let uncounted_ms = self.uncounted_ms - earlier.uncounted_ms;
        let believed_ms = (self.starts - earlier.starts) * MAX_BELIEVED_LEAP_MS;
        (passed_ms.saturating_sub(uncounted_ms), passed_ms + believed_ms)
    }

    /// Logged time has gone on from one record to the next as time has passed.
    ///
    /// # Errors
    /// If it is less, or more.
    pub fn check_pace(&self, logged_ms: u64, earlier: &Moment, earlier_ms: u64) -> Result<(), String> {
        let (least_ms, most_ms) = self.counts_since(earlier);
        match logged_ms.checked_sub(earlier_ms) {
            Some(counted_ms) if (least_ms..=most_ms).contains(&counted_ms) => Ok(()),
            _ => Err(format!(
                "logged time went from {earlier_ms} to {logged_ms}, and should have gone on by {least_ms} to {most_ms} ms"
            )),
        }
    }

    /// What was logged at `earlier` may be remembered still.
    ///
    /// # Errors
    /// If it should have been forgotten by now.
    pub fn check_young(&self, earlier: &Moment, age_ms: u64, position: Position) -> Result<(), String> {
        let (least_ms, _) = self.counts_since(earlier);
        let told = || format!("a key of {position} is remembered after {least_ms} ms, and its age is {age_ms} ms");
        if least_ms < age_ms { Ok(()) } else { Err(told()) }
    }

    /// The moment at which whoever goes on behind a record of this one has counted nothing since but from
    /// `counts_from_ms` on.
    #[must_use]
    pub fn gone_on(&self, counts_from_ms: u64) -> Self {
        let uncounted_ms = counts_from_ms.saturating_sub(self.at_ms);
        Self { uncounted_ms: self.uncounted_ms + uncounted_ms, ..*self }
    }

    /// The same at a later time, with nothing in between that is not counted.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> Self {
        Self { at_ms: now_ms, ..*self }
    }
}

/// What a client was told of a wish.
#[derive(Clone, Copy, Debug)]
struct Told {
    wish: usize,
    position: Position,
    /// The record that had that position.
    id: usize,
}

/// What has happened to the machine since the database was last recovered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Misfortunes {
    pub power_lost: bool,
    pub bit_flipped: bool,
    /// Pages of what a sync had reported are not on the medium, or others are in their place.
    pub page_lost: bool,
}

impl Misfortunes {
    /// Whether something is wrong that was durable.
    pub fn damaged(self) -> bool {
        self.bit_flipped || self.page_lost
    }
}

/// The true history.
#[derive(Clone)]
pub struct Truth {
    pub limits: DedupLimits,
    pub misfortunes: Misfortunes,
    genesis: State,
    entries: Vec<Entry>,
    /// Appends that failed or met a crash: they may be there whole, or not.
    ghosts: Vec<Entry>,
    next_id: usize,
    /// The last sequence that was acknowledged at each level and must still be there.
    kept: BTreeMap<AckLevel, Sequence>,
    told: Vec<Told>,
    last_epoch: u64,
    /// What the process that runs goes on from.
    moment: Moment,
}

impl Truth {
    pub fn new(limits: DedupLimits) -> Self {
        Self {
            limits,
            misfortunes: Misfortunes::default(),
            genesis: State::default(),
            entries: Vec::new(),
            ghosts: Vec::new(),
            next_id: 0,
            kept: BTreeMap::new(),
            told: Vec::new(),
            last_epoch: 0,
            moment: Moment::default(),
        }
    }

    /// The last sequence.
    pub fn last(&self) -> Sequence {
        self.entries.len() as Sequence
    }

    pub fn state(&self) -> &State {
        self.state_at(self.last())
    }

    pub fn state_at(&self, sequence: Sequence) -> &State {
        match sequence {
            0 => &self.genesis,
            _ => &self.entries[sequence as usize - 1].state,
        }
    }

    /// A process starts: it knows of the time since the last record what its wall clock says, or nothing.
    pub fn starts(&mut self, now_ms: u64) {
        let last = self.entries.last().map_or(Moment { at_ms: now_ms, ..Moment::default() }, |last| last.when);
        self.moment = Moment { starts: last.starts + 1, ..last.gone_on(now_ms) };
    }

    pub fn entry(
        &mut self,
        position: Position,
        state: State,
        counts: Vec<usize>,
        states_synced: Sequence,
        now_ms: u64,
    ) -> Entry {
        self.next_id += 1;
        Entry { id: self.next_id, position, state, counts, states_synced, when: self.moment.at(now_ms) }
    }

    /// The wishes that the records count, each as often as it counts.
    pub fn counted(&self) -> impl Iterator<Item = usize> {
        self.entries.iter().flat_map(|entry| entry.counts.iter().copied())
    }

    /// A record was appended and applied.
    ///
    /// # Errors
    /// If its time is not what has passed.
    pub fn happened(&mut self, entry: Entry) -> Result<(), String> {
        assert_eq!(entry.position.sequence, self.last() + 1);
        if let Some(last) = self.entries.last() {
            entry.when.check_pace(entry.state.time_ms, &last.when, last.state.time_ms)?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// A key was remembered that this record has counted, if it is written already.
    ///
    /// # Errors
    /// If it should have been forgotten by now.
    pub fn may_remember(&self, sequence: Sequence, now_ms: u64) -> Result<(), String> {
        let Some(entry) = self.entries.get(sequence as usize - 1) else { return Ok(()) };
        self.moment.at(now_ms).check_young(&entry.when, self.limits.key_age_ms, entry.position)
    }

    /// An append has failed, or the process ended in it.
    pub fn may_have_happened(&mut self, entry: Entry) {
        self.ghosts.push(entry);
    }

    /// A client was told that its wish is part of the record at `position`.
    pub fn acknowledged(&mut self, wish: usize, position: Position, level: AckLevel) -> Result<(), String> {
        if position.sequence == 0 {
            return Ok(()); // it changed nothing, before the first record
        }
        let entry = self.entries.get(position.sequence as usize - 1);
        // A write that changes nothing stands at the last record, by the epoch that has begun behind it.
        let next = self.entries.get(position.sequence as usize);
        let begins = next.is_none_or(|next| next.position.epoch == position.epoch);
        let Some(entry) = entry.filter(|entry| entry.position == position || begins) else {
            return Err(format!("wish {wish} was acknowledged at {position}, which holds no record"));
        };
        self.told.push(Told { wish, position: entry.position, id: entry.id });
        let kept = self.kept.entry(level).or_default();
        *kept = (*kept).max(position.sequence);
        Ok(())
    }

    /// Everything so far was synced and promised as durable.
    pub fn stopped_cleanly(&mut self) {
        self.kept.insert(AckLevel::Disk, self.last());
    }

    /// The files gave this state back. Settles which records are part of history from here on.
    pub fn recovered(&mut self, reader: &StoreReader, end: Sequence, cut: bool) -> Result<&'static str, String> {
        let is = |state: &State| {
            let shown = shows(reader, state).and_then(|()| state.entries_walked(reader));
            shown.and_then(|()| remembers(reader, state, &self.limits))
        };
        let mut outcome = "starts as it was";
        let keep = if end <= self.last() && is(self.state_at(end)).is_ok() {
            end
        } else {
            let ghost = self.ghosts.iter().position(|ghost| ghost.position.sequence == end && is(&ghost.state).is_ok());
            let Some(ghost) = ghost else {
                let why = if end <= self.last() { is(self.state_at(end)).err() } else { None };
                return Err(format!(
                    "recovered to {end} of {}, to a state that never was there: {}",
                    self.last(),
                    why.unwrap_or_else(|| "there is no such record".into())
                ));
            };
            self.lose_behind(end - 1, cut)?;
            let ghost = self.ghosts.remove(ghost);
            self.happened(ghost)?;
            self.misfortunes.power_lost = false;
            return Ok("starts with a write whose outcome was unknown");
        };
        if keep < self.last() {
            outcome = "starts without writes that were not synced";
        }
        self.lose_behind(keep, cut)?;
        // What the power loss has left is on the medium; what a flip has hit is only mended once the next epoch begins.
        self.misfortunes.power_lost = false;
        Ok(outcome)
    }

    fn lose_behind(&mut self, keep: Sequence, cut: bool) -> Result<(), String> {
        if keep < self.last() {
            let Misfortunes { power_lost, bit_flipped, page_lost } = self.misfortunes;
            let lost = &self.entries[keep as usize..];
            // A flip may take the last synced records with it, as long as no record that is left says that they were
            // synced.
            let unsaid = power_lost || lost[1..].iter().all(|entry| entry.states_synced <= keep);
            // A page that is lost takes with it what would say so.
            let by_the_flip = cut && (bit_flipped && unsaid || page_lost);
            let kept = |level| self.kept.get(&level).copied().unwrap_or(0);
            if !power_lost && !by_the_flip {
                return Err(format!("records behind {keep} are gone, and the machine never went down"));
            }
            if keep < kept(AckLevel::Disk) && !by_the_flip {
                return Err(format!("{} was acknowledged as synced, and only {keep} is there", kept(AckLevel::Disk)));
            }
        }
        for kept in self.kept.values_mut() {
            *kept = (*kept).min(keep);
        }
        self.entries.truncate(keep as usize);
        Ok(())
    }

    /// What is too old may have left the window by the time it begins, or have come back to it.
    pub fn remembers(&mut self, reader: &StoreReader) {
        let is_forgotten = |scoped: &str| {
            let (namespace, name) = scoped.split_once('/').expect("between the two");
            reader.stream(namespace, name).is_none()
        };
        if let Some(Entry { state, .. }) = self.entries.last_mut() {
            state.forgotten = state.streams.keys().filter(|name| is_forgotten(name)).cloned().collect();
        }
    }

    /// The next epoch has begun: what may have happened before either did or never will.
    pub fn began(&mut self, epoch: u64, epochs: &EpochTable) -> Result<(), String> {
        if epoch <= self.last_epoch {
            return Err(format!("epoch {epoch} began after {}", self.last_epoch));
        }
        self.last_epoch = epoch;
        self.misfortunes.bit_flipped = false;
        self.misfortunes.page_lost = false;
        self.ghosts.clear();
        let applied = Position::new(epoch, self.last());
        for told in &self.told {
            let here = self.entries.get(told.position.sequence as usize - 1).is_some_and(|entry| entry.id == told.id);
            let standing = epochs.position_status(told.position, applied);
            if here != (standing == PositionStatus::Reached) {
                let Told { wish, position, .. } = told;
                return Err(format!(
                    "wish {wish} was acknowledged at {position}, which is said to be {standing:?}, and is{} there",
                    if here { "" } else { " not" }
                ));
            }
        }
        Ok(())
    }

    /// Every key and every line of a stream counts at most once, but for those that were used again after their age.
    pub fn once_each(&self, names: impl Fn(usize) -> BTreeSet<String>) -> Result<(), String> {
        let written = |entry: &'_ Entry| (entry.when, entry.state.time_ms);
        let records = self.entries.iter().map(|entry| (entry.position, written(entry), &*entry.counts));
        once_each(records, names, &self.limits)
    }
}

/// Of these records, with when they were written, in truth and in logged time, and the wishes they count, no two count
/// what has one name, unless it was too old.
pub fn once_each<'a>(
    records: impl Iterator<Item = (Position, (Moment, u64), &'a [usize])>,
    names: impl Fn(usize) -> BTreeSet<String>,
    limits: &DedupLimits,
) -> Result<(), String> {
    let mut seen: BTreeMap<String, (Moment, u64)> = BTreeMap::new();
    for (position, (when, logged_ms), counts) in records {
        for name in counts.iter().flat_map(|&wish| names(wish)) {
            let age_ms = if name.starts_with("line ") { limits.stream_age_ms } else { limits.key_age_ms };
            if seen.get(&name).is_some_and(|(before, before_ms)| {
                when.counts_since(before).1 < age_ms || logged_ms - before_ms < age_ms
            }) {
                return Err(format!("{name} counts twice, the second time at {position}"));
            }
            seen.insert(name, (when, logged_ms));
        }
    }
    Ok(())
}

/// Every key of an entry that clients may have named.
static ENTRY_KEYS: LazyLock<Vec<EntryKey>> =
    LazyLock::new(|| EntryClients::keys().map(|(kind, namespace, key)| (kind, namespace.into(), key.into())).collect());

/// The reader shows this state: every count, every namespace, the top, every entry, the digest.
pub fn shows(reader: &StoreReader, state: &State) -> Result<(), String> {
    let guard = reader.read();
    for namespace in NAMESPACES {
        for word in WORDS.into_iter().chain(GROWING_WORDS) {
            let expected = state.count_of(namespace, word);
            let found = guard.count(namespace, word);
            if found != expected {
                return Err(format!("{namespace}/{word} is {found} and should be {expected}"));
            }
        }
    }
    let namespaces: Vec<(String, u64)> =
        state.counts.iter().map(|(name, words)| (name.clone(), words.len() as u64)).collect();
    if guard.namespaces() != namespaces {
        return Err(format!("the namespaces are {:?} and should be {namespaces:?}", guard.namespaces()));
    }
    let hasher = reader.hasher();
    let mut digest = 0_u64;
    for (namespace, words) in &state.counts {
        let own = words.iter().fold(0_u64, |sum, (word, count)| sum.wrapping_add(weight(hasher.hash(word), *count)));
        digest = digest.wrapping_add(own.wrapping_mul(hasher.namespace_factor(namespace)));
    }
    let digest_shown = guard.digest();
    drop(guard);
    let absent = if state.entries.is_empty() { &[] } else { &ENTRY_KEYS[..] };
    digest = digest.wrapping_add(state.entries_shown(reader, absent)?);
    if digest_shown != digest {
        return Err("the digest is not the one of these counts and entries".into());
    }
    for (namespace, words) in &state.counts {
        let mut ranked: Vec<(&str, i64)> = words.iter().map(|(word, count)| (&**word, *count)).collect();
        ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        // Nobody asks for the largest of what waits, so no ranking of it is kept.
        let kept = if *namespace == QUEUES_STORED { 0 } else { 5 };
        let ranked: Vec<(String, i64)> =
            ranked.into_iter().take(kept).map(|(word, count)| (word.to_owned(), count)).collect();
        let (_, top) = reader.top(namespace, 5);
        if top != ranked {
            return Err(format!("the top of {namespace} is {top:?} and should be {ranked:?}"));
        }
        let mut all = Vec::with_capacity(words.len());
        let Some(mut scan) = reader.scan(namespace) else { return Err(format!("{namespace} cannot be walked")) };
        while scan.step(|word, count| all.push((word.into(), count))) {}
        all.sort_unstable();
        if !all.iter().map(|(word, count)| (word, count)).eq(words.iter()) {
            return Err(format!("a walk over {namespace} gives {all:?} and should give {words:?}"));
        }
    }
    Ok(())
}

/// The window holds what this state has settled, as far as it is not too old.
pub fn remembers(reader: &StoreReader, state: &State, limits: &DedupLimits) -> Result<(), String> {
    let mut found = State { time_ms: state.time_ms, ..State::default() };
    let mut cursor = DedupCursor::default();
    loop {
        let piece = reader.window_chunk(&mut cursor, 2);
        if piece.is_empty() {
            break;
        }
        for entry in piece {
            let done = Done {
                number: entry.stream_sequence,
                fingerprint: entry.fingerprint,
                position: entry.position,
                time_ms: entry.time_ms.as_ms(),
                words: entry.words,
                distinct: entry.distinct,
                left_out: entry.left_out,
                entries: entry.entries,
            };
            let of = if done.number > 0 { &mut found.streams } else { &mut found.keys };
            let name = scoped(entry.name.namespace(), entry.name.name());
            if done.number > 0 && state.streams.get(&name) != Some(&done) {
                return Err(format!("the window holds {name} as {done:?}"));
            }
            Arc::make_mut(of).insert(name, done);
        }
    }
    let (found, expected) = (found.young(limits), state.young(limits));
    if (&found.keys, &found.streams) != (&expected.keys, &expected.streams) {
        return Err(format!(
            "the window holds {:?} {:?} and should hold {:?} {:?}",
            found.keys, found.streams, expected.keys, expected.streams
        ));
    }
    Ok(())
}
