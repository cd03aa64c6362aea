//! The history that a node can give to others: its newest snapshot, and records behind a position.

use super::{BacklogRead, CatchUpRecords, PeerCatchUp, ReplicationBacklog};
use crate::{
    base::position::Sequence,
    storage::disk::{Disk, DiskFile},
    storage::file_header::{DatabaseIdentity, FileError},
    storage::snapshot,
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of records that are given at once, or a little more.
const PIECE_BYTES: usize = 8 << 20;

/// The files and the newest records of a node, for others. Cheap to clone.
#[derive(Clone)]
pub struct HistorySource {
    /// The files; `None` on a replica that keeps none.
    disk: Option<Arc<dyn Disk>>,
    feed: Arc<ReplicationBacklog>,
    /// One full sync at a time: it reads the whole disk file and fills the network.
    turn: Arc<Semaphore>,
}

/// A snapshot file that is being sent; holds the turn until dropped.
pub struct SnapshotUpload {
    /// The file.
    pub file: Arc<dyn DiskFile>,
    /// Its length in bytes.
    pub bytes: u64,
    _turn: OwnedSemaphorePermit,
}

/// The answer to a request for a snapshot.
pub enum SnapshotOffer {
    /// This file.
    File(SnapshotUpload),
    /// There is none: the log has everything.
    None,
    /// Another is being sent: come again.
    Busy,
}

impl HistorySource {
    /// Makes the source of a node with this directory and these records.
    pub fn new(disk: Option<Arc<dyn Disk>>, feed: Arc<ReplicationBacklog>) -> Self {
        Self { disk, feed, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Opens the newest snapshot.
    ///
    /// # Errors
    /// The system's error if the newest snapshot cannot be opened.
    pub fn snapshot(&self) -> Result<SnapshotOffer, FileError> {
        let Some(disk) = &self.disk else { return Ok(SnapshotOffer::None) };
        // Never waits: the other node asks again, while a queue here would hold its connection.
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else { return Ok(SnapshotOffer::Busy) };
        let Some((name, _)) = snapshot::snapshots(&**disk)?.pop() else { return Ok(SnapshotOffer::None) };
        // Pruning may remove the file while it is sent; an open one can be read to its end all the same.
        let file = disk.open(&name).map_err(FileError::io(&name))?;
        let bytes = file.len().map_err(FileError::io(&name))?;
        Ok(SnapshotOffer::File(SnapshotUpload { file, bytes, _turn: turn }))
    }

    /// Records behind `after`, up to `last`: some MiB of them. Empty: there is none. `None`: they are gone. Reads the
    /// disk.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn records(
        &self,
        after: Sequence,
        last: Sequence,
        identity: &DatabaseIdentity,
    ) -> Result<Option<Vec<Bytes>>, FileError> {
        let Some(disk) = &self.disk else {
            return Ok(match self.feed.since(after, PIECE_BYTES) {
                BacklogRead::Records(records) => Some(records),
                BacklogRead::Nothing => Some(vec![]),
                BacklogRead::Gone => None,
            });
        };
        // One for all: to find the first record in the log, its segment is walked from the begin.
        let mut catch_up = PeerCatchUp::default();
        let (mut at, mut all) = (after, Vec::new());
        while all.iter().map(Bytes::len).sum::<usize>() < PIECE_BYTES {
            match catch_up.gather(at, last, &self.feed, &**disk, identity) {
                Ok(CatchUpRecords::Records(mut records)) => {
                    at = catch_up.behind().unwrap_or(at + records.len() as Sequence);
                    all.append(&mut records);
                }
                Ok(CatchUpRecords::Nothing) => break,
                // What was found so far is given; the request for the rest gets the error.
                Ok(CatchUpRecords::NeedSnapshot) | Err(_) if !all.is_empty() => break,
                Ok(CatchUpRecords::NeedSnapshot) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::Analyzer;

    #[test]
    fn an_answer_holds_many_offers_and_is_bounded() {
        const RECORD: usize = 1 << 20;
        let feed = Arc::new(ReplicationBacklog::new(0, 32 * RECORD));
        for sequence in 1..=12 {
            feed.push(sequence, Bytes::from(vec![0; RECORD]));
        }
        let identity = DatabaseIdentity { database_id: 1, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 1 };
        let directory = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(crate::storage::disk::RealDisk::at(directory.path()));
        for disk in [None, Some(disk)] {
            let archive = HistorySource::new(disk, Arc::clone(&feed));
            let given = |after| archive.records(after, 12, &identity).expect("in memory").map(|records| records.len());
            assert_eq!((given(0), given(8), given(12)), (Some(PIECE_BYTES / RECORD), Some(4), Some(0)));
        }
    }
}
