//! The log: segments of records, appended to by one owner: the Writer of a leader, or a follower.
//!
//! A segment `log-<position of its first record>` begins with the common file header. A new one is begun at
//! every start and once the last has grown to its bound; it is not synced when it is made but with the records in it,
//! so that rotation never makes a write wait for the disk. A follower appends the leader's records as they are
//! ([`Log::append_raw`]), and begins a segment too when it meets a newer epoch: that one may hold records of the epochs
//! before, if the follower was behind.

mod check;
mod record;
mod scan;
mod tail;
#[cfg(test)]
mod tests;

pub use check::{CheckSchedule, FileCheck, FileCheckResult};
pub use record::{RECORD_HEADER_BYTES, RawRecord, RecordError, RecordHeader, encode_record};
use scan::own_header;
pub use scan::{ScanResult, Truncation, salvage, scan, scan_copied, segments};
pub(crate) use scan::{later_records, read_segment};
pub use tail::{LiveLogOffset, LogOffset, LogTail, place_after};

use crate::{
    base::clock::LoggedTime,
    base::failpoint::{self, inject},
    base::position::{Epoch, Position, Sequence},
    data::record::RecordBody,
    data::store::StateId,
    storage::disk::{self, Disk, DiskFile},
    storage::file_header::{
        DatabaseIdentity, FILE_HEADER_BYTES, FileError, FileHeader, FileKind, LOG_PREFIX, position_name,
    },
};
use record::ChainState;
use std::{io, sync::Arc};

/// The log as its Writer holds it.
pub struct Log {
    disk: Arc<dyn Disk>,
    identity: DatabaseIdentity,
    segment_bytes: u64,
    epoch: Epoch,
    sequence: Sequence,
    chain: u64,
    synced_upto: Sequence,
    name: String,
    file: Arc<dyn DiskFile>,
    len: u64,
    /// The segment before this one, until all of it is synced.
    finished: Option<Arc<dyn DiskFile>>,
    /// The last segment of each epoch before, as long as a sync of it may still be under way.
    ended: Vec<Arc<dyn DiskFile>>,
    /// True if this segment's name is synced with the directory.
    name_synced: bool,
    /// Lives as long as the log is written ([`LiveLogOffset`]).
    writer: Arc<()>,
    /// Segments that must be there ([`FileCheck`]), as far as it is known.
    segments: Vec<String>,
    encoded: Vec<u8>,
}

/// An append that failed.
#[derive(Debug)]
pub enum AppendError {
    /// The log is as before the append; the next one may succeed.
    Undone(io::Error),
    /// The content of the file is unknown: nothing may be appended any more.
    Poisoned(io::Error),
}

/// Work for the thread that syncs: makes everything durable up to a sequence.
#[derive(Clone)]
pub struct SyncJob {
    /// The last sequence that is durable once this is done.
    pub upto: Sequence,
    files: Vec<Arc<dyn DiskFile>>,
    directory: Option<Arc<dyn Disk>>,
}

impl SyncJob {
    /// Syncs the files and the directory. Takes as long as the disk takes.
    ///
    /// # Errors
    /// The system's error if a file or the directory cannot be synced; the log is poisoned then.
    pub fn run(&self) -> io::Result<()> {
        failpoint::pass("sync.begin");
        inject!(SkipsTheSync, return Ok(()));
        for file in &self.files {
            file.sync()?;
        }
        failpoint::pass("sync.files");
        // The directory counts too: records in a segment whose name is lost are lost with it.
        let mut directory = self.directory.as_ref();
        inject!(ForgetsTheDirectorySync, directory = None);
        directory.map_or(Ok(()), |disk| disk.sync_directory())?;
        failpoint::pass("sync.done");
        Ok(())
    }
}

impl Log {
    /// Begins a segment, durably, for the first record of `epoch` behind `mark`.
    ///
    /// # Errors
    /// The system's error if the segment cannot be created, written or synced.
    pub fn create(
        disk: Arc<dyn Disk>,
        identity: DatabaseIdentity,
        epoch: Epoch,
        mark: StateId,
        segment_bytes: u64,
    ) -> Result<Self, FileError> {
        let first = Position::new(epoch, mark.position.sequence + 1);
        let name = position_name(LOG_PREFIX, first);
        let header = FileHeader { kind: FileKind::Log, identity, position: first, chain: mark.chain };
        // Durably, unlike a rotation: a start refuses a MANIFEST of whose epoch there is no segment (decision 5).
        disk::publish(&*disk, &name, &header.encode()).map_err(FileError::io(&name))?;
        let file = disk.open(&name).map_err(FileError::io(&name))?;
        Ok(Self {
            disk,
            identity,
            segment_bytes,
            epoch,
            sequence: mark.position.sequence,
            chain: mark.chain,
            synced_upto: mark.position.sequence,
            segments: vec![name.clone()],
            name,
            file,
            len: FILE_HEADER_BYTES as u64,
            finished: None,
            ended: Vec::new(),
            name_synced: true,
            writer: Arc::new(()),
            encoded: Vec::new(),
        })
    }

    /// The position the next record takes.
    pub fn next(&self) -> Position {
        Position::new(self.epoch, self.sequence + 1)
    }

    /// The last sequence known to be synced.
    pub fn synced_upto(&self) -> Sequence {
        self.synced_upto
    }

    /// The last sequence appended.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

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

    /// Appends one whole record as it came from the leader, byte for byte.
    ///
    /// Its `synced_upto` speaks of the leader's medium, not of this one: [`scan_copied`] does not rely on it.
    ///
    /// # Errors
    /// [`AppendError`] says whether the log can go on.
    ///
    /// # Panics
    /// If `bytes` are not one whole record that goes on with this history, or its epoch is newer than the log's
    /// ([`Log::start_epoch`]): whoever received it has to check.
    pub fn append_raw(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let raw = RawRecord::parse(bytes, self.identity.hash_seed).expect("a follower appends whole records");
        let RecordHeader { position, chain, .. } = raw.header;
        assert_eq!(raw.header.record_bytes(), bytes.len(), "one record at a time");
        // Asserted, though the receiver has checked it: one record in the wrong place makes everything behind it
        // useless.
        assert!(raw.goes_on_from(self.sequence, self.chain), "record {position} does not follow {}", self.sequence);
        assert!(position.epoch <= self.epoch, "record {position} before its epoch was begun");
        self.rotate_if_due().map_err(AppendError::Undone)?;
        write(&*self.file, self.len, bytes)?;
        self.len += bytes.len() as u64;
        (self.sequence, self.chain) = (position.sequence, chain);
        Ok(())
    }

    /// Begins a segment of a newer epoch, durably, and syncs all there was before it: the MANIFEST is to tell of the
    /// epoch next (`recovery::start_epoch`). A follower that is behind appends the records of older epochs here too.
    ///
    /// # Errors
    /// The system's error if the old segment cannot be synced, or the new one not created; nothing may be appended any
    /// more then, as after a failed sync.
    ///
    /// # Panics
    /// If the epoch is not newer.
    pub fn start_epoch(&mut self, epoch: Epoch) -> Result<(), FileError> {
        assert!(epoch > self.epoch, "epoch {epoch} after {}", self.epoch);
        let mut ended = std::mem::take(&mut self.ended);
        // A sync that was taken before the last rotation has this file alone: without it, its end would be of no log.
        ended.extend(self.finished.clone());
        // The new segment starts out with everything before it counted as synced, so that has to be true first.
        if let Some(sync) = self.sync() {
            sync.run().map_err(FileError::io(&self.name))?;
            self.synced(&sync);
        }
        let mark = StateId { position: Position::new(epoch, self.sequence), digest: 0, chain: self.chain };
        let begun = Self::create(Arc::clone(&self.disk), self.identity, epoch, mark, self.segment_bytes)?;
        let Self { file, writer, mut segments, .. } = std::mem::replace(self, begun);
        // A sync of the old segment may still be under way, and if it fails, this log is the one that has the hole.
        ended.push(file);
        segments.append(&mut self.segments);
        (self.ended, self.writer, self.segments) = (ended, writer, segments);
        Ok(())
    }

    /// The epoch of the newest segment.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns whether a sync is needed for the log to go on to the next segment: only one segment behind this one may
    /// be unsynced, and this one has its size.
    pub fn is_overdue(&self) -> bool {
        self.len >= self.segment_bytes && self.finished.is_some()
    }

    /// Returns whether the segment has room for so many bytes more, so that appending them begins no other.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.len + bytes as u64 <= self.segment_bytes
    }

    /// Gives the sync that makes everything appended so far durable; `None` if it is already.
    pub fn sync(&self) -> Option<SyncJob> {
        if self.synced_upto == self.sequence {
            return None;
        }
        let mut finished = self.finished.as_ref();
        inject!(SyncsOnlyTheNewSegment, finished = None);
        let files = finished.into_iter().chain([&self.file]).map(Arc::clone).collect();
        let directory = (!self.name_synced).then(|| Arc::clone(&self.disk));
        Some(SyncJob { upto: self.sequence, files, directory })
    }

    /// Returns whether a [`SyncJob`] is of this log, and not of one that was there before it. If it has failed, this
    /// log may have a hole, also if an epoch was begun since: the sync at its begin may have succeeded only because the
    /// failed one had left nothing to do.
    pub fn owns(&self, sync: &SyncJob) -> bool {
        let mut own = self.ended.iter().chain(&self.finished).chain([&self.file]);
        sync.files.last().is_some_and(|last| own.any(|file| Arc::ptr_eq(last, file)))
    }

    /// A [`SyncJob`] has succeeded. It may have been taken before an epoch was begun, which has synced more since.
    pub fn synced(&mut self, sync: &SyncJob) {
        assert!(sync.upto <= self.sequence, "a sync of what was not appended");
        if sync.upto <= self.synced_upto {
            return;
        }
        self.synced_upto = sync.upto;
        if sync.directory.is_some() {
            self.name_synced = true;
        }
        // A sync that was taken before the rotation does not have the new segment, and may miss the end of the old.
        if sync.files.last().is_some_and(|last| Arc::ptr_eq(last, &self.file)) {
            self.finished = None;
            self.ended.clear(); // syncs end in the order in which they were taken
        }
    }

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

    fn rotate_if_due(&mut self) -> io::Result<()> {
        // A start relies on it that each segment is synced, with its name, before the one after the next is made. So a
        // segment grows beyond its bound rather than being followed too early.
        if self.len >= self.segment_bytes && self.finished.is_none() { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let header =
            FileHeader { kind: FileKind::Log, identity: self.identity, position: self.next(), chain: self.chain };
        let name = position_name(LOG_PREFIX, header.position);
        // Under a temporary name until the header is there, so that a kill never leaves a segment without one. A power
        // loss may, since nothing is synced here, and a start deals with that (decision 5).
        let temporary = disk::temporary_name(&name);
        failpoint::pass("rotate.begin");
        let file = self.disk.create(&temporary)?;
        file.append(&header.encode())?;
        failpoint::pass("rotate.written");
        self.disk.rename(&temporary, &name)?;
        failpoint::pass("rotate.renamed");
        self.finished = Some(std::mem::replace(&mut self.file, file));
        self.segments.push(name.clone());
        self.name = name;
        self.len = FILE_HEADER_BYTES as u64;
        self.name_synced = false;
        Ok(())
    }
}

/// Writes a record at the end of a segment of `len` bytes.
fn write(file: &dyn DiskFile, len: u64, record: &[u8]) -> Result<(), AppendError> {
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
