//! The header of every file of a database, and the error for damage.
//!
//! `docs/log-format.md` and `docs/snapshot-format.md` own the layouts; golden files test them.

use crate::{
    base::hash::WordHasher,
    base::position::{DatabaseTag, Position, PositionToken},
    text::tokenizer::Analyzer,
};
use bincode::{Decode, Encode, config};
use std::{fmt, io};

/// Version of the formats that this release writes.
pub const FORMAT_VERSION: u16 = 2;
/// The oldest version that this release reads.
pub const OLDEST_FORMAT_VERSION: u16 = 1;
/// Bytes of the header that every file begins with.
pub const FILE_HEADER_BYTES: usize = 80;

/// The identity of a database: the same in every one of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseIdentity {
    /// The database, drawn at random when it is made.
    pub database_id: u128,
    /// The shard; 0 until databases are sharded.
    pub shard_id: u32,
    /// The analyzer that turns its text into words.
    pub analyzer: Analyzer,
    /// The secret seed of its word hashes.
    pub hash_seed: u64,
}

impl DatabaseIdentity {
    /// The hasher of this database.
    pub const fn hasher(&self) -> WordHasher {
        WordHasher::new(self.hash_seed)
    }

    /// The tag that its positions carry, which distinguishes them from those of other databases.
    pub const fn tag(&self) -> DatabaseTag {
        DatabaseTag::of(self.database_id)
    }

    /// A position of it, as clients see it.
    pub const fn token(&self, position: Position) -> PositionToken {
        PositionToken::of(self.database_id, position)
    }
}

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `MANIFEST`.
    Manifest,
    /// `log-…`.
    Log,
    /// `snapshot-…`.
    Snapshot,
}

impl FileKind {
    const ALL: [FileKind; 3] = [FileKind::Manifest, FileKind::Log, FileKind::Snapshot];

    const fn magic(self) -> [u8; 8] {
        match self {
            FileKind::Manifest => *b"memdbMAN",
            FileKind::Log => *b"memdbLOG",
            FileKind::Snapshot => *b"memdbSNP",
        }
    }

    /// The kind that a file of this name has.
    pub fn of_name(name: &str) -> Option<FileKind> {
        match name {
            MANIFEST => Some(FileKind::Manifest),
            _ if parse_name(LOG_PREFIX, name).is_some() => Some(FileKind::Log),
            _ if parse_name(SNAPSHOT_PREFIX, name).is_some() => Some(FileKind::Snapshot),
            _ => None,
        }
    }
}

/// The name of the manifest.
pub const MANIFEST: &str = "MANIFEST";
/// Prefix of the names of log segments; the position of the first record follows.
pub const LOG_PREFIX: &str = "log-";
/// Prefix of the names of snapshots; the position they are a state at follows.
pub const SNAPSHOT_PREFIX: &str = "snapshot-";

/// A file name with a position in it; names sort as positions do.
pub fn position_name(prefix: &str, position: Position) -> String {
    format!("{prefix}{:010}-{:020}", position.epoch, position.sequence)
}

/// The position in a file name.
pub fn parse_name(prefix: &str, name: &str) -> Option<Position> {
    let (epoch, sequence) = name.strip_prefix(prefix)?.split_once('-')?;
    let position = Position::new(epoch.parse().ok()?, sequence.parse().ok()?);
    // A name that reads as a position but is written otherwise, without zeros in front say, is none of ours: it would
    // sort wrongly.
    (position_name(prefix, position) == name).then_some(position)
}

/// A file, or a place in it, that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} at byte {offset}: {what}")]
pub struct FileDamage {
    /// The file's name.
    pub file: String,
    /// The offset in bytes.
    pub offset: u64,
    /// The damage, for a person.
    pub what: String,
}

impl FileDamage {
    /// Damage in a file.
    pub fn new(file: &str, offset: u64, what: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), offset, what: what.to_string() }
    }
}

/// Reading a file failed, or it is damaged.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system could not read or write it.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// The system's error.
        error: io::Error,
    },
    /// Its bytes are not what they must be.
    #[error(transparent)]
    Damaged(#[from] FileDamage),
}

impl FileError {
    /// The system's error on a file.
    pub fn io(file: &str) -> impl FnOnce(io::Error) -> FileError + '_ {
        move |error| FileError::Io { file: file.to_owned(), error }
    }

    /// Returns whether the error is that a file or directory is not there.
    pub fn is_gone(&self) -> bool {
        matches!(self, FileError::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The header of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The version of the format of what follows it.
    pub version: u16,
    /// The kind of the file.
    pub kind: FileKind,
    /// Its database.
    pub identity: DatabaseIdentity,
    /// Log: its first record. Snapshot: where the walk began. Manifest: zero.
    pub position: Position,
    /// The chain before that record, or at that position.
    pub chain: u64,
}

impl FileHeader {
    /// The header of a file that this release writes.
    pub const fn new(kind: FileKind, identity: DatabaseIdentity, position: Position, chain: u64) -> Self {
        Self { version: FORMAT_VERSION, kind, identity, position, chain }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.kind.magic());
        bytes[8..10].copy_from_slice(&self.version.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.identity.analyzer.code().to_le_bytes());
        bytes[12..14].copy_from_slice(&self.identity.analyzer.version().to_le_bytes());
        bytes[16..32].copy_from_slice(&self.identity.database_id.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.identity.shard_id.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.identity.hash_seed.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.position.epoch.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.position.sequence.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.chain.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..76]);
        bytes[76..80].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Returns whether these bytes begin with a header that some release wrote, and that is undamaged.
    pub fn is_whole(bytes: &[u8]) -> bool {
        bytes.first_chunk::<FILE_HEADER_BYTES>().is_some_and(|header| {
            FileKind::ALL.iter().any(|kind| header[..8] == kind.magic())
                && crc32c::crc32c(&header[..76]) == u32_at(header, 76)
        })
    }

    /// Reads the header of `file` from its first bytes.
    ///
    /// # Errors
    /// [`FileDamage`] that says which part is wrong, also for a version or analyzer this release does not know.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Self, FileDamage> {
        let damaged = |offset: u64, what: String| FileDamage::new(file, offset, what);
        let Some(header) = bytes.first_chunk::<FILE_HEADER_BYTES>() else {
            return Err(damaged(
                bytes.len() as u64,
                format!("the file ends inside its header of {FILE_HEADER_BYTES} bytes"),
            ));
        };
        if !FileKind::ALL.iter().any(|kind| header[..8] == kind.magic()) {
            return Err(damaged(0, "this is not a file of memdb".into()));
        }
        // The checksum before the version: a flipped bit in the version must be reported as damage and not as a newer
        // release.
        if crc32c::crc32c(&header[..76]) != u32_at(header, 76) {
            return Err(damaged(0, "the file header's checksum does not match".into()));
        }
        let version = u16_at(header, 8);
        if !(OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&version) {
            let reads = format!("this release reads {OLDEST_FORMAT_VERSION} to {FORMAT_VERSION}");
            return Err(damaged(8, format!("format version {version}; {reads}")));
        }
        let (code, analyzer_version) = (u16_at(header, 10), u16_at(header, 12));
        let analyzer = Analyzer::from_code(code, analyzer_version).ok_or_else(|| {
            damaged(10, format!("analyzer {code} in version {analyzer_version} is not known to this release"))
        })?;
        let kind = FileKind::ALL.into_iter().find(|kind| header[..8] == kind.magic()).expect("looked for above");
        let identity = DatabaseIdentity {
            database_id: u128::from_le_bytes(header[16..32].try_into().expect("16 bytes")),
            shard_id: u32_at(header, 32),
            analyzer,
            hash_seed: u64_at(header, 40),
        };
        Ok(Self {
            version,
            kind,
            identity,
            position: Position::new(u64_at(header, 48), u64_at(header, 56)),
            chain: u64_at(header, 64),
        })
    }

    /// As [`FileHeader::decode`], and the kind and the identity must be these.
    ///
    /// # Errors
    /// [`FileDamage`], also when the file is of another kind or another database.
    pub fn decode_of(
        file: &str,
        bytes: &[u8],
        kind: FileKind,
        identity: &DatabaseIdentity,
    ) -> Result<Self, FileDamage> {
        let header = Self::decode(file, bytes)?;
        if header.kind != kind {
            return Err(FileDamage::new(file, 0, format!("this is a {:?} file", header.kind)));
        }
        if header.identity != *identity {
            return Err(FileDamage::new(
                file,
                16,
                format!("the file belongs to database {:032x}", header.identity.database_id),
            ));
        }
        Ok(header)
    }
}

/// Two little-endian bytes at an offset.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

/// Four little-endian bytes at an offset.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Eight little-endian bytes at an offset.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The codec of payloads: bincode 2, variable-length integers, and a bound on what decoding may take.
const CODEC: config::Configuration<config::LittleEndian, config::Varint, config::Limit<DECODE_LIMIT_BYTES>> =
    config::standard().with_limit::<DECODE_LIMIT_BYTES>();
// The codec counts what the decoded value takes in memory: a word of two bytes takes 24 there.
const DECODE_LIMIT_BYTES: usize = 16 * crate::base::limits::MAX_RECORD_PAYLOAD_BYTES;

/// Encodes a payload at the end of `bytes`.
pub fn encode_into<T: Encode>(value: &T, bytes: &mut Vec<u8>) {
    bincode::encode_into_std_write(value, bytes, CODEC).expect("a vector takes what it is given");
}

/// Decodes a payload whose checksum has been checked; all bytes must be used.
///
/// # Errors
/// If the bytes are too short, too long, or do not encode a `T`: a message for the report of damage.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, String> {
    let (value, used) = bincode::decode_from_slice(bytes, CODEC).map_err(|error| error.to_string())?;
    if used == bytes.len() { Ok(value) } else { Err(format!("{} bytes too many", bytes.len() - used)) }
}

/// As [`decode`], for values that borrow from the payload.
///
/// # Errors
/// If the bytes are too short, too long, or do not encode a `T`: a message for the report of damage.
pub fn borrow_decode<'a, T: bincode::BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, String> {
    let (value, used) = bincode::borrow_decode_from_slice(bytes, CODEC).map_err(|error| error.to_string())?;
    if used == bytes.len() { Ok(value) } else { Err(format!("{} bytes too many", bytes.len() - used)) }
}

/// As [`borrow_decode`] for a value at the front of `bytes`; gives the bytes behind it too.
///
/// # Errors
/// If the bytes are too short or do not begin with a `T`: a message for the report of damage.
pub fn borrow_decode_front<'a, T: bincode::BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), String> {
    let (value, used) = bincode::borrow_decode_from_slice(bytes, CODEC).map_err(|error| error.to_string())?;
    Ok((value, &bytes[used..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FileHeader {
        let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Whitespace, hash_seed: 9 };
        FileHeader::new(FileKind::Log, identity, Position::new(3, 1042), 11)
    }

    #[test]
    fn a_header_comes_back_and_every_flipped_bit_is_found() {
        let bytes = header().encode();
        assert_eq!(FileHeader::decode("log", &bytes), Ok(header()));
        for bit in 0..FILE_HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode("log", &flipped).is_err(), "bit {bit}");
        }
        for len in 0..FILE_HEADER_BYTES {
            let damage = FileHeader::decode("log", &bytes[..len]).expect_err("too short");
            assert_eq!(damage.offset, len as u64);
        }
    }

    #[test]
    fn an_older_version_is_read_and_a_newer_one_refused() {
        for (version, sound) in [(0, false), (1, true), (FORMAT_VERSION, true), (FORMAT_VERSION + 1, false)] {
            let bytes = FileHeader { version, ..header() }.encode();
            let decoded = FileHeader::decode("log", &bytes);
            assert_eq!(decoded.is_ok_and(|decoded| decoded.version == version), sound, "{version}");
        }
    }

    #[test]
    fn another_kind_or_database_is_refused() {
        let bytes = header().encode();
        let mut other = header().identity;
        assert!(FileHeader::decode_of("f", &bytes, FileKind::Log, &other).is_ok());
        assert!(FileHeader::decode_of("f", &bytes, FileKind::Snapshot, &other).is_err());
        other.database_id = 8;
        assert!(FileHeader::decode_of("f", &bytes, FileKind::Log, &other).is_err());
    }

    #[test]
    fn names_sort_as_positions_do_and_have_one_spelling() {
        let names: Vec<_> = [(1, 9), (1, 10), (2, 1), (10, 0)]
            .map(|(epoch, sequence)| position_name(LOG_PREFIX, Position::new(epoch, sequence)))
            .into();
        assert!(names.is_sorted());
        assert_eq!(parse_name(LOG_PREFIX, &names[1]), Some(Position::new(1, 10)));
        for bad in ["log-1-10", "log-0000000001-00000000000000000010.new", "snapshot-0000000001-00000000000000000010"] {
            assert_eq!(parse_name(LOG_PREFIX, bad), None, "{bad}");
        }
        assert_eq!(FileKind::of_name("LOCK"), None);
    }
}
