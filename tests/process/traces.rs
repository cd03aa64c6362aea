//! The spans of a post, as a collector of OpenTelemetry gets them. Only with the feature `opentelemetry`.
#![allow(clippy::disallowed_methods, reason = "a test of the real process and its files")]

use parking_lot::Mutex;
use rustix::process::Signal;
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};
use tempfile::TempDir;
use testkit::{
    client::new_client,
    process::{Node, Start},
    wait::wait_until,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

/// A span, its ids in hexadecimal digits.
#[derive(Clone, Debug)]
struct ReceivedSpan {
    trace: String,
    id: String,
    parent: String,
    name: String,
}

/// The fields of a message of protobuf that have a length, with their numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                varint(&mut bytes);
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            kind => panic!("no field of protobuf is of type {kind}"),
        };
        let (field, rest) = bytes.split_at(length);
        if key & 7 == 2 {
            found.push((key >> 3, field));
        }
        bytes = rest;
    }
    found
}

fn inner<'a>(messages: impl IntoIterator<Item = &'a [u8]>, number: u64) -> Vec<&'a [u8]> {
    let all = messages.into_iter().flat_map(fields);
    all.filter(|(of, _)| *of == number).map(|(_, field)| field).collect()
}

fn spans(export: &[u8]) -> Vec<ReceivedSpan> {
    let of_scopes = inner(inner([export], 1), 2);
    let span = |bytes: &&[u8]| {
        let found: HashMap<u64, &[u8]> = fields(bytes).into_iter().collect();
        let hex = |number| {
            found.get(&number).map_or_else(String::new, |id| id.iter().map(|byte| format!("{byte:02x}")).collect())
        };
        let name = String::from_utf8(found[&5].to_vec()).expect("UTF-8");
        ReceivedSpan { trace: hex(1), id: hex(2), parent: hex(4), name }
    };
    inner(of_scopes, 2).iter().map(span).collect()
}

/// Takes what is exported, request by request.
fn serve(stream: TcpStream, received: &Mutex<Vec<ReceivedSpan>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a whole body");
        received.lock().extend(spans(&body));
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes()).expect("an open socket");
    }
}

#[test]
fn a_post_is_followed_from_its_client_to_the_replica_and_the_answer() {
    let received = Arc::<Mutex<Vec<ReceivedSpan>>>::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let collector = Arc::clone(&received);
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let received = Arc::clone(&collector);
            std::thread::Builder::new().spawn(move || serve(stream, &received)).expect("a thread");
        }
    };
    std::thread::Builder::new().spawn(accept).expect("a thread"); // it ends with the tests
    let traced = |start: Start| start.with(&["--otlp-endpoint", &endpoint]).variable("OTEL_BSP_SCHEDULE_DELAY", "100");
    let data = TempDir::new().expect("a directory");
    let leader: Node = traced(Start::plain_leader(data.path())).run();
    let replica = traced(Start::replica(&leader)).run();
    leader.until_connected(1);
    let post = new_client().post(format!("{}/post", leader.url)).header("content-type", "text/plain");
    let post = post.header("traceparent", format!("00-{TRACE}-{CLIENT}-01")).body("hello");
    assert_eq!(post.send().expect("it answers").status(), 202);
    let found = |name: &str| {
        let received = received.lock();
        let of_post = received.iter().filter(|span| span.trace == TRACE);
        of_post.clone().find(|span| span.name == name).cloned()
    };
    let path = [
        ("POST /post", None),
        ("commit group", Some("POST /post")),
        ("log", Some("commit group")),
        ("ack", Some("POST /post")),
        ("replicate", Some("commit group")),
        ("POST /update", Some("replicate")),
    ];
    for (name, within) in path {
        wait_until(name, || found(name).is_some());
        let span = found(name).expect("it was there just now");
        match within {
            None => assert_eq!(span.parent, CLIENT, "{span:?}"),
            Some(within) => assert_eq!(Some(span.parent), found(within).map(|span| span.id), "{name} in {within}"),
        }
    }
    let other = TRACE.replace('0', "1");
    let passed_on = new_client().post(format!("{}/post", replica.url)).header("content-type", "text/plain");
    let passed_on = passed_on.header("traceparent", format!("00-{other}-{CLIENT}-01")).body("hello");
    assert_eq!(passed_on.send().expect("it answers").status(), 202);
    wait_until("the follower's request, and the leader's within it", || {
        let received = received.lock();
        let posts: Vec<_> = received.iter().filter(|span| span.trace == other && span.name == "POST /post").collect();
        posts.iter().any(|span| span.parent == CLIENT && posts.iter().any(|within| within.parent == span.id))
    });
    replica.finish(Signal::TERM);
    leader.finish(Signal::TERM);
}
