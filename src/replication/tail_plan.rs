//! The tail that a leader takes back from its replicas when it has lost the end of its log.
//!
//! One writer per epoch makes what a replica has of the last epoch an extension of what the leader has.

use super::NodeState;
use crate::{
    base::failpoint::inject,
    base::position::Epoch,
    data::store::Store,
    storage::file_header::DatabaseIdentity,
    storage::recovery::OpenFiles,
    storage::wal::{AppendError, RawRecord, RecordError},
};
use std::cmp::Reverse;

/// The meaning of the replicas' answers for a leader that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailRecoveryPlan {
    /// Nobody has more.
    Nobody,
    /// These nodes, by their index among the answers, have more, the most advanced first.
    From(Vec<usize>),
    /// This one has seen a later epoch: somebody else has led.
    HigherEpoch(usize, Epoch),
}

/// Decides whether this log is missing a tail that followers have, and from which of them to fetch it, most advanced
/// first. The log has records of epochs up to `epoch` and ends at `last`. `promised` is the latest epoch that they may
/// have seen: the same one, or the one that they have promised to this node.
pub fn plan(hellos: &[NodeState], database: u128, epoch: Epoch, last: u64, promised: Epoch) -> TailRecoveryPlan {
    let mine = || hellos.iter().enumerate().filter(|(_, hello)| hello.database == Some(database));
    // Before the question who has more: where a later epoch has begun, this node must not lead at all.
    if let Some((at, hello)) = mine().find(|(_, hello)| hello.epoch > promised) {
        return TailRecoveryPlan::HigherEpoch(at, hello.epoch);
    }
    let has_more = |hello: &NodeState| {
        // Of the last epoch only. It had one writer, so more of it is an extension. Where earlier epochs end is known,
        // and whatever somebody has beyond that was lost with a leader.
        let mut is_of_this_history = hello.position.epoch == epoch;
        inject!(TakesBackFromAnotherHistory, is_of_this_history = true);
        !hello.diverged && is_of_this_history && hello.position.sequence > last
    };
    let mut ahead: Vec<usize> = mine().filter(|(_, hello)| has_more(hello)).map(|(at, _)| at).collect();
    ahead.sort_by_key(|&at| Reverse(hellos[at].position.sequence));
    if ahead.is_empty() { TailRecoveryPlan::Nobody } else { TailRecoveryPlan::From(ahead) }
}

/// The reason why records could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendTailError {
    /// The records do not continue this history, or are damaged. Those before them are applied.
    #[error("{0}")]
    Foreign(String),
    /// The records continue this history and do not lead to the digest that they state: the store must not be used any
    /// more.
    #[error("{0}")]
    Diverged(String),
    /// They are applied, and the log that is open does not take them: what is in memory is ahead of the files.
    #[error("{0}")]
    Log(String),
}

/// Applies whole records that go on with what the store has; gives how many. Each is appended to the log, if that is
/// open, once it has led to the digest that it states: the files never hold one that does not.
///
/// # Errors
/// [`AppendTailError`] if the records cannot be decoded, do not continue this history, or lead to another digest than
/// they state.
pub fn append_tail(
    store: &mut Store,
    mut open: Option<&mut OpenFiles>,
    identity: &DatabaseIdentity,
    epoch: Epoch,
    mut records: &[u8],
) -> Result<u64, AppendTailError> {
    let damaged = |bad: RecordError| AppendTailError::Foreign(bad.to_string());
    let mut applied = 0;
    while !records.is_empty() {
        let raw = RawRecord::parse(records, identity.hash_seed).map_err(damaged)?;
        let (position, mark) = (raw.header.position, store.mark());
        // The chain is compared although the node was chosen by epoch and sequence: two copies of one directory may
        // have led in one epoch.
        let mut goes_on = raw.goes_on_from(mark.position.sequence, mark.chain);
        inject!(TakesBackFromAnotherHistory, goes_on = true);
        if position.epoch > epoch || !goes_on {
            let why = format!("record {position} does not go on from {}", mark.position);
            return Err(AppendTailError::Foreign(why));
        }
        let record = raw.record().map_err(damaged)?;
        store.apply(&record, raw.header.chain).map_err(|diverged| AppendTailError::Diverged(diverged.to_string()))?;
        let (bytes, rest) = records.split_at(raw.header.record_bytes());
        if let Some(OpenFiles { log, schedule }) = open.as_deref_mut() {
            let failed = |(AppendError::Undone(error) | AppendError::Poisoned(error))| error.to_string();
            log.append_raw(bytes).map_err(|error| AppendTailError::Log(failed(error)))?;
            schedule.appended(bytes.len() as u64);
        }
        records = rest;
        applied += 1;
    }
    Ok(applied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::LoggedTime,
        base::position::Position,
        data::record::{NamespaceChange, RecordBody, WordCount},
        data::store::{DedupLimits, StateId},
        storage::disk::RealDisk,
        storage::wal::Log,
        text::tokenizer::Analyzer,
    };
    use std::sync::Arc;

    fn hello(database: Option<u128>, seen: Epoch, position: (u64, u64), diverged: bool) -> NodeState {
        NodeState {
            node: 1,
            database,
            epoch: seen,
            position: Position::new(position.0, position.1),
            diverged,
            ..NodeState::default()
        }
    }

    #[test]
    fn a_tail_that_does_not_go_on_is_told_from_one_of_another_history() {
        let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };
        let directory = tempfile::TempDir::new().expect("a directory");
        let disk = Arc::new(RealDisk::new(directory.path()).expect("it is there"));
        let mut log = Log::create(disk, identity, 1, StateId::default(), 1 << 20).expect("the disk works");
        let counts = vec![WordCount { word: "hello", count: 1 }];
        let changes = vec![NamespaceChange { namespace: "words", dropped: false, counts }];
        let mut append = |digest, changes| {
            let appended = log.append(
                LoggedTime::from_ms(1_000),
                digest,
                &RecordBody { entries: Vec::new(), changes, keyed_writes: Vec::new() },
            );
            appended.expect("the disk works").1.to_vec()
        };
        let records = [append(0, vec![]), append(5, changes)]; // one word does not make that digest
        let mut store = Store::new(identity.hasher(), DedupLimits::default());
        let ahead = append_tail(&mut store, None, &identity, 1, &records[1]);
        assert!(matches!(&ahead, Err(AppendTailError::Foreign(why)) if why.contains("does not go on")), "{ahead:?}");
        let other_epoch = append_tail(&mut store, None, &identity, 0, &records[0]);
        assert!(matches!(other_epoch, Err(AppendTailError::Foreign(_))), "{other_epoch:?}");
        assert_eq!(append_tail(&mut store, None, &identity, 1, &records[0]), Ok(1));
        let wrong = append_tail(&mut store, None, &identity, 1, &records[1]);
        assert!(matches!(wrong, Err(AppendTailError::Diverged(_))), "{wrong:?}");
    }

    #[test]
    fn the_node_with_the_most_of_the_last_epoch_gives_the_tail() {
        let has = |sequence| hello(Some(7), 3, (3, sequence), false);
        assert_eq!(plan(&[], 7, 3, 10, 3), TailRecoveryPlan::Nobody);
        assert_eq!(plan(&[has(9), has(10)], 7, 3, 10, 3), TailRecoveryPlan::Nobody);
        assert_eq!(plan(&[has(11), has(14), has(12)], 7, 3, 10, 3), TailRecoveryPlan::From(vec![1, 2, 0]));
        let others = [
            hello(None, 0, (0, 0), false),
            hello(Some(8), 9, (9, 99), false),
            hello(Some(7), 3, (2, 50), false), // lost before this epoch began
            hello(Some(7), 3, (3, 50), true),
        ];
        assert_eq!(plan(&others, 7, 3, 10, 3), TailRecoveryPlan::Nobody);
        let seen_later = [has(11), hello(Some(7), 4, (3, 10), false)];
        assert_eq!(plan(&seen_later, 7, 3, 10, 3), TailRecoveryPlan::HigherEpoch(1, 4));
        assert_eq!(plan(&seen_later, 7, 3, 10, 4), TailRecoveryPlan::From(vec![0]));
    }
}
