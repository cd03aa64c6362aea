//! Followers as their clients see them: writes go on to the leader, reads tell their lag, and each node says how it is.

use crate::node::{self, Node, PATIENCE};
use memdb::{
    api::http::{ApiContext, HttpServer, NodeAbout, NodeAccess, ROUTE_LABELS},
    base::metrics::{NodeLimits, NodeMetrics, NodeRole},
    base::position::Position,
    engine::shard::{Shard, ShardRole},
    engine::view::DatabaseView,
    net::{tls::client::ClientTls, write_forwarder::WriteForwarder},
    node::{LeaderNode, ReplicaNode},
    replication::PeerStatus,
};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
};
use tempfile::TempDir;
use testkit::{
    node::{follow, lead},
    wait_until,
    wire::{Answer, Wire},
};

/// A leader and a replica that has all it has.
pub fn cluster() -> (TempDir, LeaderNode, ReplicaNode) {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[]).expect("a leader");
    let following = follow(leading.address(), None);
    let mut wire = Wire::to(following.address());
    wait_until("the replica to be ready", || wire.get("/health/ready").status == 200);
    let mut wire = Wire::to(leading.address());
    wait_until("the leader to have heard so", || wire.get("/status").text().contains("streaming"));
    (data, leading, following)
}

pub fn json(wire: &mut Wire, target: &str, body: &str) -> Answer {
    wire.ask(&format!("POST {target} HTTP/1.1\r\nContent-Type: application/json"), body)
}

/// A position of the leader's first epoch.
fn token(leading: &LeaderNode, sequence: u64) -> String {
    let identity = leading.leader().view().current().as_ref().expect("it serves").identity;
    identity.token(Position::new(1, sequence)).to_string()
}

/// Reads what the answer to a write says is there.
pub fn read_own(wire: &mut Wire, target: &str, written: &Answer) -> Answer {
    let position = written.header("memdb-position").expect("a write has one");
    wire.ask(&format!("GET {target} HTTP/1.1\r\nMemdb-Min-Position: {position}"), "")
}

#[test]
fn every_write_to_a_replica_reaches_the_leader_and_its_answer_comes_back() {
    let (_data, leading, following) = cluster();
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    let posted = replica.post("a b a");
    assert_eq!((posted.status, posted.header("memdb-acks")), (202, Some("1")), "{posted:?}");
    let expected = format!(r#"{{"words":3,"distinct":2,"left_out":0,"acks":1,"position":"{}"}}"#, token(&leading, 1));
    assert_eq!(posted.text(), expected);
    assert_eq!(posted.header("memdb-replayed"), None);
    // Without a key, the same again is another write.
    let again = replica.post("a b a");
    assert_eq!((again.header("memdb-position"), again.header("memdb-replayed")), (Some(&*token(&leading, 2)), None));
    let form = "POST /post?ns=other HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    assert_eq!(replica.ask(form, "text=c+%C3%A9").status, 202);
    assert_eq!(json(&mut replica, "/post", r#"{"text":"d"}"#).status, 202);
    let updated = json(&mut replica, "/update", r#"{"a":-1,"e":7}"#);
    assert_eq!((updated.status, updated.json()["words"].clone()), (202, 8.into()));
    let removed = replica.ask("DELETE /wordcount?word=b HTTP/1.1", "");
    assert_eq!(removed.json()["words"], 1);
    let read = read_own(&mut replica, "/wordcount?word=a&word=b&word=d&word=e", &removed);
    assert_eq!(read.text(), r#"{"a":3,"b":0,"d":1,"e":7}"#);
    assert_eq!(replica.get("/wordcount?ns=other&word=%C3%A9").text(), r#"{"é":1}"#);
    let dropped = replica.ask("DELETE /ns/other HTTP/1.1", "");
    assert_eq!((dropped.status, leader.get("/sync?ns=other").text()), (202, "{}"));
    assert!(replica.get("/metrics").text().contains("\nmemdb_forwarded_total 7\n"));
}

#[test]
fn a_write_counts_once_by_whichever_node_it_comes() {
    let (_data, leading, following) = cluster();
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    let keyed = |wire: &mut Wire| wire.ask("POST /post HTTP/1.1\r\nIdempotency-Key: k", "a");
    assert_eq!(keyed(&mut replica).header("memdb-replayed"), None);
    assert_eq!(keyed(&mut replica).header("memdb-replayed"), Some("true"));
    assert_eq!(keyed(&mut leader).json()["replayed"], true);
    let named = r#"{"text":"a","id":"order-17"}"#;
    assert_eq!(json(&mut leader, "/post", named).header("memdb-replayed"), None);
    let again = json(&mut replica, "/post", named);
    assert_eq!((again.header("memdb-replayed"), again.json()["replayed"].clone()), (Some("true"), true.into()));
    let streamed = |wire: &mut Wire, number: &str| {
        wire.ask(&format!("POST /post HTTP/1.1\r\nMemdb-Stream: s\r\nMemdb-Stream-Seq: {number}"), "a")
    };
    assert_eq!(streamed(&mut replica, "1").json()["stream_last"], 1);
    let gap = streamed(&mut replica, "9");
    assert_eq!((gap.status, gap.problem().as_str(), gap.json()["expected"].clone()), (409, "stream-gap", 2.into()));
    assert_eq!(leader.get("/wordcount?word=a").text(), r#"{"a":3}"#);
}

#[test]
fn a_follower_refuses_a_write_in_the_words_of_its_leader() {
    let (_data, leading, following) = cluster();
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    for (head, body) in [
        ("POST /post HTTP/1.1", ""),
        ("POST /post HTTP/1.1\r\nContent-Type: text/html", "a"),
        ("POST /post HTTP/1.1\r\nContent-Type: application/json", "{"),
        ("POST /post?ack=all HTTP/1.1", "a"),
        ("POST /post?ack=replica+disk HTTP/1.1", "a"),
        ("POST /post HTTP/1.1\r\nMemdb-Stream: s", "a"),
        ("POST /post HTTP/1.1\r\nIdempotency-Key:", "a"),
        ("POST /update HTTP/1.1", r#"{"a":1.5}"#),
        ("DELETE /wordcount HTTP/1.1", ""),
        ("DELETE /ns/UPPER HTTP/1.1", ""),
    ] {
        let (here, there) = (replica.ask(head, body), leader.ask(head, body));
        assert!(here.status >= 400, "{head}: {here:?}");
        assert_eq!((here.status, here.json()), (there.status, there.json()), "{head}");
        for name in ["content-type", "accept-post", "retry-after"] {
            assert_eq!(here.header(name), there.header(name), "{head}: {name}");
        }
    }
    // What no leader need be asked for.
    let large = format!("POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 2 << 20);
    assert_eq!(Wire::to(following.address()).send(large).answer().problem(), "body-too-large");
    assert_eq!(replica.ask("PUT /post HTTP/1.1", "a").header("allow"), Some("POST, GET, HEAD"));
}

#[test]
fn a_write_is_passed_on_once_at_most() {
    let (_data, leading, following) = cluster();
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    for (head, body) in [
        ("POST /post HTTP/1.1", "a"),
        ("POST /update HTTP/1.1", r#"{"a":1}"#),
        ("DELETE /wordcount?word=a HTTP/1.1", ""),
        ("DELETE /ns/a HTTP/1.1", ""),
    ] {
        let refused = replica.ask(&format!("{head}\r\nMemdb-Forwarded: 1"), body);
        assert_eq!((refused.status, refused.problem().as_str()), (421, "not-leader"), "{head}");
        assert_eq!(leader.ask(&format!("{head}\r\nMemdb-Forwarded: 1"), body).status, 202, "{head}");
    }
    let database = leader.get("/status").json()["database"].clone();
    let lines = "POST /bulk HTTP/1.1\r\nContent-Type: text/plain";
    let refused = replica.ask(&format!("{lines}\r\nMemdb-Forwarded: 1"), "a");
    assert_eq!((refused.status, refused.problem().as_str()), (421, "not-leader"));
    assert_eq!((&refused.json()["database"], &refused.json()["last_line"]), (&database, &0.into()));
    // The body was not read, so that connection is closed.
    let metrics = Wire::to(following.address()).get("/metrics");
    let counted = metrics.text();
    assert!(counted.contains("memdb_refused_total{reason=\"not-leader\"} 5\n"), "{counted}");
    let meant = format!("{lines}\r\nMemdb-Forwarded: {}", database.as_str().expect("text"));
    assert_eq!(leader.ask(&meant, "a").status, 202);
}

#[test]
fn lines_by_way_of_a_replica_count_once_by_the_name_of_their_stream() {
    let (_data, leading, following) = cluster();
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    let bulk = |wire: &mut Wire, more: &str, body: &str| {
        wire.ask(&format!("POST /bulk HTTP/1.1\r\nContent-Type: text/plain{more}"), body)
    };
    let unnamed = bulk(&mut replica, "", "a b\na\n\nc");
    assert_eq!(unnamed.status, 202, "{unnamed:?}");
    let told = unnamed.json();
    assert_eq!((&told["last_line"], &told["taken"], &told["words"]), (&4.into(), &4.into(), &4.into()), "{told}");
    assert_eq!((told.get("stream_lines"), unnamed.header("memdb-acks")), (None, Some("1")));
    assert_eq!(read_own(&mut replica, "/wordcount?word=a&word=c", &unnamed).text(), r#"{"a":2,"c":1}"#);
    // The same again is another body; under a name it is the same, by whichever node it comes.
    assert_eq!(bulk(&mut replica, "", "a").json()["words"], 1);
    const NAMED: &str = "\r\nMemdb-Stream: s";
    let first = bulk(&mut replica, NAMED, "x y\nx\n").json();
    assert_eq!((&first["taken"], &first["stream_lines"], &first["stream_words"]), (&2.into(), &2.into(), &3.into()));
    let more = bulk(&mut replica, NAMED, "x y\nx\nz\n").json();
    assert_eq!((&more["skipped"], &more["taken"], &more["last_line"]), (&2.into(), &1.into(), &3.into()), "{more}");
    let at_leader = bulk(&mut leader, NAMED, "x y\nx\nz\nx").json();
    assert_eq!((&at_leader["skipped"], &at_leader["taken"]), (&3.into(), &1.into()), "{at_leader}");
    let asked = bulk(&mut replica, NAMED, "").json();
    assert_eq!((&asked["taken"], &asked["stream_lines"]), (&0.into(), &4.into()), "{asked}");
    let other = |address| bulk(&mut Wire::to(address), NAMED, "other\ntext\nthan\nbefore\n");
    let (here, there) = (other(following.address()), other(leading.address()));
    assert_eq!((here.status, here.problem()), (there.status, there.problem()), "{here:?}");
    assert_eq!(Wire::to(leading.address()).get("/wordcount?word=x&word=z").text(), r#"{"x":3,"z":1}"#);
    let counted = Wire::to(following.address()).get("/metrics");
    assert!(counted.text().contains("\nmemdb_forwarded_total 5\n"), "{counted:?}");
}

#[test]
fn a_block_of_lines_that_a_follower_sends_again_counts_once() {
    let (_data, leading, _following) = cluster();
    let mut leader = Wire::to(leading.address());
    let database = leader.get("/status").json()["database"].as_str().expect("text").to_owned();
    for name in ["Idempotency-Key: k", "Memdb-Stream: s"] {
        let head = format!("POST /bulk HTTP/1.1\r\nContent-Type: text/plain\r\nMemdb-Forwarded: {database}\r\n{name}");
        let mut part = |lines: &str, body: &str| leader.ask(&format!("{head}\r\nMemdb-Stream-Lines: {lines}"), body);
        for _ in 0..2 {
            let first = part("0-0-2-ab-0", "x\nx\n");
            assert_eq!((first.status, &first.json()["last_line"]), (202, &2.into()), "{name}: {first:?}");
        }
        let next = part("2-ab-3-cd-0", "x\n");
        assert_eq!((next.status, &next.json()["last_line"]), (202, &3.into()), "{name}: {next:?}");
        assert_eq!(part("3-cd-5-ef-0", "x\n").problem(), "invalid-body", "it states two lines");
        assert_eq!(part("x", "x\n").problem(), "invalid-header");
        leader = Wire::to(leading.address());
    }
    assert_eq!(leader.get("/wordcount?word=x").text(), r#"{"x":6}"#);
}

#[test]
fn a_follower_refuses_lines_in_the_words_of_its_leader() {
    let (_data, leading, following) = cluster();
    let large = format!("ok\n{}\nok\n", "x".repeat(1 << 20 | 1));
    for (head, body) in [
        ("POST /bulk?ns=UPPER HTTP/1.1", "a"),
        ("POST /bulk HTTP/1.1\r\nContent-Type: text/html", "a"),
        ("POST /bulk?ack=replica+disk HTTP/1.1", "a"),
        ("POST /bulk HTTP/1.1\r\nIdempotency-Key: k", "a"),
        ("POST /bulk HTTP/1.1\r\nContent-Encoding: br", "a"),
        ("POST /bulk HTTP/1.1\r\nMemdb-Stream: \r\nContent-Type: text/plain", "a"),
        ("POST /bulk?ns=n HTTP/1.1\r\nContent-Type: application/x-ndjson", "{\"text\":\"a\"}\n{\n{\"text\":\"b\"}"),
        ("POST /bulk?ns=n HTTP/1.1\r\nContent-Type: text/plain;charset=windows-1251", "\u{e9} b"),
        ("POST /bulk?ns=n HTTP/1.1", &large),
    ] {
        let ask = |address| Wire::to(address).ask(head, body);
        let (here, there) = (ask(following.address()), ask(leading.address()));
        let bare = |answer: &Answer| {
            let mut told = answer.json();
            told.as_object_mut().expect("an object").remove("position");
            told
        };
        assert_eq!((here.status, bare(&here)), (there.status, bare(&there)), "{head}");
    }
}

#[test]
fn a_leader_refuses_what_a_follower_of_another_database_passes_on() {
    let (_data, leading, _following) = cluster();
    let own = leading.leader().view().current().as_ref().expect("it serves").identity.database_id;
    let mut leader = Wire::to(leading.address());
    let sequence = |wire: &mut Wire| wire.get("/status").json()["sequence"].clone();
    let before = sequence(&mut leader);
    for (head, body) in [
        ("POST /post HTTP/1.1", "a"),
        ("POST /post HTTP/1.1\r\nConnection: keep-alive, x", "a"),
        ("POST /update HTTP/1.1", r#"{"a":1}"#),
        ("DELETE /wordcount?word=a HTTP/1.1", ""),
        ("DELETE /ns/a HTTP/1.1", ""),
        ("POST /bulk HTTP/1.1\r\nContent-Type: text/plain", "a"),
    ] {
        for other in [format!("{:032x}", own ^ 1), "x".to_owned(), String::new()] {
            // Behind a body that was not read, a connection is closed.
            let refused = Wire::to(leading.address()).ask(&format!("{head}\r\nMemdb-Forwarded: {other}"), body);
            assert_eq!((refused.status, refused.problem().as_str()), (503, "other-database"), "{head} of {other:?}");
            assert_eq!(refused.header("memdb-database"), Some(&*format!("{own:032x}")), "{head}");
        }
    }
    assert_eq!(sequence(&mut leader), before, "nothing was applied");
    assert!(leader.get("/metrics").text().contains("memdb_refused_total{reason=\"other-database\"} 18\n"));
    let meant = format!("POST /post HTTP/1.1\r\nMemdb-Forwarded: {own:032x}");
    assert_eq!(leader.ask(&meant, "a").status, 202);
}

#[test]
fn reads_of_a_replica_tell_how_old_they_may_be() {
    let (_data, leading, following) = cluster();
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    let written = leader.post("a");
    read_own(&mut replica, "/wordcount?word=a", &written);
    for target in ["/wordcount?word=a", "/top", "/top?prefix=a&n=50000", "/sync"] {
        let read = replica.get(target);
        let lag_ms = read.header("memdb-lag").unwrap_or_else(|| panic!("{target} has no lag: {read:?}"));
        assert!(lag_ms.parse::<u64>().expect("milliseconds") < PATIENCE.as_millis() as u64, "{target}: {lag_ms}");
        let tag = read.header("etag").expect("a tag");
        let unchanged = replica.ask(&format!("GET {target} HTTP/1.1\r\nIf-None-Match: {tag}"), "");
        assert_eq!((unchanged.status, unchanged.header("memdb-lag").is_some()), (304, true), "{target}");
        assert_eq!(leader.get(target).header("memdb-lag"), None, "{target}");
    }
}

#[test]
fn each_role_says_how_it_is() {
    let (_data, leading, following) = cluster();
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    let written = leader.post("a b");
    read_own(&mut replica, "/top", &written);
    let url = format!("http://{}", following.address());
    wait_until("the leader to know", || leader.get("/status").json()["replicas"][0]["applied"] == 1);
    let (led, followed) = (leader.get("/status").json(), replica.get("/status").json());
    assert_eq!((&led["role"], &led["default_ack"]), (&"leader".into(), &"replica".into()));
    assert_eq!((&led["replicas"][0]["url"], &led["replicas"][0]["state"]), (&url.as_str().into(), &"streaming".into()));
    assert_eq!((led.get("leader"), led.get("lag_ms")), (None, None));
    assert_eq!(followed["leader"], format!("http://{}", leading.address()));
    assert_eq!((&followed["role"], &followed["url"]), (&"replica".into(), &url.as_str().into()));
    assert!(followed["lag_ms"].is_u64(), "{followed}");
    assert_eq!((followed.get("writer"), followed.get("replicas"), followed.get("default_ack")), (None, None, None));
    for member in ["database", "analyzer", "analyzer_version", "position", "digest", "words", "namespaces", "ready"] {
        assert_eq!(led[member], followed[member], "{member}");
    }
    let labelled = |name: &str, value: u64| format!("\n{name}{{replica=\"{url}\"}} {value}\n");
    let numbers = leader.get("/metrics");
    for (name, value) in [("connected", 1), ("lag_records", 0), ("position", 1), ("failed_exchanges_total", 0)] {
        let line = labelled(&format!("memdb_replica_{name}"), value);
        assert!(numbers.text().contains(&line), "no {line} in {}", numbers.text());
    }
    assert!(!numbers.text().contains("memdb_lag_seconds"));
    let numbers = replica.get("/metrics");
    assert!(numbers.text().contains("\nmemdb_lag_seconds "), "{}", numbers.text());
    assert!(!numbers.text().contains("memdb_replica_"));
}

#[test]
fn a_replica_whose_leader_is_not_there_says_so() {
    let nowhere = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let following = follow(nowhere, None);
    let mut wire = Wire::to(following.address());
    for _ in 0..2 {
        let away = wire.post("a");
        assert_eq!((away.status, away.problem().as_str()), (503, "leader-away"), "{away:?}");
        assert_eq!(away.header("retry-after"), Some("1"));
    }
    assert!(wire.get("/metrics").text().contains("memdb_refused_total{reason=\"leader-away\"} 2"));
    for target in ["/wordcount?word=a", "/top", "/sync", "/health/ready"] {
        assert_eq!(wire.get(target).problem(), "not-ready", "{target}");
    }
    assert_eq!((wire.get("/health").status, wire.get("/health/live").status), (200, 200));
    let said = wire.get("/health/ready").json()["detail"].to_string();
    assert!(said.contains("no counts yet") && said.contains(&nowhere.to_string()), "{said}");
    let status = wire.get("/status").json();
    for (member, expected) in [
        ("role", serde_json::json!("replica")),
        ("leader", format!("http://{nowhere}").into()),
        ("database", serde_json::Value::Null),
        ("analyzer", serde_json::Value::Null),
        ("ready", false.into()),
        ("position", serde_json::Value::Null),
        ("words", 0.into()),
        ("namespaces", serde_json::json!({})),
    ] {
        assert_eq!(status[member], expected, "{member}");
    }
}

/// Something that listens where the leader should be: it gives these answers to writes, one a connection; none at all
/// where the answer is empty. What it was sent comes out of the receiver.
fn odd_leader(answers: &'static [&'static str]) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (heads, seen) = sync_channel(16);
    let thread = std::thread::Builder::new().name("odd-leader".to_owned());
    let serve = move || {
        let mut answers = answers.iter();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let head = read_request(&stream);
            if !head.starts_with("post /post") {
                continue; // an announcement
            }
            let Some(answer) = answers.next() else { return };
            let _ = heads.send(head);
            let _ = stream.write_all(answer.as_bytes());
        }
    };
    thread.spawn(serve).expect("a thread");
    (address, seen)
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {
        let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
        length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().expect("a length"));
    }
    let _ = reader.read_exact(&mut vec![0; length]);
    head.to_ascii_lowercase()
}

fn key_of(head: &str) -> &str {
    let line = head.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
    line.unwrap_or_else(|| panic!("it has no key: {head}"))
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    const REPEATED: &str = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nMemdb-Replayed: true\r\n\
                            Memdb-Position: 1-1\r\nConnection: close\r\nContent-Length: 89\r\n\r\n\
                            {\"words\":1,\"distinct\":1,\"left_out\":0,\"acks\":0,\"position\":\"1-1-5f2a9c01\",\"replayed\":true}\n";
    let (address, seen) = odd_leader(&["", REPEATED, "", REPEATED]);
    let following = follow(address, None);
    let mut wire = Wire::to(following.address());
    // The client has sent it once and without a key, so what it gets is no repeat.
    let answer = wire.post("a");
    assert_eq!((answer.status, answer.header("memdb-replayed")), (202, None), "{answer:?}");
    let first = r#"{"words":1,"distinct":1,"left_out":0,"acks":0,"position":"1-1-5f2a9c01"}"#;
    assert_eq!((answer.text(), answer.header("memdb-position")), (first, Some("1-1")));
    let (first, second) = (seen.recv_timeout(PATIENCE).expect("sent"), seen.recv_timeout(PATIENCE).expect("again"));
    assert_eq!((key_of(&first).len(), key_of(&first)), (32, key_of(&second)));
    assert!(first.contains("memdb-forwarded: 1") && first.contains("content-type: text/plain"), "{first}");
    // Another write has another key; the client's own is left as it is.
    let keyed = wire.ask("POST /post HTTP/1.1\r\nIdempotency-Key: mine", "a");
    assert_eq!(keyed.header("memdb-replayed"), Some("true"));
    let keys: BTreeSet<String> = seen.try_iter().map(|head| key_of(&head).to_owned()).collect();
    assert_eq!(keys, BTreeSet::from(["mine".to_owned()]));
}

#[test]
fn a_write_without_any_answer_may_be_applied_and_its_key_is_told() {
    let (address, seen) = odd_leader(&[""; 3]);
    let following = follow(address, None);
    let answer = Wire::to(following.address()).post("a");
    assert_eq!((answer.status, answer.problem().as_str()), (500, "outcome-unknown"), "{answer:?}");
    let said = answer.json()["detail"].to_string();
    let key = seen.recv_timeout(PATIENCE).map(|head| key_of(&head).to_owned()).expect("it was sent");
    assert!(said.contains(&format!("Idempotency-Key: {key}")), "{said}");
}

#[test]
fn a_refusal_of_a_later_try_does_not_say_what_became_of_the_first() {
    const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    const STOPPING: &str = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    const DONE: &str = "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let (address, seen) = odd_leader(&["", BUSY, STOPPING]);
    let following = follow(address, None);
    let mut wire = Wire::to(following.address());
    let answer = wire.post("a");
    assert_eq!((answer.status, answer.problem().as_str()), (500, "outcome-unknown"), "{answer:?}");
    let keys: BTreeSet<String> = seen.try_iter().map(|head| key_of(&head).to_owned()).collect();
    let key = keys.first().expect("it was sent");
    let said = answer.json()["detail"].to_string();
    assert!(keys.len() == 1 && said.contains(&format!("Idempotency-Key: {key}")), "{said}");
    let (address, _seen) = odd_leader(&["", STOPPING, DONE, BUSY]);
    let following = follow(address, None);
    let mut wire = Wire::to(following.address());
    assert_eq!(wire.post("a").status, 202, "it is tried again");
    assert_eq!(wire.post("a").status, 429, "no earlier try may count");
    let counted = wire.get("/metrics");
    assert!(counted.text().contains("\nmemdb_forward_retries_total 2\n"), "{counted:?}");
    assert!(counted.text().contains("\nmemdb_forward_waiting 0\n"), "{counted:?}");
}

#[test]
fn a_write_that_finds_no_leader_waits_until_it_leads_again() {
    const BETWEEN: &str = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 37\r\n\r\n\
                           {\"type\":\"urn:memdb:problem:stopping\"}\n";
    const DONE: &str = "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let (address, seen) = odd_leader(&[BETWEEN, BETWEEN, BETWEEN, BETWEEN, DONE]);
    let following = follow(address, None);
    assert_eq!(Wire::to(following.address()).post("a").status, 202);
    let keys: BTreeSet<String> = seen.try_iter().map(|head| key_of(&head).to_owned()).collect();
    assert_eq!(keys.len(), 1, "one key for all tries");
}

#[test]
fn a_local_replica_passes_writes_on_and_takes_notices() {
    let data = TempDir::new().expect("a directory");
    let template = crate::through::canned(|path| match path {
        "/17" => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nvalue".to_vec(),
        _ => b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    let leading = lead(data.path(), &[("origin", &template)]).expect("a leader");
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let random = || Ok(u128::from(DRAWN.fetch_add(1, Ordering::Relaxed)));
    let forward = WriteForwarder::new(Some(&format!("http://{}", leading.address())), &ClientTls::default(), random)
        .expect("a client");
    let notice = Arc::new(tokio::sync::Notify::new());
    let about = NodeAbout {
        role: "local-replica",
        name: "n-test".into(),
        node: 2,
        url: "http://local.example".to_owned(),
        not_promoted: None,
        default_ack: None,
    };
    let api = ApiContext {
        access: Arc::default(),
        shard: Shard::new(Arc::new(DatabaseView::new(true)), ShardRole::FileFollower { notice: Arc::clone(&notice) }),
        forward: Some(forward),
        nodes: NodeAccess::Anyone,
        browsers: Arc::default(),
        clock: Arc::new(node::TestClock::default()),
        metrics: Arc::new(NodeMetrics::new(NodeRole::LocalReplica, NodeLimits::default(), ROUTE_LABELS)),
        about: Arc::new(about),
        origin: None,
        tls: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = HttpServer::start(listener, api, node::settings()).expect("it starts");
    let mut wire = Wire::to(server.local_addr());
    assert_eq!(wire.post("a").status, 202);
    assert_eq!(json(&mut wire, "/update", r#"{"a":4}"#).status, 202);
    assert_eq!(Wire::to(leading.address()).get("/wordcount?word=a").text(), r#"{"a":5}"#);
    assert_eq!(wire.send("POST /update HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").answer().status, 202);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    // It has read no files yet: its leader answers, and it is not ready for all that.
    let read = wire.get("/wordcount?word=a");
    assert_eq!((read.status, read.text()), (200, r#"{"a":5}"#), "{read:?}");
    assert_eq!(read.header("memdb-answered-by"), Some(&*format!("http://{}", leading.address())));
    let tag = read.header("etag").expect("a tag");
    let again = wire.ask(&format!("GET /wordcount?word=a HTTP/1.1\r\nIf-None-Match: {tag}"), "");
    assert_eq!((again.status, again.header("memdb-position")), (304, read.header("memdb-position")));
    assert_eq!((wire.get("/sync").text(), wire.get("/top").status), (r#"{"a":5}"#, 200));
    assert_eq!(
        (wire.get("/cache/none").problem(), wire.get("/top?n=x").problem()),
        ("entry-not-found".to_owned(), "invalid-parameter".to_owned())
    );
    let through = wire.get("/data/17");
    assert_eq!((through.status, through.text()), (200, "value"), "{through:?}");
    assert!(through.header("memdb-answered-by").is_some());
    let missing = wire.get("/data/none");
    assert_eq!((missing.status, missing.problem().as_str()), (404, "origin-not-found"), "the origin has said so");
    for odd in ["/cache/x/../none", "/cache/%2e%2e/none", "/posts/../metrics", "/cache/x\\none"] {
        assert_eq!(wire.get(odd).problem(), "not-ready", "{odd} would be another path there");
    }
    let once = wire.ask("GET /wordcount?word=a HTTP/1.1\r\nMemdb-Read-Forwarded: 1", "");
    assert_eq!(once.problem(), "not-ready", "one hop at most");
    assert!(wire.get("/metrics").text().contains("\nmemdb_fallback_reads_total 8\n"));
    let noticed = runtime.block_on(async { tokio::time::timeout(PATIENCE, notice.notified()).await });
    assert!(noticed.is_ok(), "the notice was not passed on");
    let status = wire.get("/status").json();
    assert_eq!((&status["role"], &status["ready"]), (&"local-replica".into(), &false.into()));
    assert_eq!(status["leader"], format!("http://{}", leading.address()));
    assert!(status["lag_ms"].is_u64(), "{status}");
    assert_eq!(wire.get("/health/ready").problem(), "not-ready");
}

#[test]
fn a_replica_that_is_forgotten_leaves_no_label_behind() {
    let node = Node::start(node::settings());
    let mut wire = Wire::to(node.address());
    let status = PeerStatus {
        url: "http://replica.example:8081".to_owned(),
        state: "away",
        position: Some("1-7".to_owned()),
        applied: 7,
        synced: Some(5),
        lag_records: 3,
        silent_ms: None,
        failures: 4,
        failed_exchanges: 9,
    };
    node.registry.note(1, status);
    let shown = wire.get("/metrics");
    for line in ["connected", "lag_records", "position", "synced_position", "failed_exchanges_total"]
        .into_iter()
        .zip([0, 3, 7, 5, 9])
        .map(|(name, value)| format!("memdb_replica_{name}{{replica=\"http://replica.example:8081\"}} {value}\n"))
    {
        assert!(shown.text().contains(&line), "no {line} in {}", shown.text());
    }
    node.registry.forget(1);
    assert!(!wire.get("/metrics").text().contains("replica.example"));
}

#[test]
fn answers_without_the_replica_that_was_wanted_are_counted() {
    let node = Node::start(node::settings());
    let mut wire = Wire::to(node.address());
    for (target, count) in [("/post", 1), ("/post?ack=leader", 1), ("/post?ack=disk", 1), ("/post", 2)] {
        assert_eq!(wire.ask(&format!("POST {target} HTTP/1.1"), "a").status, 202);
        let line = format!("\nmemdb_unreplicated_total {count}\n");
        assert!(wire.get("/metrics").text().contains(&line), "{target}");
    }
}
