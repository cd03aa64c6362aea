//! Before a leader leads: what its replicas know better.
//!
//! After the machine went down, or the log had to be cut, replicas may have records that this log has lost: they
//! are taken back, from whoever gives them. A leader does not lead without records that it knows to exist. An empty
//! directory whose replicas hold a database is an accident, and refused.

use super::{NodeError, promote::Elected};
use crate::{
    config::Settings,
    position::{Epoch, Sequence},
    recovery::Recovered,
    replication::{
        Choice, ExtendError, Hello, Offer, choose, extend, lacks,
        link::{CONNECT_TIMEOUT, Link, LinkError},
    },
};
use futures::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// What became of asking a replica.
enum Asked {
    /// It says where it stands.
    Hello(Hello),
    /// Nothing listens there: it does not run.
    NotThere,
    /// There was no answer in time; why the last try failed.
    Silent(String),
    /// What it answers is a no, or no replica's answer.
    Strange(String),
}

/// How long replicas are waited for, if something may be missing here; and for records that one of them has.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long otherwise: only to hear whether another leads.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// How long whoever was elected waits for what those had who have promised. Nobody leads meanwhile.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(60);
/// The pause before a replica that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks the replicas where there is a reason to, and takes back what is missing.
///
/// # Errors
/// [`NodeError::NotLeader`] if this node must not lead.
pub(super) fn before_leading(
    recovered: &mut Recovered,
    boot_id: &str,
    settings: &Settings,
    url: &str,
    elected: Option<&Elected>,
) -> Result<(), NodeError> {
    let state = &recovered.manifest.state;
    let own = elected.map_or(state.epoch, |elected| elected.epoch);
    if state.highest() > own {
        let told = format!("epoch {} was promised to another node, and this one's is {own}", state.highest());
        return Err(NodeError::Succeeded { by: None, told });
    }
    if elected.is_none() && recovered.is_behind() {
        let told = format!(
            "the files here are a follower's, which stood at {} when epoch {} had begun",
            recovered.stands(),
            state.epoch
        );
        return Err(NodeError::Succeeded { by: state.leader_url.clone().filter(|by| by != url), told });
    }
    if recovered.new && settings.init {
        return Ok(());
    }
    let went_down = state.clean_stop.is_none() && state.boot_id != boot_id;
    let may_miss = recovered.new || recovered.report.cut.is_some() || went_down || elected.is_some();
    let known = elected.map_or(&state.replicas, |elected| &elected.others);
    // Whose files are a follower's leads only where nobody else is there: else somebody promotes one of them.
    let has_followed = elected.is_none() && state.has_followed();
    let led_by = state.leader_url.iter().filter(|_| has_followed);
    let named = settings.replicas.iter().chain(known).chain(led_by);
    let mut urls: Vec<String> = named.filter(|other| *other != url).cloned().collect();
    urls.sort_unstable();
    urls.dedup();
    if urls.is_empty() {
        return Ok(());
    }
    let patience = if may_miss { PATIENCE } else { SHORT_PATIENCE };
    tracing::info!("asking {} replicas what they know, for at most {patience:?}", urls.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let promised = elected.map(|elected| elected.epoch);
    let begun = Instant::now();
    let taken = runtime.block_on(async {
        loop {
            let taken = ask_and_take(recovered, urls.clone(), patience, settings, (promised, has_followed)).await;
            let taken = taken.and_then(|()| elected.map_or(Ok(()), |elected| check_promised(recovered, elected)));
            // Those who have promised may be changing their role just now.
            let may_pass = matches!(taken, Err(NodeError::NotLeader(_)));
            if elected.is_none_or(|elected| elected.force) || !may_pass || begun.elapsed() > HAND_OVER_PATIENCE {
                return taken;
            }
            sleep(PAUSE).await;
        }
    });
    match taken {
        Err(NodeError::NotLeader(why)) if elected.is_some_and(|elected| elected.force) => {
            tracing::warn!("leading all the same, as it was forced: {why}");
            Ok(())
        }
        taken => taken,
    }
}

/// Who has promised, and could not be asked again, may have what is missing here.
fn check_promised(recovered: &Recovered, elected: &Elected) -> Result<(), NodeError> {
    let here = recovered.stands();
    lacks(elected.promised.iter().copied(), here).map_or(Ok(()), |most| {
        Err(NodeError::NotLeader(format!(
            "a node that has promised epoch {} was at {most}, this one is at {here}, and that node cannot be asked any more",
            elected.epoch
        )))
    })
}

async fn ask_and_take(
    recovered: &mut Recovered,
    urls: Vec<String>,
    patience: Duration,
    settings: &Settings,
    (promised, has_followed): (Option<Epoch>, bool),
) -> Result<(), NodeError> {
    let deadline = Instant::now() + patience;
    let links: Vec<(String, Link)> = urls
        .into_iter()
        .filter_map(|url| match Link::new(&url, settings.cluster_secret.clone()) {
            Ok(link) => Some((url, link)),
            Err(error) => {
                tracing::warn!(url, error, "a replica cannot be asked");
                None
            }
        })
        .collect();
    let question = question(recovered);
    let asked = join_all(links.iter().map(|(_, link)| ask(link, &question, deadline))).await;
    let (mut answered, mut hellos) = (Vec::new(), Vec::new());
    for (link, asked) in links.iter().zip(asked) {
        let url = &link.0;
        match asked {
            Asked::Hello(hello) => {
                answered.push(link);
                hellos.push(hello);
            }
            Asked::NotThere => tracing::info!("nothing listens at {url}: that replica is not asked"),
            Asked::Silent(why) => {
                tracing::warn!("replica {url} did not answer in time, and may have what is missing here: {why}");
            }
            Asked::Strange(why) if recovered.new => return Err(not_known(url, &why)),
            Asked::Strange(why) => tracing::warn!("replica {url} may have what is missing here, but {why}"),
        }
    }
    if recovered.new {
        let holds = hellos.iter().zip(&answered).find_map(|(hello, (url, _))| hello.database.map(|held| (held, url)));
        return match holds {
            None => Ok(()),
            Some((held, url)) => Err(NodeError::NotLeader(format!(
                "this directory is empty, and replica {url} holds database {held:032x}: give the right \
                 --data-dir, `memdb restore --from {url}`, or say --init to begin a new database"
            ))),
        };
    }
    let (database, epoch) = (recovered.manifest.identity.database_id, recovered.manifest.state.epoch);
    if has_followed {
        check_alone(database, &hellos, &answered)?;
    }
    match choose(&hellos, database, epoch, end(recovered), promised.unwrap_or(epoch)) {
        Choice::Nobody => Ok(()),
        Choice::HigherEpoch(at, seen) => {
            let url = &answered[at].0;
            let told = format!(
                "{url} has seen epoch {seen}, and the last one here was {epoch}: another leader has taken over, or these \
                 files are an old copy"
            );
            Err(NodeError::Succeeded { by: hellos[at].leads.then(|| url.clone()), told })
        }
        Choice::From(ahead) => {
            let having = ahead.into_iter().map(|at| Having {
                url: &answered[at].0,
                link: &answered[at].1,
                last: hellos[at].position.sequence,
            });
            take_all(recovered, &having.collect::<Vec<_>>()).await
        }
    }
}

/// Whose files are a follower's does not lead while another node of the database is there.
fn check_alone(database: u128, hellos: &[Hello], answered: &[&(String, Link)]) -> Result<(), NodeError> {
    let Some(at) = hellos.iter().position(|hello| hello.database == Some(database)) else { return Ok(()) };
    let by = hellos.iter().position(|hello| hello.leads).map(|at| answered[at].0.clone());
    let url = &answered[at].0;
    let told = format!("the files here are a follower's, and {url} is there: if nobody leads, promote one");
    Err(NodeError::Succeeded { by, told })
}

fn not_known(url: &str, why: &str) -> NodeError {
    NodeError::NotLeader(format!(
        "this directory is empty, and whether replica {url} holds a database cannot be told, because {why}: put that right, \
         take it from --replica, or say --init to begin a new database"
    ))
}

fn end(recovered: &Recovered) -> Sequence {
    recovered.store.mark().position.sequence
}

fn question(recovered: &Recovered) -> bytes::Bytes {
    let manifest = &recovered.manifest;
    Offer::ask(manifest.identity, manifest.state.epoch).encode_head().into()
}

/// Asks until there is an answer. That nothing listens is one too: such a replica is not there.
async fn ask(link: &Link, question: &bytes::Bytes, deadline: Instant) -> Asked {
    let mut why = "it does not answer".to_owned();
    loop {
        match timeout_at(deadline, link.offer(std::slice::from_ref(&question), CONNECT_TIMEOUT)).await {
            Err(_) => return Asked::Silent(why),
            Ok(Ok(answer)) => return Asked::Hello(answer.hello),
            Ok(Err(LinkError::NothingThere)) => return Asked::NotThere,
            Ok(Err(error)) if error.may_pass() => why = error.to_string(),
            Ok(Err(error)) => return Asked::Strange(error.to_string()),
        }
        sleep(PAUSE).await;
    }
}

/// A replica that has more than this log.
struct Having<'a> {
    url: &'a str,
    link: &'a Link,
    /// The last record it has.
    last: Sequence,
}

/// Takes all that these replicas have, from whoever gives it; they are ordered, who has the most is first.
async fn take_all(recovered: &mut Recovered, having: &[Having<'_>]) -> Result<(), NodeError> {
    let (before, wanted) = (end(recovered), having[0].last);
    let mut deadline = Instant::now() + PATIENCE;
    loop {
        let (begun, mut troubles) = (end(recovered), Vec::new());
        for replica in having {
            if let Some(why) = take(recovered, replica).await? {
                troubles.push(format!("{}: {why}", replica.url));
            }
        }
        let now = end(recovered);
        if now > begun {
            deadline = Instant::now() + PATIENCE;
        }
        if now >= wanted {
            tracing::warn!("took {} records back from replicas that this log had lost", now - before);
            return Ok(());
        }
        if Instant::now() >= deadline {
            let url = having[0].url;
            return Err(NodeError::NotLeader(format!(
                "the log here ends at record {now}, replica {url} has the records up to {wanted}, and they cannot be taken \
                 back ({}): start again once it gives them, or `memdb restore --from {url}` into an empty directory. To \
                 lead without those records, stop that replica first",
                troubles.join("; ")
            )));
        }
        sleep(PAUSE).await;
    }
}

/// Takes records from a replica until this log has what it has; tells why if it does not come to that.
async fn take(recovered: &mut Recovered, from: &Having<'_>) -> Result<Option<String>, NodeError> {
    let (identity, epoch) = (recovered.manifest.identity, recovered.manifest.state.epoch);
    while end(recovered) < from.last {
        let records = match from.link.records(recovered.store.mark().position).await {
            Ok(Some(records)) if records.is_empty() => return Ok(Some("it gives no more records".to_owned())),
            Ok(Some(records)) => records,
            Ok(None) => return Ok(Some("it no longer has the records in between".to_owned())),
            Err(error) => return Ok(Some(error.to_string())),
        };
        match extend(&mut recovered.store, &identity, epoch, &records) {
            // They are durable only once a snapshot has them.
            Ok(_) => recovered.report.clean = false,
            Err(ExtendError::Foreign(why)) => return Ok(Some(why)),
            // The state cannot be used any more; the files are as they were.
            Err(ExtendError::Diverged(why)) => {
                return Err(NodeError::Diverged(format!(
                    "what replica {} gives back does not lead to the counts that it states ({why}). To lead without those \
                     records, stop that replica first",
                    from.url
                )));
            }
        }
    }
    Ok(None)
}
