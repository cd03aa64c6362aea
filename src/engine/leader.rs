//! A leader: a bounded queue in front of one Writer.
//!
//! Handlers hold a [`Leader`] (`leader/handle.rs`) and [`Leader::submit`] batches. The [`Writer`] (`leader/writer.rs`)
//! is a state machine that the node's writer thread drives (`node/`), and that the simulation drives with made-up time
//! and a faulty disk.

mod commit_group;
mod event;
mod handle;
mod origin_fetches;
mod pending_acks;
mod pending_keys;
mod queue;
mod shared_fetches;
mod shutdown;
mod step_down;
mod writer;

pub use crate::data::{
    command::{AckLevel, WriteError, WriteReceipt},
    counts::AdmissionLimits,
};
pub use event::{LeaderEvent, Successor, WriteReply};
pub use handle::{Leader, WriterStatus, adjacent_writes};
pub use origin_fetches::{
    FetchEnd, FetchFailure, FetchOrder, KeptValue, OriginDecision, OriginFetches, OriginKey, OriginRules,
};
pub(crate) use queue::BoundedQueue;
pub use queue::{QueueLimits, QueueShare, QueueUsage};
pub use shared_fetches::{FetchAnswer, FetchInProgress, FetchReply, SharedFetches};
pub use shutdown::close;
pub use step_down::{StepDownGate, StepDownReaction};
pub use writer::{WriteSubmission, Writer, WriterAction, WriterSettings};
