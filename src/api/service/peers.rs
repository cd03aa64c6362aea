//! Requests of other nodes, and of who promotes one: what this node answers them in its role.

use super::{RoleContext, Service};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits,
    base::position::{Epoch, PositionToken},
    engine::leader::Leader,
    engine::shard::ShardRole,
    net::write_forwarder::WriteForwarder,
    replication::{AppendAnswer, HistorySource, NodeState, PeerRegistry, SnapshotOffer, SnapshotUpload},
    storage::file_header::FileError,
};
use bytes::Bytes;
use std::sync::Arc;

/// The role that an append request is meant for, chosen before its body is read.
pub struct AppendReceiver(Arc<RoleContext>);

impl AppendReceiver {
    /// The most bytes of a request. A leader is asked, and takes no records.
    pub fn max_bytes(&self) -> usize {
        if self.0.leader().is_some() { limits::MAX_QUESTION_BYTES } else { limits::MAX_OFFER_BYTES }
    }
}

impl Service {
    /// Gives the role that takes append requests.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] on a local replica.
    pub async fn append_receiver(&self) -> Result<AppendReceiver, ApiError> {
        let role = self.settled_role().await;
        if role.shard.follows_files() {
            return Err(ApiError::new(ErrorKind::NotFound, "a local replica takes its records from files"));
        }
        Ok(AppendReceiver(role))
    }

    /// Hands over an append request of another node.
    ///
    /// # Errors
    /// [`ErrorKind::Stopping`] if nobody takes it.
    pub async fn append(&self, receiver: AppendReceiver, request: &Bytes) -> Result<AppendAnswer, ApiError> {
        let AppendReceiver(role) = receiver;
        let mut answer = role.shard.append(request.clone()).await;
        if answer.is_none() {
            // Its role may have ended before it came to this: then the next one answers.
            let next = self.settled_role().await;
            if !Arc::ptr_eq(&next, &role) {
                answer = next.shard.append(request.clone()).await;
            }
        }
        let none = || ApiError::new(ErrorKind::Stopping, "the node is stopping, or has more offers than it can take");
        answer.ok_or_else(none)
    }

    /// Has this replica lead; returns the epoch in which it will.
    ///
    /// # Errors
    /// [`ErrorKind::NotPromoted`] if it is no replica, or must not lead.
    pub async fn promote(&self, force: bool) -> Result<Epoch, ApiError> {
        let refused = |why: String| ApiError::new(ErrorKind::NotPromoted, why);
        let role = self.settled_role().await;
        let no_replica = || Err(format!("this is a {}: a replica that keeps files can be promoted", role.about.role));
        role.shard.promote(force).await.unwrap_or_else(no_replica).map_err(refused)
    }

    /// Wakes a local replica: there is something new in its leader's files. Nothing to anybody else.
    pub fn notify(&self) {
        self.look_at_role().shard.notify();
    }

    /// Gives the registry in which followers announce themselves.
    ///
    /// # Errors
    /// [`ErrorKind::NotLeader`] on a follower.
    pub async fn announcements(&self) -> Result<PeerRegistry, ApiError> {
        let role = self.settled_role().await;
        role.shard.registry().cloned().ok_or_else(|| self.not_leader("announcements are for the leader"))
    }

    /// Notes a follower that has announced itself; returns the database that it is to follow, once there is one.
    pub fn announce(&self, registry: &PeerRegistry, hello: NodeState) -> Option<u128> {
        registry.announce(hello);
        self.current().ok().map(|current| current.identity.database_id)
    }

    /// Opens the newest snapshot, as it is on disk; `None` if the log has everything.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] on a local replica, [`ErrorKind::NotReady`] while another node loads a snapshot,
    /// [`ErrorKind::Internal`] if the files cannot be read.
    pub async fn snapshot(&self) -> Result<Option<SnapshotUpload>, ApiError> {
        let history = self.history()?;
        match read_files(move || history.snapshot()).await? {
            SnapshotOffer::File(upload) => Ok(Some(upload)),
            SnapshotOffer::None => Ok(None),
            SnapshotOffer::Busy => {
                Err(ApiError::new(ErrorKind::NotReady, "another node is loading a snapshot; come again"))
            }
        }
    }

    /// Gives records behind a position, for a leader that has lost them; empty: there is none.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] on a local replica, [`ErrorKind::PositionOtherDatabase`] or [`ErrorKind::PositionLost`]
    /// if this node has no such records, [`ErrorKind::Internal`] if the files cannot be read.
    pub async fn records(&self, after: PositionToken) -> Result<Vec<Bytes>, ApiError> {
        let history = self.history()?;
        let (identity, last) = {
            let current = self.current()?;
            (current.identity, current.reader.read().position().sequence)
        };
        if after.database != identity.tag() {
            let detail = format!("{after} is of another database than this node's, {}", identity.tag());
            return Err(ApiError::new(ErrorKind::PositionOtherDatabase, detail));
        }
        let records = read_files(move || history.records(after.position.sequence, last, &identity)).await?;
        let lost = || ApiError::new(ErrorKind::PositionLost, format!("the records behind {after} are no longer here"));
        records.ok_or_else(lost)
    }

    /// Gives the Writer for the lines of a bulk body.
    ///
    /// # Errors
    /// [`ErrorKind::NotLeader`] on a follower. [`ErrorKind::OtherDatabase`] if its leader leads another database.
    pub async fn bulk_leader(&self) -> Result<Leader, ApiError> {
        let role = self.settled_role().await;
        role.leader().cloned().ok_or_else(|| self.bulk_refusal())
    }

    /// The other nodes that may answer a read, on a follower: its leader, then the replicas that it knows.
    pub fn read_peers(&self) -> Option<(WriteForwarder, Vec<String>)> {
        let role = self.look_at_role();
        let forward = role.forward()?;
        let others = match role.shard.role() {
            ShardRole::Replica { replica, .. } => replica.members().replicas.to_vec(),
            _ => Vec::new(),
        };
        let nodes: Vec<_> =
            forward.leader_of_own().into_iter().chain(others).filter(|url| *url != role.about.url).collect();
        Some((forward.clone(), nodes))
    }

    /// The way on which a follower passes bulk bodies on; none on a leader.
    ///
    /// # Errors
    /// [`ErrorKind::OtherDatabase`] if its leader leads another database.
    pub async fn bulk_forwarder(&self) -> Result<Option<WriteForwarder>, ApiError> {
        let role = self.settled_role().await;
        match self.leads_another() {
            Some(other) => Err(self.refused(other.as_refusal())),
            None => Ok(role.forward().cloned()),
        }
    }

    /// The answer to a bulk body that this node does not pass on.
    pub fn bulk_refusal(&self) -> ApiError {
        let role = self.role();
        let detail = match role.forward().and_then(WriteForwarder::leader_of_own) {
            Some(leader) => format!("this body is not passed on; send it to the leader, {leader}"),
            None => "this body is not passed on, and this node has not heard of a leader yet; send it there".to_owned(),
        };
        self.refused(self.not_leader(detail).with(serde_json::json!({ "taken": 0, "last_line": 0 })))
    }

    fn history(&self) -> Result<HistorySource, ApiError> {
        let none = || ApiError::new(ErrorKind::NotFound, "a local replica keeps no files of its own");
        self.look_at_role().shard.history().cloned().ok_or_else(none)
    }
}

/// Reads files beside the serving thread.
async fn read_files<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, ApiError> {
    let unreadable = |error: String| ApiError::new(ErrorKind::Internal, format!("the files cannot be read: {error}"));
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(|error| unreadable(error.to_string())),
        Err(died) => Err(unreadable(died.to_string())),
    }
}
