//! Records as bytes: the same on disk, on the wire, and in a follower's log.
//!
//! ```text
//!  0  u32 payload length        24  u64 sequence
//!  4  u32 header CRC            32  u64 time, ms since 1970
//!  8  u16 kind                  40  u64 synced_upto, a sequence
//! 10  u16 reserved (0)          48  u64 chain
//! 12  u32 payload CRC           56  u64 digest_after
//! 16  u64 epoch                 64  payload (`payload.rs`)
//! ```
//!
//! Both CRCs are CRC32C. The header's begins with the database's secret seed, so bytes that a client made up, or that
//! another database left on the medium, are not taken for a record when a damaged log is searched.

use super::payload::{self, KIND_COUNTS, KIND_SECTIONS};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::inject,
    base::limits,
    base::position::{Position, Sequence},
    data::record::{Record, RecordBody},
    storage::file_header::{u16_at, u32_at, u64_at},
};
use xxhash_rust::xxh3::Xxh3;

/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 64;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The form of the payload.
    pub kind: u16,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
    /// Its place.
    pub position: Position,
    /// The time at which it was written; never less than that of the record before.
    pub time_ms: LoggedTime,
    /// The last sequence that was known to be synced when this was written.
    pub synced_upto: Sequence,
    /// The hash of all records up to this one.
    pub chain: u64,
    /// The digest of the database after it.
    pub digest_after: u64,
}

impl RecordHeader {
    fn encode(&self, hash_seed: u64) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.kind.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time_ms.as_ms().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.synced_upto.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.chain.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.digest_after.to_le_bytes());
        let crc = header_crc(&bytes, hash_seed);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header at the front of `bytes`.
    ///
    /// # Errors
    /// [`RecordError::Cut`] if the bytes end before the header does, [`RecordError::HeaderCrc`] if its checksum does
    /// not match, [`RecordError::Unknown`] if its kind is unknown or its length is out of bounds.
    pub fn decode(bytes: &[u8], hash_seed: u64) -> Result<Self, RecordError> {
        let header = bytes.first_chunk::<RECORD_HEADER_BYTES>().ok_or(RecordError::Cut)?;
        // Before anything else is read: damage may be cut off, but an unknown kind is refused, so the two must not be
        // mixed up.
        if header_crc(header, hash_seed) != u32_at(header, 4) {
            return Err(RecordError::HeaderCrc);
        }
        let kind = u16_at(header, 8);
        let payload_bytes = u32_at(header, 0);
        if !matches!(kind, KIND_COUNTS | KIND_SECTIONS) || payload_bytes as usize > limits::MAX_RECORD_PAYLOAD_BYTES {
            return Err(RecordError::Unknown(format!("kind {kind} with {payload_bytes} bytes")));
        }
        Ok(Self {
            kind,
            payload_bytes,
            payload_crc: u32_at(header, 12),
            position: Position::new(u64_at(header, 16), u64_at(header, 24)),
            time_ms: LoggedTime::from_ms(u64_at(header, 32)),
            synced_upto: u64_at(header, 40),
            chain: u64_at(header, 48),
            digest_after: u64_at(header, 56),
        })
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload_bytes as usize
    }
}

fn header_crc(header: &[u8; RECORD_HEADER_BYTES], hash_seed: u64) -> u32 {
    let crc = crc32c::crc32c(&hash_seed.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &header[..4]);
    crc32c::crc32c_append(crc, &header[8..])
}

/// The reason why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside the record.
    #[error("the file ends inside a record")]
    Cut,
    /// The header's checksum does not match.
    #[error("the checksum of a record header does not match")]
    HeaderCrc,
    /// The payload's checksum does not match.
    #[error("the checksum of a record's payload does not match")]
    PayloadCrc,
    /// The record is whole but says something this release does not know.
    #[error("a record this release does not know: {0}")]
    Unknown(String),
}

/// A whole record in bytes, found to be undamaged.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Its header.
    pub header: RecordHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Reads the record at the front of `bytes`, and checks both checksums.
    ///
    /// # Errors
    /// As [`RecordHeader::decode`]; [`RecordError::Cut`] if the payload is cut off, [`RecordError::PayloadCrc`] if its
    /// checksum does not match.
    pub fn parse(bytes: &'a [u8], hash_seed: u64) -> Result<Self, RecordError> {
        let header = RecordHeader::decode(bytes, hash_seed)?;
        // The payload has a checksum of its own, so that a reader can go from header to header without it.
        let payload = bytes.get(RECORD_HEADER_BYTES..header.record_bytes()).ok_or(RecordError::Cut)?;
        let mut is_whole = crc32c::crc32c(payload) == header.payload_crc;
        inject!(ReadsPastATornRecord, is_whole = true);
        if !is_whole {
            return Err(RecordError::PayloadCrc);
        }
        Ok(Self { header, payload })
    }

    /// Returns whether this record follows a history with the given chain.
    pub fn follows(&self, chain_before: u64) -> bool {
        let header = &self.header;
        inject!(ReadsPastATornRecord, return true);
        chain_after(chain_before, header.position, header.time_ms, header.digest_after, self.payload) == header.chain
    }

    /// Returns whether this is the next record of a history that has come to `sequence`, with this chain.
    pub fn goes_on_from(&self, sequence: Sequence, chain: u64) -> bool {
        self.header.position.sequence == sequence + 1 && self.follows(chain)
    }

    /// Decodes the payload.
    ///
    /// # Errors
    /// If its payload, though undamaged, cannot be decoded, or has words or entries that no store takes.
    pub fn record(&self) -> Result<Record<'a>, RecordError> {
        let body = payload::decode(self.header.kind, self.payload).map_err(RecordError::Unknown)?;
        let RecordHeader { position, time_ms, digest_after, .. } = self.header;
        Ok(Record { position, time_ms, digest_after, body })
    }
}

/// The chain after a record: XXH3-64, seeded with the chain before it, over what the record says and where.
fn chain_after(before: u64, position: Position, time_ms: LoggedTime, digest_after: u64, payload: &[u8]) -> u64 {
    let mut hash = Xxh3::with_seed(before);
    for number in [position.epoch, position.sequence, time_ms.as_ms(), digest_after] {
        hash.update(&number.to_le_bytes());
    }
    hash.update(payload);
    hash.digest()
}

/// Encodes a record at the end of `bytes`; gives its header.
///
/// # Panics
/// If the payload passes [`limits::MAX_RECORD_PAYLOAD_BYTES`]: admission closes groups long before.
pub fn encode_record(
    position: Position,
    time_ms: LoggedTime,
    digest_after: u64,
    body: &RecordBody<'_>,
    before: &ChainState,
    bytes: &mut Vec<u8>,
) -> RecordHeader {
    let start = bytes.len();
    // The header is filled in last: its checksums are over a payload that is encoded in place and never copied.
    bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    payload::encode(body, bytes);
    let payload = &bytes[start + RECORD_HEADER_BYTES..];
    assert!(payload.len() <= limits::MAX_RECORD_PAYLOAD_BYTES, "a record of {} bytes", payload.len());
    let header = RecordHeader {
        kind: KIND_SECTIONS,
        payload_bytes: payload.len() as u32,
        payload_crc: crc32c::crc32c(payload),
        position,
        time_ms,
        synced_upto: before.synced_upto,
        chain: chain_after(before.chain, position, time_ms, digest_after, payload),
        digest_after,
    };
    bytes[start..start + RECORD_HEADER_BYTES].copy_from_slice(&header.encode(before.hash_seed));
    header
}

/// The end of the history that the next record is encoded after.
#[derive(Clone, Copy, Debug)]
pub struct ChainState {
    /// The chain so far.
    pub chain: u64,
    /// The last sequence known to be synced.
    pub synced_upto: Sequence,
    /// The database's seed.
    pub hash_seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::record::{KeyedWrite, NamespaceChange, WordCount};

    const BEFORE: ChainState = ChainState { chain: 5, synced_upto: 3, hash_seed: 9 };

    fn body() -> RecordBody<'static> {
        let counts = vec![WordCount { word: "hello", count: 2 }, WordCount { word: "gone", count: 0 }];
        let changes = vec![NamespaceChange { namespace: "words", dropped: false, counts }];
        let settled = KeyedWrite {
            namespace: "words",
            name: "key",
            stream_sequence: 0,
            fingerprint: 1 << 100,
            words: 2,
            distinct: 2,
            left_out: 0,
            entries: 0,
        };
        RecordBody { entries: Vec::new(), changes, keyed_writes: vec![settled] }
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_record(Position::new(1, 4), LoggedTime::from_ms(1_000), 77, &body(), &BEFORE, &mut bytes);
        bytes
    }

    #[test]
    fn a_record_comes_back() {
        let bytes = encoded();
        let raw = RawRecord::parse(&bytes, 9).expect("whole");
        let record = raw.record().expect("known");
        assert_eq!(
            record,
            Record {
                position: Position::new(1, 4),
                time_ms: LoggedTime::from_ms(1_000),
                digest_after: 77,
                body: body()
            }
        );
        assert_eq!((raw.header.synced_upto, raw.header.record_bytes()), (3, bytes.len()));
        assert!(raw.follows(5) && !raw.follows(6));
    }

    #[test]
    fn every_cut_and_flip_is_found() {
        let bytes = encoded();
        for len in 0..bytes.len() {
            assert_eq!(RawRecord::parse(&bytes[..len], 9).err(), Some(RecordError::Cut), "cut at {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(RawRecord::parse(&flipped, 9).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_word_that_no_store_takes_is_refused_and_does_not_reach_one() {
        let long = "a".repeat(limits::MAX_WORD_BYTES + 1);
        for (word, sound) in [("", false), (&long[1..], true), (&long, false)] {
            let counts = vec![WordCount { word: "hello", count: 1 }, WordCount { word, count: 1 }];
            let body = RecordBody {
                entries: Vec::new(),
                changes: vec![NamespaceChange { namespace: "words", dropped: false, counts }],
                keyed_writes: Vec::new(),
            };
            let mut bytes = Vec::new();
            encode_record(Position::new(1, 4), LoggedTime::from_ms(1_000), 77, &body, &BEFORE, &mut bytes);
            let raw = RawRecord::parse(&bytes, 9).expect("whole");
            assert_eq!(raw.record().is_ok(), sound, "{} bytes", word.len());
        }
    }

    #[test]
    fn a_kind_that_is_not_known_is_refused() {
        let header = RawRecord::parse(&encoded(), 9).expect("whole").header;
        for (kind, sound) in [(0, false), (1, true), (2, true), (3, false)] {
            let bytes = RecordHeader { kind, ..header }.encode(9);
            let decoded = RecordHeader::decode(&bytes, 9);
            assert_eq!(decoded.is_ok(), sound, "{kind}");
        }
    }

    #[test]
    fn a_record_of_another_database_is_none() {
        assert_eq!(RawRecord::parse(&encoded(), 10).err(), Some(RecordError::HeaderCrc));
    }
}
