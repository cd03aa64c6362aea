//! A replica that is to lead: asks the nodes it knows, and has them promise it an epoch.

use super::random;
use crate::{
    failpoint,
    format::Identity,
    position::{Epoch, Position},
    replica::Follower,
    replication::{
        Answer, Asked, Hello, NodeId, Offer, candidacy, has_promised, holds_nothing,
        link::{CONNECT_TIMEOUT, Link},
    },
    secret::Secret,
};
use bytes::Bytes;
use futures::future::join_all;
use std::time::Duration;

/// Patience for a promise: it is synced.
const PROMISE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a person has to know when some have promised and others not.
const NOBODY_LEADS: &str = "Nobody may be leading now: try again, here or at another replica that keeps files";
/// Rounds of promises before it is given up: each takes a later epoch.
const ROUNDS: usize = 3;

/// A replica that asks to lead.
pub(super) struct Candidate<'a> {
    pub(super) follower: &'a Follower,
    /// This run of it.
    pub(super) node: NodeId,
    /// Where it can be reached.
    pub(super) url: &'a str,
    /// The leader that its settings name.
    pub(super) leader: Option<&'a str>,
    pub(super) secret: Option<Secret>,
}

/// It may lead: what the others have promised it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elected {
    pub(super) epoch: Epoch,
    /// The run of the node that they have promised it to.
    pub(super) node: NodeId,
    /// All other nodes it knows.
    pub(super) others: Vec<String>,
    /// Where all stood who have answered, when they were asked and when they promised.
    pub(super) promised: Vec<Position>,
    /// Whether it leads also without records that others may have.
    pub(super) force: bool,
}

impl Candidate<'_> {
    /// Asks everybody, and has everybody promise.
    ///
    /// # Errors
    /// Why it may not lead, for a person. It is a replica as before then; where others have promised already, it says that
    /// nobody may be leading.
    pub(super) async fn stand(&self, force: bool) -> Result<Elected, String> {
        let identity = self.follower.view().current().as_ref().map(|current| current.identity);
        let identity = identity.ok_or("this replica holds no database yet: wait until it is ready")?;
        let (others, leader) = self.others();
        let links: Vec<Link> =
            others.iter().map(|url| Link::new(url, self.secret.clone())).collect::<Result<_, String>>()?;
        let (mut why, mut seen) = (String::new(), Vec::new());
        for round in 0..ROUNDS {
            let me = self.own(Offer::ask(identity, 0)).await?.hello;
            if !force && self.is_behind() {
                return Err("this replica has not got all records of earlier epochs yet: wait until it is ready".into());
            }
            let answers = exchange(&links, Offer::ask(identity, me.epoch), CONNECT_TIMEOUT).await;
            // One of the addresses may be its own.
            let answers = answers.into_iter().zip(&others);
            let answers =
                answers.filter(|(answer, _)| answer.as_ref().is_none_or(|answer| answer.hello.node != me.node));
            let asked = answers.map(|(answer, url)| {
                let hello = answer.map(|answer| answer.hello);
                let is_leader = Some(url) == leader.as_ref() || hello.as_ref().is_some_and(|hello| hello.leads);
                Asked { url: url.clone(), is_leader, hello }
            });
            let asked: Vec<Asked> = asked.collect();
            let drawn = random().map_err(|error| error.to_string())? as u64;
            let epoch = match candidacy(&me, &asked, force, drawn) {
                Err(refusal) if round == 0 => return Err(refusal.to_string()),
                Err(refusal) => return Err(format!("{refusal}. {NOBODY_LEADS}")),
                Ok(epoch) => epoch,
            };
            note(&mut seen, &me, asked.iter().filter_map(|asked| asked.hello.as_ref()));
            match self.collect(identity, epoch, &me, &asked, &mut seen).await? {
                Ok(()) => {
                    failpoint::pass("promote.elected");
                    tracing::warn!(epoch, force, "this replica is about to lead");
                    return Ok(Elected { epoch, node: self.node, others, promised: seen, force });
                }
                Err(trouble) => why = trouble,
            }
        }
        Err(format!("{why}. {NOBODY_LEADS}"))
    }

    /// Collects promises, and notes where those stand who answer. Tells what went wrong, if another round may go better.
    ///
    /// A leader first: it hears of it here, and says where it ends, and not from its replicas when they no longer follow it.
    async fn collect(
        &self,
        identity: Identity,
        epoch: Epoch,
        me: &Hello,
        asked: &[Asked],
        seen: &mut Vec<Position>,
    ) -> Result<Result<(), String>, String> {
        let promise = Offer::promise(identity, epoch, self.node, self.url);
        let leads = |asked: &&Asked| asked.hello.as_ref().is_some_and(|hello| hello.leads);
        let (leaders, others): (Vec<&Asked>, Vec<&Asked>) = asked.iter().partition(leads);
        if let Err(trouble) = self.promised_by(&leaders, promise.clone(), me, seen).await {
            return Ok(Err(trouble));
        }
        let own = self.own(promise.clone()).await?;
        if !has_promised(&own, epoch) {
            return Err(format!("this replica, which is at {}, has promised a later epoch to another", me.position));
        }
        note(seen, me, [&own.hello]);
        Ok(self.promised_by(&others, promise, me, seen).await)
    }

    /// Has these promise; tells who does not. Who was silent before was reckoned with.
    async fn promised_by(
        &self,
        nodes: &[&Asked],
        promise: Offer<'_>,
        me: &Hello,
        seen: &mut Vec<Position>,
    ) -> Result<(), String> {
        let epoch = promise.epoch;
        let links = nodes.iter().map(|asked| Link::new(&asked.url, self.secret.clone()));
        let links: Vec<Link> = links.collect::<Result<_, String>>()?;
        let answers = exchange(&links, promise, PROMISE_TIMEOUT).await;
        note(seen, me, answers.iter().flatten().map(|answer| &answer.hello));
        for (answer, asked) in answers.iter().zip(nodes) {
            match answer {
                Some(answer) if has_promised(answer, epoch) || holds_nothing(answer, me) => {}
                Some(answer) => {
                    return Err(format!("{} does not promise epoch {epoch}: {:?}", asked.url, answer.outcome));
                }
                None if asked.hello.is_none() => {}
                None => return Err(format!("{} has not answered when it was to promise epoch {epoch}", asked.url)),
            }
        }
        Ok(())
    }

    /// Whether it knows that the epoch in which it stands has ended.
    fn is_behind(&self) -> bool {
        let current = self.follower.view().current();
        current.as_ref().is_some_and(|current| {
            let here = current.reader.read().position();
            current.epochs.ended().last().is_some_and(|ended| ended.epoch >= here.epoch)
        })
    }

    /// What this replica itself says to an offer.
    async fn own(&self, offer: Offer<'_>) -> Result<Answer, String> {
        let answer = self.follower.offer(offer.encode_head().into()).await;
        answer.ok_or_else(|| "this replica is stopping".to_owned())
    }

    /// The other nodes it knows, and which of them leads.
    fn others(&self) -> (Vec<String>, Option<String>) {
        let members = self.follower.members();
        let leader = Some(members.leader).filter(|url| !url.is_empty()).or(self.leader.map(str::to_owned));
        let mut others: Vec<String> = Vec::new();
        for url in leader.iter().cloned().chain(self.leader.map(str::to_owned)).chain(members.replicas) {
            if url != self.url && !others.contains(&url) {
                others.push(url);
            }
        }
        (others, leader)
    }
}

/// Notes where nodes of the same database stand.
fn note<'a>(seen: &mut Vec<Position>, me: &Hello, hellos: impl IntoIterator<Item = &'a Hello>) {
    seen.extend(hellos.into_iter().filter(|hello| hello.database == me.database).map(|hello| hello.position));
}

async fn exchange(links: &[Link], offer: Offer<'_>, patience: Duration) -> Vec<Option<Answer>> {
    let question = Bytes::from(offer.encode_head());
    let asked = links.iter().map(|link| async {
        let answer = link.offer(std::slice::from_ref(&question), patience).await;
        answer.inspect_err(|error| tracing::warn!(url = link.base(), %error, "does not answer")).ok()
    });
    join_all(asked).await
}
