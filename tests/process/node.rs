//! The node as an operator meets it: starts, refusals and stops of the real process, one life after the other.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a test of the real process and its files")]

mod logs;
mod service;
mod whole_posts;

use assert_cmd::Command;
use reqwest::blocking::Response;
use rustix::process::Signal;
use std::{fs, net::TcpListener, path::Path};
use tempfile::TempDir;
use testkit::{
    process::{Node, Start},
    wait::wait_until,
};

/// How a start ends that is refused: its exit code, and what it says.
fn refused(data: &Path, port: u16, more: &[&str]) -> (i32, String) {
    let output = assert_cmd::cargo::cargo_bin_cmd!("memdb")
        .env_clear()
        .args(["leader", "--port", &port.to_string(), "--data-dir"])
        .arg(data)
        .args(more)
        .timeout(std::time::Duration::from_secs(20))
        .output()
        .expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("it ended by itself"), said)
}

fn post(leader: &Node, text: &str, level: &str) -> Response {
    let request = testkit::client::new_client()
        .post(format!("{}/post?ack={level}", leader.url))
        .header("content-type", "text/plain");
    request.body(text.to_owned()).send().expect("it answers")
}

fn count(leader: &Node, word: &str) -> String {
    let url = format!("{}/wordcount?word={word}", leader.url);
    testkit::client::new_client().get(url).send().expect("it answers").text().expect("text")
}

fn only_file(data: &Path, prefix: &str) -> std::path::PathBuf {
    let mut found: Vec<_> =
        fs::read_dir(data).expect("a directory").map(|entry| entry.expect("listed").path()).collect();
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    found.sort();
    found.pop().expect("there is such a file")
}

#[test]
fn counts_outlive_clean_stops_and_kills() {
    let data = TempDir::new().expect("a directory");
    for life in 1..=4 {
        let leader = Start::leader(data.path()).run();
        let answer = post(&leader, "hello", "leader");
        let position = answer.headers()["memdb-position"].to_str().expect("ASCII").to_owned();
        let expected = format!("{life}-{life}-");
        assert!(position.starts_with(&expected), "{position}: a new epoch at every start, the sequence goes on");
        assert_eq!(count(&leader, "hello"), format!("{{\"hello\":{life}}}\n"));
        leader.finish(if life % 2 == 0 { Signal::KILL } else { Signal::TERM });
    }
}

/// A hang-up has the node read its settings anew; it goes on, and the log says what is new.
#[test]
fn a_hang_up_reads_the_settings_anew_line_by_line() {
    let data = TempDir::new().expect("a directory");
    let file = data.path().join("memdb.toml");
    fs::write(&file, "log = \"info\"\nmax-keys = 1000\nmax-watchers = 10\nmax-body-bytes = \"1MiB\"\n")
        .expect("written");
    let leader = Start::leader(&data.path().join("data")).with(&["--config", file.to_str().expect("UTF-8")]).run();
    fs::write(&file, "log = \"debug\"\nmax-watchers = 20\nmax-body-bytes = \"2MiB\"\n").expect("written");
    leader.signal(Signal::HUP);
    for line in [
        "read anew: log is \"debug\", was \"info\"",
        "read anew: max-watchers is \"20\", was \"10\"",
        "read anew: max-body-bytes is \"2MiB\", was \"1MiB\"; it takes effect at the next start",
    ] {
        wait_until(line, || leader.said().contains(line));
    }
    let metrics = || {
        let metrics = testkit::client::new_client().get(format!("{}/metrics", leader.url)).send();
        metrics.and_then(Response::text).expect("it serves")
    };
    assert!(metrics().contains("\nmemdb_watchers_limit 20\n"), "{}", metrics());
    assert!(metrics().contains("\nmemdb_keys_limit 1000\n"), "it is not in force yet: {}", metrics());
    for (connections, line) in
        [("300", "max-watchers is \"auto\", was \"20\""), ("200", "max-watchers is \"auto\": 100, was 150")]
    {
        fs::write(&file, format!("log = \"debug\"\nmax-connections = {connections}\n")).expect("written");
        leader.signal(Signal::HUP);
        wait_until(line, || leader.said().contains(line));
    }
    assert!(metrics().contains("\nmemdb_watchers_limit 100\n"), "it follows the connections: {}", metrics());
    fs::write(&file, "log = 17").expect("written");
    leader.signal(Signal::HUP);
    let kept = "cannot be read anew, and stays as it was";
    wait_until(kept, || leader.said().contains(kept));
    assert_eq!(post(&leader, "hello", "leader").status(), 202);
    leader.finish(Signal::TERM);
}

/// A read that waits for a position which does not come is slow; the log has its route, and not its word.
#[test]
fn a_slow_request_is_a_line_in_the_log_without_its_words() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).with(&["--slow-request", "100ms"]).run();
    let answer = post(&leader, "hello", "leader");
    let position = answer.headers()["memdb-position"].to_str().expect("ASCII").replacen("1-1-", "1-9-", 1);
    let read = testkit::client::new_client()
        .get(format!("{}/wordcount?word=hello", leader.url))
        .header("memdb-min-position", position);
    assert_eq!(read.send().expect("it answers").status(), 503);
    // A post may be slow too on a busy machine.
    let is_line = |line: &&str| line.contains("slow request") && line.contains("route=\"wordcount\"");
    wait_until("the line", || leader.said().lines().any(|line| is_line(&line)));
    let said = leader.said();
    let line = said.lines().find(is_line).expect("seen above");
    for part in ["method=\"GET\"", "route=\"wordcount\"", "status=503", "duration_ms="] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!said.contains("hello"), "{said}");
    leader.finish(Signal::TERM);
}

#[test]
fn a_position_of_an_earlier_life_is_met_and_one_that_never_was_is_lost() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let answer = post(&leader, "hello", "disk");
    let first = answer.headers()["memdb-position"].to_str().expect("ASCII").to_owned();
    leader.finish(Signal::KILL);
    let leader = Start::leader(data.path()).run();
    let read = |position: &str| {
        let request = testkit::client::new_client().get(format!("{}/wordcount?word=hello", leader.url));
        request.header("memdb-min-position", position).send().expect("it answers").status().as_u16()
    };
    assert_eq!((read(&first), read(&first.replacen("1-1-", "1-2-", 1))), (200, 410));
    leader.finish(Signal::TERM);
}

#[test]
fn a_taken_port_is_one_line_and_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let data = TempDir::new().expect("a directory");
    let (code, said) = refused(&data.path().join("data"), port, &[]);
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains(&port.to_string()) && said.contains("taken") && said.contains("--port"), "{said}");
    assert!(!data.path().join("data").exists(), "nothing was made for a start that could not be");
}

#[test]
fn a_directory_in_use_is_refused_and_named() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let (code, said) = refused(data.path(), 0, &[]);
    assert_eq!(code, 1);
    assert!(said.contains("in use (held by process "), "{said}");
    leader.finish(Signal::TERM);
}

#[test]
fn another_analyzer_than_the_database_has_is_refused() {
    let data = TempDir::new().expect("a directory");
    Start::leader(data.path()).run().end(Signal::TERM);
    let (code, said) = refused(data.path(), 0, &["--analyzer", "whitespace"]);
    assert_eq!(code, 1);
    assert!(said.contains("standard analyzer") && said.contains("--analyzer"), "{said}");
}

#[test]
fn damage_is_refused_with_file_and_offset() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    post(&leader, "hello world", "disk");
    leader.finish(Signal::TERM);
    for file in fs::read_dir(data.path()).expect("listed").map(|entry| entry.expect("listed").path()) {
        // Without a snapshot the log is all there is.
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snapshot-")) {
            fs::remove_file(file).expect("removed");
        }
    }
    let log = only_file(data.path(), "log-");
    let mut bytes = fs::read(&log).expect("read");
    bytes[100] ^= 1;
    fs::write(&log, &bytes).expect("written");
    let (code, said) = refused(data.path(), 0, &[]);
    assert_eq!(code, 1);
    let name = log.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(said.contains(&format!("{name} at byte 80")) && said.contains("memdb inspect"), "{said}");
    assert_eq!(fs::read(&log).expect("read"), bytes, "a refusal changes nothing");
}

#[test]
fn a_cut_tail_that_was_never_synced_is_said() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    post(&leader, "hello", "disk");
    leader.finish(Signal::KILL);
    let log = only_file(data.path(), "log-");
    let mut bytes = fs::read(&log).expect("read");
    bytes.extend_from_slice(b"half a record");
    fs::write(&log, &bytes).expect("written");
    let leader = Start::leader(data.path()).run();
    assert_eq!(count(&leader, "hello"), "{\"hello\":1}\n");
    leader.finish(Signal::TERM);
    let said = fs::read_to_string(only_file(data.path(), "memdb.log")).expect("a log file");
    assert!(said.contains("cut 13 bytes off the end of the log"), "{said}");
}

#[test]
fn the_command_line_and_the_leader_understand_each_other() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let book = data.path().join("book.txt");
    fs::write(&book, "to be or not to be\nthat is the question\n").expect("written");
    let run = |arguments: &[&str]| {
        let mut command: Command = assert_cmd::cargo::cargo_bin_cmd!("memdb");
        let output = command.env_clear().args(arguments).output().expect("it runs");
        let code = output.status.code().expect("it ended");
        (code, String::from_utf8(output.stdout).expect("UTF-8") + &String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let book = book.to_str().expect("UTF-8");
    assert_eq!(run(&["post", book, "--leader", &leader.url]).0, 0);
    let (code, said) = run(&["post", book, "--leader", &leader.url]);
    assert!(code == 0 && said.contains("were counted before"), "{said}");
    let (code, said) = run(&["get", "to", "be", "question", "--json", "--server", &leader.url]);
    let counts: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, counts), (0, serde_json::json!({"to": 2, "be": 2, "question": 1})));
    assert_eq!(run(&["health", "--server", &leader.url]).0, 0);
    let (code, said) = run(&["health", "--json", "--writable", "--server", &leader.url]);
    let health: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, health), (0, serde_json::json!({"node": leader.url, "writable": true})));
    let (code, said) = run(&["top", "--ns", "tpyo", "--server", &leader.url]);
    assert!(code == 1 && said.contains("no namespace \"tpyo\""), "{said}");
    let (code, said) = run(&["get", "be", "--ns", "tpyo", "--server", &leader.url]);
    assert!(code == 0 && said.contains("0  be\n") && said.contains("no namespace \"tpyo\""), "{said}");
    let (code, said) = run(&["get", "never", "--ns", "words", "--server", &leader.url]);
    assert_eq!((code, said.as_str()), (0, "0  never\n"));
    leader.finish(Signal::TERM);
}
