//! Replication: how the records of a leader reach its replicas, and what is known of each.
//!
//! The leader pushes. For each replica it has a [`PeerReplication`], which keeps one [`AppendRequest`] in flight: records byte for byte
//! as they are in the log, or none as a heartbeat. Each [`AppendAnswer`] carries a [`NodeState`], in which the replica says where
//! it stands; [`mod@judge`] decides what follows from it. Records come from the [`ReplicationBacklog`] in memory, then from the log
//! ([`PeerCatchUp`]); a replica that neither can serve loads a snapshot.
//!
//! Everything but [`link`] is a state machine or plain data, so that the simulation runs it. `docs/replication.md` has
//! the table of messages.

mod history_source;
mod promotion_check;
mod catch_up;
mod discovery;
mod backlog;
mod follower_check;
pub mod peer_link;
mod message;
mod ack_progress;
mod promotion;
mod registry;
mod peer;
mod tail_recovery;
mod tail_plan;

pub use history_source::{HistorySource, SnapshotUpload, SnapshotOffer};
pub use promotion_check::{PolledNode, PromotionRefusal, check_promotion, has_promised, may_skip_promise, missing_tail};
pub use catch_up::{PeerCatchUp, CatchUpRecords};
pub use discovery::{AnnounceResult, LeaderDiscovery};
pub use backlog::{ReplicationBacklog, BacklogRead};
pub use follower_check::{LeaderState, CatchUpPlan, classify_follower};
pub use message::{AppendAnswer, AppendCommand, HELLO_TYPE, NodeState, ClusterMembers, NodeId, AppendRequest, AppendOutcome, RECORDS_TYPE, SNAPSHOT_TYPE};
pub use ack_progress::{PeerIndex, AckProgress, PeerProgress};
pub use promotion::{PromotionCandidate, ElectedLeader, Promotion, PromotionAction};
pub use registry::PeerRegistry;
pub use peer::{PeerReplication, PeerStatus, PeerEvent, NextSend, retry_most_ms};
pub use tail_recovery::{ProbeError, StartingNode, TailAction, TailRecovery, TailRefusal, leads_at_start};
pub use tail_plan::{TailRecoveryPlan, AppendTailError, plan, append_tail};
