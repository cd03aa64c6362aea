//! Counters behind back-pressure, as their clients see them. Each fault of the system that their routes are from has a
//! test here or in `tests/engine/writer/counters.rs`.

use memdb::node::LeaderNode;
use tempfile::TempDir;
use testkit::{
    events::WatchedStream,
    node::{follow, lead},
    wait_until,
    wire::{Answer, Wire},
};

fn leader(more: &[(&'static str, &str)]) -> (TempDir, LeaderNode) {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), more).expect("a leader");
    (data, leading)
}

fn increment(wire: &mut Wire, key: &str) -> Answer {
    wire.ask(&format!("POST /counter/{key}/increment HTTP/1.1"), "")
}

fn value(wire: &mut Wire, key: &str) -> i64 {
    wire.get(&format!("/counter/{key}")).json()["value"].as_i64().expect("a number")
}

#[test]
fn an_increment_is_queued_and_counted() {
    let (_data, leading) = leader(&[]);
    let mut wire = Wire::to(leading.address());
    let queued = increment(&mut wire, "foo");
    assert_eq!((queued.status, queued.text()), (202, "{\"key\":\"foo\",\"status\":\"queued\"}"));
    assert_eq!(queued.header("ratelimit-policy"), Some("\"key\";q=50;w=10"));
    assert!(queued.header("ratelimit").is_some_and(|left| left.starts_with("\"key\";r=49;t=1")), "{queued:?}");
    wait_until("the worker to count it", || value(&mut wire, "foo") == 1);
    assert_eq!(wire.get("/counter/foo").text(), r#"{"key":"foo","value":1}"#);
    assert_eq!(wire.get("/store/foo").text(), r#"{"key":"foo","value":1}"#);
    assert_eq!(wire.get("/counter/absent").text(), r#"{"key":"absent","value":0}"#);
    assert_eq!(wire.get("/top?ns=counters").text(), r#"[{"word":"foo","count":1}]"#, "counters are counts");
    assert!(!wire.get("/status").text().contains("queues\":1"), "what waits is no namespace of clients");
}

#[test]
fn of_two_hundred_at_once_a_hundred_and_fifty_are_accepted() {
    let (_data, leading) = leader(&[]);
    let mut wire = Wire::to(leading.address());
    let answers: Vec<Answer> = (0..200).map(|_| increment(&mut wire, "foo")).collect();
    let with = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with(202), with(429)), (150, 50));
    let refused = answers.last().expect("two hundred");
    assert_eq!(refused.problem(), "rate-exceeded");
    let seconds: u64 = refused.header("retry-after").expect("it says when").parse().expect("seconds");
    assert!((8..=11).contains(&seconds), "{seconds}");
    assert!(refused.header("ratelimit").is_some_and(|left| left.starts_with("\"key\";r=0;t=")));
    wait_until("the worker", || value(&mut wire, "foo") == 50);
    let metrics = wire.get("/metrics").text().to_owned();
    assert!(metrics.contains("memdb_increments_sidelined_total{queue=\"EXCESS_QUEUE\"} 100"), "{metrics}");
    assert!(metrics.contains("memdb_increments_waiting{queue=\"EXCESS_QUEUE\"} 100"), "{metrics}");
    assert!(metrics.contains("memdb_refused_total{reason=\"rate-exceeded\"} 50"), "{metrics}");
    let queues = wire.get("/status").json()["counter_queues"].take();
    let of = |queue: &str, number: &str| queues[queue][number].as_u64();
    let excess = ["increments", "sidelined", "refused"].map(|number| of("EXCESS_QUEUE", number));
    assert_eq!(excess, [Some(100), Some(100), Some(50)], "{queues}");
    assert_eq!((of("MAIN_QUEUE", "refused"), of("MAIN_QUEUE", "sidelined")), (Some(0), None));
    assert_eq!((of("STALE_QUEUE", "sidelined"), of("STALE_QUEUE", "oldest_ms")), (Some(0), Some(0)));
}

#[test]
fn without_limits_all_are_accepted_and_counted_by_the_same_queues() {
    let none = ["max-queue-size", "spillover-queue-size", "max-key-rate"].map(|name| (name, "none"));
    let (_data, leading) = leader(&none);
    let mut wire = Wire::to(leading.address());
    assert!((0..300).all(|_| increment(&mut wire, "foo").status == 202));
    assert_eq!(increment(&mut wire, "foo").header("ratelimit"), None);
    wait_until("the worker", || value(&mut wire, "foo") == 301);
}

#[test]
fn every_key_has_a_counter_of_its_own() {
    let (_data, leading) = leader(&[]);
    let mut wire = Wire::to(leading.address());
    let keys =
        ["A", "a", "a%3Ab", "a%2Fb", "a/b/c", "a%3Fb", "a%0Ab", "%E5%8C%97%E4%BA%AC", "a%20b", "%25", "increment"];
    for key in keys {
        assert_eq!(increment(&mut wire, key).status, 202, "{key}");
        wait_until("the worker", || value(&mut wire, key) == 1);
    }
    assert_eq!(wire.get("/counter/a%0Ab").json()["key"], "a\nb");
    let long = "k".repeat(241);
    assert_eq!(increment(&mut wire, &long).problem(), "invalid-parameter");
    assert_eq!(increment(&mut wire, &long[1..]).status, 202);
    assert_eq!(increment(&mut wire, "%2e%2E").problem(), "invalid-parameter", "no path can name it");
    assert_eq!(increment(&mut wire, "%ff").problem(), "invalid-utf8");
    assert_eq!(wire.ask("POST /counter/a HTTP/1.1", "").status, 405);
}

#[test]
fn a_key_counts_an_increment_once_however_often_it_is_sent() {
    let (_data, leading) = leader(&[]);
    let mut wire = Wire::to(leading.address());
    let mut keyed = |key: &str| wire.ask(&format!("POST /counter/{key}/increment HTTP/1.1\r\nIdempotency-Key: k"), "");
    assert_eq!(keyed("foo").header("memdb-replayed"), None);
    let again = keyed("foo");
    assert_eq!((again.status, again.header("memdb-replayed")), (202, Some("true")));
    assert_eq!(keyed("bar").problem(), "key-reused");
    wait_until("the worker", || value(&mut wire, "foo") == 1);
}

#[test]
fn a_delete_reaches_every_node_as_a_delete() {
    let (_data, leading) = leader(&[("worker-rate", "1000")]);
    let following = follow(leading.address(), None);
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    wait_until("the replica to be ready", || replica.get("/health/ready").status == 200);
    assert_eq!(increment(&mut replica, "a/b").status, 202, "by way of a replica");
    wait_until("the replica to see it", || value(&mut replica, "a/b") == 1);
    let gone = replica.ask("DELETE /counter/a%2Fb HTTP/1.1", "");
    assert_eq!((gone.status, gone.text()), (200, r#"{"key":"a/b","deleted":1,"value":1,"waiting":0}"#));
    wait_until("the replica to see that", || value(&mut replica, "a/b") == 0);
    assert_eq!(leader.ask("DELETE /counter/a%2Fb HTTP/1.1", "").json()["deleted"], 0);
    let digest = |wire: &mut Wire| wire.get("/status").json()["digest"].clone();
    wait_until("both to be equal", || digest(&mut leader) == digest(&mut replica));
}

#[test]
fn a_delete_tells_what_has_gone_also_where_it_only_waited() {
    let (_data, leading) = leader(&[("worker-rate", "1")]);
    let mut wire = Wire::to(leading.address());
    assert!((0..5).all(|_| increment(&mut wire, "foo").status == 202));
    let keyed = "DELETE /counter/foo HTTP/1.1\r\nIdempotency-Key: k";
    let gone = wire.ask(keyed, "").json();
    let told = |name: &str| gone[name].as_u64().expect("a number");
    assert_eq!((told("deleted"), told("value") + told("waiting")), (1, 5), "{gone}");
    assert_eq!(wire.ask(keyed, "").json(), gone, "a repeat tells the same");
    let again = wire.ask("DELETE /counter/foo HTTP/1.1", "");
    assert_eq!(again.text(), r#"{"key":"foo","deleted":0,"value":0,"waiting":0}"#);
}

#[test]
fn what_waits_is_counted_by_the_next_process() {
    let data = TempDir::new().expect("a directory");
    let slow = [("worker-rate", "1"), ("max-key-rate", "none")];
    let leading = lead(data.path(), &slow).expect("a leader");
    let mut wire = Wire::to(leading.address());
    assert!((0..50).all(|_| increment(&mut wire, "foo").status == 202));
    assert!(value(&mut wire, "foo") < 50);
    drop(leading);
    let leading = lead(data.path(), &[]).expect("a leader");
    let mut wire = Wire::to(leading.address());
    wait_until("the workers", || value(&mut wire, "foo") == 50);
    assert_eq!(value(&mut wire, "foo"), 50);
}

#[test]
fn text_does_not_go_where_counters_are() {
    let (_data, leading) = leader(&[]);
    let mut wire = Wire::to(leading.address());
    increment(&mut wire, "Foo");
    wait_until("the worker", || value(&mut wire, "Foo") == 1);
    assert_eq!(wire.ask("POST /post?ns=counters HTTP/1.1", "foo").problem(), "holds-counters");
    assert_eq!(wire.get("/wordcount?ns=counters&word=Foo&word=foo").text(), r#"{"Foo":1,"foo":0}"#);
    assert_eq!(wire.get("/sync?ns=counters").text(), r#"{"Foo":1}"#);
    assert_eq!(wire.ask("DELETE /ns/counters HTTP/1.1", "").json()["words"], 1);
    assert_eq!(value(&mut wire, "Foo"), 0);
    assert_eq!(wire.ask("POST /post?ns=counters HTTP/1.1", "foo").status, 202);
    assert_eq!(increment(&mut wire, "Foo").problem(), "holds-words");
}

#[test]
fn counters_are_watched_by_their_raw_keys() {
    let (_data, leading) = leader(&[]);
    let mut wire = Wire::to(leading.address());
    increment(&mut wire, "Foo");
    wait_until("the worker", || value(&mut wire, "Foo") == 1);
    let mut stream = WatchedStream::open(leading.address(), "ns=counters&word=Foo&word=foo&every=10ms", "");
    assert_eq!(stream.next_text(), r#"counts {"Foo":1,"foo":0}"#);
    increment(&mut wire, "Foo");
    assert_eq!(stream.next_text(), r#"counts {"Foo":2}"#);
    let mut ranked = WatchedStream::open(leading.address(), "ns=counters&top=3", "");
    assert_eq!(ranked.next_text(), r#"top [{"word":"Foo","count":2}]"#);
}
