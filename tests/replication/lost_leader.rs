//! A leader's directory is lost, or its machine: what a replica holds takes its place.

#![allow(clippy::disallowed_methods, reason = "a directory is copied as a test finds it")]

mod impostor;
mod other_database;

use impostor::Impostor;
use memdb::{
    base::position::{Position, PositionToken},
    engine::view::DatabaseView,
    net::peer_credentials::PeerCredentials,
    node::{LeaderNode, NodeError, ReplicaNode, restore},
    replication::{AppendAnswer, AppendOutcome, NodeState},
};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use testkit::node::{self, follow, lead, url};

const PATIENCE: Duration = Duration::from_secs(20);

/// Counts one word, and waits until a replica has acknowledged it.
fn write(leading: &LeaderNode, word: &str) -> PositionToken {
    let identity = leading.leader().view().current().as_ref().expect("it serves").identity;
    identity.token(node::write(leading, word, 1).position)
}

fn write_many(leading: &LeaderNode, times: usize) -> PositionToken {
    (1..times).fold(write(leading, "word"), |_, _| write(leading, "word"))
}

fn count(view: &DatabaseView, word: &str) -> i64 {
    view.current().as_ref().expect("it serves").reader.read().count("words", word)
}

fn reached(view: &Arc<DatabaseView>, position: PositionToken) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let standing = runtime.block_on(view.position_status(position, PATIENCE));
    assert_eq!(standing, Some(memdb::base::position::PositionStatus::Reached), "{position}");
}

/// Once the replica keeps a snapshot that has everything.
fn stopped_and_started(following: ReplicaNode, leader: SocketAddr, data: &Path) -> ReplicaNode {
    following.stop().expect("a clean stop");
    follow(leader, Some(data))
}

#[test]
fn an_empty_directory_is_refused_and_restored_from_a_replica() {
    let (lost, kept, anew) = (TempDir::new(), TempDir::new(), TempDir::new());
    let [lost, kept, anew] = [lost, kept, anew].map(|directory| directory.expect("a directory"));
    let leading = lead(lost.path(), &[]).expect("a leader");
    let following = follow(leading.address(), Some(kept.path()));
    let last = write_many(&leading, 30);
    reached(following.follower().view(), last);
    let following = stopped_and_started(following, leading.address(), kept.path());
    let last = write_many(&leading, 10);
    reached(following.follower().view(), last);
    leading.stop().expect("a clean stop");
    drop(lost);

    let replica = url(following.address());
    let refused = lead(anew.path(), &[("replica", &replica)]).err().expect("nothing is begun over a database");
    assert!(refused.to_string().contains(&format!("memdb restore --from {replica}")), "{refused}");
    let (mut seen, mut told) = (0, None);
    let restored =
        restore(&replica, anew.path(), &PeerCredentials::default(), Duration::from_secs(10), &mut |bytes, total| {
            (seen, told) = (bytes, total);
        });
    let restored = restored.expect("all of it");
    assert_eq!((restored.position.sequence, restored.words), (last.position.sequence, 1));
    assert!(seen > 0 && told == Some(seen), "{seen} {told:?}");
    let again = restore(&replica, anew.path(), &PeerCredentials::default(), Duration::from_secs(10), &mut |_, _| {})
        .expect_err("it holds a database now");
    assert!(again.to_string().contains("holds a database already"), "{again}");

    let leading = lead(anew.path(), &[("replica", &replica)]).expect("it leads");
    assert_eq!(count(leading.leader().view(), "word"), 40);
    let last = write(&leading, "word");
    assert!(last.position.epoch > restored.position.epoch);
    // The replica goes on from where it was.
    reached(following.follower().view(), last);
    assert_eq!(count(following.follower().view(), "word"), 41);
    following.stop().expect("a clean stop");
    leading.stop().expect("a clean stop");
}

#[test]
fn a_copy_is_made_of_a_leader_that_runs() {
    let (data, copy) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let leading = lead(data.path(), &[]).expect("a leader");
    write_many(&leading, 20);
    leading.stop().expect("a clean stop, with a snapshot");
    let leading = lead(data.path(), &[]).expect("a leader");
    let last = write_many(&leading, 10);
    let restored = restore(
        &url(leading.address()),
        copy.path(),
        &PeerCredentials::default(),
        Duration::from_secs(10),
        &mut |_, _| {},
    )
    .expect("a leader gives it too");
    assert_eq!((restored.position, restored.words), (last.position, 1));
    leading.stop().expect("a clean stop");
    let copied = lead(copy.path(), &[]).expect("it has everything");
    assert_eq!(count(copied.leader().view(), "word"), 30);
    let next = write(&copied, "word");
    assert_eq!(next.position.sequence, last.position.sequence + 1);
    assert!(next.position.epoch > last.position.epoch);
    copied.stop().expect("a clean stop");
}

#[test]
fn a_replicas_directory_does_not_lead_by_itself_and_the_old_leader_goes_on() {
    let (old, kept) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let leading = lead(old.path(), &[]).expect("a leader");
    let following = follow(leading.address(), Some(kept.path()));
    let last = write_many(&leading, 20);
    reached(following.follower().view(), last);
    leading.stop().expect("a clean stop");
    following.stop().expect("a clean stop");

    let refused = lead(kept.path(), &[]).err().expect("whom it followed may have more");
    assert!(matches!(&refused, NodeError::Succeeded { .. }), "{refused}");
    assert!(refused.to_string().contains("promote it"), "{refused}");
    let back = lead(old.path(), &[]).expect("it led last");
    let next = write(&back, "word");
    assert_eq!(next.position, Position::new(2, last.position.sequence + 1));
    back.stop().expect("a clean stop");
}

/// Where a replica stands that has this much of a database in epoch 1.
fn standing_at(database: u128, sequence: u64) -> Vec<u8> {
    let hello = NodeState {
        node: 1,
        url: "http://127.0.0.1:1".into(),
        database: Some(database),
        epoch: 1,
        position: Position::new(1, sequence),
        ..NodeState::default()
    };
    AppendAnswer { outcome: AppendOutcome::Applied, hello }.encode()
}

#[test]
fn a_leader_begins_no_database_while_a_replica_does_not_say_whether_it_holds_one() {
    let empty = TempDir::new().expect("a directory");
    let mut asked = 0;
    let starting = Impostor::start(move |_| {
        asked += 1;
        if asked == 1 { (503, b"starting".to_vec()) } else { (200, standing_at(7, 3)) }
    });
    let refused = lead(empty.path(), &[("replica", &starting.url)]).err().expect("it holds a database");
    assert!(refused.to_string().contains(&format!("memdb restore --from {}", starting.url)), "{refused}");
    let unfriendly = Impostor::start(|_| (403, b"cluster-secret".to_vec()));
    let refused = lead(empty.path(), &[("replica", &unfriendly.url)]).err().expect("it may hold a database");
    assert!(refused.to_string().contains(&unfriendly.url) && refused.to_string().contains("403"), "{refused}");
    let leading = lead(empty.path(), &[("replica", &unfriendly.url), ("init", "true")]).expect("it was asked for");
    leading.stop().expect("a clean stop");
}

#[test]
fn a_lost_tail_is_taken_from_whoever_gives_it_and_nobody_leads_without_it() {
    let [whole, cut, kept] = [(); 3].map(|()| TempDir::new().expect("a directory"));
    let leading = lead(whole.path(), &[]).expect("a leader");
    let following = follow(leading.address(), Some(kept.path()));
    reached(following.follower().view(), write_many(&leading, 10));
    for entry in whole.path().read_dir().expect("readable").map(|entry| entry.expect("readable")) {
        if entry.file_type().expect("known").is_file() {
            std::fs::copy(entry.path(), cut.path().join(entry.file_name())).expect("copied");
        }
    }
    let last = write_many(&leading, 20);
    reached(following.follower().view(), last);
    let database = leading.leader().view().current().as_ref().expect("it serves").identity.database_id;
    leading.stop().expect("a clean stop");

    let says = move |sequence| {
        move |request: &str| match request.starts_with("POST") {
            true => (200, standing_at(database, sequence)),
            false => (410, b"position-lost".to_vec()),
        }
    };
    let (as_much, more) = (Impostor::start(says(30)), Impostor::start(says(31)));
    let (sound, more_url) = (url(following.address()), more.url.clone());
    let refused = lead(cut.path(), &[("replica", &format!("{sound},{more_url}"))]);
    let refused = refused.err().expect("record 31 exists").to_string();
    assert!(refused.contains(&more_url) && refused.contains("ends at record 30"), "{refused}");
    more.stop();
    let all = format!("{sound},{},{more_url}", as_much.url);
    let leading = lead(cut.path(), &[("replica", &all)]).expect("the replica that has 31 is not there");
    assert_eq!(count(leading.leader().view(), "word"), 30);
    assert_eq!(write(&leading, "word").position, Position::new(2, 31));
    following.stop().expect("a clean stop");
    leading.stop().expect("a clean stop");
}
