//! The promise of a replica to a node that is about to lead, and its record of the cluster's members.

use super::{Replica, ReplicaAction, ReplicaFiles};
use crate::{
    replication::{AppendOutcome, AppendRequest, ClusterMembers},
    storage::file_header::FileError,
    storage::manifest::ManifestState,
};

impl<T> Replica<T> {
    /// Somebody is about to lead in a later epoch: from here on nobody of an earlier one is followed, also after a
    /// restart.
    pub(super) fn promise(&mut self, offer: &AppendRequest<'_>, actions: &mut Vec<ReplicaAction<T>>) -> AppendOutcome {
        if self.held.is_none() {
            // A node that holds nothing has no files to note it in, so the promise would not survive a restart and must
            // not be counted. Remembering it would only reject the eventual leader. A load that is under way is
            // different: it must not be continued for the leader that is being replaced.
            if self.loading {
                self.term.promise(offer.epoch, offer.leader);
            }
            return AppendOutcome::Syncing;
        }
        if !self.term.may_promise(offer.epoch, offer.leader) {
            return AppendOutcome::OldEpoch; // it is led, or promised, already
        }
        self.term.promise(offer.epoch, offer.leader);
        // The leader that it has followed may go on elsewhere without it, so what it shows may be old from now on.
        actions.push(ReplicaAction::Unready);
        // Noted durably before the answer: the candidate counts on it, also after a restart of this node.
        let candidate = offer.members.as_ref().map(|members| members.leader.as_str()).filter(|url| !url.is_empty());
        let is_own = offer.leader == self.settings.node;
        let note = |files: &mut ReplicaFiles| match is_own {
            true => files.promise_itself(offer.epoch),
            false => files.promise(offer.epoch, candidate),
        };
        if self.keep(note, "a promise cannot be noted", actions) {
            AppendOutcome::Applied
        } else {
            AppendOutcome::Unreadable("the promise cannot be noted".to_owned())
        }
    }

    /// Notes something in the MANIFEST, if there are files. They are given up if that fails: false.
    pub(super) fn keep(
        &mut self,
        note: impl FnOnce(&mut ReplicaFiles) -> Result<(), FileError>,
        failed: &str,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> bool {
        if let Some(held) = &mut self.held
            && let Some(files) = &mut held.files
            && let Err(error) = note(files)
        {
            self.give_up_files(failed, &error, actions);
            return false;
        }
        true
    }

    /// Takes note of who belongs to the cluster.
    pub(super) fn note_members(&mut self, members: &Option<ClusterMembers>, actions: &mut Vec<ReplicaAction<T>>) {
        let Some(members) = members.as_ref().filter(|members| **members != self.members) else { return };
        self.members = members.clone();
        self.keep(|files| files.note_members(members), "the nodes of the cluster cannot be noted", actions);
        actions.push(ReplicaAction::Members(members.clone()));
    }
}

/// The nodes of the cluster, as the MANIFEST of the node at `own` lists them. It may have led itself.
pub(super) fn members_of(state: &ManifestState, own: &str) -> ClusterMembers {
    let leader = state.leader_url.clone().filter(|url| url != own);
    ClusterMembers { leader: leader.unwrap_or_default(), replicas: state.replicas.clone() }
}
