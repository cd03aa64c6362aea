//! A replica whose role ends, and whose node goes on with what it holds.

use super::{LoadedDatabase, Replica};
use crate::storage::recovery::RecoveredDatabase;

impl<T> Replica<T> {
    /// Has a snapshot that is being written end soon, with an error: this role ends, and nobody is to wait for that.
    pub fn cancel_snapshot(&mut self) {
        if self.snapshot_running
            && let Some(files) = self.held.as_mut().and_then(|held| held.files.as_mut())
        {
            files.cancel_snapshot();
        }
    }

    /// What the next role goes on with, of a replica at rest; `None` if the files have to be read for that, because
    /// there are none, or what they hold, or are about to hold, is not the leader's history.
    ///
    /// # Panics
    /// If the replica is not at rest.
    pub fn hand_over(self) -> Option<RecoveredDatabase> {
        assert!(self.is_at_rest(), "a role ends once everything is answered and synced");
        // Whoever leads next builds on the leader's history alone: anything else is read from the files, and checked.
        if self.diverged || self.loading || self.loaded.is_some() || self.is_elsewhere() {
            return None;
        }
        let LoadedDatabase { store, files, .. } = self.held?;
        Some(files?.hand_over(store))
    }
}
