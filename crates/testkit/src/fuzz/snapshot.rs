//! Snapshots and the MANIFEST: what is accepted has the digest it states, however it comes in pieces, and can be
//! encoded again.

use super::seal::{self, IDENTITY, Seal, Sealed, u32_at};
use crate::counts_model::{CountsModel, entries_digest};
use memdb::{
    base::clock::LoggedTime,
    base::position::Position,
    data::record::{NamespaceChange, WordCount},
    data::store::{DedupLimits, StateId, Store},
    storage::file_header::{FILE_HEADER_BYTES, FORMAT_VERSION, FileKind, borrow_decode_front, encode_into},
    storage::manifest::Manifest,
    storage::snapshot::{SnapshotLoader, SnapshotTrailer},
    storage::wal::RawRecord,
};

const BLOCK_HEADER_BYTES: usize = 12;
const KINDS: [u32; 4] = [1, 2, 3, 4];
/// The kind of blocks of entries.
const ENTRIES: u32 = 5;

/// The first byte: how far the blocks are sealed, and whether they are of format 1; the second: the size of the pieces
/// they come in.
pub fn snapshot(data: &[u8]) {
    let [how, piece, rest @ ..] = data else { return };
    let bytes = if *how & 4 != 0 {
        rest.to_vec()
    } else {
        file(rest, Seal::of(*how), if *how & 8 != 0 { 1 } else { FORMAT_VERSION })
    };
    let whole = load(&bytes, bytes.len().max(1));
    let pieces = load(&bytes, 1 + usize::from(*piece));
    match (whole, pieces) {
        (Ok((store, trailer)), Ok((other, same))) => {
            super::accepted();
            let model = CountsModel::of(&store);
            assert_eq!(trailer, same);
            assert_eq!(
                model.digest(IDENTITY.hasher()).wrapping_add(entries_digest(&store)),
                trailer.end.digest,
                "counts and entries have the digest the trailer states"
            );
            assert_eq!((store.digest(), store.mark()), (trailer.end.digest, trailer.end));
            assert_eq!(model, CountsModel::of(&other), "the size of the pieces does not matter");
        }
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("whole: {:?}; in pieces: {:?}", whole.err(), pieces.err()),
    }
}

fn load(bytes: &[u8], piece: usize) -> Result<(Store, SnapshotTrailer), String> {
    let mut loader = SnapshotLoader::new(IDENTITY, DedupLimits::default());
    for piece in bytes.chunks(piece) {
        loader.feed(piece).map_err(|damage| damage.to_string())?;
    }
    assert_eq!(loader.taken(), bytes.len() as u64);
    loader.finish().map_err(|damage| damage.to_string())
}

/// A file of these blocks, sealed; from [`Seal::Chain`] on with a trailer that belongs to them.
fn file(rest: &[u8], seal: Seal, version: u16) -> Vec<u8> {
    let start = StateId { position: Position::new(1, 2), digest: 0, chain: 7 };
    let mut sealed = Sealed { position: start.position, chain: start.chain, model: CountsModel::default() };
    let mut bytes = seal::file_header(FileKind::Snapshot, version, start.position, start.chain).to_vec();
    let mut crc = u32_at(&bytes, FILE_HEADER_BYTES - 4);
    let mut at = 0;
    while seal > Seal::Raw && at + BLOCK_HEADER_BYTES <= rest.len() {
        let stated = u32_at(rest, at);
        let kind = if seal > Seal::Checksums { KINDS[stated.wrapping_sub(1) as usize % 3] } else { stated };
        let room = rest.len() - at - BLOCK_HEADER_BYTES;
        let len = Some(u32_at(rest, at + 4) as usize).filter(|&len| len <= room).unwrap_or(room);
        at += BLOCK_HEADER_BYTES;
        let mut payload = rest[at..at + len].to_vec();
        at += len;
        // The model knows counts alone, so the digest of entries cannot be made right: they are left out.
        let before = sealed.clone();
        match kind {
            _ if stated == ENTRIES && seal > Seal::Checksums => continue,
            1 => set_image(&payload, &mut sealed.model),
            3 => drop(seal::records(&mut payload, seal, &mut sealed)),
            _ => {}
        }
        if kind == 3 && seal > Seal::Checksums && hold_entries(&payload) {
            sealed = before;
            continue;
        }
        crc = block(&mut bytes, kind, &payload, crc);
    }
    bytes.extend_from_slice(&rest[at..]);
    if seal > Seal::Checksums {
        bytes.truncate(bytes.len() - (rest.len() - at));
        let end =
            StateId { position: sealed.position, digest: sealed.model.digest(IDENTITY.hasher()), chain: sealed.chain };
        let mut payload = Vec::new();
        encode_into(
            &SnapshotTrailer { start, end, time_ms: LoggedTime::from_ms(5), words: 0, entries: 0 },
            &mut payload,
        );
        block(&mut bytes, 4, &payload, crc);
    }
    bytes
}

fn hold_entries(mut records: &[u8]) -> bool {
    while let Ok(raw) = RawRecord::parse(records, IDENTITY.hash_seed) {
        if raw.record().is_ok_and(|record| !record.body.entries.is_empty()) {
            return true;
        }
        records = &records[raw.header.record_bytes()..];
    }
    false
}

fn block(bytes: &mut Vec<u8>, kind: u32, payload: &[u8], crc_before: u32) -> u32 {
    let head = [kind.to_le_bytes(), (payload.len() as u32).to_le_bytes()].concat();
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc_before, &head), payload);
    bytes.extend_from_slice(&[&head[..], &crc.to_le_bytes(), payload].concat());
    crc
}

fn set_image(payload: &[u8], model: &mut CountsModel) {
    let Ok((namespace, mut rest)) = borrow_decode_front::<&str>(payload) else { return };
    let mut counts = Vec::new();
    while let Ok(((word, count), behind)) = borrow_decode_front::<(&str, i64)>(rest) {
        counts.push(WordCount { word, count });
        rest = behind;
    }
    model.apply(&[NamespaceChange { namespace, dropped: false, counts }]);
}

/// The first byte: whether the checksum at the end is made right.
pub fn manifest(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let mut bytes = rest.to_vec();
    if how & 1 != 0 {
        bytes = [&seal::file_header(FileKind::Manifest, FORMAT_VERSION, Position::ZERO, 0)[..], rest].concat();
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
    }
    let Ok(manifest) = Manifest::decode(&bytes) else { return };
    super::accepted();
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
}
