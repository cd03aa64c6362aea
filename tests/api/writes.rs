//! Writes beyond the plain post: names that make them count once, updates, deletes, refusals.

use crate::node::{Node, settings};
use testkit::wire::{Answer, Wire};

fn keyed(wire: &mut Wire, key: &str, text: &str) -> Answer {
    wire.ask(&format!("POST /post HTTP/1.1\r\nIdempotency-Key: {key}"), text)
}

#[test]
fn a_key_counts_once() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let first = keyed(&mut wire, "k", "a b");
    let again = keyed(&mut wire, "k", "a b");
    assert_eq!(again.header("memdb-replayed"), Some("true"));
    assert_eq!(again.header("memdb-position"), first.header("memdb-position"));
    assert_eq!((again.json()["replayed"].clone(), again.json()["words"].clone()), (true.into(), 2.into()));
    // The id of a JSON body is the same key, and the same text in another form is the same request.
    let json = |wire: &mut Wire, body: &str| wire.ask("POST /post HTTP/1.1\r\nContent-Type: application/json", body);
    assert_eq!(json(&mut wire, r#"{"text":"a b","id":"k"}"#).header("memdb-replayed"), Some("true"));
    assert_eq!(json(&mut wire, r#"{"text":"a b c","id":"k"}"#).problem(), "key-reused");
    assert_eq!(keyed(&mut wire, "k", "a").status, 422);
    // In another namespace it is another key.
    let elsewhere = wire.ask("POST /post?ns=other HTTP/1.1\r\nIdempotency-Key: k", "a b");
    assert_eq!((elsewhere.status, elsewhere.header("memdb-replayed")), (202, None));
    let update = wire.ask("POST /update HTTP/1.1\r\nIdempotency-Key: k", r#"{"a":1}"#);
    assert_eq!(update.problem(), "key-reused");
    assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":1}"#);
}

#[test]
fn a_stream_goes_on_where_it_was() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let mut post = |sequence: &str, text: &str| {
        wire.ask(&format!("POST /post HTTP/1.1\r\nMemdb-Stream: s\r\nMemdb-Stream-Seq: {sequence}"), text)
    };
    assert_eq!(post("1", "a").json()["stream_last"], 1);
    assert_eq!(post("2", "a").json()["stream_last"], 2);
    let repeat = post("1", "a");
    assert_eq!((repeat.status, repeat.header("memdb-replayed")), (202, Some("true")));
    let gap = post("9", "a");
    assert_eq!((gap.status, gap.problem().as_str(), gap.json()["expected"].clone()), (409, "stream-gap", 3.into()));
    assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":2}"#);
}

#[test]
fn updates_add_and_zero_is_absent() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let update =
        |wire: &mut Wire, body: &str| wire.ask("POST /update HTTP/1.1\r\nContent-Type: application/json", body);
    let first = update(&mut wire, r#"{"Hello":5,"world":-1,"two words":1}"#);
    assert_eq!((first.status, first.json()["words"].clone()), (202, 7.into()));
    let counts = wire.get("/wordcount?word=hello&word=world&word=two+words");
    assert_eq!(counts.text(), r#"{"hello":5,"world":-1,"two words":1}"#);
    update(&mut wire, r#"{"world":1}"#);
    assert_eq!(wire.get("/sync").json().as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(update(&mut wire, "{}").json()["words"], 0);
    assert_eq!(update(&mut wire, r#"{"hello":9223372036854775807}"#).problem(), "overflow");
    assert_eq!(wire.get("/wordcount?word=hello").text(), r#"{"hello":5}"#);
}

#[test]
fn words_and_namespaces_are_taken_away() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("a b c");
    wire.ask("POST /post?ns=other HTTP/1.1", "a b c");
    let removed = wire.ask("DELETE /wordcount?word=A&word=b&word=absent HTTP/1.1", "");
    assert_eq!((removed.status, removed.header("memdb-position")), (202, Some("1-3-00000007")));
    assert_eq!(wire.get("/sync").text(), r#"{"c":1}"#);
    let dropped = wire.ask("DELETE /ns/other HTTP/1.1\r\nIdempotency-Key: k", "");
    assert_eq!((dropped.status, dropped.header("memdb-position")), (202, Some("1-4-00000007")));
    assert_eq!(wire.get("/sync?ns=other").text(), "{}");
    let again = wire.ask("DELETE /ns/other HTTP/1.1\r\nIdempotency-Key: k", "");
    assert_eq!(again.header("memdb-replayed"), Some("true"));
    assert_eq!(wire.get("/wordcount?word=a&word=c").text(), r#"{"a":0,"c":1}"#);
}

#[test]
fn levels_that_need_no_replica_are_met_without_one() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    for target in ["/post", "/post?ack=leader", "/post?ack=disk"] {
        let answer = wire.ask(&format!("POST {target} HTTP/1.1"), "a");
        assert_eq!((answer.status, answer.header("memdb-acks")), (202, Some("0")), "{target}");
    }
    assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":3}"#);
}

#[test]
fn a_level_that_was_asked_for_and_not_reached_is_no_202() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let late = wire.ask("POST /post?ack=replica HTTP/1.1", "a");
    assert_eq!((late.status, late.problem().as_str()), (504, "not-replicated"));
    assert_eq!((late.json()["applied"].clone(), late.json()["position"].clone()), (true.into(), "1-1-00000007".into()));
    assert_eq!((late.header("memdb-position"), late.header("retry-after")), (Some("1-1-00000007"), None));
    assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":1}"#, "it is applied");
    for level in ["replica+disk", "replica%2Bdisk"] {
        let refused = wire.ask(&format!("POST /post?ack={level} HTTP/1.1"), "a");
        assert_eq!((refused.status, refused.problem().as_str()), (400, "ack-unavailable"), "{level}");
    }
    assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":1}"#, "it is not applied");
}

#[test]
fn a_full_queue_is_429_and_the_rest_is_counted() {
    let node = Node::start(settings());
    let held = node.hold_writer();
    // The queue holds four; the Writer had taken at most four before it was held.
    let mut wires: Vec<Wire> = (0..40).map(|_| Wire::to(node.address())).collect();
    for wire in &mut wires {
        wire.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na");
    }
    let refusals = || {
        let shown = node.metrics.render();
        let count = shown.lines().find_map(|line| line.strip_prefix("memdb_refused_total{reason=\"queue-full\"} "));
        count.map_or(0, |count| count.parse::<u64>().expect("a number")) // it has a series once one was refused
    };
    while refusals() < 32 {
        std::thread::yield_now();
    }
    drop(held);
    let mut accepted = 0;
    for wire in &mut wires {
        let answer = wire.answer();
        match answer.status {
            202 => accepted += 1,
            _ => assert_eq!((answer.problem().as_str(), answer.header("retry-after")), ("queue-full", Some("1"))),
        }
    }
    assert_eq!(40 - accepted, refusals());
    assert_eq!(wires[0].get("/wordcount?word=a").text(), format!("{{\"a\":{accepted}}}"));
}

#[test]
fn a_stopping_leader_refuses_writes_and_reads_on() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("a");
    node.leader.stop();
    let refused = wire.post("a");
    assert_eq!((refused.problem().as_str(), refused.header("retry-after")), ("stopping", Some("1")));
    assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":1}"#);
}

#[test]
fn every_delete_is_answered_alike() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("a b c");
    wire.ask("POST /post?ns=other HTTP/1.1", "a b c");
    let deletes = [
        ("/wordcount?word=A&word=b&word=a&word=x", 2),
        ("/ns/other", 3),
        ("/wordcount?word=absent", 0),
        ("/ns/absent", 0),
    ];
    for (at, (target, words)) in deletes.into_iter().enumerate() {
        let head = format!("DELETE {target} HTTP/1.1\r\nIdempotency-Key: {at}");
        let (first, again) = (wire.ask(&head, ""), wire.ask(&head, ""));
        let position = first.header("memdb-position").expect("a position").to_owned();
        let expected = |more: &str| {
            format!(r#"{{"words":{words},"distinct":{words},"left_out":0,"acks":0,"position":"{position}"{more}}}"#)
        };
        assert_eq!((first.status, first.header("memdb-acks")), (202, Some("0")), "{target}");
        assert_eq!(first.text(), expected(""), "{target}");
        assert_eq!(again.text(), expected(r#","replayed":true"#), "{target}");
        assert_eq!(again.header("memdb-replayed"), Some("true"), "{target}");
    }
}

#[test]
fn namespaces_that_no_path_can_name_are_refused_when_written_and_can_be_deleted() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    for ns in [".", "..", "%2e", "%2E%2e"] {
        for (route, body) in [("post", "a"), ("bulk", "a"), ("update", r#"{"a":1}"#)] {
            let refused = Wire::to(node.address()).ask(&format!("POST /{route}?ns={ns} HTTP/1.1"), body);
            assert_eq!((refused.status, refused.problem().as_str()), (400, "invalid-parameter"), "{route} {ns}");
        }
        assert_eq!(wire.get(&format!("/wordcount?word=a&ns={ns}")).text(), r#"{"a":0}"#);
        let dropped = wire.ask(&format!("DELETE /ns/{ns} HTTP/1.1"), "");
        assert_eq!((dropped.status, dropped.header("memdb-acks")), (202, Some("0")), "{ns}");
        assert_eq!(wire.ask(&format!("DELETE /wordcount?word=a&ns={ns} HTTP/1.1"), "").status, 202, "{ns}");
    }
    for ns in ["...", ".a", "a..b"] {
        assert_eq!(wire.ask(&format!("POST /post?ns={ns} HTTP/1.1"), "a").status, 202, "{ns}");
    }
}
