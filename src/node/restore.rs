//! Makes a leader's directory from what another node holds: for a leader whose own directory is lost.

use super::{NodeError, resources::lock};
use crate::{
    base::position::{Epoch, Position, Sequence},
    data::store::{DedupLimits, Store},
    net::{
        http_client::EXCHANGE_TIMEOUT,
        link_error::LinkError,
        peer_credentials::PeerCredentials,
        peer_link::{PeerLink, SnapshotDownload},
    },
    replication::AppendRequest,
    storage::disk::{DirectoryLock, Disk},
    storage::file_header::{DatabaseIdentity, FileHeader, FileKind},
    storage::manifest::{Manifest, ManifestState},
    storage::recovery::{self, NodeRun},
    storage::snapshot::{SnapshotLoader, received_snapshot_name},
    storage::wal::{AppendError, Log, RawRecord},
    text::tokenizer::Analyzer,
};
use std::{path::Path, sync::Arc, time::Duration};

/// The result of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The database.
    pub database: u128,
    /// The position of the restored database.
    pub position: Position,
    /// Distinct words in all namespaces.
    pub words: u64,
}

/// Fetches all that the node at `from` holds into `directory`, which must hold no database; a leader starts on it then.
/// The node may be silent as long as `patience`. `progress` is told the bytes that have come, and how many there will
/// be if that is known.
///
/// # Errors
/// [`NodeError::Restore`], or as the directory's errors say. The directory counts as empty then.
pub fn restore(
    from: &str,
    directory: &Path,
    credentials: &PeerCredentials,
    patience: Duration,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, NodeError> {
    let (disk, _lock) = empty(directory)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let link = PeerLink::new(from, credentials).map_err(NodeError::Restore)?.within(patience);
    runtime.block_on(fetch(from, &link, &disk, patience, progress)).map_err(NodeError::Restore)
}

/// Takes a directory that holds no database.
pub(super) fn empty(directory: &Path) -> Result<(Arc<dyn Disk>, DirectoryLock), NodeError> {
    let (disk, lock) = lock(directory)?;
    let names = disk.list().map_err(|error| NodeError::DataDirectory { path: directory.to_owned(), error })?;
    match names.iter().find(|name| FileKind::of_name(name).is_some()) {
        Some(name) => Err(NodeError::Restore(format!("{} holds a database already ({name})", directory.display()))),
        None => Ok((disk, lock)),
    }
}

async fn fetch(
    from: &str,
    link: &PeerLink,
    disk: &Arc<dyn Disk>,
    patience: Duration,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<RestoreReport, String> {
    let told = |error: LinkError| format!("{from}: {error}");
    let (epoch, upto) = position_of(link, patience).await.map_err(told)?;
    let incoming = link.snapshot().await.map_err(told)?.ok_or_else(|| {
        format!("{from} has no snapshot to give: take a node that keeps files, or wait until it has written one")
    })?;
    let temporary = received_snapshot_name();
    let (identity, mut store) = receive(incoming, &**disk, &temporary, progress).await?;
    // The node that starts on it brings its name, and draws the incarnation.
    let mut run = NodeRun { name: String::new(), boot_id: "restored".into(), random: None };
    let (mut manifest, mut log) = recovery::adopt(
        disk,
        identity,
        // Not a follower's: whoever restores wants it to lead.
        ManifestState {
            epoch: epoch.max(store.mark().position.epoch),
            boot_id: run.boot_id.clone(),
            ..ManifestState::default()
        },
        &mut run,
        &store,
        Some(&temporary),
        crate::base::limits::DEFAULT_SEGMENT_BYTES,
    )
    .map_err(|error| error.to_string())?;
    // No further than the node was at the begin: one that is written to has always more.
    while store.mark().position.sequence < upto {
        let records = link.records(identity.token(store.mark().position)).await.map_err(told)?;
        let records = records.ok_or_else(|| format!("{from} no longer has what follows its snapshot: try again"))?;
        if records.is_empty() {
            break;
        }
        append_all(&records, &identity, &mut log, &mut store)?;
    }
    conclude(&**disk, &mut manifest, &mut log, &store)
}

/// The highest epoch the node has seen, which what is restored must go on behind, and its last record.
async fn position_of(link: &PeerLink, patience: Duration) -> Result<(Epoch, Sequence), LinkError> {
    // The first version, which every release can read: the question is about none of its words.
    let identity = DatabaseIdentity { database_id: 0, shard_id: 0, analyzer: Analyzer::StandardV1, hash_seed: 0 };
    let offer = AppendRequest::probe(identity, 0);
    match link.append(&[offer.encode_head().into()], EXCHANGE_TIMEOUT.min(patience)).await {
        Ok(answer) => Ok((answer.hello.epoch, answer.hello.position.sequence)),
        // A leader takes no offers. It stands in the highest epoch it knows.
        Err(LinkError::Refused { status: 404, .. }) => link.position().await,
        Err(error) => Err(error),
    }
}

async fn receive(
    mut incoming: SnapshotDownload,
    disk: &dyn Disk,
    temporary: &str,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(DatabaseIdentity, Store), String> {
    let total = incoming.bytes();
    let told = |error: std::io::Error| format!("{temporary}: {error}");
    let file = disk.create(temporary).map_err(told)?;
    let (mut first, mut loader, mut bytes) = (Vec::new(), None, 0);
    while let Some(piece) = incoming.next().await.map_err(|error| error.to_string())? {
        file.append(&piece).map_err(told)?;
        bytes += piece.len() as u64;
        progress(bytes, total);
        let loader = match &mut loader {
            Some(loader) => loader,
            None => {
                // Which database it is stands at the front.
                first.extend_from_slice(&piece);
                let Ok(header) = FileHeader::decode(temporary, &first) else { continue };
                loader.insert((header.identity, SnapshotLoader::new(header.identity, DedupLimits::default())))
            }
        };
        let fresh = if first.is_empty() { &piece[..] } else { &std::mem::take(&mut first)[..] };
        loader.1.feed(fresh).map_err(|damage| damage.to_string())?;
    }
    file.sync().map_err(told)?;
    let (identity, loader) = loader.ok_or("what came is no snapshot")?;
    let (store, _) = loader.finish().map_err(|damage| damage.to_string())?;
    Ok((identity, store))
}

fn append_all(mut records: &[u8], identity: &DatabaseIdentity, log: &mut Log, store: &mut Store) -> Result<(), String> {
    while !records.is_empty() {
        let raw = RawRecord::parse(records, identity.hash_seed).map_err(|bad| bad.to_string())?;
        let (bytes, rest) = records.split_at(raw.header.record_bytes());
        records = rest;
        let mark = store.mark();
        let goes_on = raw.goes_on_from(mark.position.sequence, mark.chain);
        if !goes_on || raw.header.position.epoch > log.epoch() {
            return Err(format!("record {} does not go on from {}", raw.header.position, mark.position));
        }
        log.append_raw(bytes)
            .map_err(|(AppendError::Undone(error) | AppendError::Poisoned(error))| error.to_string())?;
        let record = raw.record().map_err(|bad| bad.to_string())?;
        store.apply(&record, raw.header.chain).map_err(|diverged| diverged.to_string())?;
        if log.is_overdue() {
            sync(log)?;
        }
    }
    Ok(())
}

fn sync(log: &mut Log) -> Result<(), String> {
    let Some(sync) = log.sync() else { return Ok(()) };
    sync.run().map_err(|error| error.to_string())?;
    log.synced(&sync);
    Ok(())
}

/// Distinct words in all namespaces.
pub(super) fn words_of(store: &Store) -> u64 {
    store.reader().read().namespaces().iter().map(|(_, words)| words).sum()
}

/// All is synced: what is there is as good as after a clean stop.
fn conclude(disk: &dyn Disk, manifest: &mut Manifest, log: &mut Log, store: &Store) -> Result<RestoreReport, String> {
    sync(log)?;
    let position = store.mark().position;
    manifest.state.clean_stop = Some(position);
    manifest.write(disk).map_err(|error| error.to_string())?;
    Ok(RestoreReport { database: manifest.identity.database_id, position, words: words_of(store) })
}
