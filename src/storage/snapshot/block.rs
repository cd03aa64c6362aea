//! The blocks a snapshot is made of.
//!
//! ```text
//! 0  u32 kind   4  u32 payload length   8  u32 CRC32C   12  payload
//! ```
//!
//! The CRC goes on from the one of the block before (the file header's, for the first), over kind, length and payload:
//! a block that is missing, doubled or out of place is found as a flipped bit is.

use crate::{
    base::clock::LoggedTime,
    data::store::StateId,
    storage::file_header::{self, FileDamage, u32_at},
};
use bincode::{Decode, Encode};

pub(super) const BLOCK_HEADER_BYTES: usize = 12;
/// Longest payload: one read of log bytes may hold a whole record.
pub(super) const MAX_BLOCK_BYTES: usize = crate::base::limits::MAX_SNAPSHOT_BLOCK_BYTES;

/// The content of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// A namespace, then words with their counts.
    Image,
    /// Entries of the idempotency window.
    Window,
    /// Records, as in the log.
    Records,
    /// The [`SnapshotTrailer`]; nothing follows it.
    Trailer,
    /// A collection, then entries.
    Entries,
}

impl BlockKind {
    const ALL: [BlockKind; 5] =
        [BlockKind::Image, BlockKind::Window, BlockKind::Records, BlockKind::Trailer, BlockKind::Entries];

    /// Returns whether a block of this kind is a part of the image.
    pub(super) const fn is_image(self) -> bool {
        matches!(self, BlockKind::Image | BlockKind::Entries)
    }

    const fn code(self) -> u32 {
        // Written out, and not the order of the variants: files keep these numbers for ever.
        match self {
            BlockKind::Image => 1,
            BlockKind::Window => 2,
            BlockKind::Records => 3,
            BlockKind::Trailer => 4,
            BlockKind::Entries => 5,
        }
    }
}

/// The end of a snapshot: what it is a state at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SnapshotTrailer {
    /// The state at which the walk began.
    pub start: StateId,
    /// The state that the snapshot leads to.
    pub end: StateId,
    /// The time of the last record.
    pub time_ms: LoggedTime,
    /// Counts in the image.
    pub words: u64,
    /// Entries in the image.
    pub entries: u64,
}

impl SnapshotTrailer {
    /// Reads the trailer of a snapshot of this version. Format 1 has no entries.
    pub(super) fn decode(version: u16, payload: &[u8]) -> Result<Self, String> {
        if version > 1 {
            return file_header::decode(payload);
        }
        // Read still, since a directory of an older release is gone on with as it is.
        let (start, end, time_ms, words) = file_header::decode(payload)?;
        Ok(Self { start, end, time_ms, words, entries: 0 })
    }
}

/// Makes a block; gives the running CRC behind it.
pub(super) fn encode(kind: BlockKind, payload: &[u8], crc_before: u32) -> (Vec<u8>, u32) {
    let mut block = Vec::with_capacity(BLOCK_HEADER_BYTES + payload.len());
    block.extend_from_slice(&kind.code().to_le_bytes());
    block.extend_from_slice(&u32::try_from(payload.len()).expect("blocks are bounded").to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc_before, &block), payload);
    block.extend_from_slice(&crc.to_le_bytes());
    block.extend_from_slice(payload);
    (block, crc)
}

/// The length of the payload that follows a block header. The checksum is not checked yet, so it may be anything.
pub(super) fn payload_bytes(header: &[u8; BLOCK_HEADER_BYTES]) -> usize {
    u32_at(header, 4) as usize
}

/// Checks a block; gives its kind and the running CRC behind it.
pub(super) fn check(
    file: &str,
    offset: u64,
    header: &[u8; BLOCK_HEADER_BYTES],
    payload: &[u8],
    crc_before: u32,
) -> Result<(BlockKind, u32), FileDamage> {
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc_before, &header[..8]), payload);
    if crc != u32_at(header, 8) {
        return Err(FileDamage::new(file, offset, "the checksum of a block does not match"));
    }
    let code = u32_at(header, 0);
    let kind = BlockKind::ALL.into_iter().find(|kind| kind.code() == code);
    kind.map(|kind| (kind, crc)).ok_or_else(|| FileDamage::new(file, offset, format!("a block of unknown kind {code}")))
}
