//! `memdb post` at a node that is no leader.

use crate::{
    fake::{Fake, leader},
    memdb, run,
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};
use tempfile::TempDir;

/// Answers as a follower does: ready, and every body in bulk is for `leader`.
fn follower(leader: Option<&str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let problem = serde_json::json!({
        "type": "urn:memdb:problem:not-leader", "title": "This node takes no writes", "status": 421,
        "detail": "send it to the leader", "leader": leader, "database": "5f2a",
    });
    let serve = move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let (status, body) = match head.starts_with("POST /bulk") {
                true => ("421 Misdirected Request", problem.to_string()),
                false => ("200 OK", "{}".to_owned()),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = reader.get_mut().write_all(answer.as_bytes()); // the client may have gone
        }
    };
    std::thread::Builder::new().spawn(serve).expect("a thread");
    url
}

fn count(fake: &Fake, word: &str) -> i64 {
    fake.state.lock().expect("no panic").counts.get(word).copied().unwrap_or(0)
}

fn book(dir: &TempDir) -> String {
    let path = dir.path().join("book.txt");
    fs::write(&path, "one two\none\n").expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_post_to_a_follower_goes_on_to_the_leader_it_names_and_says_so() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let follower = follower(Some(&fake.url));
    let ran = run(memdb().args(["post", "--server", &follower, &book(&dir)]));
    assert_eq!((ran.code, count(&fake, "one")), (0, 2), "{}", ran.err);
    assert!(ran.err.contains(&follower) && ran.err.contains(&fake.url), "{}", ran.err);
    // The node that is named may lead another database by now: it can tell that this is not meant.
    let meant = fake.state.lock().expect("no panic").meant.clone();
    assert!(!meant.is_empty() && meant.iter().all(|meant| meant.as_deref() == Some("5f2a")), "{meant:?}");
}

#[test]
fn a_post_is_sent_on_once_at_most_and_not_at_all_where_no_leader_is_known() {
    let dir = TempDir::new().expect("a directory");
    let last = follower(Some("http://127.0.0.1:1"));
    let first = follower(Some(&last));
    for (server, named) in [(first, last), (follower(None), "send it to the leader".to_owned())] {
        let ran = run(memdb().args(["post", "--server", &server, "--retry-seconds", "0", &book(&dir)]));
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("421") && ran.err.contains(&named), "{}", ran.err);
    }
}
