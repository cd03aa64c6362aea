//! The fast path and the way through hyper and the routes give the same bytes, whatever is asked and however it is cut.

use crate::{
    cases::cases,
    fast_path_entries::entry_writes,
    node::{Node, PATIENCE, settings},
};
use memdb::{
    api::http::{ApiContext, HttpServer, HttpSettings, ROUTE_LABELS},
    base::metrics::{NodeLimits, NodeMetrics, NodeRole},
};
use proptest::prelude::*;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::wire::Wire;

/// A second server over the same counts, without the fast path.
fn beside(node: &Node) -> HttpServer {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let api = ApiContext {
        metrics: Arc::new(NodeMetrics::new(NodeRole::Leader, NodeLimits::default(), ROUTE_LABELS)),
        ..node.api.clone()
    };
    HttpServer::start(listener, api, HttpSettings { fast_path: false, ..settings() }).expect("it starts")
}

/// A leader with some words, and the other server.
fn pair() -> (Node, HttpServer) {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.post("hello hello world 北京 a_b straße naïve 0").status, 202);
    assert_eq!(wire.ask("POST /post?ns=other HTTP/1.1", "hello").status, 202);
    let typed = "PUT /cache/a%2Fb HTTP/1.1\r\nContent-Type: text/html; charset=utf-8";
    assert_eq!(wire.ask(typed, "<p>value").status, 200);
    assert_eq!(wire.ask("PUT /cache/k?ns=other&ttl=60 HTTP/1.1", "v".repeat(700)).status, 200);
    assert_eq!(wire.ask("PUT /posts/7?count=false HTTP/1.1", "").status, 200);
    let server = beside(&node);
    (node, server)
}

/// Everything a server says to these bytes until it closes, with the second left out.
pub fn said(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("a socket");
    for piece in pieces {
        let _ = stream.write_all(piece); // it may have closed
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it neither answers nor closes");
    }
    let said = String::from_utf8(said).expect("answers are UTF-8");
    let timeless =
        said.split("\r\n").map(|line| if line.starts_with("x-response-time: ") { "x-response-time: 1" } else { line });
    let undated = timeless.map(|line| match line.strip_prefix("date: ") {
        Some(date) => {
            assert_eq!(date.len(), "Sun, 06 Nov 1994 08:49:37 GMT".len(), "{date}");
            "date: now"
        }
        None => line,
    });
    undated.collect::<Vec<_>>().join("\r\n")
}

fn compare((node, server): &(Node, HttpServer), bytes: &[u8], piece: usize) -> String {
    let pieces: Vec<&[u8]> = bytes.chunks(piece.max(1)).collect();
    let fast_path = said(node.address(), &pieces);
    let routes = said(server.local_addr(), &[bytes]);
    // Behind a body nobody reads, or behind the end of the connection, hyper says more or less as the bytes happen to
    // come.
    let text = String::from_utf8_lossy(bytes);
    let asked = text.to_ascii_lowercase();
    let ends = ["content-length", "chunked", "close", "http/1.0"].iter().any(|end| asked.contains(end));
    let bytes = if ends { fast_path.len().min(routes.len()) } else { usize::MAX };
    let begin = |text: &str| String::from_utf8_lossy(&text.as_bytes()[..bytes.min(text.len())]).into_owned();
    assert_eq!(begin(&fast_path), begin(&routes), "{text:?} in pieces of {piece}");
    fast_path
}

pub fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

/// Targets and header lines to be combined; what does not belong together is odd, and that is the point.
const TARGETS: &[&str] = &[
    "/health",
    "/cache/a/b",
    "/cache/a%2Fb?ns=words",
    "/cache/k?ns=other",
    "/cache/k?ns=other&ttl=1",
    "/cache/absent",
    "/cache/%zz",
    "/cache/",
    "/cache?key=a/b",
    "/posts/7",
    "/posts/8",
    "/post?id=7",
    "/post?ns=words&id=%37&_=1",
    "/post?id=8",
    "/post?id=",
    "/post",
    "/wordcount?word=hello",
    "/wordcount?word=HELLO&word=absent&word=world",
    "/wordcount?word=hello&word=hello",
    "/wordcount?word=%E5%8C%97%E4%BA%AC&ns=words",
    "/wordcount?word=hello&ns=other&verbose",
    "/wordcount?word=hello&_=1&ns=other",
    "/wordcount?_=1&word=hello&_x",
    "/wordcount?words=hello",
    "/wordcount?word=hello&=x",
    "/wordcount?word=hello&_=%zz",
    "/wordcount?word=stra%C3%9Fe&ack=disk&n=3",
    "/wordcount?word=a+b",
    "/wordcount?word=%22%5C%0a%01",
    "/wordcount?word=a=b",
    "/wordcount?word=a:b,c~d-e.f_g/h",
    "/wordcount?ns=absent&word=hello",
    "/wordcount?ns=Capital&word=hello",
    "/wordcount?ns=a&ns=b&word=x",
    "/wordcount?word=",
    "/wordcount?",
    "/wordcount",
    "/wordcount/?word=hello",
    "/wordcount?word=%zz",
    "/wordcount?word=%ff",
    "/wordcount?word=it's",
    "/wordcount?word=na\u{ef}ve",
    "/wordcount?word=hello#here",
    "/wordcount?word=hello?word=x",
    "/health?",
    "/health?verbose",
    "/health?_=1",
    "/health/",
    "/health/live",
    "/top?n=2",
    "/absent",
    "*",
    "http://a/wordcount?word=hello",
];
const LINES: &[&str] = &[
    "",
    "User-Agent: x\r\nAccept: */*\r\n",
    "Connection: keep-alive\r\n",
    "Connection: close\r\n",
    "connection:Keep-Alive, x\r\n",
    "If-None-Match: *\r\n",
    "If-None-Match: \"x\", W/\"y\"\r\n",
    "If-None-Match: \u{fc}\r\n",
    "If-None-Match: a\r\nIf-None-Match: *\r\n",
    "Memdb-Min-Position: 1-1-00000007\r\n",
    "Memdb-Min-Position: 0-0-00000007\r\n",
    "Memdb-Min-Position: 9-9-00000007\r\n",
    "Memdb-Min-Position: 1-1-00000008\r\n",
    "Memdb-Min-Position: 1-1\r\n",
    "Memdb-Min-Position: seven\r\n",
    "Memdb-Min-Position: 1-1-00000007\r\nMemdb-Min-Position: 1-1-00000007\r\n",
    "Memdb-Forwarded: 1\r\n",
    "Memdb-Forwarded: 00000000000000000000000000000007\r\n",
    "Memdb-Forwarded: 00000000000000000000000000000008\r\n",
    "Memdb-Forwarded: x\r\n",
    "Host: b\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 1\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Type: text/plain\r\nContent-Type: text/html\r\n",
    "Idempotency-Key: a\r\nIdempotency-Key: b\r\n",
    "Content-Encoding: gzip\r\nExpect: x\r\n",
    "Upgrade: h2c\r\nConnection: upgrade\r\n",
    "X: \u{fc}\t y \r\nx-empty:\r\n",
    "X : y\r\n",
    "X: y\r\n z\r\n",
];
/// Whole requests, or what is none, that stand between others.
const OTHERS: &[&str] = &[
    "\r\n",
    "HEAD /wordcount?word=hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS /wordcount HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /wordcount?word=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "GET /health HTTP/1.0\r\n\r\n",
    "GET /health HTTP/1.1\nHost: a\n\n",
    "GET  /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /health HTTP/1.1 \r\nHost: a\r\n\r\n",
    "get /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /health\r\n\r\n",
    "garbage\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /wordcount?word=hel",
];

#[test]
fn each_odd_request_is_answered_alike_by_the_fast_path_and_by_the_routes() {
    let pair = pair();
    // What is counted moves the position, of which there is one.
    for case in cases().iter().filter(|case| case.status != 202) {
        compare(&pair, &case.bytes, case.bytes.len());
    }
    for target in TARGETS {
        for lines in LINES {
            compare(&pair, format!("{0}{0}{1}", get(target, lines), get("/health", "")).as_bytes(), 64);
        }
    }
    // A write that is taken moves it too: those are in `fast_path_entries`.
    for (request, status) in
        entry_writes().iter().filter(|(_, status)| ![200, 202, 409, 412, 422, 504].contains(status))
    {
        let answer = compare(&pair, request.as_bytes(), request.len());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    for other in OTHERS {
        let answer = compare(&pair, format!("{0}{other}{0}", get("/wordcount?word=hello", "")).as_bytes(), 1_000);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("{\"hello\":2}"), "{other:?}: {answer}");
    }
}

#[test]
fn a_tag_is_worth_the_same_on_both_ways() {
    let (node, server) = pair();
    for address in [node.address(), server.local_addr()] {
        let answer = Wire::to(address).get("/wordcount?word=hello");
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = get("/wordcount?word=hello", &format!("If-None-Match: \"x\", {tag}\r\n"));
        let (fast_path, routes) =
            (said(node.address(), &[again.as_bytes()]), said(server.local_addr(), &[again.as_bytes()]));
        assert!(fast_path.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{fast_path}");
        assert_eq!(fast_path, routes);
    }
}

#[test]
fn a_node_with_nothing_to_read_says_so_on_both_ways() {
    let pair = pair();
    pair.0.api.shard.view().withdraw();
    let answer = compare(&pair, get("/wordcount?word=hello", "").repeat(2).as_bytes(), 10_000);
    assert_eq!(answer.matches("urn:memdb:problem:not-ready").count(), 2, "{answer}");
}

pub fn post(target: &str, lines: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{lines}\r\n{body}", body.len())
}

/// Posts, each with what it is answered; one after the other, as they are here.
fn posts() -> Vec<(String, u16)> {
    let plain = |body: &str| post("/post", "Content-Type: text/plain; charset=utf-8\r\n", body);
    let keyed = |key: &str, body: &str| post("/post", &format!("Idempotency-Key: {key}\r\n"), body);
    let streamed = |sequence: u64, body: &str| {
        post("/post?ns=s", &format!("Memdb-Stream: s\r\nMemdb-Stream-Seq: {sequence}\r\n"), body)
    };
    let form = |body: &str| post("/post?ack=disk", "Content-Type: application/x-www-form-urlencoded\r\n", body);
    vec![
        (plain("Hello world, hello 北京"), 202),
        (plain(" "), 202),
        (plain(&format!("{} short", "x".repeat(300))), 202),
        (plain(&"many words ".repeat(1_300)), 202),
        (plain(&"too many for the road ".repeat(1_300)), 202),
        (keyed("k", "once"), 202),
        (keyed("k", "once"), 202),
        (keyed("k", "another"), 422),
        (streamed(1, "one"), 202),
        (streamed(2, "two"), 202),
        (streamed(2, "two"), 202),
        (streamed(4, "four"), 409),
        (form("x=1&text=hello+world%21"), 202),
        (post("/post?ack=replica", "", "hello"), 504),
        (post("/post?ack=replica%2Bdisk", "", "hello"), 400),
        (post("/post", "Content-Type: application/json\r\n", r#"{"text":"a json","id":"i"}"#), 202),
        (plain(""), 400),
        (form("text="), 400),
        (post("/post?ns=Capital", "", "hello"), 400),
        (post("/post?ack=never", "", "hello"), 400),
        (post("/post?ns=..", "", "hello"), 400),
        (post("/post?namespace=s", "", "hello"), 400),
        (post("/post?_=1&ns=s&_", "", "again"), 202),
        (post("/post", "Memdb-Stream: s\r\n", "hello"), 400),
        (post("/post", "Idempotency-Key: a\r\nMemdb-Stream: s\r\nMemdb-Stream-Seq: 1\r\n", "hello"), 400),
        (post("/post", "Content-Type: image/png\r\n", "hello"), 415),
    ]
}

/// Two leaders of the same kind, of which one has no fast path.
pub fn twins() -> [Node; 2] {
    [true, false].map(|fast_path| Node::start(HttpSettings { fast_path, max_body_bytes: 64 << 10, ..settings() }))
}

/// Tags tell databases apart.
pub fn untagged(said: &str) -> String {
    said.split("\r\n").filter(|line| !line.starts_with("etag: ")).collect::<Vec<_>>().join("\r\n")
}

#[test]
fn posts_are_answered_alike_by_the_fast_path_and_by_the_routes() {
    let twins = twins();
    for (request, status) in posts() {
        let [fast_path, routes] = twins.each_ref().map(|node| said(node.address(), &[request.as_bytes()]));
        assert!(fast_path.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {fast_path}");
        assert_eq!(fast_path, routes, "{request}");
    }
    let counts = get("/wordcount?word=hello&word=once&word=many&word=road&word=json", "");
    let [fast_path, routes] = twins.each_ref().map(|node| said(node.address(), &[counts.as_bytes()]));
    assert!(fast_path.contains(r#"{"hello":4,"once":1,"many":2600,"road":1300,"json":1}"#), "{fast_path}");
    assert_eq!(untagged(&fast_path), untagged(&routes));
}

#[test]
fn posts_and_reads_of_one_connection_come_in_order_however_they_are_cut() {
    for piece in [1, 7, 60, 1_000, 100_000] {
        let twins = twins();
        let read = get("/wordcount?word=hello&word=two", "");
        let taken = posts().into_iter().filter(|(_, status)| *status != 415).map(|(post, _)| post + &read);
        let all: String = taken.collect();
        let pieces: Vec<&[u8]> = all.as_bytes().chunks(piece).collect();
        let fast_path = said(twins[0].address(), &pieces);
        let routes = said(twins[1].address(), &[all.as_bytes()]);
        let taken = posts().iter().filter(|(_, status)| *status == 202).count();
        assert_eq!(fast_path.matches("HTTP/1.1 202 ").count(), taken);
        assert!(fast_path.ends_with("{\"hello\":4,\"two\":0}\n"), "{fast_path}");
        assert_eq!(untagged(&fast_path), untagged(&routes), "in pieces of {piece}");
    }
}

#[test]
fn a_post_that_stops_half_way_is_told_so_and_counts_nothing() {
    let short = Duration::from_millis(100);
    let node =
        Node::start(HttpSettings { header_timeout: short, body_timeout: short, idle_timeout: PATIENCE, ..settings() });
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.post("hello").status, 202);
    let half = "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello";
    assert_eq!(wire.send(half).answer().problem(), "request-timeout");
    let answer = Wire::to(node.address()).get("/wordcount?word=hello");
    assert_eq!(answer.json()["hello"], 1);
}

#[test]
fn requests_are_counted_and_timed_in_the_fast_path_too() {
    let node = Node::start(settings());
    let requests = format!("{}{}", get("/wordcount?word=a", "").repeat(500), get("/health", ""));
    let answers =
        said(node.address(), &[requests.as_bytes(), get("/wordcount?word=a", "If-None-Match: *\r\n").as_bytes()]);
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 501);
    let shown = node.metrics.render();
    for line in [
        "memdb_http_requests_total{route=\"wordcount\",status=\"2xx\"} 500",
        "memdb_http_requests_total{route=\"wordcount\",status=\"3xx\"} 1",
        "memdb_http_requests_total{route=\"health\",status=\"2xx\"} 1",
        "memdb_http_request_seconds_count{method=\"GET\",route=\"wordcount\"} 501",
        "memdb_http_request_seconds_count{method=\"GET\",route=\"health\"} 1",
    ] {
        assert!(shown.lines().any(|one| one == line), "no {line} in\n{shown}");
    }
}

/// Clients that send requests and take no answer: no more is read from them, no new client waits for them, and in the
/// end they are dropped.
#[test]
#[allow(clippy::disallowed_methods)] // a test owns its time
fn pipeliners_that_take_nothing_hold_up_nobody() {
    let node = Node::start(HttpSettings { write_timeout: Duration::from_secs(1), ..settings() });
    let flood = get("/wordcount?word=a", "").repeat(1_000);
    let mut stuck: Vec<(TcpStream, usize)> = (0..100)
        .map(|_| {
            let stream = TcpStream::connect(node.address()).expect("the server accepts");
            stream.set_nonblocking(true).expect("a socket");
            (stream, 0)
        })
        .collect();
    let begun = Instant::now();
    crate::connections::wait_for_connections(&node, 100);
    // An answer is four times as long as its request, so every one of them comes to a stop, and is dropped.
    while !node.metrics.render().contains("memdb_http_connections 0\n") {
        for (stream, sent) in &mut stuck {
            while let Ok(more) = stream.write(&flood.as_bytes()[*sent % flood.len()..]) {
                *sent += more;
                assert!(*sent < 64 << 20, "the server reads on while nothing is taken");
            }
        }
        assert_eq!(Wire::to(node.address()).get("/wordcount?word=a").status, 200);
        assert!(begun.elapsed() < 3 * PATIENCE, "they are never dropped");
    }
}

/// A head has its time from its first byte on, however long a silence may be.
#[test]
fn a_slow_head_after_a_read_is_told_so() {
    let short = Duration::from_millis(100);
    let node = Node::start(HttpSettings { header_timeout: short, idle_timeout: 10 * PATIENCE, ..settings() });
    for rest in ["GET /wordcount?wo", "POST /post HTTP/1.1\r\nHo"] {
        let mut wire = Wire::to(node.address());
        assert_eq!(wire.get("/wordcount?word=a").status, 200);
        assert_eq!(wire.send(rest).answer().problem(), "request-timeout");
        assert!(wire.is_closed());
    }
}

/// What a client takes slowly comes whole and in order all the same.
#[test]
fn answers_taken_slowly_come_whole() {
    let node = Node::start(settings());
    let word = "b".repeat(3_000);
    let one = get(&format!("/wordcount?word={word}"), "");
    let mut stream = TcpStream::connect(node.address()).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut sending = stream.try_clone().expect("a socket");
    let requests = 4_000;
    let sender = std::thread::Builder::new().spawn(move || {
        for _ in 0..requests {
            sending.write_all(one.as_bytes()).expect("it is taken in the end");
        }
        // The last of them is not the fast path's.
        sending
            .write_all(b"GET /top HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .expect("it is taken in the end");
    });
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("all answers, and the end");
    sender.expect("a thread").join().expect("all is sent");
    let said = String::from_utf8(said).expect("UTF-8");
    assert_eq!(said.matches(&format!("{{\"{word}\":0}}")).count(), requests);
    assert!(said.ends_with("\r\n\r\n[]\n"), "{}", &said[said.len() - 200..]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_in_any_pieces_is_answered_alike(
        requests in prop::collection::vec(
            (0..TARGETS.len(), 0..LINES.len(), prop::option::weighted(0.1, 0..OTHERS.len()), any::<bool>()),
            1..8,
        ),
        piece in 1..300_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
    ) {
        thread_local!(static PAIR: (Node, HttpServer) = pair());
        let mut bytes = Vec::new();
        for (target, lines, other, plain) in requests {
            let lines = if plain { "" } else { LINES[lines] };
            bytes.extend_from_slice(get(TARGETS[target], lines).as_bytes());
            bytes.extend_from_slice(other.map_or("", |other| OTHERS[other]).as_bytes());
        }
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // A post would move the position between the two.
        if !bytes.windows(5).any(|some| some == b"/post") {
            PAIR.with(|pair| compare(pair, &bytes, piece));
        }
    }
}
