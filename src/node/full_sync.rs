//! A full sync: the leader's newest snapshot, loaded as it comes, and kept if this replica keeps files.

use crate::{
    base::failpoint,
    data::store::{DedupLimits, Store},
    engine::replica::LoadedSnapshot,
    net::{
        link_error::LinkError,
        peer_link::{PeerLink, SnapshotDownload},
    },
    storage::disk::Disk,
    storage::file_header::DatabaseIdentity,
    storage::snapshot::{SnapshotLoader, received_snapshot_name},
};
use std::time::Duration;

/// The pause before a leader that is sending a snapshot to somebody else is asked again.
const TURN: Duration = Duration::from_millis(300);

/// Fetches and loads it.
///
/// # Errors
/// What went wrong, for a person; it can be tried again.
pub(super) async fn load(
    link: &PeerLink,
    identity: DatabaseIdentity,
    window: DedupLimits,
    disk: Option<&dyn Disk>,
) -> Result<LoadedSnapshot, String> {
    let answer = loop {
        match link.snapshot().await {
            // One at a time: its turn comes.
            Err(LinkError::Refused { status: 503, .. }) => tokio::time::sleep(TURN).await,
            answer => break answer.map_err(|error| error.to_string())?,
        }
    };
    match answer {
        None => {
            tracing::info!("the leader has no snapshot yet: beginning with its first record");
            Ok(LoadedSnapshot { identity, store: Store::new(identity.hasher(), window), temporary: None })
        }
        Some(incoming) => receive(incoming, identity, window, disk).await,
    }
}

async fn receive(
    mut incoming: SnapshotDownload,
    identity: DatabaseIdentity,
    window: DedupLimits,
    disk: Option<&dyn Disk>,
) -> Result<LoadedSnapshot, String> {
    let megabytes = incoming.bytes().map_or_else(|| "?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
    tracing::info!("loading the leader's snapshot of {megabytes} MB");
    let temporary = received_snapshot_name();
    let received = keep_and_load(&mut incoming, identity, window, disk, &temporary).await;
    if received.is_err()
        && let Some(disk) = disk
    {
        let _ = disk.remove(&temporary); // the log may need the room; the first error is the one to tell
    }
    received
}

async fn keep_and_load(
    incoming: &mut SnapshotDownload,
    identity: DatabaseIdentity,
    window: DedupLimits,
    disk: Option<&dyn Disk>,
    temporary: &str,
) -> Result<LoadedSnapshot, String> {
    let told = |error: std::io::Error| format!("{temporary}: {error}");
    let file = disk.map(|disk| disk.create(temporary).map_err(told)).transpose()?;
    let mut loader = SnapshotLoader::new(identity, window);
    failpoint::pass("load.begin");
    while let Some(piece) = incoming.next().await.map_err(|error| error.to_string())? {
        if let Some(file) = &file {
            file.append(&piece).map_err(told)?;
        }
        loader.feed(&piece).map_err(|damage| damage.to_string())?;
        failpoint::pass("load.piece");
    }
    if let Some(file) = &file {
        file.sync().map_err(told)?;
    }
    failpoint::pass("load.synced");
    let (store, trailer) = loader.finish().map_err(|damage| damage.to_string())?;
    tracing::info!(position = %trailer.end.position, words = trailer.words, "loaded the leader's snapshot");
    Ok(LoadedSnapshot { identity, store, temporary: file.map(|_| temporary.to_owned()) })
}
