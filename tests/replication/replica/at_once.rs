//! Offers that are taken at once: which, and that they are no others than those that wait for their turn.

use super::both;
use memdb::{
    base::clock::Monotonic,
    engine::replica::ReplicaAction,
    replication::{AppendCommand, AppendOutcome, AppendRequest, ClusterMembers},
    storage::file_header::FileError,
};
use std::{fs, path::Path};
use testkit::{
    database::{Making, SMALL},
    replica::{ReplicaEvent, TestLeader, TestReplica, assert_same, without_records},
};

/// The names in a directory, and its MANIFEST.
#[allow(clippy::disallowed_methods, reason = "looks at the files from outside")]
fn kept(directory: Option<&Path>) -> (Vec<String>, Vec<u8>) {
    let Some(directory) = directory else { return Default::default() };
    let entries = fs::read_dir(directory).expect("there").map(|entry| entry.expect("there").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("ASCII")).collect();
    names.sort();
    (names, fs::read(directory.join("MANIFEST")).unwrap_or_default())
}

#[test]
fn an_inline_append_leaves_the_same_state_and_touches_only_the_log() {
    both(|directory| {
        let mut leader = Making::begin(SMALL).write(1);
        // A few records in each segment.
        let (mut replica, mut sending) = (TestReplica::start_as(directory, 1, 0, 1_000), TestLeader::new());
        let (mut at_once, mut waited) = (0, 0);
        for round in 0..20 {
            leader = if round % 7 == 6 { leader.restart(round % 2 == 0) } else { leader.write(1) };
            if round % 7 == 6 {
                sending = TestLeader::new();
            }
            while let Some(offer) = sending.offer(&leader) {
                let before = kept(directory);
                if replica.offered_at_once(&offer, 1) {
                    assert_eq!(kept(directory), before, "no file comes, and none is noted anything in");
                    at_once += 1;
                } else {
                    assert_eq!(kept(directory), before, "nothing has happened");
                    assert!(replica.answers.is_empty());
                    replica.offered(&offer, 1, Some(&leader));
                    waited += 1;
                }
                let (_, answer) = replica.answers.pop().expect("answered");
                sending.answered(answer, &leader);
            }
            assert_same(&replica, &leader);
        }
        let begun = kept(directory).0.iter().filter(|name| name.starts_with("log-")).count();
        assert!(at_once >= 10 && waited >= begun.max(5), "{at_once} at once, {waited} not, {begun} segments");
        assert!(!replica.seen.contains(&ReplicaEvent::Loading), "{:?}", replica.seen);
    });
}

#[test]
fn a_request_for_more_than_records_is_not_applied_inline() {
    let leader = Making::begin(SMALL).write(3);
    let (mut replica, mut sending) = (TestReplica::start(None, 1), TestLeader::new());
    let first = TestLeader::new().offer(&leader).expect("the leader asks");
    assert!(!replica.offered_at_once(&first, 1), "it holds nothing");
    sending.bring_up(&mut replica, &leader);
    let lead = sending.lead(&leader);
    let plain = without_records(&lead, AppendCommand::Append, replica.position());
    let offered =
        |replica: &mut TestReplica, offer: &AppendRequest<'_>| replica.offered_at_once(&offer.encode_head(), 1);
    assert!(offered(&mut replica, &plain));
    for command in [AppendCommand::Probe, AppendCommand::Promise, AppendCommand::InstallSnapshot] {
        assert!(!offered(&mut replica, &AppendRequest { command, ..plain.clone() }), "{command:?}");
    }
    for (epoch, why) in [(lead.epoch + 1, "a new epoch is noted"), (lead.epoch - 1, "an old one is refused")] {
        assert!(!offered(&mut replica, &AppendRequest { epoch, ..plain.clone() }), "{why}");
    }
    let members = Some(ClusterMembers { leader: "http://127.0.0.1:2".into(), replicas: vec![] });
    assert!(!offered(&mut replica, &AppendRequest { members, ..plain.clone() }), "it would be noted");
    let identity = memdb::storage::file_header::DatabaseIdentity { database_id: 99, ..plain.identity };
    assert!(!offered(&mut replica, &AppendRequest { identity, ..plain.clone() }), "another database");
    assert!(!replica.offered_at_once(b"no offer", 1));
    assert_eq!(replica.answers.len(), 1, "the rest is answered by whoever takes it: {:?}", replica.answers);

    // While it loads, and once a later epoch is promised, nothing goes on.
    let promise = AppendRequest::promise(plain.identity, lead.epoch + 1, 6, "http://127.0.0.1:6");
    replica.offered(&promise.encode_head(), 1, None);
    assert!(!offered(&mut replica, &plain), "promised to another");
    let (mut loading, mut sending) = (TestReplica::start(None, 2), TestLeader::new());
    sending.bring_up(&mut loading, &leader);
    loading.offered(&AppendRequest { command: AppendCommand::InstallSnapshot, ..plain.clone() }.encode_head(), 1, None);
    assert!(!offered(&mut loading, &plain), "it loads");
}

#[test]
fn a_sync_that_an_offer_at_once_asks_for_is_waited_for() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut leader = Making::begin(1 << 20).write(1);
    let mut replica = TestReplica::start_as(Some(directory.path()), 1, 0, 1 << 20);
    let mut sending = TestLeader::new();
    sending.bring_up(&mut replica, &leader);
    replica.syncs = false;
    sending.durable = true;
    leader = leader.write(1);
    let offer = sending.offer(&leader).expect("a record");
    assert!(replica.offered_at_once(&offer, 1));
    assert_eq!((replica.answers.len(), replica.position().sequence), (0, 2), "applied, and not answered");
    assert!(!replica.offered_at_once(&offer, 2), "an append may have to wait for the sync");
    replica.sync();
    let (_, answer) = replica.answers.pop().expect("answered");
    assert_eq!((answer.outcome, answer.hello.synced), (AppendOutcome::Applied, Some(2)));
    assert!(replica.offered_at_once(&offer, 2), "it has all of that, and answers");
}

#[test]
fn no_append_is_applied_inline_while_the_replica_writes_a_snapshot() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let mut leader = Making::begin(1 << 20).write(2);
    let mut replica = TestReplica::start_as(Some(directory.path()), 1, 1_000, 1 << 20);
    let mut sending = TestLeader::new();
    sending.bring_up(&mut replica, &leader);
    let mut actions = Vec::new();
    replica.replica.tick(Monotonic::from_ms(2_000), &mut actions);
    let begun = |action: &ReplicaAction<u32>| matches!(action, ReplicaAction::Snapshot(..));
    assert!(actions.iter().any(begun), "one is due");
    for action in actions {
        if let ReplicaAction::Sync(sync) = action {
            replica.replica.synced(&sync, sync.run(), &mut Vec::new());
        }
    }
    leader = leader.write(1);
    let offer = sending.offer(&leader).expect("a record");
    assert!(!replica.offered_at_once(&offer, 1), "the disk is busy");
    let failed = Err(FileError::io("a snapshot")(std::io::Error::other("on purpose")));
    replica.replica.snapshot_ended(&failed, 1, Monotonic::from_ms(2_001), &mut Vec::new());
    assert!(replica.offered_at_once(&offer, 1));
}
