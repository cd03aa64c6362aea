//! A bulk body whose leader is killed in the middle, again and again: each line counts once.

use bytes::Bytes;
use rustix::process::Signal;
use std::collections::HashMap;
use testkit::process::{Node, Start};

const LINES: i64 = 1_000_000;

async fn count_of(word: &str, leader: &Node) -> i64 {
    let url = format!("{}/wordcount?word={word}", leader.url);
    let counts: HashMap<String, i64> =
        testkit::client::async_client().get(url).send().await.expect("it answers").json().await.expect("JSON");
    counts[word]
}

#[tokio::test]
async fn a_bulk_body_cut_off_by_kills_counts_each_line_once() {
    let directory = tempfile::tempdir().expect("a place for the data");
    let body: Bytes = (0..LINES).map(|line| format!("all w{}\n", line % 1_000)).collect::<String>().into();
    let http = testkit::client::async_builder().build().expect("a client");
    let send = |leader: &Node| {
        let request = http.post(format!("{}/bulk?ack=leader", leader.url)).header("memdb-stream", "s");
        request.header("content-type", "text/plain").body(body.clone()).send()
    };
    let mut before = 0;
    for round in 1..=3 {
        let leader = Start::leader(directory.path()).run();
        let found = count_of("all", &leader).await;
        assert!(found >= before, "round {round}: {before} lines could be read, and {found} are there");
        let sending = tokio::spawn(send(&leader));
        while before < LINES * round / 5 && !sending.is_finished() {
            before = count_of("all", &leader).await;
        }
        leader.finish(Signal::KILL);
        let _ = sending.await; // it may have been answered
    }
    let leader = Start::leader(directory.path()).run();
    let answer = send(&leader).await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let told: serde_json::Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
    assert!(told["skipped"].as_i64() >= Some(before), "{told}");
    assert_eq!(
        (told["stream_lines"].as_i64(), told["stream_words"].as_i64()),
        (Some(LINES), Some(2 * LINES)),
        "{told}"
    );
    assert_eq!(count_of("all", &leader).await, LINES);
    assert_eq!(count_of("w7", &leader).await, LINES / 1_000);
    leader.finish(Signal::TERM);
}
