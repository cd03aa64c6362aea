//! `make flood POSTS=1000000`: what a cluster of a leader and three replicas uses, and how fast it is, while a flood of
//! posts goes over it and one of the replicas hangs for a while.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    client::Counts,
    number_from,
    process::{Node, REPAIR, Start, equal_within},
};

const CONNECTIONS: u64 = 64;
/// Words of the texts, besides the one common to all: a text has ten words.
const WORDS: u64 = 10_000;
const EVERY: Duration = Duration::from_millis(50);

#[test]
fn a_small_flood() {
    flood(6_000, Duration::from_secs(1));
}

#[test]
#[ignore = "takes minutes: make flood"]
fn flood_of_posts() {
    flood(
        number_from("MEMDB_FLOOD_POSTS").unwrap_or(1_000_000),
        Duration::from_secs(number_from("MEMDB_FLOOD_FROZEN").unwrap_or(5)),
    );
}

fn flood(posts: u64, frozen: Duration) {
    let data = [(); 2].map(|()| TempDir::new().expect("a directory"));
    let leader = Start::leader(data[0].path()).run();
    let replicas = [
        Start::replica(&leader).run(),
        Start::replica(&leader).data(data[1].path()).run(),
        Start::replica(&leader).run(),
    ];
    leader.until_connected(replicas.len());
    let nodes: Vec<_> = std::iter::once(&leader).chain(&replicas).collect();
    let mut usage: Vec<_> = nodes.iter().map(|node| Usage::new(Sample::of(node))).collect();
    let answered = AtomicU64::new(0);
    let begun = Instant::now();
    let (expected, rates) = std::thread::scope(|scope| {
        let (answered, port) = (&answered, leader.port);
        let client = |number| scope.spawn(move || Connection::new(port).post_all(number, posts, answered));
        let clients: Vec<_> = (0..CONNECTIONS).map(client).collect();
        let rates = watch(&nodes, &mut usage, posts, answered, frozen);
        let mut expected = Counts::new();
        for client in clients {
            for (word, count) in client.join().expect("every post was answered 202") {
                *expected.entry(word).or_default() += count;
            }
        }
        (expected, rates)
    });
    let took = begun.elapsed();
    let (counts, equal) = equal_within(REPAIR, &leader, &replicas.each_ref());
    testkit::process::assert_same(&counts, &expected, "the leader");
    for (node, usage) in nodes.iter().zip(&mut usage) {
        usage.add(Sample::of(node));
    }
    print(posts, took, equal, &rates, &usage);
    // Sockets are made for those who are connected, not for posts.
    assert!(usage[0].most.descriptors <= usage[0].begin.descriptors + CONNECTIONS as usize + 16);
    for usage in &usage[1..] {
        assert!(usage.most.descriptors <= usage.begin.descriptors + 8);
    }
}

/// What a process uses at one moment.
#[derive(Clone, Copy)]
struct Sample {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

impl Sample {
    fn of(node: &Node) -> Self {
        Self { descriptors: node.descriptors(), threads: node.threads(), resident_kib: node.resident_kib() }
    }
}

/// What a process uses over the whole flood.
struct Usage {
    begin: Sample,
    most: Sample,
    end: Sample,
}

impl Usage {
    fn new(begin: Sample) -> Self {
        Self { begin, most: begin, end: begin }
    }

    fn add(&mut self, now: Sample) {
        self.most.descriptors = self.most.descriptors.max(now.descriptors);
        self.most.threads = self.most.threads.max(now.threads);
        self.most.resident_kib = self.most.resident_kib.max(now.resident_kib);
        self.end = now;
    }
}

/// Posts a second before, while, and after a replica was frozen; and how long after that it had what had been posted
/// until then, if that was before the end.
type Rates = ([f64; 3], Option<Duration>);

/// Samples the nodes until all is posted, and freezes the last replica once a third is.
fn watch(nodes: &[&Node], usage: &mut [Usage], posts: u64, answered: &AtomicU64, frozen: Duration) -> Rates {
    let frozen_one = nodes.last().expect("there are replicas");
    let done = || answered.load(Ordering::Relaxed);
    let mut rates = [0.0; 3];
    let (mut missed, mut caught_up) = (0, None);
    let (mut phase, mut since, mut from) = (0, Instant::now(), 0);
    // A flood that one replica's freezing brings to a stop must not go on for ever.
    let mut moved = (Instant::now(), 0);
    while done() < posts {
        std::thread::sleep(EVERY);
        for (node, usage) in nodes.iter().zip(usage.iter_mut()) {
            usage.add(Sample::of(node));
        }
        let now = done();
        rates[phase] = (now - from) as f64 / since.elapsed().as_secs_f64();
        if phase == 0 && now >= posts / 3 || phase == 1 && since.elapsed() >= frozen {
            if phase == 0 {
                frozen_one.freeze();
            } else {
                frozen_one.thaw();
            }
            (phase, since, from) = (phase + 1, Instant::now(), now);
            missed = nodes[0].sequence();
        }
        if phase == 2 && caught_up.is_none() && frozen_one.sequence() >= missed {
            caught_up = Some(since.elapsed());
        }
        if now > moved.1 {
            moved = (Instant::now(), now);
        }
        assert!(
            moved.0.elapsed() < Duration::from_secs(20),
            "nothing was answered for 20 s, {now} of {posts} posts done"
        );
    }
    frozen_one.thaw(); // it may be over before the time was
    (rates, caught_up)
}

fn print(posts: u64, took: Duration, equal: Duration, rates: &Rates, usage: &[Usage]) {
    println!(
        "{posts} posts of ten words through {CONNECTIONS} connections, three replicas, in {:.1} s",
        took.as_secs_f64()
    );
    let ([before, frozen, after], caught_up) = rates;
    println!("  posts/s before a replica was frozen {before:.0}, meanwhile {frozen:.0}, after {after:.0}");
    if let Some(caught_up) = caught_up {
        println!("  it had what it had missed {} ms after it was let go, while posts went on", caught_up.as_millis());
    }
    println!("  all equal {} ms after the last post", equal.as_millis());
    println!("  {:22} {:^24} {:^24} {:^24}", "", "descriptors", "threads", "resident MiB");
    println!("  {:22} {}", "begin, most, end", " begin    most     end  ".repeat(3));
    for (name, usage) in ["leader", "replica", "replica with files", "replica, frozen"].iter().zip(usage) {
        let Usage { begin, most, end } = usage;
        let mib = |sample: &Sample| sample.resident_kib / 1024;
        println!(
            "  {name:22} {:6}{:8}{:8}  {:6}{:8}{:8}  {:6}{:8}{:8}",
            begin.descriptors,
            most.descriptors,
            end.descriptors,
            begin.threads,
            most.threads,
            end.threads,
            mib(begin),
            mib(most),
            mib(end),
        );
    }
}

/// A client of few instructions: HTTP by hand.
struct Connection(TcpStream);

impl Connection {
    fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the leader listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        Self(stream)
    }

    /// Posts this connection's share of all posts; gives what must be counted.
    fn post_all(mut self, client: u64, posts: u64, answered: &AtomicU64) -> Counts {
        let mut expected = Counts::new();
        for number in (client..posts).step_by(CONNECTIONS as usize) {
            let mut text = String::from("flood");
            for at in 0..9 {
                let word = format!("w{}", (number * 9 + at) % WORDS);
                text += " ";
                text += &word;
                *expected.entry(word).or_default() += 1;
            }
            *expected.entry("flood".to_owned()).or_default() += 1;
            let length = text.len();
            let request = format!("POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{text}");
            self.0.write_all(request.as_bytes()).expect("the leader reads");
            self.accepted();
            answered.fetch_add(1, Ordering::Relaxed);
        }
        expected
    }

    /// Reads an answer, which must be 202.
    fn accepted(&mut self) {
        let mut received = Vec::with_capacity(1_024);
        let mut buffer = [0; 1_024];
        loop {
            let read = self.0.read(&mut buffer).expect("the leader answers");
            assert!(read > 0, "the leader has closed the connection");
            received.extend_from_slice(&buffer[..read]);
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(body) = head.parse(&received).expect("HTTP") else { continue };
            let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
            if received.len() >= body + length.unwrap_or(0usize) {
                return assert_eq!(head.code, Some(202), "{}", String::from_utf8_lossy(&received));
            }
        }
    }
}
