//! Whole nodes: the name of a node, and the incarnation of its directory, as `/status` shows them.

#![allow(clippy::disallowed_methods)] // empties a directory as a person does

use memdb::node::NodeError;
use serde_json::Value;
use testkit::{
    client::status,
    node::{follow, lead, url, write},
    wait_for,
};

/// What `/status` says of the node at this address.
fn shown(address: std::net::SocketAddr) -> (Value, Value) {
    let status = status(&url(address)).expect("it runs");
    (status["node_name"].clone(), status["incarnation"].clone())
}

#[test]
fn a_node_keeps_its_name_and_is_refused_under_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path();
    let named = lead(data, &[("node-name", "n-east")]).expect("a new database");
    let (name, incarnation) = shown(named.address());
    assert_eq!(name, "n-east");
    assert!(incarnation.as_str().is_some_and(|text| text.len() == 16 && text != "0000000000000000"), "{incarnation}");
    named.stop().expect("a clean stop");
    let refused = lead(data, &[("node-name", "n-west")]).map(|_| ());
    let told = refused.as_ref().map_err(ToString::to_string).expect_err("it is another node's");
    assert!(matches!(refused, Err(NodeError::OtherName { .. })), "{refused:?}");
    assert!(
        told.contains(r#""n-east""#) && told.contains("Leave out --node-name, or give an empty --data-dir"),
        "{told}"
    );
    for given in [&[][..], &[("node-name", "n-east")]] {
        let again = lead(data, given).expect("it is the same node");
        assert_eq!(shown(again.address()), (name.clone(), incarnation.clone()), "after a clean stop");
        again.stop().expect("a clean stop");
    }
}

#[test]
fn a_replica_draws_a_name_and_shows_an_incarnation_only_of_files() {
    let (leads, follows) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let leader = lead(leads.path(), &[("ack", "leader")]).expect("a new database");
    write(&leader, "word", 1);
    let drawn = |name: &Value| name.as_str().is_some_and(|name| name.len() == 10 && name.starts_with("n-"));
    let incarnation_of = |address| {
        wait_for("files", || Some(shown(address).1).filter(|incarnation| !incarnation.is_null()));
        shown(address)
    };
    let with_files = follow(leader.address(), Some(follows.path()));
    let first = incarnation_of(with_files.address());
    assert!(drawn(&first.0), "{first:?}");
    with_files.stop().expect("a clean stop");
    let again = follow(leader.address(), Some(follows.path()));
    assert_eq!(incarnation_of(again.address()), first, "after a clean stop");
    again.stop().expect("a clean stop");
    // Emptied, it loads everything anew, and is another node.
    for file in std::fs::read_dir(follows.path()).expect("readable") {
        std::fs::remove_file(file.expect("readable").path()).expect("removable");
    }
    let emptied = follow(leader.address(), Some(follows.path()));
    let after = incarnation_of(emptied.address());
    assert!(after.0 != first.0 && after.1 != first.1, "{first:?} {after:?}");
    emptied.stop().expect("a clean stop");
    let in_memory = follow(leader.address(), None);
    wait_for("its data", || in_memory.follower().view().is_ready().then_some(()));
    let shown = shown(in_memory.address());
    assert!(drawn(&shown.0) && shown.1.is_null(), "{shown:?}");
    in_memory.stop().expect("a clean stop");
    leader.stop().expect("a clean stop");
}
