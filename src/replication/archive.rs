//! What a node can give of its history: its newest snapshot, and records behind a position.

use super::{CatchUp, Feed, Gathered};
use crate::{
    disk::{Disk, DiskFile},
    format::{FileError, Identity},
    position::Sequence,
    snapshot,
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The files and the newest records of a node, for others. Cheap to clone.
#[derive(Clone)]
pub struct Archive {
    /// The files; `None` on a replica that keeps none.
    disk: Option<Arc<dyn Disk>>,
    feed: Arc<Feed>,
    /// One full sync at a time: it reads the whole disk file and fills the network.
    turn: Arc<Semaphore>,
}

/// A snapshot file that is being sent; holds the turn until dropped.
pub struct Outgoing {
    /// The file.
    pub file: Arc<dyn DiskFile>,
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    _turn: OwnedSemaphorePermit,
}

/// What comes of asking for a snapshot.
pub enum Snapshot {
    /// This file.
    File(Outgoing),
    /// There is none: the log has everything.
    None,
    /// Another is being sent: come again.
    Busy,
}

impl Archive {
    /// What a node with this directory and these records can give.
    pub fn new(disk: Option<Arc<dyn Disk>>, feed: Arc<Feed>) -> Self {
        Self { disk, feed, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Opens the newest snapshot.
    ///
    /// # Errors
    /// As the system says.
    pub fn snapshot(&self) -> Result<Snapshot, FileError> {
        let Some(disk) = &self.disk else { return Ok(Snapshot::None) };
        let Ok(turn) = Arc::clone(&self.turn).try_acquire_owned() else { return Ok(Snapshot::Busy) };
        let Some((name, _)) = snapshot::snapshots(&**disk)?.pop() else { return Ok(Snapshot::None) };
        let file = disk.open(&name).map_err(FileError::io(&name))?;
        let bytes = file.len().map_err(FileError::io(&name))?;
        Ok(Snapshot::File(Outgoing { file, name, bytes, _turn: turn }))
    }

    /// Records behind `after`, up to `last`: some hundred KiB of them. Empty: there is none. `None`: they are gone.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn records(
        &self,
        after: Sequence,
        last: Sequence,
        identity: &Identity,
    ) -> Result<Option<Vec<Bytes>>, FileError> {
        let gathered = match &self.disk {
            Some(disk) => CatchUp::default().gather(after, last, &self.feed, &**disk, identity)?,
            None => match self.feed.since(after, crate::limits::OFFER_BYTES) {
                super::Since::Records(records) => Gathered::Records(records),
                super::Since::Nothing => Gathered::Nothing,
                super::Since::Gone => Gathered::NeedSnapshot,
            },
        };
        Ok(match gathered {
            Gathered::Records(records) => Some(records),
            Gathered::Nothing => Some(vec![]),
            Gathered::NeedSnapshot => None,
        })
    }
}
