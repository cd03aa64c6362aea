//! Reads through to an origin: one fetch in the whole cluster, whatever comes meanwhile.

use crate::node::{self, Node, PATIENCE};
use memdb::{
    api::http::{ApiContext, DemoOrigin, HttpServer, OriginSource},
    config::StartRole,
    engine::leader::OriginRules,
    net::{origin_client::OriginClient, tls::client::ClientTls},
    node::{LeaderNode, ReplicaNode},
};
use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use testkit::{
    env::number_from,
    node::{lead, settings_of, url},
    wait_until,
    wire::{Answer, Wire},
};
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn http_client() -> reqwest::Client {
    testkit::client::async_builder().timeout(PATIENCE).build().expect("a client")
}

/// An origin that runs until its runtime ends, and its template.
fn demo(runtime: &Runtime, delay_ms: u64) -> (Arc<DemoOrigin>, String) {
    let origin = DemoOrigin::new(Duration::from_millis(delay_ms), false, || SystemTime::UNIX_EPOCH);
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let template = format!("http://{}/data/{{id}}", listener.local_addr().expect("bound"));
    runtime.spawn(Arc::clone(&origin).serve(listener));
    (origin, template)
}

/// A leader and replicas of it, all with this origin.
struct Cluster {
    _data: TempDir,
    leader: LeaderNode,
    replicas: Vec<ReplicaNode>,
}

impl Cluster {
    fn new(template: &str, replicas: usize) -> Self {
        Self::with(&[("origin", template), ("origin-timeout", "4s")], replicas)
    }

    fn with(origin: &[(&'static str, &str)], replicas: usize) -> Self {
        let data = TempDir::new().expect("a directory");
        let leader = lead(data.path(), origin).expect("a leader");
        let address = url(leader.address());
        let follow = |_| {
            let values = [&[("leader", address.as_str())], origin].concat();
            ReplicaNode::start(&settings_of(StartRole::Replica, &values)).expect("a replica")
        };
        let replicas: Vec<ReplicaNode> = (0..replicas).map(follow).collect();
        for replica in &replicas {
            let mut wire = Wire::to(replica.address());
            wait_until("the replica to be ready", || wire.get("/health/ready").status == 200);
        }
        Self { _data: data, leader, replicas }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        std::iter::once(self.leader.address()).chain(self.replicas.iter().map(ReplicaNode::address)).collect()
    }
}

/// The id of a value that the demo has made up.
fn guid(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(value.as_object().expect("an object").len(), 2, "guid and date_created: {value}");
    value["guid"].as_str().expect("a text").to_owned()
}

fn read_at(wire: &mut Wire, target: &str, written: &Answer) -> Answer {
    let position = written.header("memdb-position").expect("it has one").to_owned();
    wire.ask(&format!("GET {target} HTTP/1.1\r\nMemdb-Min-Position: {position}"), "")
}

#[test]
fn a_herd_on_all_nodes_causes_one_fetch() {
    let (runtime, clients) = (runtime(), 300);
    let (origin, template) = demo(&runtime, 30);
    let cluster = Cluster::new(&template, 2);
    let urls: Vec<String> = cluster.addresses().into_iter().map(url).collect();
    let rounds = number_from("MEMDB_HERD_ROUNDS").unwrap_or(5);
    let http = http_client();
    for round in 1..=rounds {
        let reads = (0..clients).map(|client| {
            let (http, url) = (http.clone(), format!("{}/data/herd-{round}", urls[client % urls.len()]));
            async move {
                let answer = http.get(url).send().await.expect("an answer");
                let status = answer.status().as_u16();
                (status, answer.bytes().await.expect("a body"))
            }
        });
        for (status, body) in runtime.block_on(async { futures::future::join_all(reads).await }) {
            assert_eq!((status, guid(&body)), (200, format!("herd-{round}")), "round {round}");
        }
        assert_eq!(origin.asked(), round, "each round is one fetch");
    }
    let stats = Wire::to(cluster.leader.address()).get("/stats").json();
    assert_eq!((stats["loads"].as_u64(), stats["load_errors"].as_u64()), (Some(rounds), Some(0)), "{stats}");
    assert_eq!(stats["gets"].as_u64(), Some(rounds * clients as u64), "each read counts once: {stats}");
    assert!(stats["deduplicated_loads"].as_u64() > Some(0), "{stats}");
}

#[test]
fn every_answer_is_for_the_id_that_was_asked() {
    let runtime = runtime();
    let (origin, template) = demo(&runtime, 0);
    let cluster = Cluster::new(&template, 2);
    let urls: Vec<String> = cluster.addresses().into_iter().map(url).collect();
    let (clients, reads) = (64, number_from("MEMDB_RANDOM_READS").unwrap_or(2_000) / 64);
    let http = http_client();
    let asked = (0..clients).map(|client| {
        let (http, urls) = (http.clone(), urls.clone());
        let mut random = testkit::Random::new(client);
        runtime.spawn(async move {
            let mut seen = HashSet::new();
            for _ in 0..reads {
                // Ids of different lengths, some asked for by several at once.
                let id = "x".repeat(random.below(40)) + &random.below(5_000).to_string();
                let node = random.pick(&urls).clone();
                let answer = http.get(format!("{node}/data/{id}")).send().await.expect("an answer");
                assert_eq!(answer.status(), 200, "{id}");
                assert_eq!(guid(&answer.bytes().await.expect("a body")), id);
                seen.insert(id);
            }
            seen
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut ids = HashSet::new();
    for client in asked {
        ids.extend(runtime.block_on(client).expect("every answer is right"));
    }
    assert_eq!(origin.asked(), ids.len() as u64, "each id is fetched once");
}

#[test]
fn a_delete_that_comes_while_a_value_is_fetched_wins() {
    let runtime = runtime();
    let (origin, template) = demo(&runtime, 300);
    let cluster = Cluster::new(&template, 1);
    let (mut leader, mut replica) = (Wire::to(cluster.leader.address()), Wire::to(cluster.replicas[0].address()));
    let mut waiting = Wire::to(cluster.replicas[0].address());
    waiting.send("GET /data/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_until("the fetch", || origin.asked() == 1);
    let deleted = replica.ask("DELETE /cache/a?ns=data HTTP/1.1", "");
    assert_eq!(deleted.status, 200, "{deleted:?}");
    // Whoever asks behind the delete is not answered by what was fetched before it.
    let again = leader.get("/data/a");
    assert_eq!((again.status, origin.asked()), (200, 2));
    assert_eq!(waiting.answer().status, 200, "it has asked before the delete");
    // The first one, which is over by now, was not stored over the second.
    let stats = leader.get("/stats?scope=node").json();
    assert_eq!((stats["entries"].as_u64(), stats["loads"].as_u64()), (Some(1), Some(2)));
    let deleted = leader.ask("DELETE /cache/a?ns=data HTTP/1.1", "");
    let mut lone = Wire::to(cluster.leader.address());
    lone.send("GET /data/b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_until("the fetch", || origin.asked() == 3);
    assert_eq!(leader.ask("DELETE /cache/b?ns=data HTTP/1.1", "").status, 200);
    assert_eq!(lone.answer().status, 200);
    for wire in [&mut leader, &mut replica] {
        assert_eq!(read_at(wire, "/cache/b?ns=data", &deleted).status, 404, "a delete of nothing wins too");
    }
}

#[test]
fn a_removal_reaches_every_node() {
    let runtime = runtime();
    let (origin, template) = demo(&runtime, 0);
    let cluster = Cluster::new(&template, 2);
    let mut wires: Vec<Wire> = cluster.addresses().into_iter().map(Wire::to).collect();
    let fetched = wires[1].get("/data/a");
    assert_eq!((fetched.status, fetched.header("content-type")), (200, Some("application/json")));
    for wire in &mut wires {
        let read = read_at(wire, "/data/a", &fetched);
        assert_eq!((read.status, read.text()), (200, fetched.text()));
        assert_eq!(read.header("etag"), fetched.header("etag"));
        let tag = fetched.header("etag").expect("a tag");
        let known = wire.ask(&format!("GET /data/a HTTP/1.1\r\nIf-None-Match: {tag}"), "");
        assert_eq!((known.status, known.text()), (304, ""));
        assert_eq!(wire.get("/cache/a?ns=data").text(), fetched.text(), "it is an entry of the cache");
    }
    assert_eq!(origin.asked(), 1);
    let deleted = wires[2].ask("DELETE /cache/a?ns=data HTTP/1.1", "");
    for wire in &mut wires {
        assert_eq!(read_at(wire, "/cache/a?ns=data", &deleted).status, 404);
    }
    assert_eq!((wires[1].get("/data/a").status, origin.asked()), (200, 2));
}

#[test]
fn a_client_that_goes_away_ends_no_fetch() {
    let runtime = runtime();
    let (origin, template) = demo(&runtime, 200);
    let cluster = Cluster::new(&template, 1);
    for (round, address) in cluster.addresses().into_iter().enumerate() {
        let target = format!("/data/{round}");
        let mut gone = Wire::to(address);
        gone.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        wait_until("the fetch", || origin.asked() == round as u64 + 1);
        drop(gone);
        assert_eq!(Wire::to(address).get(&target).status, 200);
        assert_eq!(origin.asked(), round as u64 + 1, "the other has waited for the same fetch");
    }
}

/// An origin that answers each path with what `answer` says, byte by byte.
/// An origin that answers each path so, and its template.
pub fn canned(answer: fn(&str) -> Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serve = move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0; 4_096];
            let read = stream.read(&mut head).unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let _ = stream.write_all(&answer(path));
        }
    };
    std::thread::Builder::new().name("origin".to_owned()).spawn(serve).expect("a thread");
    format!("http://{address}/{{id}}")
}

#[test]
fn what_is_no_value_is_told_and_never_stored() {
    let template = canned(|path| {
        let answer = |status: &str, more: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
        };
        let text = match path {
            "/gone" => answer("410 Gone", "", "gone"),
            "/moved" => answer("302 Found", "Location: /value\r\n", ""),
            "/down" => answer("500 Oops", "", "an error page"),
            "/encoded" => answer("200 OK", "Content-Encoding: gzip\r\n", "not gzip"),
            "/large" => answer("200 OK", "", &"x".repeat((1 << 20) + 1)),
            "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned(),
            "/plain" => answer("200 OK", "", "no type"),
            "/empty" => answer("200 OK", "Content-Type: text/x-odd; a=b\r\n", ""),
            "/a%2Fb%20%3F" => answer("200 OK", "", "slash"),
            other => answer("404 Not Found", "", other),
        };
        text.into_bytes()
    });
    let cluster = Cluster::new(&template, 1);
    let mut wires: Vec<Wire> = cluster.addresses().into_iter().map(Wire::to).collect();
    for wire in &mut wires {
        for (id, status, problem) in [
            ("gone", 404, "origin-not-found"),
            ("none", 404, "origin-not-found"),
            ("moved", 502, "origin-failed"),
            ("down", 502, "origin-failed"),
            ("encoded", 502, "origin-failed"),
            ("large", 502, "origin-failed"),
            ("cut", 502, "origin-failed"),
            ("%2e%2e", 400, "invalid-parameter"),
        ] {
            for target in
                [format!("/data/{id}"), format!("/cache/{id}?through=1"), format!("/cache/{id}?ns=o&through=true")]
            {
                let answer = wire.get(&target);
                assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{target}: {answer:?}");
            }
            let plain = wire.get(&format!("/cache/{id}?ns=data"));
            assert!([400, 404].contains(&plain.status), "{id}: {plain:?}");
        }
    }
    let stats = wires[0].get("/stats?scope=node").json();
    assert_eq!(stats["entries"].as_u64(), Some(0), "nothing of that is an entry");
    for (id, content_type, body) in [
        ("plain", "application/octet-stream", "no type"),
        ("empty", "text/x-odd; a=b", ""),
        ("a%2Fb%20%3F", "application/octet-stream", "slash"),
        ("a/b%20%3F", "application/octet-stream", "slash"),
    ] {
        for wire in &mut wires {
            let answer = wire.get(&format!("/data/{id}"));
            assert_eq!((answer.status, answer.header("content-type"), answer.text()), (200, Some(content_type), body));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
    }
    assert_eq!(wires[0].get("/cache/plain?through=maybe").status, 400);
    assert_eq!(wires[0].get("/data/plain?ns=other").status, 400);
}

#[test]
fn without_a_leader_a_miss_is_503_and_without_an_origin_it_is_no_origin() {
    let runtime = runtime();
    let (_origin, template) = demo(&runtime, 0);
    let Cluster { _data, leader, replicas } = Cluster::new(&template, 1);
    let mut replica = Wire::to(replicas[0].address());
    let fetched = Wire::to(leader.address()).get("/data/a");
    assert_eq!(read_at(&mut replica, "/data/a", &fetched).status, 200);
    leader.stop().expect("it stops");
    let answer = replica.get("/data/b");
    assert_eq!((answer.status, answer.problem().as_str()), (503, "leader-away"), "{answer:?}");
    assert_eq!(replica.get("/data/a").status, 200, "a copy is served without it");
    let data = TempDir::new().expect("a directory");
    let leader = lead(data.path(), &[]).expect("a leader");
    let mut wire = Wire::to(leader.address());
    for target in ["/data/a", "/cache/a?through=1"] {
        let answer = wire.get(target);
        assert_eq!((answer.status, answer.problem().as_str()), (404, "no-origin"), "{target}");
    }
}

#[test]
fn a_replica_serves_what_is_stale_at_once_and_has_it_fetched_behind_that() {
    let runtime = runtime();
    let (origin, template) = demo(&runtime, 0);
    let times = [("origin-ttl", "300ms"), ("origin-stale-while-revalidate", "1h")];
    let settings = [&[("origin", template.as_str())], &times[..]].concat();
    let Cluster { _data, leader, replicas } = Cluster::with(&settings, 1);
    let mut replica = Wire::to(replicas[0].address());
    let fetched = Wire::to(leader.address()).get("/data/a");
    assert_eq!(read_at(&mut replica, "/data/a", &fetched).status, 200);
    // Nobody else reads it: the replica's own reads have it fetched anew.
    wait_until("another fetch", || {
        assert_eq!(replica.get("/data/a").status, 200);
        origin.asked() > 1
    });
    leader.stop().expect("it stops");
    wait_until("a stale copy", || {
        let answer = replica.get("/data/a");
        // Whoever asked a leader that is gone would have no answer from it, and nothing is served on errors here.
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("memdb-stale").is_some()
    });
    assert_eq!(replica.get("/data/b").problem(), "leader-away", "of a miss there is nothing to serve");
}

/// A server over a node whose clock the test moves, with this origin.
fn through(node: &Node, template: &str, rules: OriginRules, patience: Duration) -> HttpServer {
    let client = OriginClient::new(template.parse().expect("a template"), &ClientTls::default(), patience, 1 << 20)
        .expect("a client");
    let origin = Some(Arc::new(OriginSource::new(client, rules)));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    HttpServer::start(listener, ApiContext { origin, ..node.api.clone() }, node::settings()).expect("it starts")
}

#[test]
fn values_expire_failures_are_kept_for_a_second_and_stale_values_are_served_by_the_rules() {
    let runtime = runtime();
    let (origin, template) = demo(&runtime, 0);
    let node = Node::start(node::settings());
    let rules = OriginRules { ttl_ms: 10_000, stale_while_revalidate_ms: 5_000, stale_if_error_ms: 60_000 };
    let server = through(&node, &template, rules, PATIENCE);
    let mut wire = Wire::to(server.local_addr());
    let advance = |seconds| node.clock.advance(Duration::from_secs(seconds));
    assert_eq!((wire.get("/data/a").status, wire.get("/data/a").header("memdb-stale"), origin.asked()), (200, None, 1));
    advance(9);
    assert_eq!((wire.get("/data/a").status, origin.asked()), (200, 1));
    // Stale for three seconds: served, and fetched behind that.
    advance(4);
    let stale = wire.get("/data/a");
    assert_eq!((stale.status, stale.header("memdb-stale")), (200, Some("3")));
    wait_until("a fresh value", || wire.get("/data/a").header("memdb-stale").is_none());
    assert_eq!(origin.asked(), 2);
    // Stale for longer than that: fetched first, and served if the origin fails.
    advance(20);
    origin.set_failing(true);
    for _ in 0..3 {
        let stale = wire.get("/data/a");
        assert_eq!((stale.status, stale.header("memdb-stale")), (200, Some("10")));
        let failed = wire.get("/data/new");
        assert_eq!((failed.status, failed.problem().as_str()), (502, "origin-failed"));
    }
    assert_eq!(origin.asked(), 4, "a failure is remembered");
    origin.set_failing(false);
    advance(1);
    assert_eq!((wire.get("/data/new").status, origin.asked()), (200, 5), "for a second");
    origin.set_failing(true);
    advance(50);
    let failed = wire.get("/data/a");
    assert_eq!((failed.status, failed.header("retry-after")), (502, Some("1")), "it is too old for that");
    // A plain value in the same collection has no origin, and none is asked for it.
    assert_eq!(wire.ask("PUT /cache/own?ns=data HTTP/1.1", "mine").status, 200);
    assert_eq!(wire.get("/data/own").text(), "mine");
    server.stop(PATIENCE);
}

#[test]
fn an_origin_that_is_silent_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let template = format!("http://{}/{{id}}", silent.local_addr().expect("bound"));
    let node = Node::start(node::settings());
    let rules = OriginRules { ttl_ms: 10_000, stale_while_revalidate_ms: 0, stale_if_error_ms: 0 };
    let server = through(&node, &template, rules, Duration::from_millis(50));
    let answer = Wire::to(server.local_addr()).get("/data/a");
    assert_eq!((answer.status, answer.problem().as_str()), (504, "origin-timeout"), "{answer:?}");
    server.stop(PATIENCE);
}

#[test]
fn fresh_values_are_answered_alike_on_the_fast_path_and_by_the_routes() {
    let runtime = runtime();
    let (origin, template) = demo(&runtime, 0);
    let node = Node::start(node::settings());
    let rules = OriginRules { ttl_ms: 10_000, stale_while_revalidate_ms: 0, stale_if_error_ms: 0 };
    let server = through(&node, &template, rules, PATIENCE);
    let mut wire = Wire::to(server.local_addr());
    assert_eq!(wire.get("/data/a").status, 200);
    for target in ["/data/a", "/cache/a?ns=data&through=1", "/cache/a?through=1&ns=data", "/data/a?_=1"] {
        let slow = wire.ask(&format!("GET {target} HTTP/1.1\r\nContent-Length: 0"), "");
        let fast = wire.get(target);
        assert_eq!((slow.status, fast.status, slow.text()), (200, 200, fast.text()), "{target}");
        for name in ["etag", "content-type", "cache-control", "memdb-position", "x-content-type-options"] {
            assert_eq!(slow.header(name), fast.header(name), "{target}: {name}");
        }
        let foreign = wire.ask(&format!("GET {target} HTTP/1.1\r\nMemdb-Forwarded: {:032x}", 8), "");
        assert_eq!((foreign.status, foreign.problem().as_str()), (503, "other-database"), "{target}");
    }
    assert_eq!(origin.asked(), 1);
    assert!(wire.get("/metrics").text().contains("\nmemdb_origin_loads_total 1\n"));
    server.stop(PATIENCE);
}

#[test]
fn a_fetch_ends_with_the_epoch_of_its_leader() {
    let runtime = runtime();
    let (origin, template) = demo(&runtime, 300);
    let node = Node::start(node::settings());
    let rules = OriginRules { ttl_ms: 10_000, stale_while_revalidate_ms: 0, stale_if_error_ms: 0 };
    let server = through(&node, &template, rules, PATIENCE);
    let mut waiting: Vec<Wire> = (0..3).map(|_| Wire::to(server.local_addr())).collect();
    for wire in &mut waiting {
        wire.send("GET /data/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    wait_until("the fetch", || origin.asked() == 1);
    node.leader.stop();
    for wire in &mut waiting {
        let answer = wire.answer();
        assert_eq!((answer.status, answer.problem().as_str()), (503, "stopping"), "{answer:?}");
    }
    assert_eq!(Wire::to(server.local_addr()).get("/stats?scope=node").json()["entries"].as_u64(), Some(0));
    server.stop(PATIENCE);
}
