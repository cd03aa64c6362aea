//! Before a leader leads: what its replicas know better.
//!
//! After the machine went down, or the log had to be cut, replicas may have records that this log has lost: they
//! are taken back. An empty directory whose replicas hold a database is an accident, and refused.

use super::NodeError;
use crate::{
    config::Settings,
    position::Position,
    recovery::Recovered,
    replication::{Choice, Command, Hello, Offer, choose, extend, link::Link},
    store::Mark,
};
use futures::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long replicas are waited for, if something may be missing here.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long otherwise: only to hear whether another leads.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// The pause before a replica that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks the replicas where there is a reason to, and takes back what is missing.
///
/// # Errors
/// [`NodeError::NotLeader`] if this node must not lead.
pub(super) fn before_leading(recovered: &mut Recovered, boot_id: &str, settings: &Settings) -> Result<(), NodeError> {
    let state = &recovered.manifest.state;
    if recovered.new && settings.init {
        return Ok(());
    }
    let went_down = state.clean_stop.is_none() && state.boot_id != boot_id;
    let may_miss = recovered.new || recovered.report.cut.is_some() || went_down;
    let mut urls = settings.replicas.clone();
    urls.extend(state.replicas.iter().filter(|url| !settings.replicas.contains(url)).cloned());
    if urls.is_empty() {
        return Ok(());
    }
    let patience = if may_miss { PATIENCE } else { SHORT_PATIENCE };
    tracing::info!("asking {} replicas what they know, for at most {patience:?}", urls.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask_and_take(recovered, urls, patience, settings))
}

async fn ask_and_take(
    recovered: &mut Recovered,
    urls: Vec<String>,
    patience: Duration,
    settings: &Settings,
) -> Result<(), NodeError> {
    let deadline = Instant::now() + patience;
    let links: Vec<(String, Link)> = urls
        .into_iter()
        .filter_map(|url| Link::new(&url, settings.cluster_secret.clone()).ok().map(|link| (url, link)))
        .collect();
    let question = question(recovered);
    let asked = links.iter().map(|(_, link)| timeout_at(deadline, ask(link, question.clone())));
    let answers = join_all(asked).await;
    let (links, hellos): (Vec<_>, Vec<Hello>) =
        links.into_iter().zip(answers).filter_map(|(link, answer)| Some((link, answer.ok().flatten()?))).unzip();
    if recovered.new {
        let holds = hellos.iter().zip(&links).find_map(|(hello, (url, _))| hello.database.map(|held| (held, url)));
        return match holds {
            None => Ok(()),
            Some((held, url)) => Err(NodeError::NotLeader(format!(
                "this directory is empty, and replica {url} holds database {held:032x}: give the right \
                 --data-dir, `memdb restore --from {url}`, or say --init to begin a new database"
            ))),
        };
    }
    let (database, epoch) = (recovered.manifest.identity.database_id, recovered.manifest.state.epoch);
    match choose(&hellos, database, epoch, recovered.store.mark().position.sequence) {
        Choice::Nobody => Ok(()),
        Choice::HigherEpoch(at, seen) => Err(NodeError::NotLeader(format!(
            "replica {} has seen epoch {seen}, and the last one here was {epoch}: another leader has taken over, or these \
             files are an old copy",
            links[at].0
        ))),
        Choice::From(at) => {
            let (url, link) = &links[at];
            take(recovered, url, link).await;
            Ok(())
        }
    }
}

fn question(recovered: &Recovered) -> bytes::Bytes {
    let manifest = &recovered.manifest;
    let offer = Offer {
        identity: manifest.identity,
        leader: 0,
        epoch: manifest.state.epoch,
        epochs: manifest.state.epochs.clone(),
        last: Mark::default(),
        command: Command::Ask,
        after: Position::ZERO,
        durable: false,
        records: &[],
    };
    offer.encode_head().into()
}

/// Asks until there is an answer. That nothing listens is one too: such a replica is not there.
async fn ask(link: &Link, question: bytes::Bytes) -> Option<Hello> {
    loop {
        match link.offer(vec![question.clone()]).await {
            Ok(answer) => return Some(answer.hello),
            Err(error) if error.is_refused() => return None,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Takes records from a replica until it has no more.
async fn take(recovered: &mut Recovered, url: &str, link: &Link) {
    let (identity, epoch) = (recovered.manifest.identity, recovered.manifest.state.epoch);
    let mut taken = 0;
    let why = loop {
        match link.records(recovered.store.mark().position).await {
            Ok(Some(records)) if records.is_empty() => break None,
            Ok(Some(records)) => match extend(&mut recovered.store, &identity, epoch, &records) {
                Ok(applied) => taken += applied,
                Err(why) => break Some(why),
            },
            Ok(None) => break Some("it no longer has the records in between".to_owned()),
            Err(error) => break Some(error.to_string()),
        }
    };
    tracing::warn!("took {taken} records back from replica {url} that this log had lost");
    if let Some(why) = why {
        tracing::error!("replica {url} has more, and it could not be taken back: {why}");
    }
    if taken > 0 {
        // They are durable only once a snapshot has them.
        recovered.report.clean = false;
    }
}
