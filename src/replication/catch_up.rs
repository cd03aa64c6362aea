//! The sources of the records for one replica: memory, and behind that the log.

use super::{BacklogRead, ReplicationBacklog};
use crate::{
    base::limits,
    base::position::Sequence,
    storage::disk::Disk,
    storage::file_header::{DatabaseIdentity, FileError},
    storage::wal::{self, LogTail},
};
use bytes::Bytes;

/// The records that one replica needs next.
#[derive(Debug, PartialEq, Eq)]
pub enum CatchUpRecords {
    /// These records, in this order.
    Records(Vec<Bytes>),
    /// None: it has all there are.
    Nothing,
    /// The records are neither in memory nor in the log.
    NeedSnapshot,
}

/// Follows one replica through memory and log.
#[derive(Default)]
pub struct PeerCatchUp {
    /// In the log, the place behind this record.
    tail: Option<(Sequence, LogTail)>,
}

impl PeerCatchUp {
    /// Gives the records that follow `after`, up to the last one that the leader has applied: some hundred KiB at most,
    /// unless one record is larger. Reads the disk when the records are no longer in memory.
    ///
    /// # Errors
    /// If the log cannot be read; a snapshot helps then too.
    pub fn gather(
        &mut self,
        after: Sequence,
        last: Sequence,
        feed: &ReplicationBacklog,
        disk: &dyn Disk,
        identity: &DatabaseIdentity,
    ) -> Result<CatchUpRecords, FileError> {
        match feed.since(after, limits::OFFER_BYTES) {
            BacklogRead::Records(records) => {
                // In memory again, so the segment need not stay open: that would be a descriptor for each replica.
                self.tail = None;
                Ok(CatchUpRecords::Records(records))
            }
            BacklogRead::Nothing => Ok(CatchUpRecords::Nothing),
            BacklogRead::Gone => self.read_log(after, last, disk, identity),
        }
    }

    /// The record that [`PeerCatchUp::gather`] last gave from the log; `None` if they were in memory.
    pub fn behind(&self) -> Option<Sequence> {
        self.tail.as_ref().map(|(at, _)| *at)
    }

    fn read_log(
        &mut self,
        after: Sequence,
        last: Sequence,
        disk: &dyn Disk,
        identity: &DatabaseIdentity,
    ) -> Result<CatchUpRecords, FileError> {
        let mut tail = match self.tail.take() {
            // Kept between two pieces: to find a place in the log, its segment is walked from the start.
            Some((at, tail)) if at == after => tail,
            _ => match wal::place_after(disk, identity, after)? {
                Some((place, _)) => LogTail::open(disk, *identity, place)?,
                None => return Ok(CatchUpRecords::NeedSnapshot),
            },
        };
        let mut bytes = Vec::new();
        // Only up to `last`: beyond that the log may end in a record that is just being appended.
        tail.read(disk, last, &mut bytes)?;
        if bytes.is_empty() {
            return Ok(CatchUpRecords::Nothing);
        }
        self.tail = Some((tail.place().sequence - 1, tail));
        Ok(CatchUpRecords::Records(vec![bytes.into()]))
    }
}
