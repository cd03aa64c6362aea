//! Makes bytes right, as far as is asked, so that what lies behind checksums is reached; and keeps what the database
//! must hold then.
//!
//! Written from `docs/log-format.md` and `docs/snapshot-format.md`, beside the code it is to test.

use crate::counts_model::CountsModel;
use memdb::{
    base::position::Position,
    storage::file_header::{DatabaseIdentity, FILE_HEADER_BYTES, FileHeader, FileKind},
    storage::wal::{RECORD_HEADER_BYTES, RawRecord},
    text::tokenizer::Analyzer,
};

/// The database all targets are about; the one of the golden files.
pub const IDENTITY: DatabaseIdentity = DatabaseIdentity {
    database_id: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
    shard_id: 0,
    analyzer: Analyzer::StandardV1,
    hash_seed: 0x1716_1514_1312_1110,
};

/// How far bytes are made right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seal {
    /// Not at all.
    Raw,
    /// Lengths and checksums.
    Checksums,
    /// Positions and the chain too.
    Chain,
    /// And the digests: what is there is a history.
    Digests,
}

impl Seal {
    pub fn of(byte: u8) -> Self {
        [Seal::Raw, Seal::Checksums, Seal::Chain, Seal::Digests][usize::from(byte) % 4]
    }
}

/// Where sealed records begin, and where they have come to.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub position: Position,
    pub chain: u64,
    pub model: CountsModel,
}

impl Sealed {
    pub fn begin() -> Self {
        Self { position: Position::new(1, 0), chain: 0, model: CountsModel::default() }
    }
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The chain behind a record: XXH3-64, seeded with the chain before, over epoch, sequence, time, digest and payload.
pub fn chain_after(before: u64, header: &[u8], payload: &[u8]) -> u64 {
    let parts = [&header[16..40], &header[56..64], payload].concat();
    xxhash_rust::xxh3::xxh3_64_with_seed(&parts, before)
}

/// Makes the records in `bytes` right, one after the other; what is too short for one stays as it is. Gives where each
/// ends, with the chain there.
pub fn records(bytes: &mut [u8], seal: Seal, sealed: &mut Sealed) -> Vec<(usize, Position, u64)> {
    let (mut at, mut ends) = (0, Vec::new());
    while seal > Seal::Raw && at + RECORD_HEADER_BYTES <= bytes.len() {
        let (header, rest) = bytes[at..].split_at_mut(RECORD_HEADER_BYTES);
        let mut len = u32_at(header, 0) as usize;
        if len > rest.len() {
            len %= rest.len() + 1;
        }
        let payload = &rest[..len];
        header[0..4].copy_from_slice(&(len as u32).to_le_bytes());
        if header[8] != 1 || header[9] != 0 {
            header[8..10].copy_from_slice(&2_u16.to_le_bytes());
        }
        header[12..16].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        if seal >= Seal::Chain {
            sealed.position.sequence += 1;
            header[16..24].copy_from_slice(&sealed.position.epoch.to_le_bytes());
            header[24..32].copy_from_slice(&sealed.position.sequence.to_le_bytes());
        }
        header_checksum(header);
        if seal >= Seal::Digests {
            let raw = [&*header, payload].concat();
            if let Ok(record) = RawRecord::parse(&raw, IDENTITY.hash_seed).expect("sealed").record() {
                sealed.model.apply(&record.body.changes);
            }
            header[56..64].copy_from_slice(&sealed.model.digest(IDENTITY.hasher()).to_le_bytes());
        }
        if seal >= Seal::Chain {
            sealed.chain = chain_after(sealed.chain, header, payload);
            header[48..56].copy_from_slice(&sealed.chain.to_le_bytes());
        }
        header_checksum(header);
        at += RECORD_HEADER_BYTES + len;
        ends.push((at, sealed.position, sealed.chain));
    }
    ends
}

fn header_checksum(header: &mut [u8]) {
    let crc = crc32c::crc32c(&IDENTITY.hash_seed.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &header[..4]), &header[8..]);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// A file's header.
pub fn file_header(kind: FileKind, version: u16, position: Position, chain: u64) -> [u8; FILE_HEADER_BYTES] {
    FileHeader { version, ..FileHeader::new(kind, IDENTITY, position, chain) }.encode()
}
