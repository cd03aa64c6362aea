//! Before a leader leads: carries out what its [`TailRecovery`] wants done.

use super::NodeError;
use crate::{
    data::store::{DedupLimits, Store},
    net::{link_error::LinkError, peer_credentials::PeerCredentials, peer_link::PeerLink},
    replication::{AppendAnswer, ProbeError, StartingNode, TailAction, TailRecovery, TailRefusal},
    storage::recovery::RecoveredDatabase,
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// The outcome of a question or of fetching records.
enum TailReport {
    Answer(String, Result<AppendAnswer, ProbeError>),
    Records(Result<Option<Bytes>, String>),
}

/// Asks the nodes that are known where there is a reason to, and fetches what is missing. `read` reads the files again.
///
/// # Errors
/// [`NodeError::NotLeader`] and the like, if this node must not lead; or as reading the files says.
pub(super) fn recover_tail(
    recovered: &mut RecoveredDatabase,
    starter: StartingNode,
    credentials: &PeerCredentials,
    read: impl Fn() -> Result<RecoveredDatabase, NodeError>,
) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(recovered, starter, credentials, read))
}

async fn run(
    recovered: &mut RecoveredDatabase,
    starter: StartingNode,
    credentials: &PeerCredentials,
    read: impl Fn() -> Result<RecoveredDatabase, NodeError>,
) -> Result<(), NodeError> {
    let began = Instant::now();
    let now_ms = || began.elapsed().as_millis() as u64;
    let mut recovery = TailRecovery::new(starter, recovered, now_ms());
    let mut links: BTreeMap<String, Arc<PeerLink>> = BTreeMap::new();
    for url in recovery.asks() {
        match PeerLink::new(url, credentials) {
            Ok(link) => _ = links.insert(url.to_owned(), Arc::new(link)),
            Err(error) => tracing::warn!(url, error, "a node cannot be asked"),
        }
    }
    if !links.is_empty() {
        tracing::info!("asking {} nodes what they know before this one leads", links.len());
    }
    let mut under_way: FuturesUnordered<BoxFuture<'static, TailReport>> = FuturesUnordered::new();
    loop {
        match recovery.poll(recovered, now_ms()) {
            TailAction::Ask(url, offer, patience_ms) => {
                let link = links.get(&url).cloned();
                under_way.push(Box::pin(ask(link, url, offer, Duration::from_millis(patience_ms))));
            }
            TailAction::Fetch(url, after) => {
                let link = links.get(&url).cloned().expect("it has answered");
                let after = recovered.manifest.identity.token(after);
                let fetched = async move { link.records(after).await.map_err(|error| error.to_string()) };
                under_way.push(Box::pin(fetched.map(TailReport::Records)));
            }
            TailAction::Wait(until_ms) => {
                let pause = Duration::from_millis(until_ms.saturating_sub(now_ms()).min(60_000));
                let report = tokio::select! {
                    Some(report) = under_way.next() => report,
                    () = sleep(pause) => continue,
                };
                match report {
                    TailReport::Answer(url, answer) => recovery.answered(&url, answer, now_ms()),
                    TailReport::Records(records) => recovery.fetched(records, recovered),
                }
            }
            TailAction::Alarm(what) => tracing::warn!("{what}"),
            TailAction::ReadAgain => {
                // What it was goes first: two states of a large database have no room beside each other.
                recovered.open = None;
                recovered.store = Store::new(recovered.manifest.identity.hasher(), DedupLimits::default());
                *recovered = read()?;
            }
            TailAction::Lead => return Ok(()),
            TailAction::Refused(refusal) => return Err(refusal.into()),
        }
    }
}

/// Asks a node where it stands.
async fn ask(link: Option<Arc<PeerLink>>, url: String, offer: Bytes, patience: Duration) -> TailReport {
    let Some(link) = link else { return TailReport::Answer(url, Err(ProbeError::NotThere)) };
    let answer = link.append(&[offer], patience).await.map_err(|error| match error {
        LinkError::NothingThere => {
            tracing::info!("nothing listens at {url}: that node is not asked");
            ProbeError::NotThere
        }
        error if error.may_pass() => ProbeError::MayPass(error.to_string()),
        error => ProbeError::Strange(error.to_string()),
    });
    TailReport::Answer(url, answer)
}

impl From<TailRefusal> for NodeError {
    fn from(refusal: TailRefusal) -> Self {
        match refusal {
            TailRefusal::NotLeader(why) => NodeError::NotLeader(why),
            TailRefusal::Diverged(why) => NodeError::Diverged(why),
            TailRefusal::Succeeded { by, told } => NodeError::Succeeded { by, told },
        }
    }
}
