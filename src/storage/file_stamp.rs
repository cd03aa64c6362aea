//! Whether a file that somebody else writes has changed.

use std::{os::unix::fs::MetadataExt, path::Path};

/// What tells one state of a file from the next, without reading it: another file in its place, another length, another
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileStamp {
    /// Gives the stamp of a file; `None` where there is none, or it cannot be looked at.
    #[allow(clippy::disallowed_methods, reason = "settings, certificates and users lie beside the database, not in it")]
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self { inode: found.ino(), bytes: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}
