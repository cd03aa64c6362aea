//! Writes what a node holds as a stream.

use super::{
    NodeError,
    database_copy::{CopyTarget, RestoreReport},
    restore::fetch_into,
};
use crate::{
    base::position::Epoch,
    data::store::StateId,
    net::peer_credentials::PeerCredentials,
    storage::backup_stream::{BackupHead, BackupWriter},
    storage::file_header::DatabaseIdentity,
};
use std::{
    io::{self, BufWriter, Write},
    time::Duration,
};

/// Bytes of a stream that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Fetches all that the node at `from` holds, and writes it as a stream ([`super::restore_stream`] reads it). What is
/// written is checked as it goes by, to the last digest. The node may be silent as long as `patience`. `progress` is
/// told as by [`super::restore()`].
///
/// # Errors
/// [`NodeError::Backup`] if the node does not give everything, or `output` does not take it: what was written is no
/// whole stream then. [`NodeError::Interrupted`] after Ctrl-C.
pub fn backup_stream(
    from: &str,
    output: &mut dyn Write,
    credentials: &PeerCredentials,
    patience: Duration,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, NodeError> {
    let mut target = StreamTarget { output: Some(BufWriter::with_capacity(WRITE_BYTES, output)), writer: None };
    fetch_into(&mut target, from, credentials, patience, progress)?.map_err(NodeError::Backup)
}

/// A stream as the place that a copy goes to.
struct StreamTarget<W> {
    output: Option<W>,
    writer: Option<BackupWriter<W>>,
}

impl<W: Write> StreamTarget<W> {
    fn write(&mut self, part: impl FnOnce(&mut BackupWriter<W>) -> io::Result<()>) -> Result<(), String> {
        part(self.writer.as_mut().expect("it has begun")).map_err(|error| unwritable(&error))
    }
}

fn unwritable(error: &io::Error) -> String {
    format!("the stream cannot be written: {error}")
}

impl<W: Write> CopyTarget for StreamTarget<W> {
    fn begin(&mut self, epoch: Epoch, snapshot_bytes: Option<u64>) -> Result<(), String> {
        let output = self.output.take().expect("it begins once");
        let begun = BackupWriter::begin(output, BackupHead { epoch, snapshot_bytes });
        self.writer = Some(begun.map_err(|error| unwritable(&error))?);
        Ok(())
    }

    fn snapshot(&mut self, piece: &[u8]) -> Result<(), String> {
        self.write(|writer| writer.snapshot(piece))
    }

    fn begin_records(&mut self, _: DatabaseIdentity, _: Epoch, _: StateId) -> Result<(), String> {
        Ok(()) // the snapshot says it
    }

    fn record(&mut self, record: &[u8]) -> Result<(), String> {
        self.write(|writer| writer.records(record))
    }

    fn end(&mut self, state: StateId) -> Result<(), String> {
        self.write(|writer| writer.end(state))
    }
}
