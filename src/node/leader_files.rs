//! The files of a node that is to lead: read, completed by what other nodes have, and made ready for its epoch.

use super::{
    NodeError,
    machine::{node_run, random},
    recover_tail::recover_tail,
    resources::{segment_bytes, window},
};
use crate::{
    base::position::Epoch,
    config::{NodeSettings, RoleSettings},
    engine::view::DatabaseView,
    net::peer_credentials::PeerCredentials,
    replication::{ElectedLeader, StartingNode},
    storage::disk::Disk,
    storage::file_header::DatabaseIdentity,
    storage::recovery::{self, NodeRun, RecoveredDatabase, RecoveryError},
    text::tokenizer::Analyzer,
};
use std::{path::Path, sync::Arc};

/// Reads the data directory, asks the nodes it knows what they know, and takes back what is missing.
pub(super) struct LeaderFiles {
    pub(super) settings: NodeSettings,
    pub(super) disk: Arc<dyn Disk>,
    view: Arc<DatabaseView>,
    pub(super) starter: StartingNode,
    pub(super) credentials: PeerCredentials,
    run: NodeRun,
}

impl LeaderFiles {
    /// `name`: the node's; `url`: where it leads; `elected`: what others have promised.
    pub(super) fn new(
        settings: &NodeSettings,
        disk: &Arc<dyn Disk>,
        view: &Arc<DatabaseView>,
        (name, url): (&str, &str),
        credentials: PeerCredentials,
        elected: Option<&ElectedLeader>,
    ) -> Result<Self, NodeError> {
        let run = node_run(name)?;
        let starter = StartingNode {
            url: url.to_owned(),
            boot_id: run.boot_id.clone(),
            named: settings.replicas().iter().map(String::as_str).chain(settings.leader()).map(str::to_owned).collect(),
            told_to_follow: settings.leader().map(str::to_owned),
            init: matches!(settings.role, RoleSettings::Leader { init: true, .. }),
            elected: elected.cloned(),
        };
        let (settings, disk, view) = (settings.clone(), Arc::clone(disk), Arc::clone(view));
        Ok(Self { settings, disk, view, starter, credentials, run })
    }

    /// Reads the files. Nothing is changed.
    pub(super) fn read(&self) -> Result<RecoveredDatabase, NodeError> {
        let settings = &self.settings;
        if let Some(elected) = &self.starter.elected {
            return self.read_elected(elected.epoch); // what it lacks, the others give
        }
        // A replica that led when it ended goes on with what it has.
        let wanted = match settings.role {
            RoleSettings::Leader { analyzer, .. } => analyzer,
            RoleSettings::Replica { .. } | RoleSettings::FileFollower { .. } => None,
        };
        let new = DatabaseIdentity {
            database_id: random()?,
            shard_id: 0,
            analyzer: wanted.unwrap_or(Analyzer::Standard),
            hash_seed: random()? as u64,
        };
        let recovered = recovery::look(&*self.disk, new, window(settings)).map_err(|error| self.unusable(error))?;
        let found = recovered.manifest.identity.analyzer;
        // Whatever its version: a database goes on with the one it was made with.
        if wanted.is_some_and(|wanted| wanted.code() != found.code()) {
            return Err(self.unusable(RecoveryError::OtherAnalyzer { found }));
        }
        Ok(recovered)
    }

    /// Reads the files of a node that was elected to lead in `epoch`.
    fn read_elected(&self, epoch: Epoch) -> Result<RecoveredDatabase, NodeError> {
        let recovered = recovery::look_elected(&*self.disk, window(&self.settings), epoch);
        let recovered = recovered.map_err(|error| self.unusable(error))?;
        recovered.ok_or_else(|| NodeError::NotLeader("the files of this replica are gone".into()))
    }

    /// Takes back what is missing.
    ///
    /// # Errors
    /// [`NodeError::NotLeader`], [`NodeError::Diverged`] or [`NodeError::Succeeded`] if it must not lead.
    pub(super) fn recover_tail(&self, recovered: &mut RecoveredDatabase) -> Result<(), NodeError> {
        recover_tail(recovered, self.starter.clone(), &self.credentials, || {
            self.view.withdraw(); // what is served is not what the files hold
            self.read()
        })
    }

    pub(super) fn begin(&self, recovered: &mut RecoveredDatabase) -> Result<recovery::NewEpoch, RecoveryError> {
        recovered.begin(&self.disk, &mut self.run.clone(), segment_bytes())
    }

    pub(super) fn unusable(&self, error: RecoveryError) -> NodeError {
        NodeError::Recovery { path: self.settings.data_dir().unwrap_or(Path::new("")).to_owned(), error }
    }
}
