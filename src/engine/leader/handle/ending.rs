//! The end of a leader: by a stop, by its thread's death, or because another node leads.

use super::{Leader, LeaderEvent};
use crate::{
    data::command::WriteError,
    engine::leader::{Successor, WriteSubmission},
    replication::AppendAnswer,
};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

impl Leader {
    /// Refuses writes from now on, and makes the Writer end once it has answered those that wait.
    pub fn stop(&self) {
        if !self.shared.stopping.swap(true, Ordering::Relaxed) {
            self.shared.queue.push(LeaderEvent::Stop);
        }
    }

    /// As [`Leader::stop`], for the next role of this process: a snapshot that is being written is not waited for.
    pub fn hand_over(&self) {
        if !self.shared.stopping.swap(true, Ordering::Relaxed) {
            self.shared.queue.push(LeaderEvent::HandOver);
        }
    }

    /// For the Writer's thread: it ends. What came too late is answered so.
    pub fn end(&self) {
        // Before the queue is closed: whoever finds it closed looks here for the reason.
        self.shared.ended.cancel();
        for event in self.shared.queue.close() {
            if let LeaderEvent::Write(WriteSubmission { reply, .. }) = event {
                let _ = reply.send(Err(WriteError::Stopping)); // whoever asked may have gone
            }
        }
    }

    /// Returns once the Writer has ended, by a stop or by dying.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Hands over what another node asks, or offers as a leader of its own; `None` if the Writer is gone.
    pub async fn append(&self, bytes: Bytes) -> Option<AppendAnswer> {
        let (reply, answer) = oneshot::channel();
        let size = bytes.len();
        self.shared.queue.try_push(LeaderEvent::Offer(bytes, reply), size, None).ok()?;
        answer.await.ok()
    }

    /// For the Writer's thread: another leads now, or is about to.
    pub fn stepped_down(&self, successor: Successor) {
        self.shared.view.set_ready(false);
        self.shared.succeeded.send_replace(Some(successor));
    }

    /// Returns once another leads, or is about to.
    pub async fn succeeded(&self) -> Successor {
        let mut succeeded = self.shared.succeeded.subscribe();
        let successor = succeeded.wait_for(Option::is_some).await.expect("this holds the other end");
        successor.clone().expect("it was waited for")
    }
}
