//! Makes a directory from the files of a backup.

use super::{
    NodeError,
    database_copy::{RestoreReport, words_of},
    restore_directory::RestoreDirectory,
};
use crate::{
    base::limits::COPY_BYTES,
    data::store::DedupLimits,
    storage::disk::{Disk, RealDisk},
    storage::file_header::{DatabaseIdentity, FileKind, MANIFEST},
    storage::recovery,
    text::tokenizer::Analyzer,
};
use std::{io, path::Path};

/// Copies the database in the directory `from`, on which no node runs, into `directory`, which must hold none, and
/// reads what was copied as a start would: snapshot, records, their chain and their digests. `progress` is told the
/// bytes that were copied, and how many there will be.
///
/// # Errors
/// [`NodeError::Restore`] if what is there is no whole database, or as the directories' errors say. Nothing is left in
/// the directory then.
pub fn restore_files(
    from: &Path,
    directory: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, NodeError> {
    let directory = RestoreDirectory::take(directory)?;
    let restored = copy_checked(from, &**directory.disk(), progress);
    directory.conclude(restored)
}

fn copy_checked(
    from: &Path,
    disk: &dyn Disk,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, NodeError> {
    let unreadable = |error: io::Error| NodeError::Restore(format!("{}: {error}", from.display()));
    let source = RealDisk::existing(from).map_err(unreadable)?;
    if let Some(process) = source.holder().map_err(unreadable)? {
        let why = format!("{} is in use by process {process}: restore from that node's URL", from.display());
        return Err(NodeError::Restore(why));
    }
    let mut names = source.list().map_err(unreadable)?;
    names.retain(|name| FileKind::of_name(name).is_some());
    if !names.iter().any(|name| name == MANIFEST) {
        return Err(NodeError::Restore(format!("{} holds no database: it has no {MANIFEST}", from.display())));
    }
    // The MANIFEST last: without it the directory is none that a node starts on.
    names.sort_by_key(|name| name == MANIFEST);
    copy(&source, disk, &names, progress).map_err(unreadable).and_then(|()| check(disk))
}

fn copy(
    source: &dyn Disk,
    disk: &dyn Disk,
    names: &[String],
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> io::Result<()> {
    let mut total = 0;
    for name in names {
        total += source.open(name)?.len()?;
    }
    let (mut copied, mut buffer) = (0, vec![0; COPY_BYTES]);
    for name in names {
        let (from, to) = (source.open(name)?, disk.create(name)?);
        let mut offset = 0;
        loop {
            let read = from.read_at(offset, &mut buffer)?;
            if read == 0 {
                break;
            }
            to.append(&buffer[..read])?;
            (offset, copied) = (offset + read as u64, copied + read as u64);
            progress(copied, Some(total));
        }
        to.sync()?;
    }
    disk.sync_directory()
}

/// Reads a directory as a start would. Nothing is changed.
fn check(disk: &dyn Disk) -> Result<RestoreReport, NodeError> {
    // Of no use: there is a MANIFEST, which says what the database is.
    let none = DatabaseIdentity { database_id: 0, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 0 };
    let recovered = recovery::look(disk, none, DedupLimits::default());
    let recovered = recovered.map_err(|error| NodeError::Restore(error.to_string()))?;
    let (database, position) = (recovered.manifest.identity.database_id, recovered.store.mark().position);
    Ok(RestoreReport { database, position, words: words_of(&recovered.store) })
}
