//! Reads one file of a database and reports its content, and whether it is whole.
//!
//! Reads only, and file by file: it may be run beside a running leader, whose log then moves on while it is
//! read. What a directory as a whole leads to is for [`crate::storage::recovery::look`] to say.

use crate::{
    base::clock::LoggedTime,
    base::position::{Position, Sequence},
    data::store::{DedupLimits, Store},
    storage::disk::{Disk, DiskFile, TEMPORARY},
    storage::file_header::{FILE_HEADER_BYTES, FileDamage, FileError, FileHeader, FileKind, LOG_PREFIX, parse_name},
    storage::manifest::{Manifest, ManifestState},
    storage::repair::DAMAGED,
    storage::snapshot::{self, SnapshotTrailer},
    storage::wal::{RawRecord, later_records, read_segment},
};

/// One file, as it was found.
#[derive(Clone, Debug)]
pub struct FileInspection {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its header, if that is whole.
    pub header: Option<FileHeader>,
    /// The content, as far as it can be read.
    pub holds: FileContents,
    /// The first place that is not what it must be.
    pub damage: Option<FileDamage>,
}

/// The content of a file.
#[derive(Clone, Debug)]
pub enum FileContents {
    /// The MANIFEST.
    Manifest(Box<ManifestState>),
    /// A segment of the log.
    Log(LogContents),
    /// A snapshot.
    Snapshot(Box<SnapshotContents>),
    /// Nothing of the database, for this reason.
    Other(&'static str),
    /// Something that cannot be read.
    Unreadable,
}

/// The content of a log segment up to its first bad record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogContents {
    /// Whole records.
    pub records: u64,
    /// Those of them that change entries.
    pub records_with_entries: u64,
    /// The first and the last.
    pub span: Option<(RecordLocation, RecordLocation)>,
    /// The last sequence that any of them states to be synced.
    pub synced_upto: Sequence,
    /// Whole records behind the first bad one.
    pub records_behind_damage: u64,
}

/// A record's place and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLocation {
    /// Its place.
    pub position: Position,
    /// The time at which it was written, by the clock of the database.
    pub time_ms: LoggedTime,
}

/// The content of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotContents {
    /// The marks at which its walk began and which it is a state at.
    pub trailer: SnapshotTrailer,
    /// Each namespace with its number of distinct words.
    pub namespaces: Vec<(String, u64)>,
    /// Idempotency keys and streams.
    pub window: (usize, usize),
}

/// Inspects one file.
///
/// # Errors
/// The system's error if the file cannot be opened or read. Damage is part of the report and no error.
pub fn inspect(disk: &dyn Disk, name: &str) -> Result<FileInspection, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    let bytes = file.len().map_err(FileError::io(name))?;
    let mut found =
        FileInspection { name: name.to_owned(), bytes, header: None, holds: FileContents::Unreadable, damage: None };
    if let Some(why) = none_of_ours(name) {
        found.holds = FileContents::Other(why);
        return Ok(found);
    }
    match read_header(&*file, name)? {
        Ok(header) => found.header = Some(header),
        Err(damage) => found.damage = Some(damage),
    }
    let Some(header) = found.header else { return Ok(found) };
    match header.kind {
        FileKind::Manifest => match Manifest::read_file(&*file, name) {
            Ok(manifest) => found.holds = FileContents::Manifest(Box::new(manifest.state)),
            Err(error) => found.damage = Some(damage_of(error)?),
        },
        FileKind::Log => {
            let (held, damage) = look_into_log(disk, name, &header)?;
            (found.holds, found.damage) = (FileContents::Log(held), damage);
        }
        FileKind::Snapshot => match look_into_snapshot(disk, name, &header) {
            Ok(held) => found.holds = FileContents::Snapshot(Box::new(held)),
            Err(error) => found.damage = Some(damage_of(error)?),
        },
    }
    if found.damage.is_none() {
        found.damage = misnamed(name, &header);
    }
    Ok(found)
}

fn none_of_ours(name: &str) -> Option<&'static str> {
    if FileKind::of_name(name).is_some() {
        return None;
    }
    Some(match name {
        "LOCK" => "held by the process that uses the directory",
        _ if name.contains(DAMAGED) => "set aside by `memdb repair`; no start reads it",
        _ if name.ends_with(TEMPORARY) => "not finished when its writer ended; the next start removes it",
        _ if name.starts_with("memdb.log") => "what the server said",
        _ => "no name that a file of a database has",
    })
}

fn read_header(file: &dyn DiskFile, name: &str) -> Result<Result<FileHeader, FileDamage>, FileError> {
    let mut bytes = [0; FILE_HEADER_BYTES];
    let read = file.read_at(0, &mut bytes).map_err(FileError::io(name))?;
    Ok(FileHeader::decode(name, &bytes[..read]))
}

/// The damage in an error that is about damage.
fn damage_of(error: FileError) -> Result<FileDamage, FileError> {
    match error {
        FileError::Damaged(damage) => Ok(damage),
        FileError::Io { .. } => Err(error),
    }
}

/// A header that belongs to another name.
fn misnamed(name: &str, header: &FileHeader) -> Option<FileDamage> {
    let expected = FileKind::of_name(name)?;
    if expected != header.kind {
        return Some(FileDamage::new(name, 0, format!("this is a {:?} file", header.kind)));
    }
    let first = parse_name(LOG_PREFIX, name)?;
    (first != header.position).then(|| FileDamage::new(name, 48, format!("the header says {}", header.position)))
}

fn look_into_log(
    disk: &dyn Disk,
    name: &str,
    header: &FileHeader,
) -> Result<(LogContents, Option<FileDamage>), FileError> {
    let bytes = read_segment(disk, name)?;
    let (mut held, mut at, mut chain) = (LogContents::default(), FILE_HEADER_BYTES, header.chain);
    let mut next = header.position.sequence;
    while at < bytes.len() {
        let damage = match RawRecord::parse(&bytes[at..], header.identity.hash_seed) {
            Ok(raw) if raw.header.position.sequence != next || !raw.follows(chain) => {
                FileDamage::new(name, at as u64, format!("record {} does not follow", raw.header.position))
            }
            Ok(raw) => {
                match raw.record() {
                    Ok(record) => held.records_with_entries += u64::from(!record.body.entries.is_empty()),
                    Err(unknown) => return Ok((held, Some(FileDamage::new(name, at as u64, unknown)))),
                }
                let here = RecordLocation { position: raw.header.position, time_ms: raw.header.time_ms };
                held.span = Some((held.span.map_or(here, |(first, _)| first), here));
                held.records += 1;
                held.synced_upto = held.synced_upto.max(raw.header.synced_upto);
                (at, chain, next) = (at + raw.header.record_bytes(), raw.header.chain, next + 1);
                continue;
            }
            Err(bad) => FileDamage::new(name, at as u64, bad),
        };
        // Counted because whole records behind a bad one are what a person has to weigh: a cut takes them along.
        held.records_behind_damage = later_records(&bytes[at..], &header.identity).count() as u64;
        return Ok((held, Some(damage)));
    }
    Ok((held, None))
}

fn look_into_snapshot(disk: &dyn Disk, name: &str, header: &FileHeader) -> Result<SnapshotContents, FileError> {
    let mut store = Store::new(header.identity.hasher(), DedupLimits::default());
    let trailer = snapshot::load(disk, name, &header.identity, &mut store)?;
    let reader = store.reader();
    let namespaces = reader.read().namespaces();
    Ok(SnapshotContents { trailer, namespaces, window: reader.window_len() })
}
