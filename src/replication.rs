//! Replication: how the records of a leader reach its replicas, and what is known of each.
//!
//! The leader pushes. For each replica it has a [`PeerReplication`], which keeps one [`AppendRequest`] in flight:
//! records byte for byte as they are in the log, or none as a heartbeat. Each [`AppendAnswer`] carries a [`NodeState`],
//! in which the replica says where it stands; [`classify_follower`] decides what follows from it. Records come from the
//! [`ReplicationBacklog`] in memory, then from the log ([`PeerCatchUp`]); a replica that neither can serve loads a
//! snapshot.
//!
//! Everything here is a state machine or plain data, so that the simulation runs it; `net/peer_link.rs` carries the
//! messages. `docs/replication.md` has the table of them.

mod ack_progress;
mod backlog;
mod catch_up;
mod discovery;
mod follower_check;
mod forward_plan;
mod history_source;
mod message;
mod peer;
mod promotion;
mod promotion_check;
mod registry;
mod tail_plan;
mod tail_recovery;

pub use ack_progress::{AckProgress, PeerIndex, PeerProgress};
pub use backlog::{BacklogRead, ReplicationBacklog};
pub use catch_up::{CatchUpRecords, PeerCatchUp};
pub use discovery::{AnnounceResult, LeaderDiscovery};
pub use follower_check::{CatchUpPlan, LeaderState, classify_follower};
pub use forward_plan::{ForwardPlan, ForwardStep, TryResult};
pub use history_source::{HistorySource, SnapshotOffer, SnapshotUpload};
pub use message::{
    AppendAnswer, AppendCommand, AppendOutcome, AppendRequest, ClusterMembers, HELLO_TYPE, NodeId, NodeState,
    RECORDS_TYPE, SNAPSHOT_TYPE,
};
pub use peer::{NextSend, PeerEvent, PeerReplication, PeerStatus};
pub use promotion::{ElectedLeader, Promotion, PromotionAction, PromotionCandidate};
pub use promotion_check::{
    PolledNode, PromotionRefusal, check_promotion, has_promised, may_skip_promise, missing_tail,
};
pub use registry::PeerRegistry;
pub use tail_plan::{AppendTailError, TailRecoveryPlan, append_tail, plan};
pub use tail_recovery::{ProbeError, StartingNode, TailAction, TailRecovery, TailRefusal, leads_at_start};
