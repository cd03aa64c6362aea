//! From one release to the next on the same files.
//!
//! `tests/golden/database-v1` has the directories of a leader and of its replica as the release before entries wrote
//! them, each with its MANIFEST, a segment of the log, and the snapshot behind which that goes on. `MEMDB_OLD_BINARY`
//! names a binary of that release for the test that upgrades a running cluster.

#![allow(clippy::disallowed_methods, reason = "a test of real processes and their files")]

use crate::faults::starved::skipped;
use reqwest::blocking::{Client, RequestBuilder};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use testkit::{
    client::{Counts, new_client, status},
    process::{Node, REPAIR, Start, equal_within},
    wait_until,
};

/// A start may let the clock of the database advance by five minutes, and keys are remembered for ten.
const KEYS_STAY: [&str; 2] = ["--key-window-seconds", "86400"];
const POST: &str = r#"{"id":"p","title":"aye","content":"there is the rub"}"#;

/// A copy of a golden directory, which has format 1.
fn of_format_1(node: &str) -> TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/database-v1").join(node);
    let copy = TempDir::new().expect("a directory");
    for (name, bytes) in files(&golden) {
        assert_eq!(bytes[8..10], [1, 0], "{name}: the version in its header");
        fs::write(copy.path().join(name), bytes).expect("written");
    }
    copy
}

/// The files of the database.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let listed = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("listed"));
    let named = listed.map(|entry| (entry.file_name().into_string().expect("ASCII"), entry.path()));
    let of_database =
        named.filter(|(name, _)| ["MANIFEST", "log-", "snapshot-"].iter().any(|prefix| name.starts_with(prefix)));
    of_database.map(|(name, path)| (name, fs::read(path).expect("readable"))).collect()
}

fn get(client: &Client, node: &Node, path: &str) -> (u16, String) {
    let answer = client.get(format!("{}{path}", node.url)).send().expect("it answers");
    (answer.status().as_u16(), answer.text().expect("whole"))
}

/// Sends a write that must be taken; its answer.
#[track_caller]
fn taken(request: RequestBuilder) -> Value {
    let answer = request.send().expect("it answers");
    let (status, body) = (answer.status(), answer.text().expect("whole"));
    assert!(status.is_success(), "{status} {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Posts a text with the headers of a repeatable write.
fn text(client: &Client, to: &Node, text: &'static str, headers: &[(&str, &str)]) -> Value {
    let request = client.post(format!("{}/post", to.url)).header("content-type", "text/plain").body(text);
    taken(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
}

/// Writes an entry without an end and a post.
fn write_entries(client: &Client, leader: &Node) {
    taken(client.put(format!("{}/cache/a/b", leader.url)).body("value"));
    taken(client.post(format!("{}/create", leader.url)).header("content-type", "application/json").body(POST));
}

#[track_caller]
fn has_entries(client: &Client, node: &Node) {
    assert_eq!(get(client, node, "/cache/a/b"), (200, "value".to_owned()), "{}", node.url);
    assert_eq!(get(client, node, "/post?id=p"), (200, POST.to_owned()), "{}", node.url);
}

fn words(counts: &[(&str, i64)]) -> Counts {
    counts.iter().map(|&(word, count)| (word.to_owned(), count)).collect()
}

#[test]
fn directories_of_format_1_are_led_and_followed_and_take_entries() {
    let (data, client) = ([of_format_1("leader"), of_format_1("replica")], new_client());
    let mut leader = Start::leader(data[0].path()).with(&KEYS_STAY).run();
    let mut replica = Start::replica(&leader).data(data[1].path()).with(&KEYS_STAY).run();
    leader.until_connected(1);
    let singles = ["or", "not", "that", "is", "the", "question", "sleep", "perchance", "dream"].map(|word| (word, 1));
    let mut expected = words(&[&singles[..], &[("to", 4), ("be", 2)]].concat());
    assert_eq!(equal_within(REPAIR, &leader, &[&replica]).0, expected);
    for node in [&leader, &replica] {
        assert_eq!(get(&client, node, "/wordcount?ns=titles&word=hamlet"), (200, "{\"hamlet\":1}\n".to_owned()));
    }
    let repeats = |leader: &Node| {
        let said = text(&client, leader, "to be or not to be", &[("idempotency-key", "first")]);
        assert_eq!((&said["replayed"], &said["position"]), (&json!(true), &json!("1-1-3ddbca3e")), "{said}");
        let said = text(&client, leader, "to sleep", &[("idempotency-key", "second")]);
        assert_eq!((&said["replayed"], &said["position"]), (&json!(true), &json!("2-4-3ddbca3e")), "{said}");
        let line = [("memdb-stream", "lines"), ("memdb-stream-seq", "2")];
        assert_eq!(text(&client, leader, "perchance to dream", &line)["replayed"], true);
    };
    repeats(&leader);
    write_entries(&client, &leader);
    expected.extend(words(&[("aye", 1), ("there", 1), ("is", 2), ("the", 2), ("rub", 1)]));
    for signal in [Signal::TERM, Signal::KILL] {
        replica.end(signal);
        leader.end(signal);
        leader.start_again();
        replica.start_again();
        leader.until_connected(1);
        assert_eq!(equal_within(REPAIR, &leader, &[&replica]).0, expected, "{signal:?}");
        [&leader, &replica].into_iter().for_each(|node| has_entries(&client, node));
        repeats(&leader);
    }
}

/// The state of a replica, as its leader reports it.
fn state_of(leader: &Node, replica: &Node) -> Option<String> {
    let status = status(&leader.url)?;
    let one = status["replicas"].as_array()?.iter().find(|one| one["url"] == replica.url)?;
    one["state"].as_str().map(str::to_owned)
}

#[test]
fn a_cluster_is_upgraded_node_by_node_and_an_old_replica_of_a_new_leader_refuses() {
    let Some(old) = std::env::var_os("MEMDB_OLD_BINARY").map(PathBuf::from) else {
        return skipped("an upgrade node by node: MEMDB_OLD_BINARY names no binary of the release before");
    };
    let (data, client) = ([0; 3].map(|_| TempDir::new().expect("a directory")), new_client());
    let [leads, first, second] = data.each_ref().map(TempDir::path);
    let mut leader = Start::leader(leads).binary(&old).run();
    let follow = |leader: &Node, data: &Path| Start::replica(leader).data(data);
    let mut replicas = [first, second].map(|data| follow(&leader, data).binary(&old).run());
    leader.until_connected(2);
    let keyed = |leader: &Node| text(&client, leader, "to be or not to be", &[("idempotency-key", "first")]);
    keyed(&leader);

    replicas[0].start_as(follow(&leader, first));
    leader.until_connected(2);
    text(&client, &leader, "to sleep", &[]);
    let counts = words(&[("to", 3), ("be", 2), ("or", 1), ("not", 1), ("sleep", 1)]);
    assert_eq!(equal_within(REPAIR, &leader, &[&replicas[0], &replicas[1]]).0, counts);

    // The leader too early: one replica is of the release before.
    leader.start_as(Start::leader(leads));
    wait_until("the new replica is connected", || {
        state_of(&leader, &replicas[0]).is_some_and(|state| state == "streaming")
    });
    let before = files(second);
    assert_eq!(keyed(&leader)["replayed"], true);
    write_entries(&client, &leader);
    wait_until("the leader reports the old replica as refused", || {
        state_of(&leader, &replicas[1]).is_some_and(|state| state == "refused")
    });
    let why = format!("{} cannot read what it is sent: a record this release does not know", replicas[1].url);
    assert!(leader.said().contains(&why), "{}", leader.said());
    let kept = get(&client, &replicas[1], "/wordcount?word=to");
    assert_eq!(kept, (200, "{\"to\":3}\n".to_owned()), "it serves what it has");
    let after = files(second);
    for (name, bytes) in before.iter().filter(|(name, _)| *name != "MANIFEST") {
        assert_eq!(after.get(name), Some(bytes), "{name}");
    }

    replicas[1].start_as(follow(&leader, second));
    leader.until_connected(2);
    let (counts, _) = equal_within(REPAIR, &leader, &[&replicas[0], &replicas[1]]);
    assert_eq!((counts["to"], counts["aye"]), (3, 1));
    [&leader, &replicas[0], &replicas[1]].into_iter().for_each(|node| has_entries(&client, node));
    assert_eq!(keyed(&leader)["replayed"], true);
}
