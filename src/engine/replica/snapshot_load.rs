//! The end of a full sync: a replica takes the snapshot over, in memory and in its files, or gives it up.

use super::{
    LoadedDatabase, Replica, ReplicaAction,
    files::{LoadedSnapshot, ReplicaFiles},
    term::ReplicaTerm,
};
use crate::{
    base::clock::{LoggedClock, Monotonic},
    storage::manifest::ManifestState,
};

impl<T> Replica<T> {
    /// The snapshot of the leader was loaded, or not.
    pub fn loaded(
        &mut self,
        loaded: Result<LoadedSnapshot, String>,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) {
        // The table of epochs is that of the leader that ordered the load. One that has started again since has
        // another.
        let is_later = |loaded: &LoadedSnapshot| loaded.store.mark().position.epoch > self.term.epoch();
        match loaded {
            Ok(loaded) if is_later(&loaded) => {
                self.loading = false;
                actions.push(ReplicaAction::Alarm(
                    "the leader has started again while its snapshot was loaded".to_owned(),
                ));
            }
            Ok(loaded) if !self.term.has(loaded.store.mark().position) => {
                self.loading = false;
                self.forget_who_led();
                let position = loaded.store.mark().position;
                actions.push(ReplicaAction::Alarm(format!(
                    "the snapshot that was loaded, at {position}, is not of the leader that wants it loaded: does --leader \
                     name that one?"
                )));
            }
            // Two must not change the directory at once.
            Ok(loaded) if self.snapshot_running => self.loaded = Some(loaded),
            Ok(loaded) => self.take_over(loaded, now, actions),
            Err(what) => {
                self.loading = false;
                self.forget_who_led();
                actions.push(ReplicaAction::Alarm(format!("a snapshot of the leader could not be loaded: {what}")));
            }
        }
    }

    /// A replica that holds nothing has noted nothing of those it was about to follow, so nothing may depend on it.
    /// What it remembers of them would only keep it from whoever leads in the end, until it is started again.
    pub(super) fn forget_who_led(&mut self) {
        if self.held.is_none() && self.bound_to.is_none() {
            self.term = ReplicaTerm::default();
        }
    }

    pub(super) fn take_over(&mut self, loaded: LoadedSnapshot, now: Monotonic, actions: &mut Vec<ReplicaAction<T>>) {
        self.loading = false;
        let files = self.replace_files(&loaded, now, actions);
        let LoadedSnapshot { identity, store, .. } = loaded;
        self.clock = Some(LoggedClock::reading(store.time_ms(), now));
        self.diverged = false;
        self.hold(LoadedDatabase { identity, store, files }, actions);
    }

    /// Puts what was loaded in the place of all files, if this replica keeps any.
    pub(super) fn replace_files(
        &mut self,
        loaded: &LoadedSnapshot,
        now: Monotonic,
        actions: &mut Vec<ReplicaAction<T>>,
    ) -> Option<ReplicaFiles> {
        let directory = self.directory.as_mut()?;
        let state = ManifestState {
            leader_url: Some(self.members.leader.clone()).filter(|url| !url.is_empty()),
            replicas: self.members.replicas.clone(),
            ..self.term.to_note()
        };
        match directory.replace(loaded, state, self.settings.snapshot, now) {
            Ok(files) => Some(files),
            Err(error) => {
                self.directory = None;
                actions.push(if error.is_gone() {
                    ReplicaAction::FilesLost(format!("its directory cannot be used ({error})"))
                } else {
                    ReplicaAction::Alarm(format!("its directory cannot be used ({error}): it keeps no files"))
                });
                None
            }
        }
    }
}
