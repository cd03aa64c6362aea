//! Writes by way of a replica while the leader is killed and another is promoted. Who writes there sends each write
//! once, without a key, and repeats nothing: the replica waits for the next leader.
//!
//! Of the earlier systems: a failed call was reported as a miss; a key first written while the secondary was down never
//! reached it.

use super::load::status_of;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    PATIENCE,
    client::new_client,
    process::{Node, REPAIR, Start, equal_within},
    wait_for,
};

/// Writers, a thread each: fewer than one address may have on their way.
const WRITERS: u64 = 4;

/// What a writer has seen.
#[derive(Default)]
struct Written {
    answered: AtomicU64,
    longest_ms: AtomicU64,
    over: AtomicBool,
}

/// Writes one after the other, of three kinds, each with the word `all` once.
fn write(url: &str, seen: &Written) -> Result<(), String> {
    let http = new_client();
    for number in 0_u64.. {
        if seen.over.load(Relaxed) {
            break;
        }
        let begun = Instant::now();
        let request = match number % 3 {
            0 => http.post(format!("{url}/post")).header("content-type", "text/plain").body("all"),
            1 => http.post(format!("{url}/update")).header("content-type", "application/json").body(r#"{"all":1}"#),
            _ => http.put(format!("{url}/posts/{:?}-{number}", std::thread::current().id())).body("all"),
        };
        let request = if number % 3 == 2 { request.header("content-type", "text/plain") } else { request };
        let answer = request.send().map_err(|error| format!("write {number} was not answered: {error}"))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("write {number} was answered {status}: {}", answer.text().unwrap_or_default()));
        }
        seen.longest_ms.fetch_max(begun.elapsed().as_millis() as u64, Relaxed);
        seen.answered.fetch_add(1, Relaxed);
        std::thread::sleep(Duration::from_millis(2)); // a moderate load is what is wanted
    }
    Ok(())
}

/// A body of lines, each with the word `line`, that goes on until the writers are done.
struct SlowLines {
    seen: Arc<Written>,
    sent: Arc<AtomicU64>,
}

impl std::io::Read for SlowLines {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        const LINE: &[u8] = b"line\n";
        if self.seen.over.load(Relaxed) {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_millis(5)); // it is to last through all that happens
        let lines = (into.len() / LINE.len()).min(20);
        into[..lines * LINE.len()].copy_from_slice(&LINE.repeat(lines));
        self.sent.fetch_add(lines as u64, Relaxed);
        Ok(lines * LINE.len())
    }
}

/// Sends the lines as one body, once; gives their number, and what the answer says of them.
fn upload(url: &str, seen: &Arc<Written>) -> Result<(u64, serde_json::Value), String> {
    let sent = Arc::new(AtomicU64::new(0));
    let lines = SlowLines { seen: Arc::clone(seen), sent: Arc::clone(&sent) };
    let body = reqwest::blocking::Body::new(lines);
    let http = testkit::client::builder().timeout(PATIENCE).build().map_err(|error| error.to_string())?;
    let request = http.post(format!("{url}/bulk")).header("content-type", "text/plain").body(body);
    let answer = request.send().map_err(|error| format!("the lines were not answered: {error}"))?;
    let status = answer.status();
    let told = answer.text().unwrap_or_default();
    if !status.is_success() {
        return Err(format!("the lines were answered {status}: {told}"));
    }
    let told = serde_json::from_str(&told).map_err(|error| format!("{told}: {error}"))?;
    Ok((sent.load(Relaxed), told))
}

/// Promotes the first of these that may lead: who is behind another may not.
fn promote(nodes: &[Node], candidates: [usize; 2]) -> usize {
    let promoted = wait_for("a node is promoted", || {
        candidates.into_iter().find(|at| {
            let asked = new_client().post(format!("{}/promote", nodes[*at].url)).send();
            asked.is_ok_and(|answer| answer.status().is_success())
        })
    });
    wait_for("it leads", || (status_of(&nodes[promoted])["role"] == "leader").then_some(()));
    promoted
}

#[test]
fn writes_by_way_of_a_replica_outlive_their_leader_and_count_once() {
    let directories = [(); 3].map(|()| TempDir::new().expect("a directory"));
    let first = Start::leader(directories[0].path()).run();
    let second = Start::replica(&first).data(directories[1].path()).run();
    let replica = Start::replica(&first).data(directories[2].path()).run();
    first.until_connected(2);
    let mut nodes = [first, second, replica];
    let seen = Arc::new(Written::default());
    let start = |_| {
        let (url, seen) = (nodes[2].url.clone(), Arc::clone(&seen));
        std::thread::Builder::new().spawn(move || write(&url, &seen)).expect("a thread")
    };
    let writers: Vec<_> = (0..WRITERS).map(start).collect();
    let uploader = {
        let (url, seen) = (nodes[2].url.clone(), Arc::clone(&seen));
        std::thread::Builder::new().spawn(move || upload(&url, &seen)).expect("a thread")
    };
    let until_more = |writes: u64| {
        let from = seen.answered.load(Relaxed);
        let ended = || writers.iter().any(std::thread::JoinHandle::is_finished);
        wait_for("writes are answered", || (seen.answered.load(Relaxed) >= from + writes || ended()).then_some(()));
    };
    until_more(100);
    nodes[0].kill();
    let mut leader = promote(&nodes, [1, 2]);
    until_more(100);
    let start = Start::replica(&nodes[leader]).data(directories[0].path());
    nodes[0].start_as(start);
    nodes[leader].until_connected(2);
    until_more(100);
    // Then the replica leads itself, unless it does already.
    let mut followers = 2;
    if leader == 1 {
        followers = 1;
        nodes[1].kill();
        leader = promote(&nodes, [2, 0]);
        until_more(100);
    }
    seen.over.store(true, Relaxed);
    for writer in writers {
        writer.join().expect("a writer ends").expect("every write is acknowledged");
    }
    let (lines, told) = uploader.join().expect("it ends").expect("every line is acknowledged");
    assert_eq!((&told["last_line"], &told["taken"]), (&lines.into(), &lines.into()), "{told}");
    nodes[leader].until_connected(followers);
    let other = if leader == 2 { &nodes[0] } else { &nodes[2] };
    let (counts, _) = equal_within(REPAIR, &nodes[leader], &[other]);
    let (answered, longest) = (seen.answered.load(Relaxed), seen.longest_ms.load(Relaxed));
    println!("  {answered} writes by way of the replica, the longest took {longest} ms");
    println!("  and {lines} lines in one body");
    assert_eq!((counts["all"] as u64, counts["line"] as u64), (answered, lines), "each counts once");
}
