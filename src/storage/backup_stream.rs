//! A backup as a stream of bytes: a snapshot, the records behind it, and the state that both lead to.
//!
//! The stream is a head and parts. Each part has a checksum over itself and everything in front of it, so that none can
//! be changed, left out or moved; the last one states position, digest and chain, without which the stream is not
//! whole. `docs/backup-format.md` owns the layout.

use super::file_header::{u16_at, u32_at, u64_at};
use crate::{
    base::limits::MAX_BACKUP_PART_BYTES,
    base::position::{Epoch, Position},
    data::store::StateId,
};
use std::io::{self, ErrorKind, Read, Write};

/// The first bytes of a stream.
const MAGIC: &[u8; 12] = b"memdb-backup";
/// The version of the layout.
const VERSION: u16 = 1;
const MAGIC_BYTES: usize = 16;
const PART_HEADER_BYTES: usize = 12;
const HEAD_BYTES: usize = 16;
const END_BYTES: usize = 32;

/// The kinds of parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartKind {
    Head = 1,
    Snapshot = 2,
    Records = 3,
    End = 4,
}

impl PartKind {
    const ALL: [Self; 4] = [Self::Head, Self::Snapshot, Self::Records, Self::End];
}

/// The head of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupHead {
    /// The highest epoch that the node has seen.
    pub epoch: Epoch,
    /// Bytes of the snapshot, if they are known.
    pub snapshot_bytes: Option<u64>,
}

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum BackupPart<'a> {
    /// The next bytes of the snapshot.
    Snapshot(&'a [u8]),
    /// The next records, whole.
    Records(&'a [u8]),
    /// The end: the state that all of it leads to.
    End(StateId),
}

/// The reason why a stream is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupStreamError {
    /// It cannot be read.
    #[error("the stream cannot be read: {0}")]
    Unreadable(io::Error),
    /// It ends before its last part.
    #[error("the stream broke off at byte {0}: it is not the whole backup")]
    Truncated(u64),
    /// It is not what was written.
    #[error("the stream is damaged at byte {at}: {what}")]
    Damaged {
        /// The offset of the part.
        at: u64,
        /// The part that is wrong.
        what: String,
    },
}

/// Writes a stream.
pub struct BackupWriter<W> {
    output: W,
    crc: u32,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a stream.
    ///
    /// # Errors
    /// The system's error if `output` does not take it; so with all that follows.
    pub fn begin(output: W, head: BackupHead) -> io::Result<Self> {
        let mut magic = [0; MAGIC_BYTES];
        magic[..12].copy_from_slice(MAGIC);
        magic[12..14].copy_from_slice(&VERSION.to_le_bytes());
        let mut writer = Self { output, crc: crc32c::crc32c(&magic) };
        writer.output.write_all(&magic)?;
        // No snapshot has no bytes: 0 stands for a number that is not known.
        writer.part(PartKind::Head, &[head.epoch, head.snapshot_bytes.unwrap_or(0)].map(u64::to_le_bytes).concat())?;
        Ok(writer)
    }

    /// Writes the next bytes of the snapshot.
    ///
    /// # Errors
    /// The system's error.
    pub fn snapshot(&mut self, piece: &[u8]) -> io::Result<()> {
        piece.chunks(MAX_BACKUP_PART_BYTES).try_for_each(|piece| self.part(PartKind::Snapshot, piece))
    }

    /// Writes records, which are whole.
    ///
    /// # Errors
    /// The system's error.
    pub fn records(&mut self, records: &[u8]) -> io::Result<()> {
        self.part(PartKind::Records, records)
    }

    /// Ends the stream, and has `output` take all of it.
    ///
    /// # Errors
    /// The system's error: what was written is no whole backup then.
    pub fn end(&mut self, state: StateId) -> io::Result<()> {
        let StateId { position, digest, chain } = state;
        self.part(PartKind::End, &[position.epoch, position.sequence, digest, chain].map(u64::to_le_bytes).concat())?;
        // A pipe that has closed shows here at the latest: a backup that nobody has taken must not pass for one.
        self.output.flush()
    }

    fn part(&mut self, kind: PartKind, payload: &[u8]) -> io::Result<()> {
        let mut header = [0; PART_HEADER_BYTES];
        header[0] = kind as u8;
        header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        // Over all that came before, and not over the part alone: a part that is left out, doubled or moved shows too.
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, &header[..8]), payload);
        header[8..].copy_from_slice(&self.crc.to_le_bytes());
        self.output.write_all(&header)?;
        self.output.write_all(payload)
    }
}

/// Reads a stream, part by part.
pub struct BackupReader<R> {
    input: R,
    crc: u32,
    at: u64,
    head: BackupHead,
    payload: Vec<u8>,
}

impl<R: Read> BackupReader<R> {
    /// Reads the head of a stream.
    ///
    /// # Errors
    /// [`BackupStreamError`] if it is none of a backup that this release reads.
    pub fn begin(input: R) -> Result<Self, BackupStreamError> {
        let head = BackupHead { epoch: 0, snapshot_bytes: None };
        let mut reader = Self { input, crc: 0, at: 0, head, payload: Vec::new() };
        let mut magic = [0; MAGIC_BYTES];
        reader.exact(&mut magic)?;
        let version = u16_at(&magic, 12);
        if magic[..12] != *MAGIC {
            return Err(reader.damaged("this is no stream of `memdb backup -`".to_owned()));
        }
        if version != VERSION || magic[14..] != [0, 0] {
            return Err(reader.damaged(format!("version {version}; this release reads {VERSION}")));
        }
        (reader.crc, reader.at) = (crc32c::crc32c(&magic), MAGIC_BYTES as u64);
        if reader.part()? != PartKind::Head || reader.payload.len() != HEAD_BYTES {
            return Err(reader.damaged("the head is wanting".to_owned()));
        }
        let bytes = u64_at(&reader.payload, 8);
        reader.head = BackupHead { epoch: u64_at(&reader.payload, 0), snapshot_bytes: (bytes > 0).then_some(bytes) };
        Ok(reader)
    }

    /// The head.
    pub fn head(&self) -> BackupHead {
        self.head
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// Reads the next part. Behind the end, of which nothing may come, it is not to be asked again.
    ///
    /// # Errors
    /// [`BackupStreamError`] if it cannot be read, is cut off, or is not what was written.
    pub fn next_part(&mut self) -> Result<BackupPart<'_>, BackupStreamError> {
        match self.part()? {
            PartKind::Head => Err(self.damaged("a second head".to_owned())),
            PartKind::Snapshot => Ok(BackupPart::Snapshot(&self.payload)),
            PartKind::Records => Ok(BackupPart::Records(&self.payload)),
            PartKind::End if self.payload.len() != END_BYTES => Err(self.damaged("the end is malformed".to_owned())),
            PartKind::End => {
                if self.input.by_ref().take(1).read_to_end(&mut Vec::new()).map_err(BackupStreamError::Unreadable)? > 0
                {
                    return Err(self.damaged("bytes behind the end".to_owned()));
                }
                let [epoch, sequence, digest, chain] = [0, 8, 16, 24].map(|at| u64_at(&self.payload, at));
                Ok(BackupPart::End(StateId { position: Position::new(epoch, sequence), digest, chain }))
            }
        }
    }

    /// Reads a part into `payload`.
    fn part(&mut self) -> Result<PartKind, BackupStreamError> {
        let mut header = [0; PART_HEADER_BYTES];
        self.exact(&mut header)?;
        let bytes = u32_at(&header, 4) as usize;
        let kind = PartKind::ALL.into_iter().find(|kind| *kind as u8 == header[0] && header[1..4] == [0; 3]);
        let Some(kind) = kind else { return Err(self.damaged("a part of an unknown kind".to_owned())) };
        if bytes > MAX_BACKUP_PART_BYTES {
            return Err(self.damaged("the length of a part".to_owned()));
        }
        // Read as it comes: a length that is damaged takes no memory.
        self.payload.clear();
        let read = self.input.by_ref().take(bytes as u64).read_to_end(&mut self.payload);
        if read.map_err(BackupStreamError::Unreadable)? < bytes {
            return Err(BackupStreamError::Truncated(self.at));
        }
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, &header[..8]), &self.payload);
        if self.crc != u32_at(&header, 8) {
            return Err(self.damaged("the checksum does not match".to_owned()));
        }
        self.at += (PART_HEADER_BYTES + bytes) as u64;
        Ok(kind)
    }

    fn exact(&mut self, into: &mut [u8]) -> Result<(), BackupStreamError> {
        self.input.read_exact(into).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => BackupStreamError::Truncated(self.at),
            _ => BackupStreamError::Unreadable(error),
        })
    }

    fn damaged(&self, what: String) -> BackupStreamError {
        BackupStreamError::Damaged { at: self.at, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: BackupHead = BackupHead { epoch: 3, snapshot_bytes: Some(11) };
    const STATE: StateId = StateId { position: Position { epoch: 3, sequence: 1042 }, digest: 7, chain: 9 };

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BackupWriter::begin(&mut bytes, HEAD).expect("a Vec takes every byte");
        writer.snapshot(b"a snapshot,").and_then(|()| writer.records(b"a record")).expect("a Vec takes every byte");
        writer.end(STATE).expect("a Vec takes every byte");
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(BackupHead, String), BackupStreamError> {
        let mut reader = BackupReader::begin(bytes)?;
        let mut told = String::new();
        loop {
            let part = reader.next_part()?;
            told += &format!("{part:?} ");
            if matches!(part, BackupPart::End(_)) {
                assert_eq!(reader.bytes(), bytes.len() as u64);
                return Ok((reader.head(), told));
            }
        }
    }

    #[test]
    fn a_stream_comes_back_and_every_cut_and_flip_and_what_is_too_much_is_found() {
        let bytes = written();
        let (head, told) = read(&bytes).expect("whole");
        let parts = [BackupPart::Snapshot(b"a snapshot,"), BackupPart::Records(b"a record"), BackupPart::End(STATE)];
        assert_eq!((head, told), (HEAD, parts.map(|part| format!("{part:?} ")).concat()));
        for len in 0..bytes.len() {
            assert!(matches!(read(&bytes[..len]), Err(BackupStreamError::Truncated(_))), "cut at {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
        let more = read(&[&bytes[..], b"!"].concat()).expect_err("behind the end");
        assert!(more.to_string().contains("bytes behind the end"), "{more}");
    }

    #[test]
    fn a_part_that_is_left_out_or_moved_is_found() {
        let bytes = written();
        // Where the snapshot begins, where the records begin, and where the end begins.
        let (snapshot, records, end) = (16 + 28, 16 + 28 + 23, 16 + 28 + 23 + 20);
        let without = [&bytes[..snapshot], &bytes[records..]].concat();
        let swapped = [&bytes[..snapshot], &bytes[records..end], &bytes[snapshot..records], &bytes[end..]].concat();
        for bad in [without, swapped] {
            assert!(matches!(read(&bad), Err(BackupStreamError::Damaged { at: 44, .. })));
        }
    }
}
