//! The rate of posts, as clients see it.

use tempfile::TempDir;
use testkit::{
    node::{follow, lead},
    wait_until,
    wire::{Answer, Wire},
};

fn post(wire: &mut Wire, target: &str, headers: &str) -> Answer {
    wire.ask(&format!("POST {target} HTTP/1.1\r\n{headers}"), "hello")
}

#[test]
fn beyond_its_rate_a_namespace_refuses_posts_and_says_when_to_come_again() {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[("max-post-rate", "3")]).expect("a leader");
    let mut wire = Wire::to(leading.address());
    let plain = "Content-Type: text/plain";
    let first = post(&mut wire, "/post", plain);
    assert_eq!((first.status, first.header("ratelimit-policy")), (202, Some("\"key\";q=3;w=10")));
    assert!(first.header("ratelimit").is_some_and(|left| left.starts_with("\"key\";r=2;t=1")), "{first:?}");
    let json = wire.ask("POST /post HTTP/1.1\r\nContent-Type: application/json", r#"{"text":"hello"}"#);
    assert!(json.header("ratelimit").is_some_and(|left| left.starts_with("\"key\";r=1;t=")), "{json:?}");
    assert_eq!(post(&mut wire, "/post?ttl=60", plain).status, 202);
    for target in ["/post", "/post?ttl=60"] {
        let refused = post(&mut wire, target, plain);
        assert_eq!((refused.status, &*refused.problem()), (429, "post-rate-exceeded"));
        let seconds: u64 = refused.header("retry-after").expect("it says when").parse().expect("seconds");
        assert!((1..=11).contains(&seconds), "{seconds}");
        assert!(refused.header("ratelimit").is_some_and(|left| left.starts_with("\"key\";r=0;t=")), "{refused:?}");
    }
    assert_eq!(wire.get("/wordcount?word=hello").text(), r#"{"hello":3}"#, "what was refused is not counted");
    assert_eq!(post(&mut wire, "/post?ns=other", plain).status, 202, "each namespace has a rate of its own");
    let update = wire.ask("POST /update HTTP/1.1\r\nContent-Type: application/json", r#"{"hello":1}"#);
    assert_eq!((update.status, update.header("ratelimit")), (202, None), "it is for posts alone");
    let metrics = wire.get("/metrics").text().to_owned();
    assert!(metrics.contains("memdb_refused_total{reason=\"post-rate-exceeded\"} 2"), "{metrics}");
}

#[test]
fn a_repeat_is_answered_as_the_first_was_and_takes_nothing_of_the_rate() {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[("max-post-rate", "1")]).expect("a leader");
    let mut wire = Wire::to(leading.address());
    let keyed = "Content-Type: text/plain\r\nIdempotency-Key: k";
    assert_eq!(post(&mut wire, "/post", keyed).header("memdb-replayed"), None);
    let again = post(&mut wire, "/post", keyed);
    assert_eq!((again.status, again.header("memdb-replayed"), again.header("ratelimit")), (202, Some("true"), None));
    assert_eq!(post(&mut wire, "/post", "Content-Type: text/plain").status, 429);
}

#[test]
fn posts_that_come_by_way_of_a_follower_share_the_rate() {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[("max-post-rate", "1")]).expect("a leader");
    let following = follow(leading.address(), None);
    let (mut leader, mut replica) = (Wire::to(leading.address()), Wire::to(following.address()));
    wait_until("the replica to be ready", || replica.get("/health/ready").status == 200);
    let plain = "Content-Type: text/plain";
    let passed_on = post(&mut replica, "/post", plain);
    assert!(passed_on.header("ratelimit").is_some_and(|left| left.starts_with("\"key\";r=0;t=")), "{passed_on:?}");
    for wire in [&mut leader, &mut replica] {
        let refused = post(wire, "/post", plain);
        assert_eq!((refused.status, &*refused.problem()), (429, "post-rate-exceeded"));
        assert!(refused.header("retry-after").is_some());
    }
}

#[test]
fn without_a_rate_answers_tell_of_none() {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[]).expect("a leader");
    let mut wire = Wire::to(leading.address());
    for _ in 0..200 {
        let accepted = post(&mut wire, "/post", "Content-Type: text/plain");
        assert_eq!((accepted.status, accepted.header("ratelimit")), (202, None));
    }
}
