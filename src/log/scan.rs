//! Reading the log back: every whole record behind a mark, and what to do about the first that is not.
//!
//! After a power loss, bytes that were never synced may be missing, torn or out of order, a hole with whole records
//! behind it included. So the first bad record B is **cut** off with all that follows, unless a later whole record
//! states `synced_upto ≥ B`: then B was durable once, and this is damage, which is refused.

use super::record::{BadRecord, RECORD_HEADER_BYTES, RawRecord};
use crate::{
    disk::{Disk, read_all},
    format::{Damage, FILE_HEADER_BYTES, FileError, FileHeader, FileKind, Identity, LOG_PREFIX, parse_name},
    limits,
    position::{Position, Sequence},
    store::Mark,
};

/// Longest segment that is read: the bound of a segment, and one record beyond it.
const MAX_SEGMENT_BYTES: u64 = (4 << 30) + limits::MAX_RECORD_PAYLOAD_BYTES as u64;

/// The names of the segments with the position of their first record, oldest first.
///
/// # Errors
/// As the system says.
pub fn segments(disk: &dyn Disk) -> Result<Vec<(String, Position)>, FileError> {
    let names = disk.list().map_err(FileError::io("the data directory"))?;
    Ok(names.into_iter().filter_map(|name| parse_name(LOG_PREFIX, &name).map(|first| (name, first))).collect())
}

/// Where the log has to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The damage that was found.
    pub damage: Damage,
    /// Bytes that the damaged segment keeps; less than its header: it goes whole.
    pub keep_bytes: u64,
    /// Later segments, which go whole.
    pub remove: Vec<String>,
    /// Bytes that are cut off.
    pub lost_bytes: u64,
    /// Whole records behind the first bad one, which go with it.
    pub lost_records: u64,
}

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Where the log ends.
    pub mark: Mark,
    /// The time of its last record behind the starting mark.
    pub time_ms: u64,
    /// What has to be cut off, if the log does not end cleanly.
    pub cut: Option<Cut>,
}

/// Reads all records behind `from` in order and gives each to `each`.
///
/// # Errors
/// [`FileError::Damaged`] when something that was durable is damaged or missing, or a whole record cannot be
/// understood; or whatever `each` refuses.
pub fn scan(
    disk: &dyn Disk,
    identity: &Identity,
    from: Mark,
    mut each: impl FnMut(&RawRecord<'_>) -> Result<(), BadRecord>,
) -> Result<Scanned, FileError> {
    let mut segments = segments(disk)?;
    // All of a segment is behind us if the next one begins at or before the record we need.
    while segments.get(1).is_some_and(|next| next.1.sequence <= from.position.sequence + 1) {
        segments.remove(0);
    }
    let mut state = Scanned { mark: from, time_ms: 0, cut: None };
    for (index, (name, first)) in segments.iter().enumerate() {
        let later = || segments[index + 1..].iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let bytes = read_segment(disk, name)?;
        let mut at = FILE_HEADER_BYTES;
        let bad = match check_start(name, &bytes, *first, identity, &state.mark, from) {
            Err(damage) => {
                at = 0;
                Some(damage)
            }
            Ok(()) => read_records(name, &bytes, &mut at, identity, &mut state, from, &mut each)?,
        };
        if let Some(damage) = bad {
            state.cut = Some(cut_or_refuse(disk, identity, &state.mark, damage, &bytes, at, later())?);
            return Ok(state);
        }
    }
    Ok(state)
}

fn read_segment(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    read_all(&*file, MAX_SEGMENT_BYTES).map_err(FileError::io(name))
}

/// A segment's header must be whole and go on where the last one ended.
fn check_start(
    name: &str,
    bytes: &[u8],
    first: Position,
    identity: &Identity,
    at: &Mark,
    from: Mark,
) -> Result<(), Damage> {
    let header = FileHeader::decode_of(name, bytes, FileKind::Log, identity)?;
    if header.position != first {
        return Err(Damage::new(name, 48, format!("the header says {}", header.position)));
    }
    let expected = at.position.sequence + 1;
    let reaches_back = first.sequence <= from.position.sequence + 1 && *at == from;
    if first.sequence != expected && !reaches_back {
        return Err(Damage::new(name, 0, format!("it begins at {first}, but record {expected} comes next")));
    }
    if first.sequence == expected && header.chain != at.chain {
        return Err(Damage::new(name, 64, "the segment does not go on with this history"));
    }
    Ok(())
}

/// Reads the records of one segment; gives the damage at the first bad one, where `at` is left.
fn read_records(
    name: &str,
    bytes: &[u8],
    at: &mut usize,
    identity: &Identity,
    state: &mut Scanned,
    from: Mark,
    each: &mut impl FnMut(&RawRecord<'_>) -> Result<(), BadRecord>,
) -> Result<Option<Damage>, FileError> {
    while *at < bytes.len() {
        let raw = match RawRecord::parse(&bytes[*at..], identity.hash_seed) {
            Ok(raw) => raw,
            // It is whole, so it is no remains of a crash: a newer release wrote it.
            Err(unknown @ BadRecord::Unknown(_)) => return Err(Damage::new(name, *at as u64, unknown).into()),
            Err(bad) => {
                // What the snapshot already holds is not needed: go on at the next record, if that is the first we need
                // or one before it.
                let next = later_records(&bytes[*at..], identity).next();
                let needed = from.position.sequence + 1;
                match next {
                    Some((offset, raw)) if state.mark == from && raw.header.position.sequence <= needed => {
                        *at += offset;
                        continue;
                    }
                    _ => return Ok(Some(Damage::new(name, *at as u64, bad))),
                }
            }
        };
        let position = raw.header.position;
        if position.sequence > from.position.sequence {
            let last = state.mark.position;
            if position.sequence != last.sequence + 1 || position.epoch < last.epoch || !raw.follows(state.mark.chain) {
                return Ok(Some(Damage::new(name, *at as u64, format!("record {position} does not follow {last}"))));
            }
            each(&raw).map_err(|error| Damage::new(name, *at as u64, error))?;
            state.mark = Mark { position, digest: raw.header.digest_after, chain: raw.header.chain };
            state.time_ms = raw.header.time_ms;
        }
        *at += raw.header.record_bytes();
    }
    Ok(None)
}

/// Whole records at any offset of `bytes`, in order.
fn later_records<'a>(bytes: &'a [u8], identity: &Identity) -> impl Iterator<Item = (usize, RawRecord<'a>)> {
    let hash_seed = identity.hash_seed;
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + RECORD_HEADER_BYTES <= bytes.len() {
            let here = at;
            if let Ok(raw) = RawRecord::parse(&bytes[at..], hash_seed) {
                at += raw.header.record_bytes();
                return Some((here, raw));
            }
            at += 1;
        }
        None
    })
}

/// Decides about the first bad record: it and everything behind it was never durable, or this is damage.
fn cut_or_refuse(
    disk: &dyn Disk,
    identity: &Identity,
    end: &Mark,
    damage: Damage,
    segment: &[u8],
    at: usize,
    later_segments: Vec<String>,
) -> Result<Cut, FileError> {
    let bad = end.position.sequence + 1;
    let rest = &segment[at..];
    let mut cut =
        Cut { damage, keep_bytes: at as u64, remove: Vec::new(), lost_bytes: rest.len() as u64, lost_records: 0 };
    let look = |bytes: &[u8]| -> Result<u64, FileError> {
        let mut records = 0;
        for (_, raw) in later_records(bytes, identity) {
            if raw.header.synced_upto >= bad {
                let Damage { file, offset, what } = &cut.damage;
                let synced: Sequence = raw.header.synced_upto;
                let what = format!(
                    "{what}; record {} states that {synced} was synced, so {bad} was durable",
                    raw.header.position
                );
                return Err(Damage::new(file, *offset, what).into());
            }
            records += 1;
        }
        Ok(records)
    };
    cut.lost_records += look(rest)?;
    for name in later_segments {
        let bytes = read_segment(disk, &name)?;
        let records = look(&bytes)?;
        cut.lost_records += records;
        cut.lost_bytes += bytes.len() as u64;
        cut.remove.push(name);
    }
    Ok(cut)
}

impl Cut {
    /// Carries the cut out, durably.
    ///
    /// # Errors
    /// As the system says; it can be done again.
    pub fn carry_out(&self, disk: &dyn Disk) -> Result<(), FileError> {
        let name = &self.damage.file;
        // From the end: a crash on the way must not leave later segments behind a shortened one.
        for later in self.remove.iter().rev() {
            disk.remove(later).map_err(FileError::io(later))?;
        }
        disk.sync_directory().map_err(FileError::io("the data directory"))?;
        if self.keep_bytes < FILE_HEADER_BYTES as u64 {
            disk.remove(name).map_err(FileError::io(name))?;
        } else {
            let file = disk.open(name).map_err(FileError::io(name))?;
            file.truncate(self.keep_bytes).and_then(|()| file.sync()).map_err(FileError::io(name))?;
        }
        disk.sync_directory().map_err(FileError::io("the data directory"))
    }
}
