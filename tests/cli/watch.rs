//! `memdb watch` at real nodes.

use crate::{Ran, memdb, run};
use rustix::process::Signal;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
};
use tempfile::TempDir;
use testkit::{
    PATIENCE,
    client::posted,
    process::{Node, Start},
    wait_until,
};

/// A `memdb watch` that runs.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn begin(node: &Node, arguments: &[&str]) -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("memdb"));
        command.env_clear().env("MEMDB_SERVER", &node.url).arg("watch").args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().try_for_each(|line| sender.send(line.expect("UTF-8"))));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("it goes on")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

fn once(node: &Node, arguments: &[&str]) -> Ran {
    run(memdb().env("MEMDB_SERVER", &node.url).args(["watch", "--once"]).args(arguments))
}

#[test]
fn once_shows_the_first_values_of_any_node_and_ends() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    posted(&leader.url, "hello world hello");
    let put = run(memdb().env("MEMDB_SERVER", &leader.url).args(["cache", "put", "k", "--value", "v"]));
    assert_eq!(put.code, 0, "{}", put.err);
    let local = Start::local_replica(data.path()).run();
    local.until_ready();
    wait_until("it has read all", || local.sequence() == leader.sequence());
    for node in [&leader, &local] {
        assert_eq!(once(node, &["hello", "never"]).out, "2  hello\n0  never\n");
        assert_eq!(once(node, &["--top", "1"]).out, "2  hello\n\n");
        assert_eq!(once(node, &["--key", "k", "--key", "l"]).out, "k  1 bytes  v\nl  not there\n");
        let json: serde_json::Value = serde_json::from_str(&once(node, &["--json", "hello"]).out).expect("a line");
        assert_eq!((&json["event"], &json["data"]["hello"]), (&"counts".into(), &2.into()));
        assert!(json["id"].as_str().is_some_and(|id| id.starts_with("1-2-")), "{json}");
    }
}

#[test]
fn each_change_is_a_line_also_behind_a_restart_of_the_node() {
    let data = TempDir::new().expect("a directory");
    let mut leader = Start::leader(data.path()).run();
    let watching = Watching::begin(&leader, &["a", "--every", "20ms"]);
    let events = Watching::begin(&leader, &["a", "--every", "20ms", "--json"]);
    assert_eq!(watching.line(), "0  a");
    assert!(events.line().contains(r#""data":{"a":0}"#));
    posted(&leader.url, "a");
    assert_eq!(watching.line(), "1  a");
    assert!(events.line().contains(r#""data":{"a":1}"#));
    leader.end(Signal::TERM);
    leader.start_again();
    posted(&leader.url, "a");
    assert_eq!(watching.line(), "2  a", "what was shown is not shown again");
    // The node that begins anew does not know what this stream has seen: it may send the value again in front.
    let mut event = events.line();
    if event.contains(r#""data":{"a":1}"#) {
        event = events.line();
    }
    assert!(event.contains(r#""data":{"a":2}"#), "{event}");
}

#[test]
fn a_watch_of_nothing_or_of_too_much_is_wrong_usage() {
    for arguments in [vec![], vec!["a", "--top", "3"], vec!["--top", "0"], vec!["--top", "3", "--key", "k"]] {
        let ran = run(memdb().arg("watch").args(&arguments));
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
    }
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let ran = once(&leader, &["a", "--every", "5"]);
    assert!(ran.code == 1 && ran.err.contains("every is a time such as 100ms"), "{}", ran.err);
}
