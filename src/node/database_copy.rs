//! A database on its way to another place: what comes is checked to the last digest, and handed on as it is.

use crate::{
    base::position::{Epoch, Position, PositionToken},
    data::store::{DedupLimits, StateId, Store},
    storage::file_header::{DatabaseIdentity, FileHeader},
    storage::snapshot::SnapshotLoader,
    storage::wal::RawRecord,
};

/// The result of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The database.
    pub database: u128,
    /// The position of the restored database.
    pub position: Position,
    /// Distinct words in all namespaces.
    pub words: u64,
}

/// The place that a copy goes to.
pub(super) trait CopyTarget {
    /// A copy begins, from a node that has seen this epoch; the bytes of its snapshot, if they are known.
    fn begin(&mut self, epoch: Epoch, snapshot_bytes: Option<u64>) -> Result<(), String>;
    /// Takes the next bytes of the snapshot.
    fn snapshot(&mut self, piece: &[u8]) -> Result<(), String>;
    /// The snapshot is whole: records follow behind this state.
    fn begin_records(&mut self, identity: DatabaseIdentity, epoch: Epoch, from: StateId) -> Result<(), String>;
    /// Takes a record.
    fn record(&mut self, record: &[u8]) -> Result<(), String>;
    /// Everything is there, up to this state.
    fn end(&mut self, state: StateId) -> Result<(), String>;
}

/// A copy whose snapshot is coming.
pub(super) struct SnapshotCopy<'a> {
    target: &'a mut dyn CopyTarget,
    epoch: Epoch,
    /// The begin of the snapshot, until it says of which database it is.
    first: Vec<u8>,
    loader: Option<(DatabaseIdentity, SnapshotLoader)>,
}

impl<'a> SnapshotCopy<'a> {
    pub(super) fn begin(
        target: &'a mut dyn CopyTarget,
        epoch: Epoch,
        snapshot_bytes: Option<u64>,
    ) -> Result<Self, String> {
        target.begin(epoch, snapshot_bytes)?;
        Ok(Self { target, epoch, first: Vec::new(), loader: None })
    }

    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        self.target.snapshot(piece)?;
        if let Some((_, loader)) = &mut self.loader {
            return loader.feed(piece).map_err(|damage| damage.to_string());
        }
        self.first.extend_from_slice(piece);
        let Ok(FileHeader { identity, .. }) = FileHeader::decode("the snapshot", &self.first) else { return Ok(()) };
        let mut loader = SnapshotLoader::new(identity, DedupLimits::default());
        loader.feed(&std::mem::take(&mut self.first)).map_err(|damage| damage.to_string())?;
        self.loader = Some((identity, loader));
        Ok(())
    }

    /// The snapshot has come: the state that it leads to.
    pub(super) fn end(self) -> Result<RecordCopy<'a>, String> {
        let Self { target, epoch, loader, .. } = self;
        let (identity, loader) = loader.ok_or("what came is no snapshot")?;
        let (store, _) = loader.finish().map_err(|damage| damage.to_string())?;
        let epoch = epoch.max(store.mark().position.epoch);
        target.begin_records(identity, epoch, store.mark())?;
        Ok(RecordCopy { target, identity, epoch, store })
    }
}

/// A copy whose records are coming.
pub(super) struct RecordCopy<'a> {
    target: &'a mut dyn CopyTarget,
    identity: DatabaseIdentity,
    epoch: Epoch,
    store: Store,
}

impl RecordCopy<'_> {
    pub(super) fn position(&self) -> Position {
        self.store.mark().position
    }

    /// The position as a node is asked for what is behind it.
    pub(super) fn token(&self) -> PositionToken {
        self.identity.token(self.position())
    }

    /// Takes records, which are whole, and compares the digest that each states.
    pub(super) fn take(&mut self, mut records: &[u8]) -> Result<(), String> {
        while !records.is_empty() {
            let raw = RawRecord::parse(records, self.identity.hash_seed).map_err(|bad| bad.to_string())?;
            let (bytes, rest) = records.split_at(raw.header.record_bytes());
            let mark = self.store.mark();
            let goes_on = raw.goes_on_from(mark.position.sequence, mark.chain);
            if !goes_on || raw.header.position.epoch > self.epoch {
                return Err(format!("record {} does not go on from {}", raw.header.position, mark.position));
            }
            let record = raw.record().map_err(|bad| bad.to_string())?;
            self.store.apply(&record, raw.header.chain).map_err(|diverged| diverged.to_string())?;
            self.target.record(bytes)?;
            records = rest;
        }
        Ok(())
    }

    /// Everything has come. `stated`: the state that it was said to lead to.
    pub(super) fn end(self, stated: Option<StateId>) -> Result<RestoreReport, String> {
        let state = self.store.mark();
        if let Some(stated) = stated.filter(|stated| *stated != state) {
            let of = |state: StateId| format!("{} with digest {:016x}", state.position, state.digest);
            return Err(format!("it leads to {}, and states {}", of(state), of(stated)));
        }
        self.target.end(state)?;
        let (database, words) = (self.identity.database_id, words_of(&self.store));
        Ok(RestoreReport { database, position: state.position, words })
    }
}

/// Distinct words in all namespaces.
pub(super) fn words_of(store: &Store) -> u64 {
    store.reader().read().namespaces().iter().map(|(_, words)| words).sum()
}
