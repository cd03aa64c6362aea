//! A replica that is to lead: asks the nodes it knows, and has them promise it an epoch.

use super::random;
use crate::{
    failpoint,
    position::{Epoch, Position},
    replica::Follower,
    replication::{
        Answer, Asked, Hello, NodeId, Offer, candidacy, has_promised,
        link::{CONNECT_TIMEOUT, Link},
    },
    secret::Secret,
};
use bytes::Bytes;
use futures::future::join_all;

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
    /// Where those stood who have promised it.
    pub(super) promised: Vec<Position>,
    /// Whether it leads also without records that others may have.
    pub(super) force: bool,
}

impl Candidate<'_> {
    /// Asks everybody, and has everybody promise.
    ///
    /// # Errors
    /// Why it may not lead, for a person. It is a replica as before then.
    pub(super) async fn stand(&self, force: bool) -> Result<Elected, String> {
        let identity = self.follower.view().current().as_ref().map(|current| current.identity);
        let identity = identity.ok_or("this replica holds no database yet: wait until it is ready")?;
        let (others, leader) = self.others();
        let links: Vec<Link> =
            others.iter().map(|url| Link::new(url, self.secret.clone())).collect::<Result<_, String>>()?;
        let mut why = String::new();
        for _ in 0..ROUNDS {
            let me = self.own(Offer::ask(identity, 0)).await?.hello;
            let answers = exchange(&links, Offer::ask(identity, me.epoch)).await;
            let hello =
                |answer: Option<Answer>| answer.map(|answer| answer.hello).filter(|hello| hello.node != me.node);
            let asked = answers.into_iter().zip(&others).map(|(answer, url)| {
                let hello = hello(answer);
                let is_leader = Some(url) == leader.as_ref() || hello.as_ref().is_some_and(|hello| hello.leads);
                Asked { url: url.clone(), is_leader, hello }
            });
            let asked: Vec<Asked> = asked.collect();
            let drawn = random().map_err(|error| error.to_string())? as u64;
            let epoch = candidacy(&me, &asked, force, drawn).map_err(|refusal| refusal.to_string())?;
            match self.collect(identity, epoch, &me, &links, &asked).await? {
                Ok(promised) => {
                    failpoint::pass("promote.elected");
                    tracing::warn!(epoch, force, "this replica is about to lead");
                    return Ok(Elected { epoch, node: self.node, others, promised, force });
                }
                Err(trouble) => why = trouble,
            }
        }
        Err(format!("{why}; try again"))
    }

    /// Collects promises, first of all its own. Gives where those stood who have promised, or what went wrong, if another
    /// round may go better.
    async fn collect(
        &self,
        identity: crate::format::Identity,
        epoch: Epoch,
        me: &Hello,
        links: &[Link],
        asked: &[Asked],
    ) -> Result<Result<Vec<Position>, String>, String> {
        let promise = Offer::promise(identity, epoch, self.node, self.url);
        if !has_promised(&self.own(promise.clone()).await?, epoch) {
            return Err(format!("this replica, which is at {}, has promised a later epoch to another", me.position));
        }
        let answers = exchange(links, promise).await;
        let failed = answers.iter().zip(asked).find_map(|(answer, asked)| match answer {
            Some(answer) if has_promised(answer, epoch) => None,
            Some(answer) if answer.hello.database != me.database => None,
            Some(answer) => Some(format!("{} does not promise epoch {epoch}: {:?}", asked.url, answer.outcome)),
            // Who was silent before was reckoned with.
            None if asked.hello.is_none() => None,
            None => Some(format!("{} has not answered when it was to promise epoch {epoch}", asked.url)),
        });
        let ours = answers.iter().flatten().filter(|answer| answer.hello.database == me.database);
        Ok(failed.map_or_else(|| Ok(ours.map(|answer| answer.hello.position).collect()), Err))
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

async fn exchange(links: &[Link], offer: Offer<'_>) -> Vec<Option<Answer>> {
    let question = Bytes::from(offer.encode_head());
    let asked = links.iter().map(|link| async {
        let answer = link.offer(vec![question.clone()], CONNECT_TIMEOUT).await;
        answer.inspect_err(|error| tracing::warn!(url = link.base(), %error, "does not answer")).ok()
    });
    join_all(asked).await
}
