//! The start of a segment: durably for an epoch, and in passing once the one before has its size.
//!
//! A segment of a newer epoch may hold records of the epochs before: those of a follower that was behind.

use super::Log;
use crate::{
    base::failpoint,
    base::position::{Epoch, Position},
    data::store::StateId,
    storage::disk::{self, Disk},
    storage::file_header::{
        DatabaseIdentity, FILE_HEADER_BYTES, FileError, FileHeader, FileKind, LOG_PREFIX, position_name,
    },
};
use std::{io, sync::Arc};

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
        let header = FileHeader::new(FileKind::Log, identity, first, mark.chain);
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

    /// Returns whether a sync is needed for the log to go on to the next segment: only one segment behind this one may
    /// be unsynced, and this one has its size.
    pub fn is_overdue(&self) -> bool {
        self.len >= self.segment_bytes && self.finished.is_some()
    }

    /// Returns whether the segment has room for so many bytes more, so that appending them begins no other.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.len + bytes as u64 <= self.segment_bytes
    }

    /// Starts the next segment once this one has its size.
    ///
    /// # Errors
    /// The system's error if the new segment cannot be created, written or renamed; the log stays in its old one then.
    pub(super) fn rotate_if_due(&mut self) -> io::Result<()> {
        // A start relies on it that each segment is synced, with its name, before the one after the next is made. So a
        // segment grows beyond its bound rather than being followed too early.
        if self.len >= self.segment_bytes && self.finished.is_none() { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let header = FileHeader::new(FileKind::Log, self.identity, self.next(), self.chain);
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
