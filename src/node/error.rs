//! The reasons why a node does not start, or does not stop cleanly.

use crate::{
    net::tls::files::TlsFileError,
    storage::{file_header::FileError, recovery::RecoveryError},
};
use std::{io, net::SocketAddr, path::PathBuf};

/// The reason why a node could not be started, or did not stop cleanly. The message is for a person and says what to
/// do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", in_words(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The users file or the audit log cannot be used.
    #[error("{0}")]
    Access(String),
    /// The data directory is another process's.
    #[error("the data directory {} is in use ({error}): stop that process, or give another --data-dir", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The holder of the lock.
        error: io::Error,
    },
    /// The data directory cannot be made or read.
    #[error("the data directory {}: {error}", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The data directory that was held was removed, moved or replaced; the error names it.
    #[error("{0}")]
    DirectoryLost(io::Error),
    /// The files cannot be used.
    #[error("refusing to start on {}: {error}\n`memdb inspect {}` shows what is there", path.display(), path.display())]
    Recovery {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        error: RecoveryError,
    },
    /// The directory belongs to a node of another name than the settings give.
    #[error(
        "{} belongs to the node {kept:?}, and --node-name says {given:?}: a cluster knows a node by its name, which stays \
         as long as its files. Leave out --node-name, or give an empty --data-dir to begin as {given:?}",
        path.display()
    )]
    OtherName {
        /// The directory.
        path: PathBuf,
        /// The name that it keeps.
        kept: String,
        /// The name that was given.
        given: String,
    },
    /// There is nothing to read, and no room to begin a database.
    #[error("no database can begin in {}: {error}. Make room there, or give another --data-dir", path.display())]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        error: RecoveryError,
    },
    /// Records that it would lead without may be elsewhere.
    #[error("refusing to lead: {0}")]
    NotLeader(String),
    /// Records that were taken back lead to other counts than they state.
    #[error("refusing to lead: {0}")]
    Diverged(String),
    /// Another leads in a later epoch, or is about to.
    #[error("refusing to lead: {told}")]
    Succeeded {
        /// Its URL, if that is known.
        by: Option<String>,
        /// The evidence, for a person.
        told: String,
    },
    /// A file of certificates or a key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// Nothing could be restored.
    #[error("nothing was restored: {0}")]
    Restore(String),
    /// A backup is not whole.
    #[error("nothing was backed up: {0}")]
    Backup(String),
    /// The user stopped it.
    #[error("stopped before it was done")]
    Interrupted,
    /// The system gives no more threads or descriptors.
    #[error("the system gives no thread or descriptor: {0}")]
    System(#[from] io::Error),
    /// The stop was not clean, though everything acknowledged is in the log.
    #[error("the stop was not clean: {0}; the next start will recover from the log")]
    Stop(String),
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken; choose another with --port, or stop what listens there".into(),
        io::ErrorKind::PermissionDenied => "not allowed; ports below 1024 need privileges".into(),
        _ => error.to_string(),
    }
}

/// The error of a file, as a stop that was not clean.
impl From<FileError> for NodeError {
    fn from(error: FileError) -> Self {
        NodeError::Stop(error.to_string())
    }
}
