//! One address that takes all it can get leaves the others their part of every budget.
//!
//! The greedy clients come from 127.0.0.2, the others from 127.0.0.1. Half of everything is what an address may have.

use crate::node::{Node, PATIENCE, settings};
use memdb::{
    api::http::{ApiContext, HttpServer, HttpSettings, NodeAbout, NodeAccess, ROUTE_LABELS},
    base::metrics::{NodeLimits, NodeMetrics, NodeRole},
    engine::shard::{Shard, ShardRole},
    engine::view::DatabaseView,
    net::{tls::client::ClientTls, write_forwarder::WriteForwarder},
};
use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};
use testkit::wire::{Answer, Wire};

const GREEDY: &str = "127.0.0.2";
const MIB: usize = 1 << 20;

/// An address may have half of the connections, so half of everything.
fn shared(settings: HttpSettings) -> HttpSettings {
    HttpSettings { max_connections: 1_000, max_connections_per_address: Some(500), ..settings }
}

/// Waits until so many of these have an answer; takes them out, and gives the answers.
#[allow(clippy::disallowed_methods)] // a test owns its time
fn answered(wires: &mut Vec<Wire>, expected: usize) -> Vec<Answer> {
    let (begun, mut answers) = (Instant::now(), Vec::new());
    while answers.len() < expected {
        for mut wire in std::mem::take(wires) {
            if wire.has_something() { answers.push(wire.answer()) } else { wires.push(wire) }
        }
        assert!(begun.elapsed() < PATIENCE, "only {} of {expected} have an answer", answers.len());
    }
    answers
}

/// Many bodies of which 1,000,000 bytes have come and more is to come.
fn unfinished_bodies(node: &Node, head: &str) -> Vec<Wire> {
    (0..24)
        .map(|_| {
            let mut wire = Wire::from(GREEDY, node.address());
            wire.send(format!("{head} HTTP/1.1\r\nHost: a\r\nContent-Length: 1500000\r\n\r\n"));
            wire.send(vec![b'x'; 1_000_000]);
            wire
        })
        .collect()
}

fn uploading() -> Node {
    Node::start(shared(HttpSettings { max_upload_bytes: 8 * MIB, max_body_bytes: 2 * MIB, ..settings() }))
}

#[test]
fn an_address_with_many_unfinished_bodies_leaves_the_others_room_for_theirs() {
    for head in ["POST /post", "POST /bulk", "POST /update", "POST /wordcount"] {
        let node = uploading();
        let mut greedy = unfinished_bodies(&node, head);
        let refused = answered(&mut greedy, 16);
        let text = "word ".repeat(250_000);
        let mut other = Wire::to(node.address());
        for answer in [other.post(&text), other.ask("POST /bulk HTTP/1.1", &text)] {
            assert_eq!(answer.status, 202, "{head}: {}", answer.text());
        }
        for refused in refused {
            assert_eq!((refused.status, refused.problem().as_str()), (503, "too-many-uploads"), "{head}");
            assert_eq!(refused.header("retry-after"), Some("1"), "{head}");
            let told = refused.text();
            assert!(told.contains("address") && told.contains("--max-connections-per-address"), "{head}: {told}");
        }
        // What ends is given back.
        drop(greedy);
        crate::connections::wait_for_connections(&node, 1);
        assert_eq!(Wire::from(GREEDY, node.address()).post(&text).status, 202, "{head}");
    }
}

fn queue_refusals(node: &Node) -> u64 {
    let shown = node.metrics.render();
    let count = shown.lines().find_map(|line| line.strip_prefix("memdb_refused_total{reason=\"queue-full\"} "));
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[test]
#[allow(clippy::disallowed_methods)] // a test owns its time
fn an_address_with_many_waiting_writes_leaves_the_others_room_in_the_queue() {
    for request in [
        "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na",
        "POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "POST /update HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
        "DELETE /ns/other HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let node = Node::start(shared(settings()));
        let held = node.hold_writer();
        // The queue holds four, the Writer has taken a few before it was held.
        let mut greedy: Vec<Wire> = (0..40).map(|_| Wire::from(GREEDY, node.address())).collect();
        for wire in &mut greedy {
            wire.send(request);
        }
        let refused = answered(&mut greedy, 32);
        let before = queue_refusals(&node);
        let mut other = Wire::to(node.address());
        other.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nother");
        // Two of the greedy address wait, and this one; unless the Writer has taken those two before it was held.
        let begun = Instant::now();
        while node.leader.status().queued < 3 && begun.elapsed() < Duration::from_secs(1) && !other.has_something() {}
        drop(held);
        assert_eq!(other.answer().status, 202, "{request}");
        assert_eq!(queue_refusals(&node), before, "{request}");
        for refused in refused {
            assert_eq!((refused.status, refused.problem().as_str()), (429, "queue-full"), "{request}");
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert!(refused.text().contains("address"), "{request}: {}", refused.text());
        }
        // What was written is given back.
        assert_eq!(Wire::from(GREEDY, node.address()).post("a").status, 202, "{request}");
    }
}

#[test]
fn an_address_with_many_waiting_reads_leaves_the_others_theirs() {
    let few = HttpSettings { max_waiting_reads: 4, position_wait: PATIENCE, ..settings() };
    let node = Node::start(shared(few));
    let read = "GET /wordcount?word=a HTTP/1.1\r\nHost: a\r\nMemdb-Min-Position: 1-1-00000007\r\n\r\n";
    let waiting = |from| {
        let mut wire = Wire::from(from, node.address());
        wire.send(read);
        wire
    };
    let mut greedy: Vec<Wire> = (0..10).map(|_| waiting(GREEDY)).collect();
    let refused = answered(&mut greedy, 8);
    let mut others: Vec<Wire> = (0..2).map(|_| waiting("127.0.0.1")).collect();
    assert!(others.iter_mut().all(|other| !other.has_something()));
    // A read that need not wait needs no place.
    assert_eq!(Wire::from(GREEDY, node.address()).get("/wordcount?word=a").status, 200);
    assert_eq!(Wire::to(node.address()).post("a").status, 202);
    for mut wire in others.into_iter().chain(greedy) {
        assert_eq!(wire.answer().text(), r#"{"a":1}"#);
    }
    for refused in refused {
        assert_eq!((refused.status, refused.problem().as_str()), (503, "position-ahead"));
        assert!(refused.text().contains("address"), "{}", refused.text());
    }
    assert_eq!(waiting(GREEDY).answer().text(), r#"{"a":1}"#, "it is applied");
}

/// A leader that takes what comes and answers nothing; tells the requests that begin with `POST /post`.
fn silent_leader() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (heard, requests) = sync_channel(10_000);
    let each = move |mut stream: TcpStream| {
        let (mut request, mut piece) = (Vec::new(), [0; 4_096]);
        while let Ok(bytes @ 1..) = stream.read(&mut piece) {
            request.extend_from_slice(&piece[..bytes]);
            let text = String::from_utf8_lossy(&request).to_lowercase();
            if text.starts_with("post /post") && text.contains("the-text") {
                let _ = heard.send(text);
                request.clear();
            }
        }
    };
    let accept = move || {
        for stream in listener.incoming() {
            let (stream, each) = (stream.expect("a connection"), each.clone());
            let thread = std::thread::Builder::new().name("silent-leader".to_owned());
            thread.spawn(move || each(stream)).expect("a thread");
        }
    };
    std::thread::Builder::new().name("silent-leader".to_owned()).spawn(accept).expect("a thread");
    (address, requests)
}

#[test]
fn an_address_with_many_writes_on_their_way_to_the_leader_leaves_the_others_theirs() {
    let (leader, requests) = silent_leader();
    let forward =
        WriteForwarder::new(Some(&format!("http://{leader}")), &ClientTls::default(), || Ok(1)).expect("a client");
    let api = ApiContext {
        access: Arc::default(),
        shard: Shard::new(Arc::new(DatabaseView::new(true)), ShardRole::FileFollower { notice: Arc::default() }),
        forward: Some(forward),
        nodes: NodeAccess::Nobody,
        browsers: Arc::default(),
        clock: Arc::new(crate::node::TestClock::default()),
        metrics: Arc::new(NodeMetrics::new(NodeRole::LocalReplica, NodeLimits::default(), ROUTE_LABELS)),
        origin: None,
        tls: Arc::default(),
        about: Arc::new(NodeAbout {
            role: "local-replica",
            name: "n-test".into(),
            node: 1,
            url: String::new(),
            not_promoted: None,
            default_ack: None,
        }),
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = HttpServer::start(listener, api, shared(settings())).expect("it starts");
    let text = |name: &str| {
        let body = format!("{name} the-text");
        format!("POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let mut greedy: Vec<Wire> = (0..400).map(|_| Wire::from(GREEDY, server.local_addr())).collect();
    for wire in &mut greedy {
        wire.send(text("greedy"));
    }
    let one = Duration::from_secs(1);
    let heard = (0..400).map_while(|_| requests.recv_timeout(one / 2).ok()).count();
    assert!(heard >= 100, "only {heard} of an address go on");
    let mut other = Wire::to(server.local_addr());
    other.send(text("other"));
    let passed_on = std::iter::from_fn(|| requests.recv_timeout(4 * one).ok()).any(|text| text.contains("other"));
    assert!(passed_on, "it waits for those of another address");
    let refused = answered(&mut greedy, 200);
    for refused in refused {
        assert_eq!((refused.status, refused.problem().as_str()), (503, "leader-away"));
        assert!(refused.text().contains("address"), "{}", refused.text());
    }
    server.stop(Duration::ZERO);
}
