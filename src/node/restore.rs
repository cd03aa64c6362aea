//! Makes a leader's directory from what another node holds, or from a backup as a stream: for a leader whose own
//! directory is lost.

use super::{
    NodeError,
    database_copy::{CopyTarget, RestoreReport, SnapshotCopy},
    restore_directory::RestoreDirectory,
};
use crate::{
    base::limits::DEFAULT_SEGMENT_BYTES,
    base::position::{Epoch, Sequence},
    data::store::StateId,
    net::{
        http_client::EXCHANGE_TIMEOUT, link_error::LinkError, peer_credentials::PeerCredentials, peer_link::PeerLink,
    },
    replication::AppendRequest,
    storage::backup_stream::{BackupPart, BackupReader, BackupStreamError},
    storage::disk::{Disk, DiskFile},
    storage::file_header::{DatabaseIdentity, SNAPSHOT_PREFIX, position_name},
    storage::manifest::{Manifest, ManifestState},
    storage::snapshot::received_snapshot_name,
    storage::wal::{AppendError, Log},
    text::tokenizer::Analyzer,
};
use std::{fmt::Display, io::Read, path::Path, sync::Arc, time::Duration};

/// Fetches all that the node at `from` holds into `directory`, which must hold no database; a leader starts on it then.
/// The node may be silent as long as `patience`. `progress` is told the bytes that have come, and how many there will
/// be if that is known.
///
/// # Errors
/// [`NodeError::Restore`], [`NodeError::Interrupted`] after Ctrl-C, or as the directory's errors say. Nothing is left
/// in the directory then, and one that was not there is not there.
pub fn restore(
    from: &str,
    directory: &Path,
    credentials: &PeerCredentials,
    patience: Duration,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, NodeError> {
    let directory = RestoreDirectory::take(directory)?;
    let mut target = DirectoryTarget::new(directory.disk());
    let fetched = fetch_into(&mut target, from, credentials, patience, progress);
    directory.conclude(fetched.and_then(|fetched| fetched.map_err(NodeError::Restore)))
}

/// Reads a stream of [`super::backup_stream`] into `directory`, which must hold no database. `progress` is told the
/// bytes that have come.
///
/// # Errors
/// As [`restore`]: [`NodeError::Restore`] also for a stream that is cut off, or is not what was written.
pub fn restore_stream(
    input: &mut dyn Read,
    directory: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, NodeError> {
    let directory = RestoreDirectory::take(directory)?;
    let mut target = DirectoryTarget::new(directory.disk());
    let restored = read_into(&mut target, input, progress).map_err(NodeError::Restore);
    directory.conclude(restored)
}

fn read_into(
    target: &mut DirectoryTarget,
    input: &mut dyn Read,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, String> {
    let told = |error: BackupStreamError| error.to_string();
    let mut stream = BackupReader::begin(input).map_err(told)?;
    let mut copy = SnapshotCopy::begin(target, stream.head().epoch, stream.head().snapshot_bytes)?;
    // The snapshot first, then records, then the end.
    let mut records = loop {
        match stream.next_part().map_err(told)? {
            BackupPart::Snapshot(piece) => copy.take(piece)?,
            BackupPart::Records(records) => {
                let mut copy = copy.end()?;
                copy.take(records)?;
                break copy;
            }
            BackupPart::End(state) => return copy.end()?.end(Some(state)),
        }
        progress(stream.bytes(), None);
    };
    loop {
        match stream.next_part().map_err(told)? {
            BackupPart::Snapshot(_) => return Err("the stream has a snapshot behind records".to_owned()),
            BackupPart::Records(more) => records.take(more)?,
            BackupPart::End(state) => return records.end(Some(state)),
        }
        progress(stream.bytes(), None);
    }
}

/// Fetches all that the node at `from` holds into a place; the inner error is a sentence.
///
/// # Errors
/// [`NodeError::Interrupted`] after Ctrl-C, [`NodeError::System`] if the system has no HTTP client.
pub(super) fn fetch_into(
    target: &mut dyn CopyTarget,
    from: &str,
    credentials: &PeerCredentials,
    patience: Duration,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Result<RestoreReport, String>, NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let link = match PeerLink::new(from, credentials) {
        Ok(link) => link.within(patience),
        Err(what) => return Ok(Err(what)),
    };
    runtime.block_on(async {
        tokio::select! {
            fetched = fetch(from, &link, target, patience, progress) => Ok(fetched),
            Ok(()) = tokio::signal::ctrl_c() => Err(NodeError::Interrupted),
        }
    })
}

async fn fetch(
    from: &str,
    link: &PeerLink,
    target: &mut dyn CopyTarget,
    patience: Duration,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, String> {
    let told = |error: LinkError| format!("{from}: {error}");
    let (epoch, upto) = position_of(link, patience).await.map_err(told)?;
    let mut incoming = link.snapshot().await.map_err(told)?.ok_or_else(|| {
        format!("{from} has no snapshot to give: take a node that keeps files, or wait until it has written one")
    })?;
    let (total, mut bytes) = (incoming.bytes(), 0);
    let mut copy = SnapshotCopy::begin(target, epoch, total)?;
    while let Some(piece) = incoming.next().await.map_err(told)? {
        copy.take(&piece)?;
        bytes += piece.len() as u64;
        progress(bytes, total);
    }
    let mut copy = copy.end()?;
    // No further than the node was at the begin: one that is written to has always more.
    while copy.position().sequence < upto {
        let records = link.records(copy.token()).await.map_err(told)?;
        let records = records.ok_or_else(|| format!("{from} no longer has what follows its snapshot: try again"))?;
        if records.is_empty() {
            break;
        }
        copy.take(&records)?;
    }
    copy.end(None)
}

/// The highest epoch the node has seen, which what is restored must go on behind, and its last record.
async fn position_of(link: &PeerLink, patience: Duration) -> Result<(Epoch, Sequence), LinkError> {
    // The first version, which every release can read: the question is about none of its words.
    let identity = DatabaseIdentity { database_id: 0, shard_id: 0, analyzer: Analyzer::StandardV1, hash_seed: 0 };
    let offer = AppendRequest::probe(identity, 0);
    match link.append(&[offer.encode_head().into()], EXCHANGE_TIMEOUT.min(patience)).await {
        Ok(answer) => Ok((answer.hello.epoch, answer.hello.position.sequence)),
        // A leader of an earlier release takes no offers. It stands in the highest epoch it knows.
        Err(LinkError::Refused { status: 404, .. }) => link.position().await,
        Err(error) => Err(error),
    }
}

/// A directory as the place that a copy goes to.
struct DirectoryTarget {
    disk: Arc<dyn Disk>,
    snapshot: Option<Arc<dyn DiskFile>>,
    files: Option<CopiedFiles>,
}

/// The files behind the snapshot.
struct CopiedFiles {
    identity: DatabaseIdentity,
    /// The state that the snapshot leads to.
    from: StateId,
    log: Log,
}

impl DirectoryTarget {
    fn new(disk: &Arc<dyn Disk>) -> Self {
        Self { disk: Arc::clone(disk), snapshot: None, files: None }
    }
}

impl CopyTarget for DirectoryTarget {
    fn begin(&mut self, _: Epoch, _: Option<u64>) -> Result<(), String> {
        self.snapshot = Some(self.disk.create(&received_snapshot_name()).map_err(told)?);
        Ok(())
    }

    fn snapshot(&mut self, piece: &[u8]) -> Result<(), String> {
        self.snapshot.as_ref().map_or(Ok(()), |file| file.append(piece)).map_err(told)
    }

    fn begin_records(&mut self, identity: DatabaseIdentity, epoch: Epoch, from: StateId) -> Result<(), String> {
        self.snapshot.take().map_or(Ok(()), |file| file.sync()).map_err(told)?;
        let log = Log::create(Arc::clone(&self.disk), identity, epoch, from, DEFAULT_SEGMENT_BYTES).map_err(told)?;
        self.files = Some(CopiedFiles { identity, from, log });
        Ok(())
    }

    fn record(&mut self, record: &[u8]) -> Result<(), String> {
        let CopiedFiles { log, .. } = self.files.as_mut().ok_or("records in front of their snapshot")?;
        log.append_raw(record).map_err(|(AppendError::Undone(error) | AppendError::Poisoned(error))| told(error))?;
        if log.is_overdue() { sync(log) } else { Ok(()) }
    }

    fn end(&mut self, state: StateId) -> Result<(), String> {
        let CopiedFiles { identity, from, mut log } = self.files.take().ok_or("no snapshot has come")?;
        sync(&mut log)?;
        // The name of the snapshot, then the MANIFEST: up to here a kill leaves what no node starts on, and another
        // restore replaces.
        let name = position_name(SNAPSHOT_PREFIX, from.position);
        self.disk.rename(&received_snapshot_name(), &name).map_err(told)?;
        self.disk.sync_directory().map_err(told)?;
        // All is synced: what is there is as good as after a clean stop. It is not a follower's, whose boot is empty:
        // whoever restores wants it to lead. The node that starts on it brings its name, and draws the incarnation.
        let boot = || "restored".to_owned();
        let state = ManifestState {
            epoch: log.epoch(),
            clean_stop: Some(state.position),
            boot_id: boot(),
            incarnation_boot: boot(),
            ..ManifestState::default()
        };
        Manifest { identity, state }.write(&*self.disk).map_err(told)
    }
}

fn told(error: impl Display) -> String {
    error.to_string()
}

fn sync(log: &mut Log) -> Result<(), String> {
    let Some(sync) = log.sync() else { return Ok(()) };
    sync.run().map_err(told)?;
    log.synced(&sync);
    Ok(())
}
