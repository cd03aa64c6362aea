//! A write on a follower: the leader is sent it as it came, and its answer is passed back.
//!
//! What may be sent twice needs a name, so a write without one gets a key here. Whether the write is sound is for the
//! leader to say: a follower may not even know the analyzer yet.

use super::{AcceptedWrite, Command, INLINE_TEXT_BYTES, Service, beside};
use crate::{
    api::error::{ApiError, BEHIND_A_PROXY, ErrorKind},
    base::limits::FORWARD_PATIENCE_MS,
    net::address_limits::{Line, Usage},
    net::write_forwarder::{ForwardError, ForwardedAnswer, OF_NO_DATABASE, OutgoingWrite, WriteForwarder},
    storage::file_header::DatabaseIdentity,
};
use std::{borrow::Cow, time::Duration};
use tokio::time::timeout;

/// A write as a protocol has received it: read into a command where it is applied, and sent on as it came elsewhere.
pub trait WriteRequest: Send + 'static {
    /// Bytes that are gone through to read it: many are, beside the serving thread.
    fn size(&self) -> usize;

    /// Reads it, to be applied to the database with this identity.
    ///
    /// # Errors
    /// If it cannot be read, or makes no sense.
    fn command(&self, identity: &DatabaseIdentity) -> Result<Command<'_>, ApiError>;

    /// Returns whether the client has named it, so that it may be sent again. Half a name is one too: the leader
    /// refuses that.
    fn is_named(&self) -> bool;

    /// Checks that it can be sent on at all.
    ///
    /// # Errors
    /// If it cannot.
    fn check_forwardable(&self) -> Result<(), ApiError> {
        Ok(())
    }

    /// The write as it is sent on, with the name that its client has given it, if any.
    fn outgoing(&self) -> OutgoingWrite;
}

/// The answer of a leader to a write that it was sent from here.
pub struct LeaderAnswer {
    /// The answer, a refusal too.
    pub answer: ForwardedAnswer,
    /// It was sent under a key made here: that it repeats another is nothing to the client, who has sent it once.
    pub under_made_key: bool,
}

/// The outcome of a write.
pub enum WriteOutcome {
    /// It was applied here.
    Accepted(AcceptedWrite),
    /// The leader has answered it.
    FromLeader(LeaderAnswer),
}

impl Service {
    /// Passes a write on to the leader. One hop at most.
    pub(super) async fn pass_on<W: WriteRequest>(
        &self,
        leader: &WriteForwarder,
        request: W,
        stated: Option<&str>,
        usage: &Usage,
    ) -> Result<LeaderAnswer, ApiError> {
        if stated.is_some() {
            let detail = "this node follows a leader, and the write has come by way of another follower already: give that \
                          one the leader itself as its --leader";
            return Err(self.refused(self.not_leader(detail)));
        }
        if let Some(other) = self.leads_another() {
            return Err(self.refused(other.as_refusal()));
        }
        request.check_forwardable()?;
        let (is_named, request) = match request.size() <= INLINE_TEXT_BYTES {
            true => (request.is_named(), request),
            false => beside(usage, move || Ok((request.is_named(), request))).await?,
        };
        let key = if is_named { None } else { Some(make_key(leader)?) };
        let patience = Duration::from_millis(FORWARD_PATIENCE_MS);
        let waited = timeout(patience, usage.turn(Line::ForwardedWrites)).await;
        let _turn = waited.map_err(|_| self.refused(ApiError::new(ErrorKind::LeaderAway, too_many_of_address())))?;
        // The request is held until then: its part of the budget of bodies is with it.
        match leader.write(&request.outgoing(), key.clone(), &self.metrics.forwarded).await {
            Ok(answer) => {
                self.metrics.forwarded.answered.inc();
                Ok(LeaderAnswer { answer, under_made_key: key.is_some() })
            }
            Err(error) => Err(self.refused(not_forwarded(&error, key.as_deref()))),
        }
    }

    /// A follower may not know yet that its leader's place is taken by the leader of another database, so what it
    /// passes on is refused here.
    ///
    /// # Errors
    /// [`ErrorKind::OtherDatabase`] if it states another database than this one.
    pub fn check_meant(&self, stated: Option<&str>) -> Result<(), ApiError> {
        let Some(stated) = stated else { return Ok(()) };
        let identity = self.current()?.identity;
        if is_meant(stated, &identity) {
            return Ok(());
        }
        Err(self.refused(ApiError::other_database(identity.database_id, stated)))
    }

    /// The answer of a follower that is taken for the leader: 421, with the leader's URL and the database that this
    /// node holds, as far as they are known. Nobody is sent to the leader of another database: 503 then.
    pub fn not_leader(&self, detail: impl Into<Cow<'static, str>>) -> ApiError {
        if let Some(other) = self.leads_another() {
            return other.as_refusal();
        }
        let role = self.look_at_role();
        let leader = role.forward().and_then(WriteForwarder::leader_of_own);
        let problem = ApiError::new(ErrorKind::NotLeader, detail).with(serde_json::json!({ "leader": leader }));
        match role.forward().and_then(WriteForwarder::held) {
            // The node that is named may lead another meanwhile: whoever goes there can say which is meant.
            Some(held) => problem.with(serde_json::json!({ "database": format!("{held:032x}") })),
            None => problem,
        }
    }

    /// On a follower: the leader of another database, if its leader is known to be that.
    pub(super) fn leads_another(&self) -> Option<ForeignLeader> {
        let role = self.look_at_role();
        let forward = role.forward()?;
        let (leads, held) = (forward.other_database()?, forward.held()?);
        Some(ForeignLeader { url: forward.leader()?, leads, held })
    }
}

/// The leader of a follower, which leads another database than the follower's own.
pub(super) struct ForeignLeader {
    url: String,
    leads: u128,
    held: u128,
}

impl ForeignLeader {
    /// The refusal of a request that the leader would have to take.
    pub(super) fn as_refusal(&self) -> ApiError {
        ApiError::other_database(self.leads, format_args!("{:032x}", self.held))
    }

    /// The reason why the follower is not ready.
    pub(super) fn as_state(&self) -> ApiError {
        let Self { url, leads, held } = self;
        self.as_refusal().saying(format!(
            "its leader, {url}, leads database {leads:032x}, and this node holds database {held:032x}: it serves what it \
             has, and passes no write on. Give it the leader of its own database, or another --data-dir"
        ))
    }
}

/// Returns whether a write that a follower has passed on, and that states this database, is meant for the one with
/// this identity.
pub fn is_meant(stated: &str, identity: &DatabaseIdentity) -> bool {
    stated == OF_NO_DATABASE || u128::from_str_radix(stated, 16) == Ok(identity.database_id)
}

fn too_many_of_address() -> String {
    format!(
        "the writes of this address that are on their way to the leader are as many as one may have there; nothing was \
         applied: send it again later, or to the leader itself; {BEHIND_A_PROXY}"
    )
}

fn make_key(leader: &WriteForwarder) -> Result<String, ApiError> {
    let failed =
        |error| ApiError::new(ErrorKind::Internal, format!("no key could be made: {error}; nothing was applied"));
    leader.make_key().map_err(failed)
}

fn not_forwarded(error: &ForwardError, made: Option<&str>) -> ApiError {
    match error {
        ForwardError::Away(_) => {
            let detail = format!("{error}; nothing was applied: send it again later");
            ApiError::new(ErrorKind::LeaderAway, detail)
        }
        ForwardError::Unknown(_) => {
            let repeat = match made {
                Some(key) => format!("with Idempotency-Key: {key}, under which it was passed on"),
                None => "under the same name".to_owned(),
            };
            let detail = format!("{error}; it may be applied: send it again {repeat}, and it counts once");
            ApiError::new(ErrorKind::OutcomeUnknown, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_that_may_be_applied_is_told_to_be_repeated_under_its_key() {
        let away = not_forwarded(&ForwardError::Away("x".into()), Some("made"));
        assert_eq!(away.kind(), ErrorKind::LeaderAway);
        assert!(!away.redis_text().contains("made"), "{away:?}");
        let unknown = not_forwarded(&ForwardError::Unknown("x".into()), Some("made"));
        assert_eq!(unknown.kind(), ErrorKind::OutcomeUnknown);
        assert!(unknown.redis_text().contains("Idempotency-Key: made"), "{unknown:?}");
    }
}
