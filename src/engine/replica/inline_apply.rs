//! Requests that only append and apply records, as nearly all do, can be handled inline: on the HTTP thread that has
//! received them (decision 13).

use super::{Replica, ReplicaAction};
use crate::{
    base::clock::Monotonic,
    replication::{AppendCommand, AppendRequest},
};

impl<T> Replica<T> {
    /// As [`Replica::on_append_request`], if that takes no longer than to append and apply the records of the request;
    /// else nothing has happened, and `reply` is given back.
    ///
    /// # Errors
    /// Where to answer later.
    pub fn try_apply_inline(
        &mut self,
        bytes: &[u8],
        reply: T,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> Result<(), T> {
        match AppendRequest::decode(bytes) {
            Ok(offer) if self.is_no_more_than_records(&offer) => {
                self.hear(now);
                self.on_decoded_request(&offer, reply, now, actions);
                Ok(())
            }
            _ => Err(reply),
        }
    }

    /// Returns whether a request continues the epoch in which this replica stands, and asks for nothing to be noted in
    /// the MANIFEST, loaded or started; and whether the disk, if there is one, is not busy with a sync or a snapshot of
    /// this replica.
    fn is_no_more_than_records(&self, offer: &AppendRequest<'_>) -> bool {
        let Some(held) = &self.held else { return false };
        offer.command == AppendCommand::Append
            && offer.identity == held.identity
            && offer.epoch == self.term.highest()
            && offer.epoch == held.store.mark().position.epoch
            && offer.members.is_none()
            && !self.loading
            && !self.diverged
            && held.files.as_ref().is_none_or(|files| {
                // A snapshot ends with syncs, too.
                !self.snapshot_running && files.appends_quickly(offer.records.len())
            })
    }
}
