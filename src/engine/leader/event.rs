//! The events that the Writer's thread is sent.

use super::WriteSubmission;
use crate::{
    base::trace::WriteTrace,
    data::command::{WriteError, WriteReceipt},
    replication::{AppendAnswer, PeerEvent, PeerIndex},
    storage::snapshot::PublishedSnapshot,
    storage::wal,
};
use bytes::Bytes;
use std::io;
use tokio::sync::oneshot;

/// The channel of an answer.
pub struct WriteReply {
    answer: oneshot::Sender<Result<WriteReceipt, WriteError>>,
    /// The way of the write, for whoever records it.
    pub trace: WriteTrace,
}

impl From<oneshot::Sender<Result<WriteReceipt, WriteError>>> for WriteReply {
    /// Of a write that is submitted by whatever is under way in this thread.
    fn from(answer: oneshot::Sender<Result<WriteReceipt, WriteError>>) -> Self {
        Self { answer, trace: WriteTrace::current() }
    }
}

impl WriteReply {
    /// Gives the answer.
    ///
    /// # Errors
    /// The answer itself if nobody waits for it any more.
    pub fn send(self, answer: Result<WriteReceipt, WriteError>) -> Result<(), Result<WriteReceipt, WriteError>> {
        self.trace.answered(answer.as_ref().ok().map(|receipt| receipt.acks));
        self.answer.send(answer)
    }
}

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
