//! The events that the Writer's thread is sent.

use super::WriteSubmission;
use crate::{
    data::command::{WriteError, WriteReceipt},
    replication::{AppendAnswer, PeerEvent, PeerIndex},
    storage::snapshot::PublishedSnapshot,
    storage::wal,
};
use bytes::Bytes;
use std::io;
use tokio::sync::oneshot;

/// The channel of an answer.
pub type WriteReply = oneshot::Sender<Result<WriteReceipt, WriteError>>;

/// An input of the Writer's thread.
pub enum LeaderEvent {
    /// A batch was submitted.
    Write(WriteSubmission<WriteReply>),
    /// What an exchange with a replica has shown.
    Replica(PeerIndex, PeerEvent),
    /// A sync has ended.
    Synced(wal::SyncJob, io::Result<()>),
    /// A look at the files has ended.
    FilesChecked(wal::FileCheck, wal::FileCheckResult),
    /// A snapshot has ended, after so many milliseconds.
    SnapshotEnded(Result<PublishedSnapshot, crate::storage::file_header::FileError>, u64),
    /// Another node asks, or is about to lead.
    Offer(Bytes, oneshot::Sender<AppendAnswer>),
    /// Somebody looks whether the thread goes on, and hears that it does.
    Probe(oneshot::Sender<()>),
    /// No more writes come: answer those that wait, sync, and end.
    Stop,
    /// As [`LeaderEvent::Stop`], and soon: the next role of this process waits.
    HandOver,
}

/// The node that leads, or is about to, in a later epoch: its URL, if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor(pub Option<String>);
