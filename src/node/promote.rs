//! A replica that is to lead: carries out what its [`Promotion`] wants done.

use super::machine::random;
use crate::{
    base::failpoint,
    engine::replica::ReplicaHandle,
    net::{peer_credentials::PeerCredentials, peer_link::PeerLink},
    replication::{AppendAnswer, ElectedLeader, Promotion, PromotionAction, PromotionCandidate},
};
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::time::Duration;

/// An answer with its sender: the node at a URL, or the candidate's own replica.
type PromotionReport = (Option<String>, Option<AppendAnswer>);

/// Asks everybody, and has everybody promise.
///
/// # Errors
/// The reason why it does not lead, for a person. The node is a replica as before then; where others have promised
/// already, the text says that nobody may be leading.
pub(super) async fn promote(
    follower: &ReplicaHandle,
    candidate: PromotionCandidate,
    credentials: &PeerCredentials,
) -> Result<ElectedLeader, String> {
    let mut promotion = Promotion::new(candidate);
    let mut under_way: FuturesUnordered<BoxFuture<'_, PromotionReport>> = FuturesUnordered::new();
    loop {
        let drawn = random().map_err(|error| error.to_string())? as u64;
        match promotion.poll(drawn) {
            PromotionAction::AskItself(offer) => {
                under_way.push(Box::pin(async { (None, follower.append(offer).await) }));
            }
            PromotionAction::Ask(url, offer, patience_ms) => {
                let patience = Duration::from_millis(patience_ms);
                under_way.push(Box::pin(ask(url, offer, patience, credentials)));
            }
            PromotionAction::Wait => match under_way.next().await {
                Some((Some(url), answer)) => promotion.answered(&url, answer),
                Some((None, answer)) => {
                    let current = follower.view().current();
                    let ended = current.as_ref().and_then(|current| current.reader.epochs().ended().last().copied());
                    promotion.answered_itself(answer, ended);
                }
                None => unreachable!("it waits for what was asked"),
            },
            PromotionAction::Elected(elected) => {
                failpoint::pass("promote.elected");
                tracing::warn!(epoch = elected.epoch, force = elected.force, "this replica is about to lead");
                return Ok(elected);
            }
            PromotionAction::Refused(why) => return Err(why),
        }
    }
}

async fn ask(url: String, offer: Bytes, patience: Duration, credentials: &PeerCredentials) -> PromotionReport {
    let answer = match PeerLink::new(&url, credentials) {
        Ok(link) => link.append(&[offer], patience).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    let answer = answer.inspect_err(|error| tracing::warn!(url, error, "does not answer")).ok();
    (Some(url), answer)
}
