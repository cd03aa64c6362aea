//! The health of the node: whether it serves current data, and takes writes.

use super::{RoleContext, Service};
use crate::{
    api::error::{ApiError, ErrorKind},
    engine::leader::{WriteError, WriterStatus},
    engine::shard::ShardRole,
    net::write_forwarder::WriteForwarder,
    replication::{PeerRegistry, PeerStatus},
};
use std::borrow::Cow;

/// The part of a node's status that depends on its role.
#[derive(Debug, Default)]
pub struct RoleStatus {
    /// On a leader: its Writer.
    pub writer: Option<WriterStatus>,
    /// On a leader: its followers.
    pub replicas: Option<Vec<PeerStatus>>,
    /// On a leader that has not begun its epoch: the reason.
    pub no_room: Option<String>,
    /// On a follower: its leader's URL, if that is known.
    pub leader: Option<String>,
    /// On a replica: the number of others that it would ask before it led.
    pub replicas_known: Option<usize>,
}

impl RoleContext {
    /// The status of this role.
    pub(in crate::api) fn status(&self) -> RoleStatus {
        let leader = self.forward().and_then(WriteForwarder::leader_of_own);
        match self.shard.role() {
            ShardRole::Leader { leader, registry, .. } => RoleStatus {
                writer: Some(leader.status()),
                replicas: Some(registry.statuses()),
                no_room: leader.no_room(),
                ..RoleStatus::default()
            },
            ShardRole::Replica { replica, .. } => {
                let replicas_known = Some(replica.members().replicas.len());
                RoleStatus { leader, replicas_known, ..RoleStatus::default() }
            }
            ShardRole::FileFollower { .. } => RoleStatus { leader, ..RoleStatus::default() },
        }
    }
}

impl Service {
    /// Gives the state of each replica, on a leader.
    pub fn replicas(&self) -> Option<Vec<PeerStatus>> {
        self.look_at_role().shard.registry().map(PeerRegistry::statuses)
    }

    /// Returns whether [`Service::check_ready`] succeeds.
    pub fn is_ready(&self) -> bool {
        self.check_ready().is_ok()
    }

    /// On a follower: the database that its leader leads, if that is known and another than this node's.
    pub fn other_database(&self) -> Option<u128> {
        self.look_at_role().other_database()
    }

    /// Checks that this node serves current data, and that a follower follows its own database. Whatever tells that
    /// the node is ready asks this.
    ///
    /// # Errors
    /// If it does not, with what is missing.
    pub fn check_ready(&self) -> Result<(), ApiError> {
        if let Some(other) = self.leads_another() {
            return Err(other.as_state());
        }
        if self.view.is_ready() {
            return Ok(());
        }
        Err(ApiError::new(ErrorKind::NotReady, self.what_is_missing()))
    }

    /// Checks that writes are taken here, for load balancers.
    ///
    /// # Errors
    /// On a follower, which names its leader; on a leader that refuses writes, with its reason.
    pub fn check_leading(&self) -> Result<(), ApiError> {
        let role = self.role();
        let Some(leader) = role.leader() else {
            if let Some(other) = self.leads_another() {
                return Err(other.as_state());
            }
            let leader = role.forward().and_then(WriteForwarder::leader_of_own);
            let detail = match &leader {
                Some(leader) => format!("this node follows {leader}, which takes the writes"),
                None => "this node follows a leader whose address it does not know yet".to_owned(),
            };
            return Err(ApiError::new(ErrorKind::NotLeading, detail).with(serde_json::json!({ "leader": leader })));
        };
        if let Some(error) = leader.refusal() {
            let database = self.current()?.identity.tag();
            let detail = match leader.no_room() {
                Some(why) if error == WriteError::DiskFull => {
                    format!("this leader begins once its disk has room: {why}")
                }
                _ => error.to_string(),
            };
            return Err(ApiError::of_write(&error, database).saying(detail));
        }
        self.check_ready()
    }

    fn what_is_missing(&self) -> Cow<'static, str> {
        let role = self.role();
        if let Some(problem) = self.view.files_problem() {
            return match role.shard.role() {
                ShardRole::Leader { .. } => {
                    format!("{problem}; save the counts (GET /sync) or promote a replica, then restart")
                }
                ShardRole::Replica { .. } => {
                    format!("{problem}; it follows its leader in memory alone until it is restarted")
                }
                ShardRole::FileFollower { .. } => problem,
            }
            .into();
        }
        let Some(forward) = role.forward() else { return "the leader is starting or stopping; ask again".into() };
        let leader = match forward.leader() {
            Some(url) => format!("its leader, {url}"),
            None => "its leader, whose address it does not know yet".to_owned(),
        };
        match self.current() {
            Ok(current) => format!(
                "the node is at {}, and has not heard from {leader}, whether that is all; or it is stopping",
                current.identity.token(current.reader.read().position())
            ),
            Err(_) => format!("the node has no counts yet that are right: it waits for {leader}"),
        }
        .into()
    }
}
