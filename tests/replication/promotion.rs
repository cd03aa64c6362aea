//! A replica is made the leader while everything runs in this process: who may, what becomes of the old leader and of
//! what clients were told.

use memdb::{config, node::SwitchingNode};
use reqwest::blocking::Client;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};
use tempfile::TempDir;
use testkit::{PATIENCE, node::settings_of, wait_for, wait_until};

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

fn lead(data: &Path, port: u16) -> SwitchingNode {
    let (data, port) = (data.to_str().expect("UTF-8"), port.to_string());
    let values = [("data-dir", data), ("ack-timeout-ms", "300")];
    let mut settings = settings_of(config::StartRole::Leader, &values);
    settings.port = port.parse().expect("a number");
    SwitchingNode::start(settings).expect("a leader")
}

fn follow(leader: &str, data: Option<&Path>, port: u16) -> SwitchingNode {
    let data = data.map_or("none", |data| data.to_str().expect("UTF-8"));
    let mut settings =
        settings_of(config::StartRole::Replica, &[("leader", leader), ("data-dir", data), ("ack-timeout-ms", "300")]);
    settings.port = port;
    SwitchingNode::start(settings).expect("a replica")
}

fn url(node: &SwitchingNode) -> String {
    at(node.address())
}

fn at(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn http() -> Client {
    testkit::client::builder().timeout(Duration::from_secs(15)).build().expect("a client")
}

fn status(node: &str) -> Option<Value> {
    http().get(format!("{node}/status")).send().ok()?.json().ok()
}

fn is(node: &str, role: &str) {
    wait_for(&format!("{node} as a ready {role}"), || {
        status(node).filter(|status| status["role"] == role && status["ready"] == true)
    });
}

fn epoch(node: &str) -> u64 {
    status(node).expect("it answers")["epoch"].as_u64().expect("a number")
}

/// Posts until it counts, as a client does that knows its key; gives the position, and whether it had counted before.
fn post_on(node: &str, key: &str, text: &str, level: &str) -> (String, bool) {
    wait_for(&format!("a 202 for {key}"), || {
        let request = http().post(format!("{node}/post?ack={level}")).header("Idempotency-Key", key);
        let answer = request.header("Content-Type", "text/plain").body(text.to_owned()).send().ok()?;
        (answer.status() == 202).then(|| {
            let field = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned());
            (field("memdb-position").expect("a position"), field("memdb-replayed").is_some())
        })
    })
}

fn count(node: &str, word: &str, position: &str) -> i64 {
    wait_for(&format!("{word} at {position} on {node}"), || {
        let request = http().get(format!("{node}/wordcount?word={word}")).header("Memdb-Min-Position", position);
        let answer = request.send().ok()?;
        (answer.status() == 200).then(|| answer.json::<Value>().expect("JSON")[word].as_i64().expect("a count"))
    })
}

fn promote(node: &str, force: bool) -> Result<u64, (u16, String)> {
    let force = if force { "?force=true" } else { "" };
    let answer = http().post(format!("{node}/promote{force}")).body("").send().expect("an answer");
    let status = answer.status().as_u16();
    let body: Value = answer.json().expect("JSON");
    if status == 200 {
        Ok(body["epoch"].as_u64().expect("a number"))
    } else {
        Err((status, body["detail"].as_str().expect("a detail").to_owned()))
    }
}

#[test]
fn a_leader_hands_over_and_every_key_still_counts_once() {
    let [a, b, c] = [directory(), directory(), directory()];
    let old = lead(a.path(), 0);
    let old_url = url(&old);
    let (first, second) = (follow(&old_url, Some(b.path()), 0), follow(&old_url, Some(c.path()), 0));
    let (first_url, second_url) = (url(&first), url(&second));
    for node in [&first_url, &second_url] {
        is(node, "replica");
    }
    for key in 0..20 {
        post_on(&old_url, &format!("key {key}"), "hello world", "replica");
    }
    assert_eq!(promote(&old_url, false).expect_err("it leads").0, 409);
    let before = epoch(&old_url);
    assert_eq!(promote(&first_url, false), Ok(before + 1), "everybody was asked");
    is(&first_url, "leader");
    is(&old_url, "replica");
    is(&second_url, "replica");
    // A repeat at any node is one, and a new key counts, wherever it is sent.
    for node in [&first_url, &old_url, &second_url] {
        assert!(post_on(node, "key 7", "hello world", "leader").1, "{node}");
        assert!(!post_on(node, &format!("new at {node}"), "hello", "replica").1);
    }
    let (last, _) = post_on(&first_url, "the last", "hello", "replica");
    for node in [&first_url, &old_url, &second_url] {
        assert_eq!(count(node, "hello", &last), 24, "{node}");
        assert_eq!(count(node, "world", &last), 20, "{node}");
    }
    // And back again.
    assert_eq!(promote(&old_url, false), Ok(before + 2));
    is(&old_url, "leader");
    is(&first_url, "replica");
    let (last, _) = post_on(&first_url, "after all that", "hello", "replica");
    assert_eq!(count(&second_url, "hello", &last), 25);
    for node in [old, first, second] {
        node.stop().expect("a clean stop");
    }
}

#[test]
fn a_leader_that_is_gone_is_replaced_and_follows_when_it_comes_back() {
    let [a, b] = [directory(), directory()];
    let old = lead(a.path(), 0);
    let old_address = old.address();
    let replica = follow(&url(&old), Some(b.path()), 0);
    let replica_url = url(&replica);
    is(&replica_url, "replica");
    let (position, _) = post_on(&url(&old), "first", "hello", "replica");
    let before = epoch(&url(&old));
    old.stop().expect("a clean stop");
    let taken = promote(&replica_url, false).expect("nobody is in the way");
    assert!(taken > before + 1, "the old leader could not be asked: it may take the next epoch itself");
    is(&replica_url, "leader");
    assert_eq!(count(&replica_url, "hello", &position), 1);
    let (last, _) = post_on(&replica_url, "second", "hello", "leader");
    // It is started as a leader, as its service file says.
    let back = lead(a.path(), old_address.port());
    is(&url(&back), "replica");
    assert_eq!(count(&url(&back), "hello", &last), 2);
    assert!(post_on(&url(&back), "first", "hello", "replica").1);
    back.stop().expect("a clean stop");
    replica.stop().expect("a clean stop");
}

#[test]
fn writes_that_a_forced_leader_lacks_are_told_as_lost_and_count_once_when_repeated() {
    let [a, b] = [directory(), directory()];
    let old = lead(a.path(), 0);
    let old_address = old.address();
    let replica = follow(&url(&old), Some(b.path()), 0);
    let replica_address = replica.address();
    is(&url(&replica), "replica");
    let (kept, _) = post_on(&url(&old), "kept", "hello", "replica");
    assert_eq!(count(&url(&replica), "hello", &kept), 1);
    replica.stop().expect("a clean stop");
    let (lost, _) = post_on(&url(&old), "lost", "hello hello", "leader");
    old.stop().expect("a clean stop");
    let replica = follow(&at(old_address), Some(b.path()), replica_address.port());
    wait_for("an epoch", || promote(&url(&replica), false).ok());
    is(&url(&replica), "leader");
    assert_eq!(count(&url(&replica), "hello", &kept), 1);
    let asked = http().get(format!("{}/wordcount?word=hello", url(&replica))).header("Memdb-Min-Position", &lost);
    assert_eq!(asked.send().expect("an answer").status(), 410);
    let (again, replayed) = post_on(&url(&replica), "lost", "hello hello", "leader");
    assert!(!replayed);
    // The old leader's tail is not of this history: it loads what is.
    let back = lead(a.path(), old_address.port());
    is(&url(&back), "replica");
    assert_eq!(count(&url(&back), "hello", &again), 3);
    back.stop().expect("a clean stop");
    replica.stop().expect("a clean stop");
}

#[test]
fn a_replica_that_may_lack_records_or_keeps_no_files_does_not_lead() {
    let [a, b, c] = [directory(), directory(), directory()];
    let leader = lead(a.path(), 0);
    let leader_url = url(&leader);
    let (keeps, other) = (follow(&leader_url, Some(b.path()), 0), follow(&leader_url, Some(c.path()), 0));
    let without = follow(&leader_url, None, 0);
    for node in [&keeps, &other, &without] {
        is(&url(node), "replica");
    }
    let (position, _) = post_on(&leader_url, "one", "hello", "replica");
    for node in [&keeps, &other, &without] {
        assert_eq!(count(&url(node), "hello", &position), 1);
    }
    let refused = promote(&url(&without), true).expect_err("it has no files");
    assert!(refused.0 == 409 && refused.1.contains("keeps no files"), "{refused:?}");
    let known = |node: &SwitchingNode| status(&url(node)).is_some_and(|status| status["replicas_known"] == 3);
    wait_until("that all know each other", || known(&keeps));
    other.stop().expect("a clean stop");
    let refused = promote(&url(&keeps), false).expect_err("the other may have more");
    assert!(refused.0 == 409 && refused.1.contains("does not answer"), "{refused:?}");
    // A page in a browser is not a person who wants that.
    let page = http().post(format!("{}/promote?force=true", url(&keeps))).header("Origin", "http://evil.example");
    assert_eq!(page.body("").send().expect("an answer").status(), 403);
    // Nor is a body that nobody reads.
    for body in [r#"{"force":true}"#, "[1]", " "] {
        let ignored = http().post(format!("{}/promote", url(&keeps))).body(body).send().expect("an answer");
        let (status, told) = (ignored.status(), ignored.text().expect("a body"));
        assert!(status == 400 && told.contains("?force=true"), "{body}: {status} {told}");
    }
    // Nothing has changed.
    post_on(&leader_url, "two", "hello", "replica");
    let epoch = promote(&url(&keeps), true).expect("forced");
    is(&url(&keeps), "leader");
    let (last, _) = post_on(&leader_url, "three", "hello", "replica");
    assert!(last.starts_with(&format!("{epoch}-")), "{last} is of another epoch than {epoch}");
    assert_eq!(count(&url(&without), "hello", &last), 3);
    for node in [leader, keeps, without] {
        node.stop().expect("a clean stop");
    }
}

#[test]
fn a_promoted_node_leads_again_by_the_command_of_its_first_start_and_the_others_follow_it() {
    let [a, b] = [directory(), directory()];
    let old = lead(a.path(), 0);
    let (old_url, old_port) = (url(&old), old.address().port());
    let promoted = follow(&old_url, Some(b.path()), 0);
    let (new_url, new_port) = (url(&promoted), promoted.address().port());
    is(&new_url, "replica");
    post_on(&old_url, "first", "hello", "replica");
    let epoch_before = epoch(&old_url);
    assert_eq!(promote(&new_url, false), Ok(epoch_before + 1));
    is(&new_url, "leader");
    is(&old_url, "replica");
    post_on(&new_url, "second", "hello", "replica");
    promoted.stop().expect("a clean stop");
    old.stop().expect("a clean stop");
    // Its files are a follower's now, so it waits for the one that led, whatever its command says.
    let old = lead(a.path(), old_port);
    wait_for("a replica", || status(&old_url).filter(|status| status["role"] == "replica"));
    let promoted = follow(&old_url, Some(b.path()), new_port);
    is(&new_url, "leader");
    is(&old_url, "replica");
    assert_eq!(epoch(&new_url), epoch_before + 2, "every node could be asked");
    let (last, _) = post_on(&old_url, "third", "hello", "replica");
    assert_eq!(count(&old_url, "hello", &last), 3);
    let replicas = status(&new_url).expect("it answers")["replicas"].clone();
    let replicas: Vec<&Value> = replicas.as_array().expect("a list").iter().map(|replica| &replica["url"]).collect();
    assert_eq!(replicas, [&old_url], "it does not list itself");
    for node in [old, promoted] {
        node.stop().expect("a clean stop");
    }
}

#[test]
fn a_leader_that_followed_does_not_list_itself_when_it_leads_and_starts_again() {
    let [a, b] = [directory(), directory()];
    let old = lead(a.path(), 0);
    let (old_url, old_port) = (url(&old), old.address().port());
    let replica = follow(&old_url, Some(b.path()), 0);
    let replica_url = url(&replica);
    is(&replica_url, "replica");
    // There and back: each has been told of by the other as its replica.
    for node in [&replica_url, &old_url] {
        wait_for("an epoch", || promote(node, false).ok());
        is(node, "leader");
    }
    is(&replica_url, "replica");
    old.stop().expect("a clean stop");
    let old = lead(a.path(), old_port);
    is(&old_url, "leader");
    is(&replica_url, "replica");
    let listed = wait_for("a replica that is served", || {
        let replicas = status(&old_url)?["replicas"].as_array()?.clone();
        replicas.iter().any(|replica| replica["state"] == "streaming").then_some(replicas)
    });
    assert!(listed.iter().all(|replica| replica["url"] == *replica_url.as_str()), "{listed:?}");
    for node in [old, replica] {
        node.stop().expect("a clean stop");
    }
}

#[test]
fn a_new_replica_that_is_given_the_old_leaders_address_is_sent_on_to_the_new_one() {
    let [a, b, c] = [directory(), directory(), directory()];
    let old = lead(a.path(), 0);
    let old_url = url(&old);
    let promoted = follow(&old_url, Some(b.path()), 0);
    let promoted_url = url(&promoted);
    is(&promoted_url, "replica");
    post_on(&old_url, "first", "hello", "replica");
    promote(&promoted_url, false).expect("all are there");
    is(&promoted_url, "leader");
    is(&old_url, "replica");
    let late = follow(&old_url, Some(c.path()), 0);
    // A write through it counts, also before it has heard of the leader.
    let (last, _) = post_on(&url(&late), "second", "hello", "leader");
    is(&url(&late), "replica");
    assert_eq!(count(&url(&late), "hello", &last), 2);
    for node in [old, promoted, late] {
        node.stop().expect("a clean stop");
    }
}

/// A connection that is asked one thing after the other.
struct Connection {
    stream: TcpStream,
}

impl Connection {
    fn open(node: &str) -> Self {
        let stream = TcpStream::connect(node.trim_start_matches("http://")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { stream }
    }

    /// Sends a request and gives status and body; `None` if the connection is closed.
    fn ask(&mut self, head: &str, body: &str) -> Option<(u16, String)> {
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).ok()?;
        let mut bytes = Vec::new();
        let mut piece = [0; 4_096];
        let head_end = loop {
            let read = self.stream.read(&mut piece).ok().filter(|&read| read > 0)?;
            bytes.extend_from_slice(&piece[..read]);
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).expect("ASCII").to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().expect("a number"));
        while bytes.len() < head_end + length {
            let read = self.stream.read(&mut piece).ok().filter(|&read| read > 0)?;
            bytes.extend_from_slice(&piece[..read]);
        }
        let status = head.split(' ').nth(1)?.parse().expect("a status");
        Some((status, String::from_utf8(bytes[head_end..].to_vec()).expect("UTF-8")))
    }
}

#[test]
fn connections_that_were_open_before_a_hand_over_are_served_by_both_nodes_after_it() {
    let [a, b] = [directory(), directory()];
    let old = lead(a.path(), 0);
    let replica = follow(&url(&old), Some(b.path()), 0);
    let (old_url, new_url) = (url(&old), url(&replica));
    is(&new_url, "replica");
    post_on(&old_url, "first", "hello", "replica");
    let mut connections = [&old_url, &new_url].map(|node| {
        // One that has left the fast path, and one that stays there.
        [Connection::open(node), Connection::open(node)]
    });
    let read = "GET /wordcount?word=hello";
    for [slow, fast] in &mut connections {
        assert_eq!(slow.ask("GET /status", "").expect("open").0, 200);
        assert_eq!(fast.ask(read, "").expect("open").0, 200);
    }
    promote(&new_url, false).expect("all are there");
    // Reads go on meanwhile: not one of them is refused, and none of these connections is closed.
    for [slow, fast] in &mut connections {
        for connection in [slow, fast] {
            assert_eq!(connection.ask(read, ""), Some((200, "{\"hello\":1}\n".to_owned())));
        }
    }
    is(&new_url, "leader");
    is(&old_url, "replica");
    for (at, [slow, fast]) in connections.iter_mut().enumerate() {
        let role = if at == 0 { "\"role\":\"replica\"" } else { "\"role\":\"leader\"" };
        assert!(slow.ask("GET /status", "").expect("open").1.contains(role));
        for connection in [slow, fast] {
            assert_eq!(connection.ask("POST /post?ack=replica", "again").expect("open").0, 202);
        }
    }
    for node in [old, replica] {
        node.stop().expect("a clean stop");
    }
}

/// Overwrites the begin of every file: whoever reads it again finds damage.
#[allow(clippy::disallowed_methods, reason = "files are damaged beside the node")]
fn spoil(data: &Path) {
    for entry in std::fs::read_dir(data).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        if name.starts_with("snapshot-") || name.starts_with("log-") {
            let file = std::fs::OpenOptions::new().write(true).open(entry.path()).expect("a file");
            file.write_all_at(&[0xff; 200], 0).expect("it can be written");
        }
    }
}

#[test]
fn a_hand_over_reads_no_file_on_either_side() {
    let [a, b] = [directory(), directory()];
    let old = lead(a.path(), 0);
    let replica = follow(&url(&old), Some(b.path()), 0);
    let (old_url, new_url) = (url(&old), url(&replica));
    is(&new_url, "replica");
    let (position, _) = post_on(&old_url, "first", "hello", "replica+disk");
    assert_eq!(count(&new_url, "hello", &position), 1);
    for data in [a.path(), b.path()] {
        spoil(data);
    }
    promote(&new_url, false).expect("all are there");
    is(&new_url, "leader");
    is(&old_url, "replica");
    assert!(status(&new_url).expect("it answers")["not_promoted"].is_null());
    assert!(post_on(&new_url, "first", "hello", "leader").1, "it remembers the key");
    let (last, _) = post_on(&new_url, "second", "hello", "replica");
    for node in [&old_url, &new_url] {
        assert_eq!(count(node, "hello", &last), 2);
        assert_eq!(count(node, "hello", &position), 2, "a position of the epoch before is reached");
    }
    // The files cannot be used any more, and a stop writes a snapshot, so how it ends is not of interest.
    drop((old.stop(), replica.stop()));
}
