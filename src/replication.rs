//! Replication: how the records of a leader reach its replicas, and what is known of each.
//!
//! The leader pushes. For each replica it has a [`Sender`], which keeps one [`Offer`] in flight: records byte for byte
//! as they are in the log, or none as a heartbeat. Each [`Answer`] carries a [`Hello`], in which the replica says where
//! it stands; [`mod@judge`] decides what follows from it. Records come from the [`Feed`] in memory, then from the log
//! ([`CatchUp`]); a replica that neither can serve loads a snapshot.
//!
//! Everything but [`link`] is a state machine or plain data, so that the simulation runs it. `docs/replication.md` has
//! the table of messages.

mod archive;
mod candidacy;
mod catch_up;
mod discovery;
mod feed;
mod judge;
pub mod link;
mod message;
mod progress;
mod promotion;
mod registry;
mod sender;
mod tail_recovery;
mod take_back;

pub use archive::{Archive, Outgoing, Snapshot};
pub use candidacy::{Asked, Refusal, candidacy, has_promised, holds_nothing, lacks};
pub use catch_up::{CatchUp, Gathered};
pub use discovery::{Announced, LeaderDiscovery};
pub use feed::{Feed, Since};
pub use judge::{Lead, Verdict, judge};
pub use message::{Answer, Command, HELLO_TYPE, Hello, Members, NodeId, Offer, Outcome, RECORDS_TYPE, SNAPSHOT_TYPE};
pub use progress::{Peer, Progress, Standing};
pub use promotion::{Candidate, Elected, Promotion, PromotionAction};
pub use registry::Registry;
pub use sender::{Sender, SenderStatus, Told, Turn, retry_most_ms};
pub use tail_recovery::{NoAnswer, Starter, TailAction, TailRecovery, TailRefusal, leads_at_start};
pub use take_back::{Choice, ExtendError, choose, extend};
