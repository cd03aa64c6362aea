//! Makes a database that recovery refuses one that it accepts, and says exactly what that costs.
//!
//! [`plan`] reads and changes nothing; a person agrees; [`RepairPlan::carry_out`] does it. What is cut is not
//! destroyed: files, and ends of files, are kept beside the others under the ending `.damaged`.
//!
//! What is kept is the newest snapshot that is whole and the log behind it up to the first record that cannot be read,
//! also if a later one states that it was synced. A MANIFEST that is missing or damaged is made anew from the headers
//! of the other files, each of which has the whole identity. Then the next epoch begins, as at any start: one beyond
//! every epoch that any file mentions, so that none is used twice.

use crate::{
    base::limits,
    base::position::{Epoch, EpochTable, Position, Sequence},
    data::store::{DedupLimits, StateId, Store},
    storage::disk::Disk,
    storage::file_header::{
        DatabaseIdentity, FILE_HEADER_BYTES, FileDamage, FileError, FileHeader, FileKind, LOG_PREFIX, MANIFEST,
        SNAPSHOT_PREFIX, parse_name,
    },
    storage::manifest::{Manifest, ManifestState},
    storage::recovery::{NodeRun, RecoveredDatabase, RecoveryError, RecoveryReport, look},
    storage::snapshot,
    storage::wal::{self, RecordError, Truncation},
};
use std::{collections::BTreeMap, io, sync::Arc};

/// The ending of what a repair has cut.
pub const DAMAGED: &str = ".damaged";
/// The boot id of a MANIFEST that was repaired.
const BOOT_OF_A_REPAIR: &str = "repaired";
/// First generation of a MANIFEST made anew, for each epoch: beyond what an epoch ever writes.
const GENERATIONS_AN_EPOCH: u64 = 1 << 20;

/// The reason why nothing can be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The repaired files are refused again.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// No header of any file is whole.
    #[error("no file has a header that can be read: there is nothing to make a database from")]
    NoIdentity,
    /// The files are of several databases.
    #[error("files of several databases are here ({0}): move those that do not belong to another directory")]
    Mixed(String),
    /// A newer release wrote a file.
    #[error("{0}: use the release that wrote it")]
    Newer(FileDamage),
}

/// A file, or its end, that is to be moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPart {
    /// The file.
    pub file: String,
    /// From this byte on; 0: the whole file.
    pub from_byte: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// The reason.
    pub why: String,
}

/// Records that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRecords {
    /// The first.
    pub first: Sequence,
    /// The last that any file mentions.
    pub last: Sequence,
    /// The last of them that is known to have been synced; less than `first` if of none it is known.
    pub synced: Sequence,
    /// Whole records among what is moved out of the way.
    pub whole: u64,
}

/// A repair that has not been carried out.
pub struct RepairPlan {
    /// The reason why recovery refuses the files as they are.
    pub refused: String,
    /// The MANIFEST of the repaired database.
    pub manifest: Manifest,
    /// The reason why the MANIFEST is made anew; `None`: it is kept, and its promises are adjusted.
    pub rebuilt: Option<String>,
    /// The snapshot that is kept.
    pub snapshot: Option<String>,
    /// The last record that is kept.
    pub end: Position,
    /// Files that are moved out of the way.
    pub aside: Vec<MovedPart>,
    /// Records that are lost; `None`: no record that any file mentions.
    pub lost: Option<LostRecords>,
    /// An epoch of which no segment is left, though it had one: how much it wrote is not known.
    pub unknown_epoch: Option<Epoch>,
    store: Store,
}

/// Plans a repair; `None` if recovery accepts the files as they are.
///
/// # Errors
/// [`RepairError`], when nothing can be repaired.
pub fn plan(disk: &dyn Disk, window: DedupLimits) -> Result<Option<RepairPlan>, RepairError> {
    let nobody = DatabaseIdentity {
        database_id: 0,
        shard_id: 0,
        analyzer: crate::text::tokenizer::Analyzer::Standard,
        hash_seed: 0,
    };
    let refused = match look(disk, nobody, window) {
        Ok(_) => return Ok(None),
        Err(error) => error.to_string(),
    };
    let (manifest, manifest_damage) = read_manifest(disk)?;
    let headers = read_headers(disk)?;
    let identity = choose_identity(manifest.as_ref(), &headers)?;
    let own_manifest = manifest.filter(|manifest| manifest.identity == identity);
    let mut aside = BTreeMap::new();
    let rebuilt = own_manifest.is_none().then(|| {
        let why = manifest_damage.clone().unwrap_or_else(|| match disk.open(MANIFEST) {
            Ok(_) => "it is of another database".into(),
            Err(_) => "it is missing".into(),
        });
        if disk.open(MANIFEST).is_ok() {
            aside.insert(MANIFEST.to_owned(), (0, why.clone()));
        }
        why
    });
    for (name, header) in &headers {
        if let Some(why) = header.as_ref().and_then(|header| why_foreign(name, header, &identity)) {
            aside.insert(name.clone(), (0, why));
        }
    }
    let (store, snapshot, kept) = salvage(disk, &identity, window, &mut aside)?;
    let end = store.mark().position;
    let known = known_positions(&identity, own_manifest.as_ref(), &headers, &kept);
    let epoch = known.highest_epoch.max(end.epoch);
    let state = new_state(own_manifest.map(|manifest| manifest.state), epoch, end, &kept.epochs);
    let unknown_epoch =
        (epoch > 0 && !wal::segments(disk)?.iter().any(|(_, first)| first.epoch == epoch)).then_some(epoch);
    Ok(Some(RepairPlan {
        refused,
        manifest: Manifest { identity, state },
        rebuilt,
        snapshot,
        end,
        aside: sized(disk, aside)?,
        lost: (known.last > end.sequence).then_some(LostRecords {
            first: end.sequence + 1,
            last: known.last,
            synced: known.synced,
            whole: kept.cut.as_ref().map_or(0, |cut| cut.lost_records),
        }),
        unknown_epoch,
        store,
    }))
}

/// The MANIFEST, or what is wrong with it; neither if there is none.
fn read_manifest(disk: &dyn Disk) -> Result<(Option<Manifest>, Option<String>), RepairError> {
    match Manifest::read(disk) {
        Ok(manifest) => Ok((manifest, None)),
        Err(FileError::Io { error, .. }) if error.kind() != io::ErrorKind::FileTooLarge => {
            Err(FileError::Io { file: MANIFEST.into(), error }.into())
        }
        Err(damage) => Ok((None, Some(damage.to_string()))),
    }
}

/// The headers of the log and the snapshots; `None` where one is not whole.
fn read_headers(disk: &dyn Disk) -> Result<Vec<(String, Option<FileHeader>)>, RepairError> {
    let mut headers = Vec::new();
    for name in disk.list().map_err(FileError::io("the data directory"))? {
        if matches!(FileKind::of_name(&name), Some(FileKind::Log | FileKind::Snapshot)) {
            let file = disk.open(&name).map_err(FileError::io(&name))?;
            let mut bytes = [0; FILE_HEADER_BYTES];
            let read = file.read_at(0, &mut bytes).map_err(FileError::io(&name))?;
            match FileHeader::decode(&name, &bytes[..read]) {
                // Whole and not understood: a repair by an older release would throw away what a newer one reads.
                Err(newer) if FileHeader::is_whole(&bytes[..read]) => return Err(RepairError::Newer(newer)),
                decoded => headers.push((name, decoded.ok())),
            }
        }
    }
    Ok(headers)
}

/// The database that the files are of: what the MANIFEST and most of the others say. Where they differ, a person
/// decides.
fn choose_identity(
    manifest: Option<&Manifest>,
    headers: &[(String, Option<FileHeader>)],
) -> Result<DatabaseIdentity, RepairError> {
    let mut found: Vec<(usize, DatabaseIdentity)> = Vec::new();
    for identity in headers.iter().filter_map(|(_, header)| header.as_ref()).map(|header| header.identity) {
        match found.iter_mut().find(|(_, other)| *other == identity) {
            Some((files, _)) => *files += 1,
            None => found.push((1, identity)),
        }
    }
    let most = found.iter().map(|(files, _)| *files).max().unwrap_or(0);
    // The majority decides, and the MANIFEST between equals. Anything else is left to a person, since the files of the
    // other database would be moved aside.
    found.retain(|(files, _)| *files == most);
    let stated = manifest.map(|manifest| manifest.identity);
    match (&found[..], stated) {
        ([], None) => Err(RepairError::NoIdentity),
        ([], Some(identity)) => Ok(identity),
        ([(_, identity)], None) => Ok(*identity),
        (several, Some(identity)) if several.iter().any(|(_, other)| *other == identity) => Ok(identity),
        (several, _) => {
            let ids = several.iter().map(|(_, identity)| *identity).chain(stated);
            let ids: Vec<String> = ids.map(|identity| format!("{:032x}", identity.database_id)).collect();
            Err(RepairError::Mixed(ids.join(", ")))
        }
    }
}

/// Gives the reason why a file with a sound header does not belong, if it does not.
fn why_foreign(name: &str, header: &FileHeader, identity: &DatabaseIdentity) -> Option<String> {
    if header.identity != *identity {
        return Some(format!("it belongs to database {:032x}", header.identity.database_id));
    }
    if FileKind::of_name(name) != Some(header.kind) {
        return Some(format!("it is a {:?} file", header.kind));
    }
    let renamed = parse_name(LOG_PREFIX, name).is_some_and(|first| first != header.position);
    renamed.then(|| format!("it begins at {}, its name says another", header.position))
}

/// The state that the log led to.
#[derive(Default)]
struct KeptLog {
    cut: Option<Truncation>,
    /// The last sequence of each epoch that has records behind the snapshot, and of the snapshot's own.
    epochs: BTreeMap<Epoch, Sequence>,
}

type MovedParts = BTreeMap<String, (u64, String)>;

/// The newest whole snapshot and all of the log behind it that can be read.
fn salvage(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    window: DedupLimits,
    aside: &mut MovedParts,
) -> Result<(Store, Option<String>, KeptLog), RepairError> {
    let mut limit = Sequence::MAX;
    loop {
        let (mut store, snapshot) = load_snapshot(disk, identity, window, aside)?;
        let from = store.mark();
        let mut kept = KeptLog::default();
        if from.position.epoch > 0 {
            kept.epochs.insert(from.position.epoch, from.position.sequence);
        }
        let mut spoilt = false;
        let scanned = wal::salvage(disk, identity, from, |raw| {
            let position = raw.header.position;
            let apply = |store: &mut Store| {
                let record = raw.record()?;
                store.apply(&record, raw.header.chain).map_err(|diverged| RecordError::Unknown(diverged.to_string()))
            };
            if position.sequence > limit {
                return Err(RecordError::Unknown("it cannot be applied".into()));
            }
            apply(&mut store).inspect_err(|_| {
                (spoilt, limit) = (true, position.sequence - 1);
            })?;
            kept.epochs.insert(position.epoch, position.sequence);
            Ok(())
        })?;
        if spoilt {
            continue; // a record that does not fit has changed the store before that was seen: all over, up to it
        }
        if let Some(cut) = &scanned.cut {
            let keeps = cut.keep_bytes >= FILE_HEADER_BYTES as u64;
            let from_byte = if keeps { cut.keep_bytes } else { 0 };
            aside.entry(cut.damage.file.clone()).or_insert((from_byte, cut.damage.what.clone()));
            for later in &cut.remove {
                aside.entry(later.clone()).or_insert((0, "it lies behind what cannot be read".into()));
            }
        }
        kept.cut = scanned.cut;
        return Ok((store, snapshot, kept));
    }
}

fn load_snapshot(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    window: DedupLimits,
    aside: &mut MovedParts,
) -> Result<(Store, Option<String>), RepairError> {
    let snapshots = snapshot::snapshots(disk)?.into_iter().map(|(name, _)| name);
    for name in snapshots.rev().filter(|name| !aside.contains_key(name)).collect::<Vec<_>>() {
        let mut store = Store::new(identity.hasher(), window);
        match snapshot::load(disk, &name, identity, &mut store) {
            Ok(_) => return Ok((store, Some(name))),
            Err(FileError::Damaged(damage)) => aside.insert(name, (0, damage.to_string())),
            Err(error) => return Err(error.into()),
        };
    }
    Ok((Store::new(identity.hasher(), window), None))
}

/// Positions that the files mention, kept or lost.
struct KnownHistory {
    last: Sequence,
    synced: Sequence,
    highest_epoch: Epoch,
}

fn known_positions(
    identity: &DatabaseIdentity,
    manifest: Option<&Manifest>,
    headers: &[(String, Option<FileHeader>)],
    kept: &KeptLog,
) -> KnownHistory {
    let (mut whole, mut torn) = (Vec::new(), Vec::new());
    for (name, header) in headers {
        let at = parse_name(SNAPSHOT_PREFIX, name);
        let Some(named) = at.or(parse_name(LOG_PREFIX, name)) else { continue };
        match header {
            None => torn.push((named, at)),
            Some(header) if why_foreign(name, header, identity).is_none() => whole.push((named, at)),
            Some(_) => {}
        }
    }
    let state = manifest.map(|manifest| &manifest.state);
    let recorded = kept.epochs.keys().copied().chain(kept.cut.as_ref().map(|cut| cut.last_record.epoch));
    let epochs = recorded.chain(state.map(|state| state.epoch)).chain(whole.iter().map(|(named, _)| named.epoch));
    let mut highest_epoch = epochs.max().unwrap_or(0);
    if manifest.is_none() {
        // Then even a name is taken at its word, within reason: no epoch may be used twice.
        let named = torn.iter().map(|(named, _)| named.epoch).filter(|&epoch| epoch <= Epoch::from(u32::MAX));
        highest_epoch = highest_epoch.max(named.max().unwrap_or(0));
    }
    // A snapshot is synced before it has its name; a file of garbage may have any name.
    let snapshots = whole.iter().chain(torn.iter().filter(|(named, _)| named.epoch <= highest_epoch));
    let promised = state.into_iter().flat_map(|state| state.clean_stop.iter().chain(state.epochs.ended()));
    let durable = snapshots.filter_map(|(_, at)| *at).chain(promised.copied());
    let mut synced = durable.map(|position| position.sequence).max().unwrap_or(0);
    let mut last = synced;
    if let Some(cut) = &kept.cut {
        synced = synced.max(cut.stated_synced);
        last = synced.max(last).max(cut.last_record.sequence);
    }
    KnownHistory { last, synced, highest_epoch }
}

/// The MANIFEST's part that changes, so that it promises nothing beyond `end`.
fn new_state(
    old: Option<ManifestState>,
    epoch: Epoch,
    end: Position,
    recorded: &BTreeMap<Epoch, Sequence>,
) -> ManifestState {
    let generation = epoch.saturating_mul(GENERATIONS_AN_EPOCH);
    let mut state = old.unwrap_or_else(|| ManifestState { generation, ..ManifestState::default() });
    let mut ended: BTreeMap<Epoch, Sequence> =
        state.epochs.ended().iter().map(|ended| (ended.epoch, ended.sequence)).collect();
    ended.extend(recorded);
    // Where a MANIFEST and the log disagree, an epoch can seem to end behind one that came after it. The later epoch
    // began where the earlier one ended, so its end bounds all ends before it.
    let mut bound = end.sequence;
    let mut ends = Vec::new();
    for (&past, &last) in ended.range(..epoch).rev() {
        bound = bound.min(last);
        ends.push(Position::new(past, bound));
    }
    state.epochs = EpochTable::default();
    ends.into_iter().rev().for_each(|ended| state.epochs.end(ended));
    state.epoch = epoch;
    // The promises of the old MANIFEST would make the next start refuse what has just been repaired.
    state.clean_stop = None;
    state.incarnation = 0; // the next start draws one
    state
}

fn sized(disk: &dyn Disk, aside: MovedParts) -> Result<Vec<MovedPart>, RepairError> {
    let mut sized = Vec::new();
    for (file, (from_byte, why)) in aside {
        let len = disk.open(&file).and_then(|opened| opened.len()).map_err(FileError::io(&file))?;
        sized.push(MovedPart { bytes: len.saturating_sub(from_byte), file, from_byte, why });
    }
    Ok(sized)
}

impl RepairPlan {
    /// Carries the repair out and returns the state of the database. If that fails, it can be planned and tried again.
    ///
    /// # Errors
    /// The system's error if a file cannot be copied, moved or written, or [`RepairError::Recovery`] if the result is
    /// refused again.
    pub fn carry_out(mut self, disk: &Arc<dyn Disk>, segment_bytes: u64) -> Result<StateId, RepairError> {
        // What is moved away may have been acknowledged, and what is left may be whole: no start on it may take the
        // directory for what it was, also if this is killed halfway.
        if self.rebuilt.is_none()
            && let Some(mut there) = Manifest::read(&**disk)?
        {
            there.forget_incarnation(&**disk)?;
            self.manifest.state.generation = self.manifest.state.generation.max(there.state.generation);
        }
        // Ends are copied before anything is moved, and the newest goes first, as in any cut.
        for aside in self.aside.iter().filter(|aside| aside.from_byte > 0) {
            copy_end(&**disk, aside)?;
        }
        for MovedPart { file, from_byte, .. } in self.aside.iter().rev() {
            if *from_byte > 0 {
                let opened = disk.open(file).map_err(FileError::io(file))?;
                opened.truncate(*from_byte).and_then(|()| opened.sync()).map_err(FileError::io(file))?;
            } else {
                let free = free_name(&**disk, file)?;
                disk.rename(file, &free).map_err(FileError::io(file))?;
            }
        }
        disk.sync_directory().map_err(FileError::io("the data directory"))?;
        let report = RecoveryReport { snapshot: self.snapshot.clone(), clean: false, ..RecoveryReport::default() };
        // Beyond every epoch that any file mentions: lost records may have been read, or copied to replicas, under
        // those positions.
        let promised = Some(self.manifest.state.highest() + 1);
        // The files of a leader without replicas stay a leader's. No machine has this boot id, so the next start asks
        // the nodes that its command names, as after a loss of power.
        let boot_id = if self.follows() { String::new() } else { BOOT_OF_A_REPAIR.to_owned() };
        let mut run = NodeRun { name: String::new(), boot_id, random: None };
        let recovered =
            RecoveredDatabase { manifest: self.manifest, store: self.store, report, new: false, promised, open: None };
        let settled = recovered.finalize(disk, &mut run, segment_bytes)?;
        Ok(settled.store.mark())
    }

    /// Returns whether the repaired database follows when it is started: the MANIFEST that is kept is a follower's, or
    /// tells of replicas, or it is made anew and no other file tells whose it was. Replicas may have the records that
    /// are cut off here, and would load what is left if this node led: a person decides who leads.
    pub fn follows(&self) -> bool {
        let state = &self.manifest.state;
        self.rebuilt.is_some() || !state.has_led() || !state.replicas.is_empty()
    }
}

fn copy_end(disk: &dyn Disk, aside: &MovedPart) -> Result<(), FileError> {
    let free = free_name(disk, &aside.file)?;
    let from = disk.open(&aside.file).map_err(FileError::io(&aside.file))?;
    let to = disk.create(&free).map_err(FileError::io(&free))?;
    let mut buffer = vec![0; limits::COPY_BYTES];
    let mut at = aside.from_byte;
    loop {
        let read = from.read_at(at, &mut buffer).map_err(FileError::io(&aside.file))?;
        if read == 0 {
            break;
        }
        to.append(&buffer[..read]).map_err(FileError::io(&free))?;
        at += read as u64;
    }
    to.sync().and_then(|()| disk.sync_directory()).map_err(FileError::io(&free))
}

/// A name for what is moved out of the way that no earlier repair has used.
fn free_name(disk: &dyn Disk, file: &str) -> Result<String, FileError> {
    let names = disk.list().map_err(FileError::io("the data directory"))?;
    let numbered =
        |number: u32| if number == 1 { format!("{file}{DAMAGED}") } else { format!("{file}{DAMAGED}-{number}") };
    Ok((1..).map(numbered).find(|name| !names.contains(name)).expect("there are more numbers than files"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_epochs_that_a_manifest_and_the_log_tell_differently_are_put_in_order() {
        let mut epochs = EpochTable::default();
        epochs.end(Position::new(1, 100));
        epochs.end(Position::new(3, 100));
        let old = ManifestState { epoch: 4, epochs, ..ManifestState::default() };
        let recorded = BTreeMap::from([(2, 50)]);
        let state = new_state(Some(old), 4, Position::new(2, 80), &recorded);
        assert_eq!(state.epochs.ended(), [Position::new(1, 50), Position::new(2, 50), Position::new(3, 80)]);
    }
}
