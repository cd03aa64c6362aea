//! What readers see meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;
use testkit::{
    client::{posted, read},
    process::{Node, Start, equal_within},
};

const WORDS: usize = 2_000;

/// Before: some words of a text were counted and others not yet, for whoever read at that moment.
///
/// `tests/process/node/whole_posts.rs` shows the same of a leader.
#[test]
fn readers_never_see_half_a_text() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let replica = Start::replica(&leader).run();
    let local = Start::local_replica(data.path()).run();
    leader.until_connected(1);
    let text: String = (0..WORDS).map(|number| format!("word{number} ")).collect();
    let followers = [&replica, &local];
    let (over, reads) = (AtomicBool::new(false), [(); 2].map(|()| AtomicU64::new(0)));
    let mut posts = 0;
    std::thread::scope(|scope| {
        for (follower, reads) in followers.iter().zip(&reads) {
            let over = &over;
            scope.spawn(move || {
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    last = read_twice(follower, last);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _over = Over(&over);
        while posts < 50 || reads.iter().any(|reads| reads.load(Ordering::Relaxed) < 100) {
            posted(&leader.url, &text);
            posts += 1;
        }
    });
    let (counts, _) = equal_within(testkit::process::REPAIR, &leader, &followers);
    assert!(counts.values().all(|count| *count == posts));
    println!("{posts} posts of {WORDS} words; {reads:?} times two reads of three words on a replica and a local one");
}

/// However posting ends, the readers end with it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Three words in one request, then three others in the next: all alike in one request, and never less than before.
fn read_twice(node: &Node, mut last: i64) -> i64 {
    for words in [["word0", "word1000", "word1999"], ["word1998", "word17", "word999"]] {
        let counts = read(&node.url, &words);
        let all: Vec<_> = counts.values().collect();
        assert!(all.iter().all(|count| *count == all[0]), "half a text was seen: {counts:?}");
        assert!(*all[0] >= last, "less than before: {counts:?} after {last}");
        last = *all[0];
    }
    last
}
