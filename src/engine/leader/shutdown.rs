//! A clean stop.

use super::Writer;
use crate::{storage::disk::Disk, storage::file_header::FileError, storage::manifest::Manifest, storage::recovery};
use std::{io, sync::Arc};

/// Ends a Writer that is at rest: a last snapshot, then the MANIFEST notes that the stop was clean, so that the next
/// start can tell if anything is missing. Gives the error of the snapshot, if it failed: the log is whole and synced,
/// so the stop is a clean one all the same, and the next start takes longer.
///
/// # Errors
/// The system's error if the MANIFEST cannot be written, or an error if the log is poisoned: there is no clean stop
/// then.
///
/// # Panics
/// If the Writer is not at rest.
pub fn close<T>(
    writer: Writer<T>,
    mut manifest: Manifest,
    disk: &Arc<dyn Disk>,
) -> Result<Option<FileError>, FileError> {
    assert!(writer.is_at_rest(), "a Writer is closed once everything is answered and synced");
    let Some((store, log, snapshot)) = writer.into_parts() else {
        let error = io::Error::other("an earlier write or sync failed");
        return Err(FileError::Io { file: "the log".into(), error });
    };
    recovery::stop_cleanly(disk, &mut manifest, &store, &log, snapshot)
}
