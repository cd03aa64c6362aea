//! The log: any bytes as its segments. What a start accepts is a history: each record follows the one before by
//! position and chain, and the counts are those the records state.

use super::seal::{self, IDENTITY, Seal, Sealed};
use crate::counts_model::{CountsModel, entries_digest};
use crate::database::node_run;
use crate::disk::{Files, MemoryDisk};
use memdb::{
    base::position::Position,
    data::store::{DedupLimits, StateId},
    storage::disk::Disk,
    storage::file_header::{FORMAT_VERSION, FileKind, LOG_PREFIX, MANIFEST, position_name},
    storage::inspect::inspect,
    storage::manifest::{Manifest, ManifestState},
    storage::recovery,
    storage::wal::{ChainState, RECORD_HEADER_BYTES, RawRecord, RecordError, encode_record, salvage, scan},
};
use std::sync::Arc;

/// The first byte: how far the rest is sealed, whether it is whole files (with a file header of its own), and whether
/// it is cut into two segments between records.
pub fn log(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let (seal, own_header, two) = (Seal::of(how), how & 4 != 0, how & 8 != 0);
    let files = segments(rest, seal, own_header, two);
    let disk = MemoryDisk::new(&files);
    for name in files.keys() {
        let _ = inspect(&*disk, name).expect("memory can be read");
    }
    let accepted = check_scan(&*disk);
    check_salvage(&*disk);
    check_start(&disk, accepted);
}

fn segments(rest: &[u8], seal: Seal, own_header: bool, two: bool) -> Files {
    let first = Position::new(1, 1);
    let mut bytes = rest.to_vec();
    let mut files = Files::from([(MANIFEST.to_owned(), manifest())]);
    if own_header {
        files.insert(position_name(LOG_PREFIX, first), bytes);
        return files;
    }
    let ends = seal::records(&mut bytes, seal, &mut Sealed::begin());
    let middle = ends.get(ends.len() / 2).filter(|_| two && seal >= Seal::Chain);
    let (front, back) = bytes.split_at(middle.map_or(bytes.len(), |end| end.0));
    let segment = |first: Position, chain: u64, bytes: &[u8]| {
        (
            position_name(LOG_PREFIX, first),
            [&seal::file_header(FileKind::Log, FORMAT_VERSION, first, chain)[..], bytes].concat(),
        )
    };
    files.extend([segment(first, 0, front)]);
    if let Some((_, last, chain)) = middle {
        files.extend([segment(Position::new(1, last.sequence + 1), *chain, back)]);
    }
    files
}

fn manifest() -> Vec<u8> {
    let state = ManifestState { epoch: 1, boot_id: "boot".into(), ..ManifestState::default() };
    Manifest { identity: IDENTITY, state }.encode()
}

/// Where the scan ends, with the counts there, if it accepts the log at all.
fn check_scan(disk: &dyn Disk) -> Option<(StateId, CountsModel, bool)> {
    let (mut at, mut model, mut sound) = (StateId::default(), CountsModel::default(), true);
    let mut has_entries = false;
    let scanned = scan(disk, &IDENTITY, StateId::default(), |raw| {
        follow(&mut at, raw);
        let record = raw.record()?;
        model.apply(&record.body.changes);
        // The model knows counts alone: a start checks the digest of entries itself, and its end is compared below.
        has_entries |= !record.body.entries.is_empty();
        sound &= has_entries || model.digest(IDENTITY.hasher()) == record.digest_after;
        same_again(raw, &record.body);
        Ok(())
    });
    let scanned = scanned.ok()?;
    assert_eq!(scanned.mark, at, "the scan ends at the last record it gave");
    Some((at, model, sound))
}

/// A record must be the next one by position and by a chain that is computed here once more.
fn follow(at: &mut StateId, raw: &RawRecord<'_>) {
    let header = &raw.header;
    assert_eq!(header.position.sequence, at.position.sequence + 1, "no gap");
    assert!(header.position.epoch >= at.position.epoch, "epochs do not go back");
    let mut bytes = [0; RECORD_HEADER_BYTES];
    bytes[16..24].copy_from_slice(&header.position.epoch.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.position.sequence.to_le_bytes());
    bytes[32..40].copy_from_slice(&header.time_ms.as_ms().to_le_bytes());
    bytes[56..64].copy_from_slice(&header.digest_after.to_le_bytes());
    assert_eq!(seal::chain_after(at.chain, &bytes, raw.payload), header.chain, "the chain");
    *at = StateId { position: header.position, digest: header.digest_after, chain: header.chain };
}

/// What was decoded is what it is encoded to.
fn same_again(raw: &RawRecord<'_>, body: &memdb::data::record::RecordBody<'_>) {
    let header = &raw.header;
    let before = ChainState { chain: 0, synced_upto: header.synced_upto, hash_seed: IDENTITY.hash_seed };
    let mut encoded = Vec::new();
    encode_record(header.position, header.time_ms, header.digest_after, body, &before, &mut encoded);
    let again = RawRecord::parse(&encoded, IDENTITY.hash_seed).expect("encoded just now");
    // Format 1 has no sections.
    let longest = if header.kind == 1 { usize::MAX } else { raw.payload.len() };
    assert!(again.payload.len() <= longest, "the shortest form of {} bytes", raw.payload.len());
    assert_eq!(again.record().map(|record| record.body).as_ref(), Ok(body));
}

/// Repair takes what is there up to the first bad record, and never fails on damage.
fn check_salvage(disk: &dyn Disk) {
    let mut at = StateId::default();
    let salvaged = salvage(disk, &IDENTITY, StateId::default(), |raw| -> Result<(), RecordError> {
        raw.record()?;
        follow(&mut at, raw);
        Ok(())
    });
    assert_eq!(salvaged.expect("memory can be read").mark, at);
}

/// A start accepts nothing that the scan does not, holds what the records state, and a second start finds the same.
fn check_start(disk: &Arc<MemoryDisk>, accepted: Option<(StateId, CountsModel, bool)>) {
    let Ok(found) = recovery::look(&**disk, IDENTITY, DedupLimits::default()) else { return };
    super::accepted();
    let (mark, model, sound) = accepted.expect("a start accepts what the scan accepts");
    assert!(sound, "a start accepts no wrong digest");
    let digest = model.digest(IDENTITY.hasher()).wrapping_add(entries_digest(&found.store));
    assert_eq!((found.store.mark(), found.store.digest()), (mark, digest));
    assert_eq!(CountsModel::of(&found.store), model);
    let shared = Arc::clone(disk) as Arc<dyn Disk>;
    let settled = found.finalize(&shared, &mut node_run(), 1 << 20).expect("memory takes everything");
    assert_eq!(settled.store.mark().position.sequence, mark.position.sequence);
    drop(settled);
    let again = recovery::look(&**disk, IDENTITY, DedupLimits::default()).expect("it has just been settled");
    assert_eq!(again.store.mark(), mark, "the state after a second start");
    assert_eq!(CountsModel::of(&again.store), model);
}
