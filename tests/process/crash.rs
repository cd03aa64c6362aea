//! Kills the real leader at random moments under load, and checks that nothing acknowledged is lost or doubled.
//!
//! `make crash` runs it; `MEMDB_CRASH_RUNS` (200) says how often, `MEMDB_CRASH_SEED` repeats one choice of moments.
//! Each round starts the process on the files the last one left, lets eight clients post with keys and streams, and
//! ends it by SIGKILL, or one time in four by SIGTERM. Whatever was not answered is repeated under its key in the next
//! round. Every post counts a word of its own and a word common to all, so that a post that counts in part, twice or
//! not at all shows. Each client also increments a counter of its own, whose workers are slow: what a round has left in
//! the queue is counted in the next, once.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test of the real process: real time, real files"
)]

mod bulk;
mod client;

use client::{Client, Ledger};
use rustix::process::Signal;
use std::{collections::HashMap, path::Path, time::Duration};
use testkit::{
    Random,
    client::status,
    guard::NodeGuard,
    number_from,
    process::{Node, Start},
    wait_for,
};

const CLIENTS: u64 = 8;

#[tokio::test]
async fn three_crashes_lose_and_double_nothing() {
    crashes(3, 1, NodeGuard::from_environment()).await;
}

#[tokio::test]
async fn three_crashes_with_tls_and_users_lose_and_double_nothing() {
    crashes(3, 2, NodeGuard::TlsAndUsers).await;
}

#[tokio::test]
#[ignore = "takes minutes: make crash"]
async fn crashes_at_random_moments_lose_and_double_nothing() {
    let seed = number_from("MEMDB_CRASH_SEED").unwrap_or_else(|| std::process::id().into());
    crashes(number_from("MEMDB_CRASH_RUNS").unwrap_or(200), seed, NodeGuard::from_environment()).await;
}

async fn crashes(runs: u64, seed: u64, guard: NodeGuard) {
    println!("{runs} crashes, MEMDB_CRASH_SEED={seed}, {guard:?}");
    let directory = tempfile::tempdir().expect("a place for the data");
    let mut random = Random::new(seed);
    let mut clients: Vec<Client> = (0..CLIENTS).map(Client::new).collect();
    let (mut killed, mut terminated) = (0, 0);
    for run in 0..runs {
        let leader = start(directory.path(), guard);
        check(&leader, &clients, run).await;
        let moment = Duration::from_millis(1 + random.below(150) as u64);
        let signal = if random.below(4) == 0 { Signal::TERM } else { Signal::KILL };
        let url = leader.url.clone();
        let working: Vec<_> = clients.drain(..).map(|client| tokio::spawn(client.work(url.clone()))).collect();
        tokio::time::sleep(moment).await; // a random moment is what is wanted here
        leader.finish(signal);
        for client in working {
            clients.push(client.await.expect("a client does not panic"));
        }
        *(if signal == Signal::KILL { &mut killed } else { &mut terminated }) += 1;
    }
    let leader = start(directory.path(), guard);
    check(&leader, &clients, runs).await;
    let mut settled = Vec::new();
    for client in clients {
        settled.push(client.settle(&leader.url).await);
    }
    check(&leader, &settled, runs).await;
    let increments: i64 = settled.iter().map(|client| client.ledger.increments).sum();
    let posts: usize = settled.iter().map(|client| client.ledger.acknowledged.len()).sum();
    assert!(settled.iter().all(|client| client.ledger.open.is_none()), "everything was answered in the end");
    leader.finish(Signal::TERM);
    println!(
        "{killed} by SIGKILL, {terminated} by SIGTERM, {posts} posts, {increments} increments: none lost, none doubled, none in part"
    );
}

fn start(directory: &Path, guard: NodeGuard) -> Node {
    // No windows: increments wait for the workers alone, and some find the queue full.
    let counters = ["--max-key-rate", "none", "--worker-rate", "200", "--max-queue-size", "40"];
    Start::leader(directory).with(&counters).guarded(guard).run()
}

/// What the counters have against what their clients were told, once nothing waits.
async fn check_counters(leader: &Node, clients: &[Client], run: u64) {
    let url = leader.url.clone();
    let workers = tokio::task::spawn_blocking(move || {
        wait_for("every increment is counted", || {
            (status(&url)?["counter_queues"]["MAIN_QUEUE"]["increments"].as_u64()? == 0).then_some(())
        });
    });
    workers.await.expect("the workers come to their end");
    for Client { id, ledger, .. } in clients {
        let url = format!("{}/counter/c{id}", leader.url);
        let read: serde_json::Value =
            testkit::client::async_client().get(url).send().await.expect("it answers").json().await.expect("JSON");
        let (value, least) = (read["value"].as_i64().expect("a number"), ledger.increments);
        let most = least + i64::from(ledger.open_increment);
        assert!((least..=most).contains(&value), "run {run}: c{id} is {value}, and should be {least} to {most}");
    }
}

/// What the leader counts against what its clients were told.
async fn check(leader: &Node, clients: &[Client], run: u64) {
    let counts: HashMap<String, i64> = testkit::client::async_client()
        .get(format!("{}/sync", leader.url))
        .send()
        .await
        .expect("it answers")
        .json()
        .await
        .expect("JSON");
    let mut whole = 0;
    for Client { ledger: Ledger { acknowledged, open, .. }, .. } in clients {
        for word in acknowledged {
            assert_eq!(counts.get(word), Some(&1), "run {run}: {word} was acknowledged once");
        }
        whole += acknowledged.len() as i64;
        if let Some(open) = open {
            let count = counts.get(&open.word).copied().unwrap_or(0);
            assert!((0..=1).contains(&count), "run {run}: {} was not answered, and counts {count} times", open.word);
            whole += count;
        }
    }
    assert_eq!(counts.get("all").copied().unwrap_or(0), whole, "run {run}: the word common to all posts");
    let distinct = counts.len() as i64 - i64::from(whole > 0);
    assert_eq!(distinct, whole, "run {run}: a word for each post and none besides");
    check_counters(leader, clients, run).await;
}
