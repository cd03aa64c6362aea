//! Snapshots: the whole state in one file, complete by itself.
//!
//! A snapshot is walked while writes go on, so it holds counts and entries from positions S to E, then the records
//! (S, E] copied from the log, then a trailer: it is a state only at E. `docs/snapshot-format.md` owns the layout.
//!
//! - [`SnapshotJob`] writes, verifies and publishes one, step by step;
//! - [`load`] reads one into a store, [`SnapshotLoader`] from bytes as they come;
//! - [`SnapshotSchedule`] says when the next is due.

mod block;
mod entries;
mod reader;
mod schedule;
mod writer;

pub use block::SnapshotTrailer;
pub use reader::{SnapshotLoader, load, verify};
pub use schedule::{DueWork, SnapshotSchedule, SnapshotSettings};
pub use writer::{JobStep, PublishedSnapshot, SnapshotJob};

use crate::{
    base::limits,
    base::position::Position,
    storage::disk::Disk,
    storage::file_header::{FileError, SNAPSHOT_PREFIX, parse_name},
    storage::wal::segments,
};

/// The names of the snapshots with the position each is a state at, oldest first.
///
/// # Errors
/// The system's error if the directory cannot be read.
pub fn snapshots(disk: &dyn Disk) -> Result<Vec<(String, Position)>, FileError> {
    let names = disk.list().map_err(FileError::io("the data directory"))?;
    Ok(names.into_iter().filter_map(|name| parse_name(SNAPSHOT_PREFIX, &name).map(|at| (name, at))).collect())
}

/// Removes snapshots but for the newest two, then log segments that neither of them needs.
///
/// # Errors
/// The system's error if a file cannot be removed; the rest is removed another time.
pub fn prune(disk: &dyn Disk) -> Result<(), FileError> {
    let mut kept = snapshots(disk)?;
    while kept.len() > limits::SNAPSHOTS_KEPT {
        let (name, _) = kept.remove(0);
        disk.remove(&name).map_err(FileError::io(&name))?;
    }
    if kept.len() < limits::SNAPSHOTS_KEPT {
        return Ok(()); // until there are two, the log stands in for the second
    }
    // Back to the older of the two: if the newer is damaged, the older and the log behind it lead to the same state.
    let oldest = kept[0].1.sequence;
    for pair in segments(disk)?.windows(2) {
        // All of a segment lies before the first record of the next.
        if pair[1].1.sequence <= oldest + 1 {
            disk.remove(&pair[0].0).map_err(FileError::io(&pair[0].0))?;
        }
    }
    Ok(())
}

/// The name of a snapshot of another node while it is being received.
pub fn received_snapshot_name() -> String {
    crate::storage::disk::temporary_name(&format!("{SNAPSHOT_PREFIX}received"))
}
