//! The files of a database and the way back from them. All access goes through [`disk::Disk`].

pub mod backup_stream;
mod bounds;
pub mod disk;
pub mod file_header;
pub mod file_stamp;
pub mod inspect;
pub mod manifest;
pub mod recovery;
pub mod repair;
pub mod snapshot;
pub mod wal;
