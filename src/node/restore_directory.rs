//! The directory that a database is restored into: it holds none before, and nothing if that fails.

use super::{NodeError, database_copy::RestoreReport, resources::lock};
use crate::{
    storage::disk::{DirectoryLock, Disk, RealDisk},
    storage::file_header::{FileKind, MANIFEST},
    storage::recovery::is_database_file,
    storage::snapshot::received_snapshot_name,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A directory without a database, locked.
pub(super) struct RestoreDirectory {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    lock: DirectoryLock,
    /// True if it was made for this.
    is_new: bool,
}

impl RestoreDirectory {
    /// Takes a directory that holds no database. The remains of a restore, or of a full sync, that was killed are
    /// removed.
    ///
    /// # Errors
    /// [`NodeError::Restore`] if there is a database, or as the directory's errors say.
    pub(super) fn take(path: &Path) -> Result<Self, NodeError> {
        let is_new = RealDisk::at(path).list().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let (disk, lock) = lock(path)?;
        let unusable = |error| NodeError::DataDirectory { path: path.to_owned(), error };
        let names = disk.list().map_err(unusable)?;
        // Until it is whole, what is restored has a snapshot of this name and no MANIFEST.
        let are_remains = !names.iter().any(|name| name == MANIFEST) && names.contains(&received_snapshot_name());
        match names.iter().find(|name| FileKind::of_name(name).is_some()) {
            Some(name) if !are_remains => {
                Err(NodeError::Restore(format!("{} holds a database already ({name})", path.display())))
            }
            _ => {
                clear(&*disk).map_err(unusable)?;
                Ok(Self { path: path.to_owned(), disk, lock, is_new })
            }
        }
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The restore has ended: if it failed, everything of it goes, and the directory if it was made for it.
    pub(super) fn conclude(self, restored: Result<RestoreReport, NodeError>) -> Result<RestoreReport, NodeError> {
        if restored.is_err() {
            // The first error is the one to tell. What cannot be removed has no MANIFEST.
            let _ = clear(&*self.disk);
            if self.is_new {
                let _ = RealDisk::remove_empty(&self.path, self.lock);
            }
        }
        restored
    }
}

/// Removes what there is of a database, the MANIFEST first: without it the directory is none that a node starts on.
fn clear(disk: &dyn Disk) -> io::Result<()> {
    let mut names = disk.list()?;
    names.retain(|name| is_database_file(name));
    names.sort_by_key(|name| name != MANIFEST);
    names.iter().try_for_each(|name| disk.remove(name))?;
    disk.sync_directory()
}
