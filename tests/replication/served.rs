//! Whom a leader serves, and which replicas it notes in its MANIFEST.

#![allow(clippy::disallowed_methods, reason = "a test waits for what it waits for, with a deadline")]

use memdb::{
    config,
    data::store::DedupLimits,
    node::{LeaderNode, ReplicaNode},
    replication::{HELLO_TYPE, NodeState},
    storage::disk::{Disk, RealDisk},
    storage::file_header::DatabaseIdentity,
    storage::manifest::Manifest,
    storage::recovery,
    text::tokenizer::Analyzer,
};
use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};
use tempfile::TempDir;
use testkit::{
    node::{follow, lead, settings_of, url, write},
    wait_until,
};

/// As a follower at this address announces itself.
fn announce(leading: &LeaderNode, url: &str, local: bool) {
    let hello = NodeState { node: 1, url: url.to_owned(), local, ..NodeState::default() };
    let announced = testkit::client::new_client()
        .post(format!("http://{}/sync", leading.address()))
        .header("content-type", HELLO_TYPE);
    assert_eq!(announced.body(hello.encode()).send().expect("it answers").status(), 202);
}

/// The states of the replicas that the leader serves, by their addresses.
fn states(leading: &LeaderNode) -> Vec<(String, String)> {
    let status =
        testkit::client::new_client().get(format!("http://{}/status", leading.address())).send().expect("it answers");
    let status: serde_json::Value = serde_json::from_str(&status.text().expect("a body")).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let replicas = status["replicas"].as_array().expect("a leader tells of them");
    replicas.iter().map(|one| (text(&one["url"]), text(&one["state"]))).collect()
}

#[track_caller]
fn until(leading: &LeaderNode, what: &str, is: impl Fn(&[(String, String)]) -> bool) {
    wait_until(what, || is(&states(leading)));
}

fn streams(states: &[(String, String)], url: &str) -> bool {
    states.iter().any(|(at, state)| at == url && state == "streaming")
}

fn noted(data: &Path) -> Vec<String> {
    let disk = RealDisk::new(data).expect("a directory");
    Manifest::read(&disk).expect("whole").expect("there").state.replicas
}

#[test]
fn an_address_may_be_another_kind_of_followers_later() {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[]).expect("a leader");
    // Its own leader never hears it, so that it does not announce itself.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let following = follow(deaf.local_addr().expect("bound"), None);
    let replica = url(following.address());
    announce(&leading, &replica, true);
    announce(&leading, &replica, false);
    until(&leading, "the network replica is served", |states| streams(states, &replica));
    assert_eq!(noted(data.path()), [replica.as_str()]);
    assert_eq!(write(&leading, "word", 1).acks, 1);
    announce(&leading, &replica, true);
    until(&leading, "it is a local replica now", <[_]>::is_empty);
    assert_eq!(write(&leading, "word", 0).acks, 0, "it counts for nothing");
    assert!(noted(data.path()).is_empty(), "a local replica has nothing to give back");
    following.stop().expect("a clean stop");
    leading.stop().expect("a clean stop");
}

#[test]
fn announcements_do_not_drive_out_replicas_that_are_there() {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[]).expect("a leader");
    let following = follow(leading.address(), None);
    let replica = url(following.address());
    until(&leading, "the replica is connected", |states| streams(states, &replica));
    for port in 1..=2 * memdb::base::limits::MAX_REPLICAS {
        announce(&leading, &format!("http://127.0.0.1:{port}"), false); // where nothing listens
    }
    until(&leading, "others are served", |states| states.len() > 1);
    assert!(streams(&states(&leading), &replica));
    following.stop().expect("a clean stop");
    leading.stop().expect("a clean stop");
    assert_eq!(noted(data.path()), [replica], "nobody else ever answered");
}

/// The names of numbers of memdb and its process in a text.
fn numbers_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("memdb_") || word.starts_with("process_")).collect()
}

fn metrics(address: SocketAddr) -> String {
    let metrics = testkit::client::new_client().get(format!("http://{address}/metrics")).send().expect("it answers");
    metrics.text().expect("a body")
}

/// Has `make test` say at its end what was left out here.
fn skipped(what: &str) {
    use std::io::Write;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped.txt");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "skipped: {what}")).expect("a file");
}

/// Runs `promtool` on a file, or on what is given to it; `None` where it is not installed.
fn promtool(arguments: &[&str], input: &str) -> Option<std::process::Output> {
    use std::{io::Write, process::Stdio};
    let spawned = std::process::Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = spawned.ok()?;
    promtool.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    Some(promtool.wait_with_output().expect("it ends"))
}

#[test]
fn every_number_in_the_alert_rules_the_dashboard_and_the_documents_is_one_that_a_node_has() {
    let data = TempDir::new().expect("a directory");
    let (leading, kept) = (lead(data.path(), &[]).expect("a leader"), TempDir::new().expect("a directory"));
    let kept = kept.path().to_str().expect("UTF-8");
    let leader = url(leading.address());
    let follower =
        // A quota has a series once it is given.
        ReplicaNode::start(&settings_of(
            config::StartRole::Replica,
            &[("leader", &leader), ("data-dir", kept), ("namespace-quota", "*=words:1000,bytes:1MiB")],
        ));
    let follower = follower.expect("a replica");
    until(&leading, "the replica is served", |states| states.iter().any(|(_, state)| state == "streaming"));
    // A namespace has a series once it holds a word.
    let post =
        testkit::client::new_client().post(format!("{leader}/post")).header("content-type", "text/plain").body("hello");
    assert_eq!(post.send().expect("it answers").status(), 202);
    let (of_leader, of_follower) = (metrics(leading.address()), metrics(follower.address()));
    let known: BTreeSet<&str> = numbers_in(&of_leader).union(&numbers_in(&of_follower)).copied().collect();
    let pages = [
        "examples/prometheus/alerts.yml",
        "examples/heavy-read/grafana/provisioning/dashboards/memdb.json",
        "docs/operating.md",
        "docs/http-api.md",
        "docs/limits.md",
        "docs/posts.md",
        "docs/counters.md",
    ];
    for page in pages {
        let text = std::fs::read_to_string(page).expect("the page");
        for number in numbers_in(&text) {
            // A reason, or an outcome, has a series once it was seen.
            let of_a_reason = ["memdb_refused_total", "memdb_credentials_refused_total", "memdb_tls_handshakes_total"];
            assert!(
                known.contains(number) || of_a_reason.contains(&number),
                "{page} names {number}, which no node has"
            );
        }
    }
    let rules = promtool(&["check", "rules", "examples/prometheus/alerts.yml"], "");
    let Some(rules) = rules else {
        return skipped("promtool is not installed: the syntax of the alert rules was not checked");
    };
    assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
    for text in [&of_leader, &of_follower] {
        let lint = promtool(&["check", "metrics"], text).expect("it was there just now");
        assert!(lint.status.success(), "{}\n{text}", String::from_utf8_lossy(&lint.stderr));
    }
}

/// The body that a node answers with.
fn got(address: SocketAddr, path: &str) -> String {
    testkit::client::new_client()
        .get(format!("http://{address}{path}"))
        .send()
        .expect("it answers")
        .text()
        .expect("a body")
}

fn post(leading: &LeaderNode, text: &str) -> String {
    let post = testkit::client::new_client().post(format!("http://{}/post", leading.address())).body(text.to_owned());
    let answer = post.send().expect("it answers");
    assert_eq!(answer.status(), 202);
    answer.headers()["memdb-position"].to_str().expect("ASCII").to_owned()
}

/// What is counted of the same text by a leader of these files, and by its replica.
fn counted_on_both(data: &Path) -> (String, u64) {
    let leading = lead(data, &[]).expect("a leader");
    let following = follow(leading.address(), None);
    until(&leading, "the replica is connected", |states| streams(states, &url(following.address())));
    let position = post(&leading, "don\u{2019}t _very_");
    let read = testkit::client::new_client()
        .get(format!("http://{}/sync", following.address()))
        .header("memdb-min-position", position);
    let followed = read.send().expect("it answers").text().expect("a body");
    let sorted = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("JSON").to_string();
    assert_eq!(sorted(&got(leading.address(), "/sync")), sorted(&followed), "the replica counts as its leader");
    let version = |address| {
        let status: serde_json::Value = serde_json::from_str(&got(address, "/status")).expect("JSON");
        assert_eq!(status["analyzer"], "standard");
        status["analyzer_version"].as_u64().expect("a version")
    };
    assert_eq!(version(leading.address()), version(following.address()));
    let told = (sorted(&followed), version(leading.address()));
    following.stop().expect("a clean stop");
    leading.stop().expect("a clean stop");
    told
}

#[test]
fn a_database_goes_on_with_the_version_of_the_analyzer_it_was_made_with() {
    let new = TempDir::new().expect("a directory");
    assert_eq!(counted_on_both(new.path()), (r#"{"don't":1,"very":1}"#.to_owned(), 2));
    let old = TempDir::new().expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(old.path()).expect("a directory"));
    let identity = DatabaseIdentity { database_id: 7, shard_id: 0, analyzer: Analyzer::StandardV1, hash_seed: 11 };
    let made = recovery::look(&*disk, identity, DedupLimits::default()).expect("it can be read");
    drop(
        made.finalize(&disk, &mut testkit::database::node_run(), memdb::base::limits::DEFAULT_SEGMENT_BYTES)
            .expect("it can be written"),
    );
    drop(disk);
    // Over a restart too, and when the analyzer is named.
    for times in 1..=2 {
        let expected = format!(r#"{{"_very_":{times},"don’t":{times}}}"#);
        assert_eq!(counted_on_both(old.path()), (expected, 1));
    }
    let settings = [("data-dir", old.path().to_str().expect("UTF-8")), ("analyzer", "standard")];
    let leading = LeaderNode::start(&settings_of(config::StartRole::Leader, &settings)).expect("a leader");
    assert!(got(leading.address(), "/status").contains(r#""analyzer_version":1"#));
    leading.stop().expect("a clean stop");
}
