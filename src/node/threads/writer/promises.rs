//! Another node asks the leader, or is about to lead: the promise is noted before it is given.

use super::WriterThread;
use crate::{
    base::failpoint,
    base::position::Epoch,
    engine::leader::{StepDownReaction, Successor},
    net::peer_link::is_address,
    replication::{AppendAnswer, AppendCommand, AppendOutcome, AppendRequest},
    storage::disk::Disk,
    storage::manifest::Manifest,
};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The MANIFEST, in which promises are noted.
pub(in crate::node) struct PromiseStore {
    pub(in crate::node) disk: Arc<dyn Disk>,
    pub(in crate::node) manifest: Arc<Mutex<Manifest>>,
}

impl WriterThread {
    /// Another node asks, or is about to lead.
    pub(super) fn on_append_request(&mut self, bytes: &[u8], reply: oneshot::Sender<AppendAnswer>) {
        let offer = match AppendRequest::decode(bytes) {
            Ok(offer) => offer,
            Err(what) => return self.answer(AppendOutcome::Unreadable(what), reply),
        };
        match self.step_down_gate.on_append_request(&offer) {
            StepDownReaction::Answer(outcome) => self.answer(outcome, reply),
            StepDownReaction::StepDown(epoch, outcome) => {
                self.writer.step_down(&mut self.actions);
                self.act();
                failpoint::pass("promote.stood-down");
                let is_promise = offer.command == AppendCommand::Promise;
                let url = offer.members.map(|members| members.leader).filter(|url| is_address(url));
                tracing::warn!(epoch, by = url.as_deref().unwrap_or("unknown"), "another leads: no more writes here");
                // A promise that a restart would forget is none: whoever asked hears nothing.
                if self.note(epoch, url.as_deref().filter(|_| is_promise)) {
                    self.answer(outcome, reply);
                } else {
                    self.step_down_gate.forget_promise();
                }
                failpoint::pass("promote.promised");
                self.leader.stepped_down(Successor(url));
            }
        }
    }

    /// Notes a later epoch, so that this node does not lead when it starts again, and the candidate that it was
    /// promised to; `None`: somebody leads in it.
    pub(super) fn note(&self, epoch: Epoch, candidate: Option<&str>) -> bool {
        let mut manifest = self.notes.manifest.lock();
        let highest = manifest.state.promised.max(epoch);
        manifest.state.promise(highest, candidate);
        let written = manifest.write(&*self.notes.disk);
        written.inspect_err(|error| tracing::error!(%error, "that {epoch} is the epoch now cannot be noted")).is_ok()
    }

    fn answer(&self, outcome: AppendOutcome, reply: oneshot::Sender<AppendAnswer>) {
        // Whoever asked may have gone.
        let _ = reply.send(self.step_down_gate.answer(outcome, self.writer.store().mark()));
    }
}
