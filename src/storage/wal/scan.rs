//! Reading the log back: every whole record behind a position, and what to do about the first that is not.
//!
//! After a power loss, bytes that were never synced may be missing, torn or out of order, a hole with whole records
//! behind it included. So the first bad record B is **cut** off with all that follows, unless a later whole record
//! states `synced_upto ≥ B`: then B was durable once, and this is damage, which is refused. Damage is passed over where
//! the chain proves that it costs nothing: behind the end of a segment that another goes on from, or in a segment's
//! header. What is whole and does not belong is refused: no crash makes such a file, and it may be somebody's data.

use super::record::{RECORD_HEADER_BYTES, RawRecord, RecordError};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::limits,
    base::position::{Position, Sequence},
    data::store::StateId,
    storage::disk::{Disk, read_all},
    storage::file_header::{
        DatabaseIdentity, FILE_HEADER_BYTES, FileDamage, FileError, FileHeader, FileKind, LOG_PREFIX, parse_name,
    },
};

/// Longest segment that is read: the bound of a segment, and one record beyond it.
const MAX_SEGMENT_BYTES: u64 = (4 << 30) + limits::MAX_RECORD_PAYLOAD_BYTES as u64;

/// The names of the segments with the position of their first record, oldest first.
///
/// # Errors
/// The system's error if the directory cannot be read.
pub fn segments(disk: &dyn Disk) -> Result<Vec<(String, Position)>, FileError> {
    let names = disk.list().map_err(FileError::io("the data directory"))?;
    Ok(names.into_iter().filter_map(|name| parse_name(LOG_PREFIX, &name).map(|first| (name, first))).collect())
}

/// The place where the log has to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The damage that was found.
    pub damage: FileDamage,
    /// Bytes that the damaged segment keeps; less than its header: it goes whole.
    pub keep_bytes: u64,
    /// Later segments, which go whole.
    pub remove: Vec<String>,
    /// Bytes that are cut off.
    pub lost_bytes: u64,
    /// Whole records behind the first bad one, which go with it.
    pub lost_records: u64,
    /// The last of those; zero if there is none.
    pub last_record: Position,
    /// The last sequence that any of those states to be synced.
    pub stated_synced: Sequence,
}

/// The policy for damage that loses something durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ScanPolicy {
    /// Start nothing on it.
    Refuse,
    /// As `Refuse`, but the records were written elsewhere: what they state to be synced was so there, not here.
    Copied,
    /// Cut there: what `memdb repair` does, once a person has agreed.
    Cut,
}

/// The result of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanResult {
    /// The position, digest and chain at which the log ends.
    pub mark: StateId,
    /// The time of its last record behind the position that the scan began at.
    pub time_ms: LoggedTime,
    /// Damage that costs nothing: the records around it prove that none is missing.
    pub harmless: Vec<FileDamage>,
    /// The end that has to be cut off, if the log does not end cleanly.
    pub cut: Option<Truncation>,
}

/// Reads all records behind `from` in order and gives each to `each`.
///
/// # Errors
/// [`FileError::Damaged`] when something that was durable is damaged or missing, when a file is whole and not of this
/// history, or a whole record cannot be understood; or whatever `each` refuses.
pub fn scan(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    from: StateId,
    mut each: impl FnMut(&RawRecord<'_>) -> Result<(), RecordError>,
) -> Result<ScanResult, FileError> {
    read_on(disk, identity, from, ScanPolicy::Refuse, &mut each)
}

/// As [`scan`], of a follower's log: its records state what the leader's disk had synced, which says nothing about this
/// one.
///
/// # Errors
/// As [`scan`]: something durable is damaged or missing, or the system's error.
pub fn scan_copied(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    from: StateId,
    mut each: impl FnMut(&RawRecord<'_>) -> Result<(), RecordError>,
) -> Result<ScanResult, FileError> {
    read_on(disk, identity, from, ScanPolicy::Copied, &mut each)
}

/// As [`scan`], but cuts where that would refuse, also what was durable; what `each` refuses is cut too.
///
/// # Errors
/// The system's error if a segment cannot be read. Damage ends what is salvaged and is no error.
pub fn salvage(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    from: StateId,
    mut each: impl FnMut(&RawRecord<'_>) -> Result<(), RecordError>,
) -> Result<ScanResult, FileError> {
    read_on(disk, identity, from, ScanPolicy::Cut, &mut each)
}

fn read_on(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    from: StateId,
    policy: ScanPolicy,
    each: &mut impl FnMut(&RawRecord<'_>) -> Result<(), RecordError>,
) -> Result<ScanResult, FileError> {
    let segments = needed_segments(disk, identity, from)?;
    let mut state = ScanResult { mark: from, time_ms: LoggedTime::ZERO, harmless: Vec::new(), cut: None };
    let mut index = 0;
    while let Some((name, first)) = segments.get(index) {
        let bytes = read_segment(disk, name)?;
        let mut at = FILE_HEADER_BYTES;
        let read = match check_start(name, &bytes, *first, identity, &state.mark, from) {
            Ok(ScanStart::GoesOn) => read_records(name, &bytes, &mut at, identity, &mut state, from, each),
            Ok(ScanStart::HeaderTorn(damage)) if is_first_record(&bytes, *first, identity) => {
                state.harmless.push(damage);
                read_records(name, &bytes, &mut at, identity, &mut state, from, each)
            }
            stopped => {
                at = 0;
                match stopped {
                    // Each segment is synced, with its name, before the one after the next is made: what begins the
                    // log, and begins too late, follows one that was durable.
                    Ok(ScanStart::Gap(damage)) if index == 0 => Err(damage),
                    Ok(ScanStart::HeaderTorn(damage) | ScanStart::Gap(damage)) => Ok(Some(damage)),
                    Ok(ScanStart::GoesOn) => unreachable!("the first arm"),
                    Err(damage) => Err(damage),
                }
            }
        };
        index += 1;
        let damage = match read {
            Ok(None) => continue,
            Ok(Some(damage)) => damage,
            Err(damage) if policy == ScanPolicy::Cut => damage,
            Err(damage) => return Err(damage.into()),
        };
        match successor(disk, identity, &state.mark, &segments[index..])? {
            Some(ahead) => {
                state.harmless.push(damage);
                index += ahead;
            }
            None => {
                let later = segments[index..].iter().map(|(name, _)| name.clone()).collect();
                state.cut = Some(cut_or_refuse(disk, identity, &state.mark, policy, damage, &bytes[at..], at, later)?);
                return Ok(state);
            }
        }
    }
    Ok(state)
}

/// The segments from the one that holds the record behind `from`, as their headers say and not their names: a stray
/// file must not hide the segment before it.
fn needed_segments(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    from: StateId,
) -> Result<Vec<(String, Position)>, FileError> {
    let mut segments = segments(disk)?;
    for index in (1..segments.len()).rev() {
        let (name, first) = &segments[index];
        if first.sequence <= from.position.sequence + 1 && own_header(disk, identity, name, *first)?.is_some() {
            segments.drain(..index);
            break;
        }
    }
    Ok(segments)
}

/// Counts the segments ahead to the one that goes on right at `mark`, by position and chain: then nothing is missing,
/// and those between belong to no history.
fn successor(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    mark: &StateId,
    later: &[(String, Position)],
) -> Result<Option<usize>, FileError> {
    for (ahead, (name, first)) in later.iter().enumerate() {
        if first.sequence == mark.position.sequence + 1
            && own_header(disk, identity, name, *first)?.is_some_and(|header| header.chain == mark.chain)
        {
            return Ok(Some(ahead));
        }
    }
    Ok(None)
}

/// The header of a segment, if it is whole and what it must be.
pub(super) fn own_header(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    name: &str,
    first: Position,
) -> Result<Option<FileHeader>, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    let mut bytes = [0; FILE_HEADER_BYTES];
    let read = file.read_at(0, &mut bytes).map_err(FileError::io(name))?;
    let header = FileHeader::decode_of(name, &bytes[..read], FileKind::Log, identity).ok();
    Ok(header.filter(|header| header.position == first))
}

/// All bytes of a segment.
pub(crate) fn read_segment(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, FileError> {
    let file = disk.open(name).map_err(FileError::io(name))?;
    read_all(&*file, MAX_SEGMENT_BYTES).map_err(FileError::io(name))
}

/// The state of a segment's beginning.
enum ScanStart {
    /// With a header that goes on where the log has come to, or before.
    GoesOn,
    /// With a header that is not whole, as a crash right after a rotation can leave it.
    HeaderTorn(FileDamage),
    /// With a header that goes on further on.
    Gap(FileDamage),
}

/// Checks whether a segment goes on where the last one ended. A header that is whole and says something else is nothing
/// that a crash leaves, so it is refused and nothing is cut.
fn check_start(
    name: &str,
    bytes: &[u8],
    first: Position,
    identity: &DatabaseIdentity,
    at: &StateId,
    from: StateId,
) -> Result<ScanStart, FileDamage> {
    let header = match FileHeader::decode_of(name, bytes, FileKind::Log, identity) {
        Err(damage) if !FileHeader::is_whole(bytes) => return Ok(ScanStart::HeaderTorn(damage)),
        decoded => decoded?,
    };
    if header.position != first {
        return Err(FileDamage::new(name, 48, format!("the header says {}, the name says {first}", header.position)));
    }
    let expected = at.position.sequence + 1;
    let reaches_back = first.sequence <= from.position.sequence + 1 && *at == from;
    if first.sequence > expected {
        return Ok(ScanStart::Gap(FileDamage::new(
            name,
            0,
            format!("it begins at {first}, but record {expected} comes next"),
        )));
    }
    if first.sequence < expected && !reaches_back {
        return Err(FileDamage::new(name, 48, format!("it begins at {first}, but the log has come to {expected}")));
    }
    if first.sequence == expected && header.chain != at.chain {
        return Err(FileDamage::new(name, 64, "the segment does not go on with this history"));
    }
    Ok(ScanStart::GoesOn)
}

/// Returns whether the first record is there, behind a header that is not whole. Its own checksums and chain say all
/// that the header would. A follower that was behind has it of an older epoch than the segment.
fn is_first_record(bytes: &[u8], first: Position, identity: &DatabaseIdentity) -> bool {
    let raw = bytes.get(FILE_HEADER_BYTES..).map(|bytes| RawRecord::parse(bytes, identity.hash_seed));
    let is_first = |found: Position| found.sequence == first.sequence && found.epoch <= first.epoch;
    matches!(raw, Some(Ok(raw)) if is_first(raw.header.position))
}

/// Reads the records of one segment; gives the damage at the first bad one, where `at` is left.
fn read_records(
    name: &str,
    bytes: &[u8],
    at: &mut usize,
    identity: &DatabaseIdentity,
    state: &mut ScanResult,
    from: StateId,
    each: &mut impl FnMut(&RawRecord<'_>) -> Result<(), RecordError>,
) -> Result<Option<FileDamage>, FileDamage> {
    while *at < bytes.len() {
        let raw = match RawRecord::parse(&bytes[*at..], identity.hash_seed) {
            Ok(raw) => raw,
            // It is whole, so it is no remains of a crash: a newer release wrote it.
            Err(unknown @ RecordError::Unknown(_)) => return Err(FileDamage::new(name, *at as u64, unknown)),
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
                    _ => return Ok(Some(FileDamage::new(name, *at as u64, bad))),
                }
            }
        };
        let position = raw.header.position;
        if position.sequence > from.position.sequence {
            let last = state.mark.position;
            // Treated like a torn record. Bytes that were never synced may be anything after a power loss, and whether
            // these were synced is found out from what later records state.
            if position.sequence != last.sequence + 1 || position.epoch < last.epoch || !raw.follows(state.mark.chain) {
                return Ok(Some(FileDamage::new(
                    name,
                    *at as u64,
                    format!("record {position} does not follow {last}"),
                )));
            }
            // Refused, not cut: a whole record in its place that cannot be applied is nothing that a crash leaves.
            each(&raw).map_err(|error| FileDamage::new(name, *at as u64, error))?;
            state.mark = StateId { position, digest: raw.header.digest_after, chain: raw.header.chain };
            state.time_ms = raw.header.time_ms;
        }
        *at += raw.header.record_bytes();
    }
    Ok(None)
}

/// Whole records at any offset of `bytes`, in order.
pub(crate) fn later_records<'a>(
    bytes: &'a [u8],
    identity: &DatabaseIdentity,
) -> impl Iterator<Item = (usize, RawRecord<'a>)> {
    let hash_seed = identity.hash_seed;
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + RECORD_HEADER_BYTES <= bytes.len() {
            let here = at;
            // At every byte, since the length in front of a torn record may be wrong as well. The seed in the checksum
            // keeps other bytes from being taken for a record.
            if let Ok(raw) = RawRecord::parse(&bytes[at..], hash_seed) {
                at += raw.header.record_bytes();
                return Some((here, raw));
            }
            at += 1;
        }
        None
    })
}

/// Decides about the first bad record: it and everything behind it was never durable, or this is damage. `rest` is
/// what its segment holds from `at` on.
#[allow(clippy::too_many_arguments, reason = "all of what is known at the first bad record")]
fn cut_or_refuse(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    end: &StateId,
    policy: ScanPolicy,
    damage: FileDamage,
    rest: &[u8],
    at: usize,
    later_segments: Vec<String>,
) -> Result<Truncation, FileError> {
    let bad = end.position.sequence + 1;
    let mut cut = Truncation {
        damage,
        keep_bytes: at as u64,
        remove: Vec::new(),
        lost_bytes: 0,
        lost_records: 0,
        last_record: Position::ZERO,
        stated_synced: 0,
    };
    let look = |bytes: &[u8], cut: &mut Truncation| -> Result<(), FileError> {
        cut.lost_bytes += bytes.len() as u64;
        for (_, RawRecord { header, .. }) in later_records(bytes, identity) {
            // Only what this disk is known to have synced is a reason to refuse. That a later record is whole is not: a
            // power loss may write pages in any order.
            let mut was_durable = header.synced_upto >= bad && policy == ScanPolicy::Refuse;
            inject!(CutsWhatWasSynced, was_durable = false);
            if was_durable {
                let FileDamage { file, offset, what } = &cut.damage;
                let (position, synced) = (header.position, header.synced_upto);
                let what = format!("{what}; record {position} states that {synced} was synced, so {bad} was durable");
                return Err(FileDamage::new(file, *offset, what).into());
            }
            cut.lost_records += 1;
            cut.last_record = cut.last_record.max(header.position);
            cut.stated_synced = cut.stated_synced.max(header.synced_upto);
        }
        Ok(())
    };
    look(rest, &mut cut)?;
    for name in later_segments {
        look(&read_segment(disk, &name)?, &mut cut)?;
        cut.remove.push(name);
    }
    Ok(cut)
}

impl Truncation {
    /// Carries the cut out, durably. A segment that keeps nothing stays as an empty file: until the next epoch is in
    /// the MANIFEST, this one must have a segment ([`Truncation::clear`]).
    ///
    /// # Errors
    /// The system's error if a file cannot be cut, removed or synced; it can be done again.
    pub fn carry_out(&self, disk: &dyn Disk) -> Result<(), FileError> {
        let name = &self.damage.file;
        // From the end: a crash on the way must not leave later segments behind a shortened one.
        for later in self.remove.iter().rev() {
            disk.remove(later).map_err(FileError::io(later))?;
        }
        // And a power loss must not either, so the removals are durable before the truncation.
        disk.sync_directory().map_err(FileError::io("the data directory"))?;
        let keep_bytes = if self.keeps_records() { self.keep_bytes } else { 0 };
        let file = disk.open(name).map_err(FileError::io(name))?;
        file.truncate(keep_bytes).and_then(|()| file.sync()).map_err(FileError::io(name))
    }

    /// Removes what [`Truncation::carry_out`] has left empty.
    ///
    /// # Errors
    /// The system's error if a file cannot be removed, or the directory not synced.
    pub fn clear(&self, disk: &dyn Disk) -> Result<(), FileError> {
        let name = &self.damage.file;
        if self.keeps_records() { Ok(()) } else { disk.remove(name).map_err(FileError::io(name)) }
    }

    fn keeps_records(&self) -> bool {
        self.keep_bytes >= FILE_HEADER_BYTES as u64
    }
}
