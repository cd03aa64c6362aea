//! Clients that post one text after the other, each under a key, repeat what was not answered, and know what must be
//! counted in the end.

use reqwest::blocking::Client;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use testkit::{
    PATIENCE,
    client::{Counts, new_client},
};

/// The word that is in every post.
pub const COMMON: &str = "all";

/// A number of clients at work.
pub struct Posters {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Counts>>,
}

impl Posters {
    /// Sets `clients` to work until they are told to finish. `run` tells their words from those of others.
    pub fn start(url: &str, run: u64, clients: u64) -> Self {
        Self::start_with(url, run, clients, u64::MAX, new_client)
    }

    /// The same, each client for `posts` posts at most, and with a connection of this kind.
    pub fn start_with(url: &str, run: u64, clients: u64, posts: u64, connect: fn() -> Client) -> Self {
        let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |client| {
            let poster = Poster {
                http: connect(),
                url: url.to_owned(),
                name: format!("r{run}c{client}"),
                over: Arc::clone(&over),
            };
            let answered = Arc::clone(&answered);
            std::thread::Builder::new().spawn(move || poster.work(posts, &answered)).expect("a thread")
        };
        let threads = (0..clients).map(start).collect();
        Self { over, answered, threads }
    }

    /// Posts answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more posts were answered.
    pub fn until_more(&self, posts: u64) {
        let from = self.answered();
        testkit::wait_for("posts are answered", || (self.answered() >= from + posts).then_some(()));
    }

    /// Lets them bring to an end what they have begun; adds what they have posted to `expected`.
    pub fn finish(self, expected: &mut Counts) {
        self.over.store(true, Ordering::Relaxed);
        self.wait(expected);
    }

    /// Waits until each has posted all it had to post.
    pub fn wait(self, expected: &mut Counts) {
        for thread in self.threads {
            for (word, count) in thread.join().expect("every post was answered") {
                *expected.entry(word).or_default() += count;
            }
        }
    }
}

struct Poster {
    http: Client,
    url: String,
    name: String,
    over: Arc<AtomicBool>,
}

impl Poster {
    /// Each post has a word of its own and one common to all, so that one that is counted in part, twice or not at all
    /// shows.
    fn work(&self, posts: u64, answered: &AtomicU64) -> Counts {
        let mut expected = Counts::new();
        for number in 0..posts {
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let word = format!("{}n{number}", self.name);
            self.post(&word);
            answered.fetch_add(1, Ordering::Relaxed);
            expected.insert(word, 1);
        }
        if !expected.is_empty() {
            expected.insert(COMMON.to_owned(), expected.len() as i64);
        }
        expected
    }

    /// Posts a text until it is answered 202. What was acknowledged is never sent again, so that losing it shows.
    fn post(&self, word: &str) {
        let begun = Instant::now();
        loop {
            let request = self.http.post(format!("{}/post", self.url)).header("content-type", "text/plain");
            let answer = request.header("idempotency-key", word).body(format!("{word} {COMMON}")).send();
            match answer.map(|answer| answer.status().as_u16()) {
                Ok(202) => return,
                Ok(429 | 500 | 503) | Err(_) => {}
                Ok(other) => panic!("{word} was answered {other}"),
            }
            assert!(begun.elapsed() < PATIENCE, "{word} was not answered within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
