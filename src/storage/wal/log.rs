//! The log as its owner holds it, and the append of a record.

use super::record::{ChainState, encode_record};
use crate::{
    base::clock::LoggedTime,
    base::failpoint::{self, inject},
    base::position::{Epoch, Position, Sequence},
    data::record::RecordBody,
    storage::disk::{Disk, DiskFile},
    storage::file_header::{DatabaseIdentity, FILE_HEADER_BYTES},
    text::tokenizer::Analyzer,
};
use std::{io, sync::Arc};

/// The log as its Writer holds it.
pub struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) identity: DatabaseIdentity,
    pub(super) segment_bytes: u64,
    pub(super) epoch: Epoch,
    pub(super) sequence: Sequence,
    pub(super) chain: u64,
    pub(super) synced_upto: Sequence,
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) len: u64,
    /// The segment before this one, until all of it is synced.
    pub(super) finished: Option<Arc<dyn DiskFile>>,
    /// The last segment of each epoch before, as long as a sync of it may still be under way.
    pub(super) ended: Vec<Arc<dyn DiskFile>>,
    /// True if this segment's name is synced with the directory.
    pub(super) name_synced: bool,
    /// Lives as long as the log is written ([`super::LiveLogOffset`]).
    pub(super) writer: Arc<()>,
    /// Segments that must be there ([`super::FileCheck`]), as far as it is known.
    pub(super) segments: Vec<String>,
    /// The bytes of the last record, in a buffer that serves the next one too.
    pub(super) encoded: Vec<u8>,
}

/// An append that failed.
#[derive(Debug)]
pub enum AppendError {
    /// The log is as before the append; the next one may succeed.
    Undone(io::Error),
    /// The content of the file is unknown: nothing may be appended any more.
    Poisoned(io::Error),
}

impl Log {
    /// Appends a record; gives its chain and its bytes, which are also what is sent to followers.
    ///
    /// # Errors
    /// [`AppendError`] says whether the log can go on.
    pub fn append(
        &mut self,
        time_ms: LoggedTime,
        digest_after: u64,
        body: &RecordBody<'_>,
    ) -> Result<(u64, &[u8]), AppendError> {
        // A rotation that failed leaves the log in its old segment, so nothing has to be given up for it.
        self.rotate_if_due().map_err(AppendError::Undone)?;
        // A start refuses to cut off what a later record states to be synced, so each record says what is synced by
        // now.
        let before =
            ChainState { chain: self.chain, synced_upto: self.synced_upto, hash_seed: self.identity.hash_seed };
        self.encoded.clear();
        let header = encode_record(self.next(), time_ms, digest_after, body, &before, &mut self.encoded);
        inject!(DropsTheBatchOfARotation, {
            if self.finished.is_some() && self.len <= FILE_HEADER_BYTES as u64 {
                return Ok(self.advance(header.chain));
            }
        });
        write(&*self.file, self.len, &self.encoded)?;
        // Only after the write: an append that was undone leaves the log as it was.
        Ok(self.advance(header.chain))
    }

    /// Goes on behind the record that was encoded last; gives its chain hash and its bytes.
    fn advance(&mut self, chain: u64) -> (u64, &[u8]) {
        self.len += self.encoded.len() as u64;
        self.sequence += 1;
        self.chain = chain;
        (chain, &self.encoded)
    }

    /// The analyzer of the database.
    pub fn analyzer(&self) -> Analyzer {
        self.identity.analyzer
    }

    /// The position the next record takes.
    pub fn next(&self) -> Position {
        Position::new(self.epoch, self.sequence + 1)
    }

    /// The last sequence appended.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The last sequence known to be synced.
    pub fn synced_upto(&self) -> Sequence {
        self.synced_upto
    }

    /// The epoch of the newest segment.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// Writes a record at the end of a segment of `len` bytes.
pub(super) fn write(file: &dyn DiskFile, len: u64, record: &[u8]) -> Result<(), AppendError> {
    failpoint::pass("append.begin");
    file.append(record).map_err(|error| {
        inject!(KeepsAFailedAppend, return AppendError::Undone(error));
        // A part may be there, or all of it. Once it is cut off again, durably, the record never was and the log is
        // as before. If a power loss brought it back, it would stand for what is now written under its position.
        match file.truncate(len).and_then(|()| file.sync()) {
            Ok(()) => AppendError::Undone(error),
            Err(_) => AppendError::Poisoned(error),
        }
    })?;
    failpoint::pass("append.done");
    Ok(())
}
