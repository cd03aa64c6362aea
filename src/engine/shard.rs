//! One database at this node: what is served of it, and the node's role for it.
//!
//! A node has one shard today. Several will stand beside each other, each with a role of its own, so nothing here is
//! shared by all of a process.

use super::{
    leader::{Leader, SharedFetches},
    replica::ReplicaHandle,
    view::DatabaseView,
};
use crate::{
    base::position::Epoch,
    replication::{AppendAnswer, HistorySource, PeerRegistry},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Notify;

/// The role of a node for one shard, as the way to what runs it.
#[derive(Clone)]
pub enum ShardRole {
    /// It takes writes, and sends its records to replicas.
    Leader {
        /// The way to its Writer.
        leader: Leader,
        /// Its followers.
        registry: PeerRegistry,
        /// The source of snapshots and records for followers.
        history: HistorySource,
        /// The values that it fetches from the origin.
        fetches: Arc<SharedFetches>,
    },
    /// It applies what its leader sends.
    Replica {
        /// The way to its thread.
        replica: ReplicaHandle,
        /// The source of records for a leader that has lost its newest ones.
        history: HistorySource,
    },
    /// It follows its leader's files.
    FileFollower {
        /// Told when the leader gives notice.
        notice: Arc<Notify>,
    },
}

/// A shard in one role. Cheap to clone: each serving thread has one of its own, so that reference counts stay on one
/// core.
#[derive(Clone)]
pub struct Shard {
    view: Arc<DatabaseView>,
    role: ShardRole,
}

impl Shard {
    /// The shard that `view` serves. The view outlives the role, and the shard in its next role has the same one.
    pub fn new(view: Arc<DatabaseView>, role: ShardRole) -> Self {
        Self { view, role }
    }

    /// Gives what reads are answered from.
    pub fn view(&self) -> &Arc<DatabaseView> {
        &self.view
    }

    /// Gives the role.
    pub fn role(&self) -> &ShardRole {
        &self.role
    }

    /// Returns whether records come from files.
    pub fn follows_files(&self) -> bool {
        matches!(self.role, ShardRole::FileFollower { .. })
    }

    /// Gives the way to the Writer, on a leader.
    pub fn leader(&self) -> Option<&Leader> {
        match &self.role {
            ShardRole::Leader { leader, .. } => Some(leader),
            ShardRole::Replica { .. } | ShardRole::FileFollower { .. } => None,
        }
    }

    /// Gives the values that are being fetched from the origin, on a leader.
    pub fn fetches(&self) -> Option<&Arc<SharedFetches>> {
        match &self.role {
            ShardRole::Leader { fetches, .. } => Some(fetches),
            ShardRole::Replica { .. } | ShardRole::FileFollower { .. } => None,
        }
    }

    /// Gives the followers, on a leader.
    pub fn registry(&self) -> Option<&PeerRegistry> {
        match &self.role {
            ShardRole::Leader { registry, .. } => Some(registry),
            ShardRole::Replica { .. } | ShardRole::FileFollower { .. } => None,
        }
    }

    /// Gives the source of snapshots and records for other nodes; a file follower has none.
    pub fn history(&self) -> Option<&HistorySource> {
        match &self.role {
            ShardRole::Leader { history, .. } | ShardRole::Replica { history, .. } => Some(history),
            ShardRole::FileFollower { .. } => None,
        }
    }

    /// Hands over an append request of another node; `None` if nobody takes it, because the thread of this role is gone
    /// or busy.
    pub async fn append(&self, request: Bytes) -> Option<AppendAnswer> {
        match &self.role {
            ShardRole::Leader { leader, .. } => leader.append(request).await,
            ShardRole::Replica { replica, .. } => replica.append(request).await,
            ShardRole::FileFollower { .. } => None,
        }
    }

    /// Has a replica lead, and returns the epoch in which it will; `None` if it is none.
    ///
    /// # Errors
    /// The reason why it must not lead, for a person.
    pub async fn promote(&self, force: bool) -> Option<Result<Epoch, String>> {
        let ShardRole::Replica { replica, .. } = &self.role else { return None };
        let answer = replica.promote(force).await;
        Some(answer.unwrap_or_else(|| Err("another has asked for that already".to_owned())))
    }

    /// Wakes a file follower: there is something new in the files. Nothing to any other role.
    pub fn notify(&self) {
        if let ShardRole::FileFollower { notice } = &self.role {
            notice.notify_one();
        }
    }
}
