//! What no leader writes, and states that are large: records made by hand.

use super::following::{change, complete, idle, newest_segment, reloaded, replica, run};
use memdb::{
    base::clock::LoggedTime,
    base::position::Position,
    data::record::{NamespaceChange, Record, RecordBody, WordCount},
    data::store::{DedupLimits, StateId, Store},
    engine::file_follower::FollowStep,
    storage::disk::{Disk, RealDisk},
    storage::file_header::DatabaseIdentity,
    storage::manifest::{Manifest, ManifestState},
    storage::snapshot::SnapshotJob,
    storage::wal::Log,
    text::tokenizer::Analyzer,
};
use std::sync::Arc;
use tempfile::TempDir;

const IDENTITY: DatabaseIdentity =
    DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::Standard, hash_seed: 9 };

struct ByHand {
    directory: TempDir,
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    store: Store,
    log: Log,
    time_ms: LoggedTime,
}

impl ByHand {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()).expect("there"));
        let log = Log::create(Arc::clone(&disk), IDENTITY, 1, StateId::default(), 1 << 30).expect("the disk works");
        let mut manifest =
            Manifest { identity: IDENTITY, state: ManifestState { epoch: 1, ..ManifestState::default() } };
        manifest.write(&*disk).expect("the disk works");
        let store = Store::new(IDENTITY.hasher(), DedupLimits::default());
        Self { directory, disk, manifest, store, log, time_ms: LoggedTime::from_ms(1_000) }
    }

    /// A record with so many new words, with the digest it leads to and something added to it.
    fn record(&mut self, words: usize, wrong_by: u64) {
        let at = self.log.next();
        let words: Vec<String> = (0..words).map(|n| format!("{}-{n}", at.sequence)).collect();
        let counts = words.iter().map(|word| WordCount { word, count: 1 }).collect();
        let body = RecordBody {
            entries: Vec::new(),
            changes: vec![NamespaceChange { namespace: "words", dropped: false, counts }],
            keyed_writes: Vec::new(),
        };
        let digest = words.iter().map(|word| memdb::base::hash::weight(IDENTITY.hasher().hash(word), 1));
        let digest = digest.fold(0_u64, u64::wrapping_add).wrapping_mul(IDENTITY.hasher().namespace_factor("words"));
        let digest_after = self.store.digest().wrapping_add(digest).wrapping_add(wrong_by);
        let (chain, _) = self.log.append(self.time_ms, digest_after, &body).expect("the disk works");
        let record = Record { position: at, time_ms: self.time_ms, digest_after, body };
        assert_eq!(self.store.apply(&record, chain).is_ok(), wrong_by == 0);
    }

    fn snapshot(&self) {
        let job = SnapshotJob::start(
            Arc::clone(&self.disk),
            IDENTITY,
            self.store.reader(),
            self.store.mark(),
            self.log.live_offset(),
        );
        job.and_then(SnapshotJob::run).expect("the disk works");
    }
}

#[test]
fn a_record_that_leads_elsewhere_is_not_shown() {
    let mut leader = ByHand::new();
    leader.record(3, 0);
    let mut following = complete(leader.directory.path());
    leader.record(2, 1);
    let steps = run(&mut following);
    assert!(matches!(&steps[0], FollowStep::Reloading(why) if why.contains("leads to digest")), "{steps:?}");
    assert!(matches!(steps.last(), Some(FollowStep::Waiting(_))), "{steps:?}");
    let reader = following.reader().expect("complete");
    let guard = reader.read();
    assert_eq!(
        (guard.position(), guard.count("words", "1-2"), guard.count("words", "2-0")),
        (Position::new(1, 1), 1, 0)
    );
    drop(guard);
    let mut fresh = replica(leader.directory.path());
    run(&mut fresh);
    assert!(!fresh.is_complete());
}

#[test]
fn a_large_state_and_a_large_record_come_in_pieces() {
    let mut leader = ByHand::new();
    (0..4).for_each(|_| leader.record(40_000, 0));
    leader.snapshot();
    (0..3).for_each(|_| leader.record(40_000, 0));
    let mut replica = replica(leader.directory.path());
    let steps = run(&mut replica);
    assert!(steps.iter().filter(|step| **step == FollowStep::Loading).count() > 8, "{steps:?}");
    assert_eq!(replica.store().map(|store| store.mark()), Some(leader.store.mark()));
    leader.record(100_000, 0);
    assert_eq!(run(&mut replica), [FollowStep::Applied(Position::new(1, 8)), FollowStep::Nothing]);
    assert_eq!(replica.store().map(|store| store.mark()), Some(leader.store.mark()));
}

#[test]
fn a_record_replaced_by_another_is_noticed_when_the_manifest_moves_on_though_nothing_follows() {
    let (mut leader, mut other) = (ByHand::new(), ByHand::new());
    for (leader, time_ms) in [(&mut leader, 1_000), (&mut other, 2_000)] {
        leader.record(3, 0);
        leader.time_ms = LoggedTime::from_ms(time_ms);
        leader.record(3, 0);
    }
    let mut following = complete(leader.directory.path());
    let another = std::fs::read(newest_segment(other.directory.path())).expect("there");
    change(&newest_segment(leader.directory.path()), |bytes| {
        assert_eq!(bytes.len(), another.len());
        *bytes = another;
    });
    leader.manifest.write(&*leader.disk).expect("the disk works");
    assert!(reloaded(&idle(&mut following)));
    assert_eq!(following.store().map(|store| store.mark()), Some(other.store.mark()));
}

#[test]
fn a_position_that_the_epochs_do_not_have_is_left_whatever_the_log_says() {
    let mut leader = ByHand::new();
    leader.record(3, 0);
    leader.record(3, 0);
    let mut following = complete(leader.directory.path());
    leader.manifest.state.epochs.end(Position::new(1, 1));
    leader.manifest.state.epoch = 2;
    leader.manifest.write(&*leader.disk).expect("the disk works");
    let steps = idle(&mut following);
    let lost = |step: &FollowStep| matches!(step, FollowStep::Reloading(why) if why.contains("1-2 is not part of the history"));
    assert!(steps.iter().any(lost), "{steps:?}");
}
