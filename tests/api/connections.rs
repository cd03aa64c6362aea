//! Connections: kept, pipelined, slow, idle, too many, and stopped.

use crate::node::{Node, PATIENCE, settings};
use memdb::api::http::HttpSettings;
use std::time::{Duration, Instant};
use testkit::{wait_until, wire::Wire};

const SHORT: Duration = Duration::from_millis(100);

/// Waits until so many connections are open.
pub fn wait_for_connections(node: &Node, expected: usize) {
    let line = format!("memdb_http_connections {expected}");
    wait_until(&line, || node.metrics.render().lines().any(|shown| shown == line));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let mut requests = String::new();
    for number in 0..100 {
        requests.push_str("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na");
        requests.push_str(&format!("GET /wordcount?word=a&word=n{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        requests.push_str("POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n");
    }
    wire.send(requests);
    for number in 0..100 {
        assert_eq!(wire.answer().status, 202);
        let read = wire.answer();
        assert_eq!(read.text(), format!("{{\"a\":{},\"n{number}\":0}}", number + 1));
        assert_eq!(wire.answer().status, 202);
    }
}

#[test]
fn garbage_behind_requests_is_answered_last() {
    let node = Node::start(settings());
    for garbage in ["garbage\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\u{0}"] {
        let mut wire = Wire::to(node.address());
        wire.send(format!(
            "GET /health HTTP/1.1\r\nHost: a\r\n\r\nPOST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na{garbage}"
        ));
        assert_eq!(wire.answer().status, 200, "{garbage:?}");
        assert_eq!(wire.answer().status, 202, "{garbage:?}");
        let last = wire.answer();
        assert_eq!((last.status, last.problem().as_str()), (400, "malformed-request"), "{garbage:?}");
        assert_eq!(last.header("connection"), Some("close"));
        assert!(wire.is_closed());
    }
    assert_eq!(Wire::to(node.address()).get("/wordcount?word=a").text(), r#"{"a":3}"#);
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answers() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").finish();
    assert_eq!((wire.answer().status, wire.answer().status), (200, 200));
    assert!(wire.is_closed());
}

#[test]
fn half_a_request_is_nothing() {
    let node = Node::start(settings());
    let mut head = Wire::to(node.address());
    assert!(head.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Le").finish().is_closed());
    let mut body = Wire::to(node.address());
    body.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\na b").finish();
    assert_eq!(body.answer().problem(), "invalid-body");
    assert!(body.is_closed());
    let mut gone = Wire::to(node.address());
    gone.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\na b");
    drop(gone);
    assert_eq!(Wire::to(node.address()).get("/sync").text(), "{}");
}

#[test]
fn slow_clients_are_told_and_closed() {
    let quick = HttpSettings { header_timeout: SHORT, body_timeout: SHORT, idle_timeout: SHORT, ..settings() };
    let node = Node::start(quick);
    let mut silent = Wire::to(node.address());
    let mut head = Wire::to(node.address());
    head.send("GET /health HTTP/1.1\r\nHost: a\r\nX: ");
    let mut preface = Wire::to(node.address());
    preface.send("PRI * HTTP/2.0\r\n");
    let mut body = Wire::to(node.address());
    body.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\na b");
    let mut idle = Wire::to(node.address());
    assert_eq!(idle.get("/health").status, 200);
    let mut second = Wire::to(node.address());
    assert_eq!(second.get("/health").status, 200);
    second.send("GET /hea");
    assert!(silent.is_closed() && idle.is_closed());
    for mut told in [head, preface, body, second] {
        let answer = told.answer();
        assert_eq!((answer.status, answer.problem().as_str()), (408, "request-timeout"));
        assert!(told.is_closed());
    }
    assert_eq!(Wire::to(node.address()).get("/sync").text(), "{}");
    wait_for_connections(&node, 0);
}

/// What trickles in, a byte at a time, has no more time than what comes not at all.
#[test]
fn a_trickle_ends_when_a_silence_would() {
    let quick = HttpSettings { header_timeout: SHORT, body_timeout: SHORT, ..settings() };
    let node = Node::start(quick);
    for begin in
        ["GET /health HTTP/1.1\r\nHost: a\r\nX: ", "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n"]
    {
        let mut wire = Wire::to(node.address());
        wire.send(begin);
        let mut sent = 0;
        while !wire.has_something() {
            wire.send("x");
            sent += 1;
            assert!(sent < 900, "the trickle goes on");
        }
        assert_eq!(wire.answer().problem(), "request-timeout");
        assert!(wire.is_closed());
    }
    assert_eq!(Wire::to(node.address()).get("/sync").text(), "{}");
}

#[test]
fn a_client_that_takes_nothing_is_dropped() {
    let node = Node::start(HttpSettings { write_timeout: SHORT, max_body_bytes: 8 << 20, ..settings() });
    let mut wire = Wire::to(node.address());
    let words: Vec<String> = (0..400_000).map(|number| format!("a-rather-long-word-{number}")).collect();
    assert_eq!(wire.post(words[..200_000].join(" ")).status, 202);
    assert_eq!(wire.post(words[200_000..].join(" ")).status, 202);
    drop(wire);
    let mut stuck = Wire::to(node.address());
    // Many answers, none of them read: more than every buffer on the way holds.
    stuck.send("GET /sync HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20));
    assert_eq!(stuck.answer_without_body().status, 200);
    wait_for_connections(&node, 0);
}

#[test]
fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let node = Node::start(settings());
    for _ in 0..20 {
        let mut wire = Wire::to(node.address());
        wire.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        for _ in 0..10 {
            wire.send([b'x'; 10_000]);
        }
        assert_eq!(wire.answer().problem(), "body-too-large");
    }
}

#[test]
#[allow(clippy::disallowed_methods)] // looks into /proc
fn idle_connections_are_kept_and_cost_a_descriptor_each() {
    let node = Node::start(settings());
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("Linux").count();
    let mut wires: Vec<Wire> = (0..300).map(|_| Wire::to(node.address())).collect();
    wait_for_connections(&node, 300);
    assert_eq!(Wire::to(node.address()).post("a").status, 202);
    for wire in &mut wires {
        assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":1}"#);
    }
    let with = descriptors();
    drop(wires);
    wait_for_connections(&node, 0);
    // Other tests of this process open and close connections meanwhile: most of 600 are gone, whatever they do.
    let without = descriptors();
    assert!(with > without + 300, "{with} descriptors before, {without} after");
}

#[test]
fn one_connection_too_many_is_told_so() {
    let node = Node::start(HttpSettings { max_connections: 2, ..settings() });
    let mut first = Wire::to(node.address());
    let mut second = Wire::to(node.address());
    assert_eq!((first.get("/health").status, second.get("/health").status), (200, 200));
    let mut third = Wire::to(node.address());
    let answer = third.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (503, "too-many-connections"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(third.is_closed());
    drop(first);
    wait_for_connections(&node, 1);
    assert_eq!(Wire::to(node.address()).get("/health").status, 200);
}

#[test]
fn one_connection_too_many_from_an_address_is_told_so_and_the_others_have_theirs() {
    let node = Node::start(HttpSettings { max_connections: 10, max_connections_per_address: Some(2), ..settings() });
    let mut held: Vec<Wire> = (0..2).map(|_| Wire::from("127.0.0.2", node.address())).collect();
    assert!(held.iter_mut().all(|wire| wire.get("/health").status == 200));
    for _ in 0..20 {
        let mut third = Wire::from("127.0.0.2", node.address());
        let answer = third.answer();
        assert_eq!((answer.status, answer.problem().as_str()), (429, "too-many-from-address"));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(third.is_closed());
    }
    assert_eq!(Wire::to(node.address()).post("a").status, 202, "another address is not concerned");
    // However a connection ends, its place is free again: by the client, by a bad head, by a reset.
    for end in ["", "garbage\r\n\r\n", "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na"] {
        let mut wire = held.pop().expect("one of two");
        wire.send(end);
        drop(wire);
        wait_for_connections(&node, 1);
        held.push(Wire::from("127.0.0.2", node.address()));
        assert_eq!(held[1].get("/health").status, 200);
    }
}

#[test]
fn loopback_may_have_all_connections_without_a_number() {
    let node = Node::start(HttpSettings { max_connections: 4, ..settings() });
    let mut wires: Vec<Wire> = (0..4).map(|_| Wire::to(node.address())).collect();
    assert!(wires.iter_mut().all(|wire| wire.get("/health").status == 200));
    assert_eq!(Wire::to(node.address()).answer().problem(), "too-many-connections");
}

#[test]
fn a_stop_answers_what_is_in_flight() {
    let mut node = Node::start(settings());
    let address = node.address();
    let mut idle = Wire::to(node.address());
    assert_eq!(idle.get("/health").status, 200);
    let mut silent = Wire::to(node.address());
    let mut half = Wire::to(node.address());
    half.send("GET /health HTTP/1.1\r\n");
    wait_for_connections(&node, 3);
    let mut uploading = Wire::to(node.address());
    uploading.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(uploading.answer_without_body().status, 100, "the request is under way");
    let client = std::thread::Builder::new().spawn(move || {
        assert!(idle.is_closed() && silent.is_closed());
        assert!(half.is_closed() || half.answer().problem() == "stopping"); // the head may not have come at all
        // By now nothing is accepted any more, and what was begun is still taken.
        let answer = uploading.send("a b").answer();
        assert!(uploading.is_closed());
        answer
    });
    assert!(node.stop_server(PATIENCE), "nothing had to be cut off");
    let answer = client.expect("a thread").join().expect("answered");
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is free");
}

#[test]
#[allow(clippy::disallowed_methods)] // a test owns its time
fn a_stop_cuts_off_what_does_not_end() {
    let mut node = Node::start(settings());
    let mut stuck = Wire::to(node.address());
    stuck.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(stuck.answer_without_body().status, 100);
    let begun = Instant::now();
    assert!(!node.stop_server(SHORT), "something was cut off");
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < PATIENCE);
    assert!(stuck.is_closed());
}
