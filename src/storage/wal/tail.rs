//! Reads whole records from a log that is being written, from a known place on.

use super::{
    Log, own_header,
    record::{RECORD_HEADER_BYTES, RawRecord, RecordError, RecordHeader},
    scan::segments,
};
use crate::{
    base::limits,
    base::position::{Position, Sequence},
    storage::disk::{Disk, DiskFile},
    storage::file_header::{DatabaseIdentity, FILE_HEADER_BYTES, FileDamage, FileError},
};
use std::sync::{Arc, Weak};

/// A place between two records of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOffset {
    /// The segment's name.
    pub segment: String,
    /// Bytes of the segment before the place.
    pub offset: u64,
    /// The sequence of the record behind it.
    pub sequence: Sequence,
}

/// A place in a log that somebody writes, for work beside it that must end when the log is given up: after an append or
/// a sync that failed its owner may go on without it, and what readers are shown then is not what the directory stands
/// for.
#[derive(Clone, Debug)]
pub struct LiveLogOffset {
    /// The place.
    pub place: LogOffset,
    pub(super) writer: Weak<()>,
}

impl LiveLogOffset {
    /// Returns whether the log still has a writer. A thread that sees a state from after the log was given up sees that
    /// too.
    pub fn is_live(&self) -> bool {
        self.writer.strong_count() > 0
    }
}

impl Log {
    /// Gives the place of the next record, for whoever reads the log from there ([`LogTail`]).
    pub fn offset(&self) -> LogOffset {
        LogOffset { segment: self.name.clone(), offset: self.len, sequence: self.sequence + 1 }
    }

    /// As [`Log::offset`], for work that has to end with the log.
    pub fn live_offset(&self) -> LiveLogOffset {
        LiveLogOffset { place: self.offset(), writer: Arc::downgrade(&self.writer) }
    }

    /// Has work that goes on beside the log ([`Log::live_offset`]) end with an error, as if the log were given up; what
    /// begins from now on goes on.
    pub fn end_live_work(&mut self) {
        self.writer = Arc::new(());
    }
}

/// Finds the place behind the record numbered `sequence`, with the chain up to there; `None` when the log does not
/// reach back so far, or ends before it.
///
/// # Errors
/// The system's error if a segment cannot be read, or an error if a record before the place is damaged.
pub fn place_after(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    sequence: Sequence,
) -> Result<Option<(LogOffset, u64)>, FileError> {
    for (segment, first) in segments(disk)?.into_iter().rev() {
        if first.sequence <= sequence.saturating_add(1)
            && let Some(header) = own_header(disk, identity, &segment, first)?
        {
            let place = LogOffset { segment, offset: FILE_HEADER_BYTES as u64, sequence: first.sequence };
            return walk(disk, identity, place, header.chain, sequence);
        }
    }
    Ok(None)
}

/// Goes from the begin of a segment, header by header, to behind the record numbered `sequence`.
fn walk(
    disk: &dyn Disk,
    identity: &DatabaseIdentity,
    mut place: LogOffset,
    mut chain: u64,
    sequence: Sequence,
) -> Result<Option<(LogOffset, u64)>, FileError> {
    let file = disk.open(&place.segment).map_err(FileError::io(&place.segment))?;
    let len = file.len().map_err(FileError::io(&place.segment))?;
    let (mut piece, mut from) = (Vec::new(), place.offset);
    while place.sequence <= sequence {
        let mut at = (place.offset - from) as usize;
        if at + RECORD_HEADER_BYTES > piece.len() {
            (at, from) = (0, place.offset);
            piece.resize(limits::COPY_BYTES, 0);
            let read = file.read_at(from, &mut piece).map_err(FileError::io(&place.segment))?;
            piece.truncate(read);
        }
        let damage = |what: &dyn std::fmt::Display| FileDamage::new(&place.segment, place.offset, what);
        // The headers alone: each has a checksum and the chain of its own, and payloads can be hundreds of MiB.
        let header = match RecordHeader::decode(&piece[at..], identity.hash_seed) {
            Err(RecordError::Cut) => return Ok(None),
            decoded => decoded.map_err(|bad| damage(&bad))?,
        };
        if header.position.sequence != place.sequence {
            return Err(damage(&format_args!("record {} is out of place", header.position)).into());
        }
        let behind = place.offset + header.record_bytes() as u64;
        if behind > len {
            return Ok(None);
        }
        (place.offset, place.sequence, chain) = (behind, place.sequence + 1, header.chain);
    }
    Ok(Some((place, chain)))
}

/// Follows the log from a [`LogOffset`].
pub struct LogTail {
    identity: DatabaseIdentity,
    place: LogOffset,
    file: Arc<dyn DiskFile>,
    /// True if the last read that found records came to the end of the segment, as it was then.
    at_end: bool,
}

impl LogTail {
    /// Opens the segment of `place`.
    ///
    /// # Errors
    /// The system's error if the segment cannot be opened.
    pub fn open(disk: &dyn Disk, identity: DatabaseIdentity, place: LogOffset) -> Result<Self, FileError> {
        let file = disk.open(&place.segment).map_err(FileError::io(&place.segment))?;
        Ok(Self { identity, place, file, at_end: false })
    }

    /// Puts the bytes of whole records, up to the one numbered `upto`, at the end of `bytes`: some hundred KiB a
    /// call, nothing once all were given.
    ///
    /// # Errors
    /// If a record that was written cannot be read back as it was.
    pub fn read(&mut self, disk: &dyn Disk, upto: Sequence, bytes: &mut Vec<u8>) -> Result<(), FileError> {
        let (start, mut want) = (bytes.len(), limits::COPY_BYTES);
        while bytes.len() == start && self.place.sequence <= upto {
            bytes.resize(start + want, 0);
            let read = self
                .file
                .read_at(self.place.offset, &mut bytes[start..])
                .map_err(FileError::io(&self.place.segment))?;
            bytes.truncate(start + read);
            let whole = self.whole_records(&bytes[start..], upto)?;
            bytes.truncate(start + whole);
            self.place.offset += whole as u64;
            if whole > 0 {
                break;
            }
            // A record that was applied must be there, so it begins the next segment.
            if read == 0 {
                self.next_segment(disk)?; // this one is finished
            } else if read < want {
                // It was appended whole before it was applied.
                return Err(self.damage("a record that was applied is not whole in the log").into());
            } else {
                want *= 2; // a record larger than the buffer
            }
        }
        Ok(())
    }

    /// As [`LogTail::read`] for a log whose end is not known: puts whole records at the end of `bytes`, some hundred
    /// KiB a call, and returns whether there were any. An unfinished record at the end of the newest segment is none
    /// yet. Whether the records follow each other's chain is for the caller to check: whoever writes the log may
    /// have cut it and gone on otherwise between two calls.
    ///
    /// # Errors
    /// If a file is gone, or damaged, or the log was cut before this place: it is to be loaded anew.
    pub fn follow(&mut self, disk: &dyn Disk, bytes: &mut Vec<u8>) -> Result<bool, FileError> {
        loop {
            let bad = match self.read_on(bytes)? {
                TailFrame::Records => return Ok(true),
                TailFrame::End => None,
                TailFrame::Bad(bad) => Some(bad),
            };
            let mut later = segments(disk)?;
            later.retain(|(name, _)| *name >= self.place.segment);
            let is_there = later.first().is_some_and(|(name, _)| *name == self.place.segment);
            if is_there {
                later.remove(0);
            }
            if later.is_empty() {
                if !is_there {
                    // With no later segment the whole log is gone. Otherwise a segment that was pruned is still read to
                    // its end, since an open file outlives its name.
                    return Err(self.damage("the segment is gone").into());
                }
                let len = self.file.len().map_err(FileError::io(&self.place.segment))?;
                return match bad {
                    Some(bad) => Err(self.damage(&bad).into()),
                    None if len < self.place.offset => Err(self.damage("the log was cut before this place").into()),
                    None => Ok(false),
                };
            }
            // A segment is finished once there is another, so what it holds now is all it will: it may have grown
            // between reading it and seeing the other.
            if let TailFrame::Records = self.read_on(bytes)? {
                return Ok(true);
            }
            // One that starts at a later record means that the segments between were pruned before they were read: all
            // is loaded anew then.
            let Some((segment, _)) = later.into_iter().find(|(_, first)| first.sequence == self.place.sequence) else {
                return Err(self.damage("no later segment goes on from here").into());
            };
            self.open_next(disk, segment)?;
        }
    }

    /// Returns whether [`LogTail::follow`] last gave all that had been written by then, with nothing behind it.
    ///
    /// # Errors
    /// The system's error if the segment or the directory cannot be read.
    pub fn is_at_end(&self, disk: &dyn Disk) -> Result<bool, FileError> {
        // Behind the end of a finished segment there is another.
        Ok(self.at_end && segments(disk)?.last().is_some_and(|(name, _)| *name == self.place.segment))
    }

    /// Reads whole records from this segment.
    fn read_on(&mut self, bytes: &mut Vec<u8>) -> Result<TailFrame, FileError> {
        let (start, mut want) = (bytes.len(), limits::COPY_BYTES);
        loop {
            bytes.resize(start + want, 0);
            let read = self
                .file
                .read_at(self.place.offset, &mut bytes[start..])
                .map_err(FileError::io(&self.place.segment))?;
            let (whole, bad) = self.count_whole(&bytes[start..start + read], Sequence::MAX);
            bytes.truncate(start + whole);
            self.place.offset += whole as u64;
            self.at_end = read < want && bad.is_none();
            match bad {
                _ if whole > 0 => return Ok(TailFrame::Records),
                Some(bad) => return Ok(TailFrame::Bad(bad)),
                None if read < want => return Ok(TailFrame::End),
                None => want *= 2, // a record larger than the buffer
            }
        }
    }

    /// The bytes of whole records at the front of `bytes`, up to `upto`.
    fn whole_records(&mut self, bytes: &[u8], upto: Sequence) -> Result<usize, FileError> {
        let (whole, bad) = self.count_whole(bytes, upto);
        bad.map_or(Ok(whole), |bad| Err(self.damage(&bad).into()))
    }

    /// Counts the bytes of whole records; says what is wrong behind them, unless `bytes` merely end there.
    fn count_whole(&mut self, bytes: &[u8], upto: Sequence) -> (usize, Option<String>) {
        let mut at = 0;
        while self.place.sequence <= upto && at + RECORD_HEADER_BYTES <= bytes.len() {
            match RawRecord::parse(&bytes[at..], self.identity.hash_seed) {
                Ok(raw) if raw.header.position.sequence == self.place.sequence => at += raw.header.record_bytes(),
                Ok(raw) => return (at, Some(format!("record {} is out of place", raw.header.position))),
                Err(RecordError::Cut) => break,
                Err(bad) => return (at, Some(bad.to_string())),
            }
            self.place.sequence += 1;
        }
        (at, None)
    }

    fn next_segment(&mut self, disk: &dyn Disk) -> Result<(), FileError> {
        let is_next =
            |(name, first): &(String, Position)| first.sequence == self.place.sequence && *name > self.place.segment;
        let Some((segment, _)) = segments(disk)?.into_iter().find(is_next) else {
            return Err(self.damage("the log ends before a record that was applied").into());
        };
        self.open_next(disk, segment)
    }

    fn open_next(&mut self, disk: &dyn Disk, segment: String) -> Result<(), FileError> {
        self.file = disk.open(&segment).map_err(FileError::io(&segment))?;
        self.place = LogOffset { segment, offset: FILE_HEADER_BYTES as u64, sequence: self.place.sequence };
        Ok(())
    }

    /// Gives the place at which the next record will be read.
    pub fn place(&self) -> &LogOffset {
        &self.place
    }

    fn damage(&self, what: &str) -> FileDamage {
        FileDamage::new(&self.place.segment, self.place.offset, what)
    }
}

/// The content of a segment behind a place.
enum TailFrame {
    /// Whole records.
    Records,
    /// Nothing, or a record that is not finished.
    End,
    /// Something that is no record.
    Bad(String),
}
