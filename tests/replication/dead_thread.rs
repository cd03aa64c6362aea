//! A role whose main thread panics: its workers may still write, so nothing else of this process touches the files.

use memdb::{
    base::{clock::LoggedTime, position::Position},
    config::StartRole,
    data::store::{DedupLimits, StateId, Store},
    engine::replica::{LoadedSnapshot, ReplicaEvent},
    node::{NodeError, ReplicaNode},
    storage::disk::RealDisk,
};
use std::io;
use testkit::{database::IDENTITY, node::settings_of};

#[tokio::test]
async fn a_replica_whose_thread_panicked_stops_with_an_error_and_keeps_its_directory_locked() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let node =
        ReplicaNode::start(&settings_of(StartRole::Replica, &[("leader", "http://127.0.0.1:1"), ("data-dir", path)]))
            .expect("a replica");
    let mut store = Store::new(IDENTITY.hasher(), DedupLimits::default());
    store.set_state_id(StateId { position: Position::new(0, 5), ..StateId::default() }, LoggedTime::ZERO);
    // Five records in memory and no file that has them: the core refuses to go on, by a panic.
    let impossible = LoadedSnapshot { identity: IDENTITY, store, temporary: None };
    node.follower().send(ReplicaEvent::Loaded(Ok(impossible)));
    node.follower().ended().await;
    let stopped = tokio::task::spawn_blocking(|| node.stop()).await.expect("no panic here");
    assert!(matches!(&stopped, Err(NodeError::Stop(what)) if what.contains("memdb-replica panicked")), "{stopped:?}");
    let other = RealDisk::existing(directory.path()).expect("there").lock();
    assert_eq!(other.expect_err("a worker may still write").kind(), io::ErrorKind::WouldBlock);
}
