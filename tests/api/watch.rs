//! `GET /watch`: the first values, then what changes, until somebody goes.

#![allow(clippy::disallowed_methods, reason = "posts beside a watcher, and sees how long a stop takes")]

use crate::node::{Node, PATIENCE, settings};
use memdb::api::http::HttpSettings;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    events::WatchedStream,
    node::{follow, lead},
    wait_until,
    wire::Wire,
};

fn watch(node: &Node, query: &str) -> WatchedStream {
    WatchedStream::open(node.address(), query, "")
}

fn resumed(node: &Node, query: &str, id: &str) -> WatchedStream {
    WatchedStream::open(node.address(), query, &format!("\r\nLast-Event-ID: {id}"))
}

#[test]
fn a_watcher_is_sent_the_first_values_and_then_each_change() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("hello");
    let mut stream = watch(&node, "word=Hello&word=world&every=20ms");
    for (name, value) in [("cache-control", "no-store"), ("x-accel-buffering", "no")] {
        assert_eq!(stream.head.header(name), Some(value));
    }
    let first = stream.next_event().expect("the first values");
    assert_eq!((&*first.name, &*first.data), ("counts", r#"{"Hello":1,"world":0}"#));
    assert_eq!(first.id.as_deref(), Some("1-1-00000007"));
    wire.post("other");
    wire.post("world world");
    let change = stream.next_event().expect("a change");
    assert_eq!((&*change.data, change.id.as_deref()), (r#"{"world":2}"#, Some("1-3-00000007")));
    wire.ask("DELETE /ns/words HTTP/1.1", "");
    assert_eq!(stream.next_text(), r#"counts {"Hello":0,"world":0}"#);
    let status = wire.get("/status").json();
    assert_eq!((&status["watchers"]["open"], &status["watchers"]["limit"]), (&1.into(), &5_000.into()));
    let metrics = wire.get("/metrics");
    assert!(
        metrics.text().contains("\nmemdb_watch_events_total 3\n") && metrics.text().contains("\nmemdb_watchers 1\n")
    );
}

#[test]
#[allow(clippy::disallowed_methods)] // a test owns its time and its threads
fn changes_between_two_ticks_are_one_event() {
    let node = Node::start(settings());
    let (mut wire, begun) = (Wire::to(node.address()), Instant::now());
    let mut stream = watch(&node, "word=a&every=400ms");
    assert_eq!(stream.next_text(), r#"counts {"a":0}"#);
    for _ in 0..40 {
        wire.post("a");
    }
    let mut events = 1;
    while stream.next_text() != r#"counts {"a":40}"# {
        events += 1;
    }
    // A tick is a tenth shorter than the interval.
    let ticks = begun.elapsed().as_millis() / 360;
    assert!(events <= ticks + 1, "{events} events in {ticks} ticks");
}

#[test]
#[allow(clippy::disallowed_methods)] // a test owns its time and its threads
fn several_words_come_from_one_position_while_posts_come() {
    let node = Node::start(settings());
    let mut stream = watch(&node, "word=a&word=b&word=c&every=10ms");
    stream.next_event();
    let address = node.address();
    let posting = std::thread::spawn(move || {
        let mut wire = Wire::to(address);
        (0..300).for_each(|_| drop(wire.post("a b c")));
    });
    loop {
        let event = stream.next_event().expect("it goes on");
        let counts: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
        let position = event.id.expect("a position");
        let sequence: i64 = position.split('-').nth(1).and_then(|number| number.parse().ok()).expect("a number");
        assert_eq!(counts, serde_json::json!({"a": counts["a"], "b": counts["a"], "c": counts["a"]}), "{position}");
        assert!(counts["a"].as_i64() >= Some(sequence), "a record holds a post or more: {position} {counts}");
        if counts["a"] == 300 {
            break;
        }
    }
    posting.join().expect("it posts");
}

#[test]
fn a_client_that_comes_again_is_sent_what_it_has_not() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("a b");
    let mut first = watch(&node, "word=a&word=b&every=10ms");
    first.next_event();
    let id = first.last_id.clone();
    drop(first);
    for mut again in [
        resumed(&node, "word=a&word=b&every=10ms", &id),
        watch(&node, &format!("word=a&word=b&every=10ms&last_event_id={id}")),
    ] {
        wire.post("b");
        let event = again.next_text();
        assert!(event.starts_with(r#"counts {"b":"#), "what it has is not sent again: {event}");
        wire.ask("DELETE /wordcount?word=b HTTP/1.1", "");
    }
    // Something was written since, and nobody knows what the client has of it.
    assert_eq!(resumed(&node, "word=a&word=b", &id).next_text(), r#"counts {"a":1,"b":0}"#);
}

#[test]
fn a_client_with_a_position_of_elsewhere_is_told_to_begin_anew() {
    let node = Node::start(settings());
    Wire::to(node.address()).post("a");
    let node = node.restarted(settings());
    Wire::to(node.address()).post("a");
    for (id, reason) in [("1-9-00000007", "position-lost"), ("2-1-00000008", "position-other-database")] {
        let mut stream = resumed(&node, "word=a", id);
        assert_eq!(stream.next_text(), format!(r#"reset {{"reason":"{reason}"}}"#));
        assert_eq!((stream.next_text().as_str(), stream.last_id.as_str()), (r#"counts {"a":2}"#, "2-2-00000007"));
    }
    // It is of a moment that this node has yet to come to.
    let mut ahead = resumed(&node, "word=a&every=10ms", "2-3-00000007");
    assert!(!ahead.has_something());
    Wire::to(node.address()).post("a a");
    Wire::to(node.address()).post("a");
    assert_eq!(ahead.next_text(), r#"counts {"a":5}"#);
}

#[test]
fn entries_are_sent_with_small_values_and_when_their_time_has_come() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let mut stream = watch(&node, "key=a&key=b&every=10ms");
    assert_eq!(stream.next_text(), r#"entries [{"key":"a","found":false},{"key":"b","found":false}]"#);
    let tag = wire.ask("PUT /cache/a?ttl=0.2 HTTP/1.1\r\nContent-Type: text/plain", "hello").json()["etag"].clone();
    let expected = format!(
        r#"entries [{{"key":"a","found":true,"bytes":5,"content_type":"text/plain","etag":{tag},"expires_in":0.2,"value":"hello"}}]"#
    );
    assert_eq!(stream.next_text(), expected);
    node.clock.advance(Duration::from_millis(200));
    assert_eq!(stream.next_text(), r#"entries [{"key":"a","found":false}]"#, "no record says so yet");
    wire.ask("PUT /cache/b HTTP/1.1", "x".repeat(1_000));
    assert!(stream.next_text().contains(r#""value":"xxx"#));
    let large = "x".repeat(1_025);
    let node = Node::start(HttpSettings { max_value_bytes: 2_000, ..settings() });
    Wire::to(node.address()).ask("PUT /cache/b HTTP/1.1", large);
    let text = watch(&node, "key=b").next_text();
    assert!(text.contains(r#""bytes":1025"#) && !text.contains("value"), "{text}");
}

#[test]
fn words_and_keys_of_one_stream_are_two_events_of_one_position() {
    let node = Node::start(settings());
    let mut stream = watch(&node, "word=a&key=k&ns=n&every=10ms");
    let (counts, entries) = (stream.next_event().expect("counts"), stream.next_event().expect("entries"));
    assert_eq!((&*counts.name, counts.id), ("counts", None), "who has lost the second has none of them");
    assert_eq!((&*entries.name, entries.id.is_some()), ("entries", true));
    let create = r#"{"entries":[{"key":"k","value":"v"}]}"#;
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.ask("POST /cache?ns=n HTTP/1.1\r\nContent-Type: application/json", create).status, 200);
    let change = stream.next_event().expect("a change");
    assert_eq!((&*change.name, change.id.is_some()), ("entries", true));
    wire.ask("POST /post?ns=n HTTP/1.1", "a");
    let change = stream.next_event().expect("a change");
    assert_eq!((&*change.data, change.id.is_some()), (r#"{"a":1}"#, true));
}

#[test]
fn the_largest_counts_are_sent_as_a_list_when_it_changes() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("b a b");
    let mut stream = watch(&node, "top=2&every=10ms");
    assert_eq!(stream.next_text(), r#"top [{"word":"b","count":2},{"word":"a","count":1}]"#);
    wire.post("c");
    wire.post("a a");
    // By the clock of the test no time passes, so the ranking is that of a moment ago.
    node.clock.advance(Duration::from_millis(100));
    assert_eq!(stream.next_text(), r#"top [{"word":"a","count":3},{"word":"b","count":2}]"#);
}

#[test]
#[allow(clippy::disallowed_methods)] // a test owns its time and its threads
fn a_stop_ends_streams_at_once() {
    let mut node = Node::start(settings());
    let mut streams: Vec<_> = (0..4).map(|_| watch(&node, "word=a&every=60s")).collect();
    streams.iter_mut().for_each(|stream| drop(stream.next_event()));
    let begun = Instant::now();
    assert!(node.stop_server(PATIENCE), "nothing is cut off");
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    for mut stream in streams {
        assert_eq!(stream.next_event(), None, "the answer is whole");
    }
    assert_eq!(node.metrics.watchers.get(), 0);
}

#[test]
#[allow(clippy::disallowed_methods)] // a test owns its time and its threads
fn a_change_of_role_ends_streams_and_the_next_role_has_others() {
    let node = Node::start(settings());
    let mut stream = watch(&node, "word=a&every=60s");
    stream.next_event();
    node.server().end_role();
    assert_eq!(stream.next_event(), None, "the answer is whole");
    let api = node.api.clone();
    let address = node.address();
    let waiting = std::thread::spawn(move || WatchedStream::open(address, "word=a", "").next_text());
    node.server().change_role(api.shard, api.forward, Arc::clone(&api.about));
    assert_eq!(waiting.join().expect("it is answered"), r#"counts {"a":0}"#);
}

#[test]
fn a_watcher_too_many_is_told_so_and_one_that_has_gone_makes_room() {
    let node = Node::start(HttpSettings { max_watchers: 2, ..settings() });
    let mut wire = Wire::to(node.address());
    let streams = [watch(&node, "word=a&every=10ms"), watch(&node, "word=b&every=10ms")];
    let refused = wire.get("/watch?word=a");
    assert_eq!((refused.status, refused.problem().as_str()), (503, "too-many-watchers"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(streams);
    wait_until("both are gone", || {
        wire.post("a b");
        node.metrics.watchers.get() == 0
    });
    watch(&node, "word=a").next_text();
}

#[test]
fn a_watcher_that_takes_nothing_is_closed_and_nothing_is_kept_for_it() {
    let node = Node::start(HttpSettings { write_timeout: Duration::from_millis(300), ..settings() });
    let keys: Vec<String> = (0..64).map(|at| format!("k{at}")).collect();
    let query = format!("key={}&every=10ms", keys.join("&key="));
    let _stream = watch(&node, &query);
    let mut wire = Wire::to(node.address());
    let mut round = 0;
    wait_until("it is closed", || {
        round += 1;
        let value = format!("{round:x<1000}");
        let entries: Vec<_> = keys.iter().map(|key| serde_json::json!({"key": key, "value": value})).collect();
        let body = serde_json::json!({ "entries": entries }).to_string();
        assert_eq!(wire.ask("POST /cache HTTP/1.1\r\nContent-Type: application/json", body).status, 200);
        node.metrics.watchers.get() == 0
    });
}

#[test]
fn a_request_that_makes_no_sense_is_refused() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let many = vec!["word=a"; 1_001].join("&");
    for (query, said) in [
        ("", "name what to watch"),
        ("ns=a", "name what to watch"),
        ("word=", "name at least one word"),
        ("word=__", "name at least one word"),
        ("key=", "a key has 1 to 512 bytes"),
        ("top=0", "top is a whole number from 1 to 1000"),
        ("top=1001", "top is a whole number"),
        ("top=3&word=a", "open two streams"),
        ("word=a&every=100", "every is a time such as 100ms"),
        ("word=a&every=-1s", "every is a time such as 100ms"),
        ("word=a&interval=1s", "did you mean `every`?"),
        ("words=a", "did you mean `word`?"),
        ("word=a&ns=A", "a namespace is"),
        (&many, "at most 1000 words"),
    ] {
        let refused = wire.get(&format!("/watch?{query}"));
        assert_eq!((refused.status, refused.problem().as_str()), (400, "invalid-parameter"), "{query}");
        assert!(refused.text().contains(said), "{query}: {}", refused.text());
    }
    let refused = wire.ask("GET /watch?word=a HTTP/1.1\r\nLast-Event-ID: seven", "");
    assert_eq!((refused.status, refused.problem().as_str()), (400, "invalid-header"));
    let refused = wire.ask("GET /watch?word=a HTTP/1.1\r\nAccept: application/json", "");
    assert_eq!((refused.status, refused.problem().as_str()), (406, "not-acceptable"));
    assert_eq!(wire.ask("POST /watch?word=a HTTP/1.1", "").header("allow"), Some("GET, HEAD"));
    let head = wire.ask("HEAD /watch?word=a HTTP/1.1", "");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(wire.get("/wordcount?word=a").status, 200, "the connection goes on");
    assert_eq!(node.metrics.watchers.get(), 0);
}

#[tokio::test]
async fn events_come_over_http_2_until_a_stop() {
    let mut node = Node::start(settings());
    let stream = tokio::net::TcpStream::connect(node.address()).await.expect("the server accepts");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::builder().uri("http://a/watch?word=a&every=10ms").body(()).expect("a request");
    let (answer, _) = client.send_request(request, true).expect("an open connection");
    let (head, mut body) = answer.await.expect("an answer").into_parts();
    assert_eq!(
        (head.status.as_u16(), head.headers["content-type"].to_str().expect("ASCII")),
        (200, "text/event-stream")
    );
    let first = body.data().await.expect("a piece").expect("a whole one");
    assert!(first.ends_with(b"data: {\"a\":0}\n\n"), "{first:?}");
    let address = node.address();
    tokio::task::spawn_blocking(move || drop(Wire::to(address).post("a"))).await.expect("it posts");
    let change = body.data().await.expect("a piece").expect("a whole one");
    assert_eq!(change, "event: counts\nid: 1-1-00000007\ndata: {\"a\":1}\n\n");
    let stopped = tokio::task::spawn_blocking(move || node.stop_server(PATIENCE));
    while let Some(piece) = body.data().await {
        assert_eq!(piece.expect("the answer is whole"), "", "an empty piece may end it");
    }
    assert!(stopped.await.expect("it stops"));
}

#[test]
fn a_replica_has_watchers_of_its_own() {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[]).expect("a leader");
    let following = follow(leading.address(), None);
    let mut wire = Wire::to(following.address());
    wait_until("the replica to be ready", || wire.get("/health/ready").status == 200);
    let mut stream = WatchedStream::open(following.address(), "word=a&every=10ms", "");
    assert_eq!(stream.next_text(), r#"counts {"a":0}"#);
    let posted = Wire::to(leading.address()).post("a");
    assert_eq!(stream.next_text(), r#"counts {"a":1}"#);
    assert_eq!(Some(&*stream.last_id), posted.header("memdb-position"), "a position is the same on every node");
    // It goes on at another node where it was.
    let id = format!("\r\nLast-Event-ID: {}", stream.last_id);
    let mut elsewhere = WatchedStream::open(leading.address(), "word=a&every=10ms", &id);
    wire.post("a");
    assert_eq!(elsewhere.next_text(), r#"counts {"a":2}"#);
}
