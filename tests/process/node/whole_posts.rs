//! No read sees part of a post: of 5,000 words that are always posted together, all show the same count.
//!
//! `MEMDB_WHOLE_POSTS_SECONDS=10 cargo test --release --test process whole_posts` is the long run.

use reqwest::blocking::Client;
use rustix::process::Signal;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::process::{Node, Start};

const WORDS: usize = 5_000;
/// The short run: posts, not a time.
const POSTS: u64 = 100;

#[test]
fn whole_posts_are_seen_over_one_request_and_over_two() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let text: String = (0..WORDS).map(|at| format!("w{at} ")).collect();
    let seconds = testkit::number_from("MEMDB_WHOLE_POSTS_SECONDS");
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (over, reads, posts) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (leader, over, reads) = (&leader, &over, &reads);
            scope.spawn(move || {
                let client = testkit::client::new_client();
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    last = read_twice(&client, leader, reader, last);
                    reads.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        let client = testkit::client::new_client();
        while until.map_or(posts.load(Ordering::Relaxed) < POSTS, |until| Instant::now() < until) {
            let request = client.post(format!("{}/post", leader.url)).header("content-type", "text/plain");
            assert_eq!(request.body(text.clone()).send().expect("it answers").status().as_u16(), 202);
            posts.fetch_add(1, Ordering::Relaxed);
        }
        over.store(true, Ordering::Relaxed);
    });
    let (reads, posts) = (reads.into_inner(), posts.into_inner());
    println!("{posts} posts of {WORDS} words, {reads} reads of 3 of them: none saw a part");
    assert!(reads > 0, "nobody read");
    leader.finish(Signal::TERM);
}

/// Three words in one request, then three others in a second one: equal, and never less than before.
fn read_twice(client: &Client, leader: &Node, reader: usize, mut last: i64) -> i64 {
    for words in [[reader, 2_500, 4_999 - reader], [4_998 - reader, 17 + reader, 3_000]] {
        let query: Vec<(&str, String)> = words.iter().map(|word| ("word", format!("w{word}"))).collect();
        let answer = client.get(format!("{}/wordcount", leader.url)).query(&query).send().expect("it answers");
        let counts: HashMap<String, i64> = serde_json::from_slice(&answer.bytes().expect("a body")).expect("JSON");
        let counts: Vec<i64> = words.iter().map(|word| counts[&format!("w{word}")]).collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "part of a post was seen: {counts:?}");
        assert!(counts[0] >= last, "a later read saw less: {} after {last}", counts[0]);
        last = counts[0];
    }
    last
}
