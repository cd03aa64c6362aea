//! Descriptors and threads are bounded, whatever is posted and whoever hangs.

use super::posters::Posters;
use reqwest::blocking::Client;
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};
use tempfile::TempDir;
use testkit::{
    client::{Counts, new_client},
    process::{Node, REPAIR, Start, equal_within},
    wait_for,
};

/// Descriptors a process of these tests may have.
const DESCRIPTORS: u32 = 128;
const CLIENTS: u64 = 16;

/// A client that makes a connection for each post.
fn one_connection_a_post() -> Client {
    testkit::client::builder().pool_max_idle_per_host(0).build().expect("a client")
}

/// The most descriptors that each node has at once while `work` is done.
fn most_descriptors(nodes: &[&Node], work: impl FnOnce()) -> Vec<usize> {
    let most: Vec<_> = nodes.iter().map(|node| AtomicUsize::new(node.descriptors())).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (node, most) in nodes.iter().zip(&most) {
                    most.fetch_max(node.descriptors(), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        work();
        over.store(true, Ordering::Relaxed);
    });
    most.into_iter().map(AtomicUsize::into_inner).collect()
}

/// Before: a socket per update and replica, until there was none left, and updates that were lost for good.
#[test]
fn updates_are_not_lost_under_load_for_want_of_descriptors() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).descriptors(DESCRIPTORS).run();
    let replica = |_| Start::replica(&leader).descriptors(DESCRIPTORS).run();
    let replicas: Vec<_> = (0..3).map(replica).collect();
    leader.until_connected(replicas.len());
    let nodes: Vec<_> = std::iter::once(&leader).chain(&replicas).collect();
    let before: Vec<_> = nodes.iter().map(|node| node.descriptors()).collect();
    let mut expected = Counts::new();
    let most = most_descriptors(&nodes, || {
        let keep = Posters::start_with(&leader.url, 0, CLIENTS, 100, new_client);
        let close = Posters::start_with(&leader.url, 1, CLIENTS, 100, one_connection_a_post);
        keep.wait(&mut expected);
        close.wait(&mut expected);
    });
    println!("descriptors before {before:?}, at most {most:?} in {} posts", expected["all"]);
    // One for each client, and the test's own questions; on a replica the leader's line and those questions. A client
    // that closes may be back before its last connection is done with.
    assert!(most[0] <= before[0] + 3 * CLIENTS as usize, "the leader: {most:?} after {before:?}");
    for (most, before) in most[1..].iter().zip(&before[1..]) {
        assert!(*most <= before + 6, "a replica: {most} after {before}");
    }
    let (counts, _) = equal_within(REPAIR, &leader, &replicas.iter().collect::<Vec<_>>());
    assert_eq!(counts, expected);
}

/// Before: a task and a descriptor for each post, for as long as the replica hung.
#[test]
fn a_hung_replica_costs_no_task_and_no_descriptor_per_post() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let replica = Start::replica(&leader).run();
    leader.until_connected(1);
    let mut expected = Counts::new();
    // Who posts is connected, and has posted, before anything is measured.
    Posters::start_with(&leader.url, 0, CLIENTS, 5, new_client).wait(&mut expected);
    let (descriptors, threads) = (leader.descriptors(), leader.threads());
    replica.freeze();
    let most = most_descriptors(&[&leader], || {
        // Were each post to wait for the replica, or every sixteenth, this would not end in time.
        let posters = Posters::start_with(&leader.url, 1, CLIENTS, 100, new_client);
        wait_for("posts go on without the hung replica", || (posters.answered() == 100 * CLIENTS).then_some(()));
        posters.wait(&mut expected);
    });
    println!("descriptors before {descriptors}, at most {most:?}; threads before {threads}, then {}", leader.threads());
    assert!(most[0] <= descriptors + CLIENTS as usize + 6, "{most:?} after {descriptors}");
    assert!(leader.threads() <= threads + 1, "{} after {threads}", leader.threads());
    replica.thaw();
    let (counts, _) = equal_within(REPAIR, &leader, &[&replica]);
    assert_eq!(counts, expected);
}
