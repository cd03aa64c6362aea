//! What an answer says is so.

use super::fake::{Line, impostor};
use memdb::base::limits::MAX_GIVEN_COUNT;
use serde_json::json;
use tempfile::TempDir;
use testkit::{
    client::{Answer, post, posted, read, update},
    process::{REPAIR, Start, equal_within},
};

/// Before: the answer came first, replicas were asked later, and a request that failed counted as one that did not.
#[test]
fn the_answer_comes_after_a_replica_has_answered_and_a_failed_send_is_no_answer() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let line = Line::new();
    let replica = Start::replica(&leader).with(&["--advertise", &line.url]).run();
    line.lead_to(&replica);
    leader.until_connected(1);
    // Answered with one acknowledgement, it can be read on the replica at once.
    for number in 1..=100 {
        assert_eq!(posted(&leader.url, "hello").acks, Some(1));
        assert_eq!(read(&replica.url, &["hello"])["hello"], number);
    }
    waits_for(&leader.url, || replica.freeze(), || replica.thaw());
    line.cut();
    let asked = post(&leader.url, "?ack=replica", "cut");
    assert_eq!((asked.status, asked.body["applied"].as_bool()), (504, Some(true)), "{asked:?}");
    assert_eq!(posted(&leader.url, "cut").acks, Some(0));
    assert_eq!((read(&leader.url, &["cut"])["cut"], read(&replica.url, &["cut"])["cut"]), (2, 0));
    line.mend();
    equal_within(REPAIR, &leader, &[&replica]);
    assert_eq!(posted(&leader.url, "mended").acks, Some(1));
}

/// A post is applied on the leader, and is answered only once the replica, which holds still, has it too.
fn waits_for(leader: &str, hold: impl Fn(), release: impl Fn()) {
    let held = |number: u32| -> Answer {
        let word = format!("held{number}");
        hold();
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| post(leader, "?ack=replica", &word));
            while read(leader, &[&word])[&word] == 0 {}
            let answered = answer.is_finished();
            release();
            let answer = answer.join().expect("an answer");
            assert!(!answered || answer.status != 202, "answered before the replica could have it: {answer:?}");
            answer
        })
    };
    // A replica that holds still for more than a second is no longer waited for: on a busy machine that may happen.
    let answer = (0..10).map(held).find(|answer| answer.status == 202);
    assert_eq!(answer.expect("one that was waited for").acks, Some(1));
}

/// Something answers in the replica's place, and what it says is no acknowledgement.
#[test]
fn the_answer_of_something_else_is_no_acknowledgement() {
    for answer in [
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
        "",
    ] {
        let data = TempDir::new().expect("a directory");
        let leader = Start::leader(data.path()).with(&["--init", "--replica", &impostor(answer)]).run();
        assert_eq!(posted(&leader.url, "hello").acks, Some(0), "{answer:?}");
        assert_eq!(post(&leader.url, "?ack=replica", "hello").status, 504, "{answer:?}");
        assert_eq!(read(&leader.url, &["hello"])["hello"], 2);
    }
}

/// Before: the count went round to a negative number, and nobody was told.
#[test]
fn a_count_that_would_overflow_is_refused_silently_never() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let replica = Start::replica(&leader).run();
    replica.until_ready();
    let extremes = update(&replica.url, &json!({"most": MAX_GIVEN_COUNT, "least": -MAX_GIVEN_COUNT}));
    assert_eq!(extremes.status, 202, "{extremes:?}");
    let position = leader.sequence();
    for url in [&leader.url, &replica.url] {
        let refused = [
            update(url, &json!({"fresh": 1, "most": 1})),
            update(url, &json!({"most": i64::MAX})),
            update(url, &json!({"fresh": 1, "least": -1})),
            update(url, &json!({"least": i64::MIN})),
        ];
        for answer in refused {
            assert_eq!(
                (answer.status, &answer.body["type"]),
                (422, &json!("urn:memdb:problem:overflow")),
                "{answer:?}"
            );
            let said = answer.body["detail"].as_str().unwrap_or_default();
            assert!(said.contains(&MAX_GIVEN_COUNT.to_string()) && said.contains("2^62"), "{said}");
        }
    }
    assert_eq!(leader.sequence(), position, "nothing of it was applied");
    let (counts, _) = equal_within(REPAIR, &leader, &[&replica]);
    assert_eq!(counts, [("least".to_owned(), -MAX_GIVEN_COUNT), ("most".to_owned(), MAX_GIVEN_COUNT)].into());
    // No amount given by hand bars the word from texts.
    assert_eq!(posted(&replica.url, "fresh most").status, 202);
    assert_eq!(update(&leader.url, &json!({"most": 1})).status, 422);
    assert_eq!(update(&leader.url, &json!({"most": -2})).status, 202);
}
