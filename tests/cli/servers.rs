//! `make start-servers` and its sisters, without the build: the script under them, with the binary of this test.

use crate::{Ran, memdb, run};
use assert_cmd::Command;
use std::{net::TcpListener, path::Path, time::Duration};
use tempfile::TempDir;

/// Servers started by the script, stopped at the latest when this is dropped.
struct Servers {
    dir: TempDir,
    port: u16,
    start: &'static str,
    stop: &'static str,
    /// Seconds within which they must be ready.
    patience: u32,
    /// The number of replicas.
    replicas: u16,
}

impl Servers {
    fn new(start: &'static str, stop: &'static str) -> Self {
        let dir = TempDir::new().expect("a directory");
        std::fs::create_dir(dir.path().join("release")).expect("made");
        let binary = assert_cmd::cargo::cargo_bin!("memdb");
        std::os::unix::fs::symlink(binary, dir.path().join("release/memdb")).expect("linked");
        Servers { dir, port: four_free_ports(), start, stop, patience: 60, replicas: 3 }
    }

    fn script(&self, verb: &str) -> Ran {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers"));
        let run_dir = self.dir.path().join("run");
        run(script
            .arg(verb)
            .env("CARGO_TARGET_DIR", self.dir.path())
            .env("RUN_DIR", run_dir)
            .env("PORT", self.port.to_string())
            .env("START_SECONDS", self.patience.to_string())
            .env("REPLICAS", self.replicas.to_string())
            .timeout(Duration::from_secs(120)))
    }

    /// How many of the first `count` servers are ready.
    fn ready(&self, count: u16) -> usize {
        let ready = |at: &u16| {
            let url = format!("http://127.0.0.1:{}", self.port + at);
            run(memdb().args(["health", "--server", &url])).code == 0
        };
        (0..count).filter(ready).count()
    }

    /// Starts twice and stops twice; `count` servers in all.
    fn come_and_go(&self, count: u16) {
        let started = self.script(self.start);
        assert_eq!((started.code, started.err.as_str()), (0, ""), "{}", started.out);
        assert_eq!(self.ready(count), usize::from(count), "{}", started.out);
        for at in 0..count {
            assert!(started.out.contains(&format!("http://127.0.0.1:{}  (process", self.port + at)), "{}", started.out);
        }
        let again = self.script(self.start);
        assert_eq!(again.code, 0, "{}", again.err);
        assert_eq!(again.out.matches("was running already").count(), usize::from(count), "{}", again.out);
        let stopped = self.script(self.stop);
        assert_eq!((stopped.code, self.ready(count)), (0, 0), "{}", stopped.err);
        let lines: Vec<_> = stopped.out.lines().collect();
        assert_eq!(stopped.out.matches("has stopped").count(), usize::from(count), "{}", stopped.out);
        assert!(lines[usize::from(count) - 1].starts_with("The leader has stopped"), "{}", stopped.out);
        let nothing = self.script(self.stop);
        assert_eq!((nothing.code, nothing.err.as_str()), (0, ""));
        assert_eq!(nothing.out.matches("is not running").count(), usize::from(count), "{}", nothing.out);
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.script(self.stop);
    }
}

/// The first of four ports in a row that are free at the moment.
fn four_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("bound").port();
        let others: Vec<_> =
            (1..4u16).filter_map(|at| TcpListener::bind(("127.0.0.1", port.checked_add(at)?)).ok()).collect();
        if others.len() == 3 {
            return port;
        }
    }
}

#[test]
fn a_leader_and_three_replicas_come_and_go() {
    Servers::new("start", "stop").come_and_go(4);
}

#[test]
fn a_stop_ends_more_replicas_than_it_is_told_there_are() {
    let mut servers = Servers::new("start", "stop");
    servers.replicas = 2;
    servers.come_and_go(3);
    assert_eq!(servers.script("start").code, 0);
    servers.replicas = 1;
    let stopped = servers.script("stop");
    assert_eq!((stopped.out.matches("has stopped").count(), servers.ready(3)), (3, 0), "{}", stopped.out);
}

#[test]
fn servers_whose_leader_was_moved_to_a_replica_start_again() {
    let servers = Servers::new("start", "stop");
    assert_eq!(servers.script("start").code, 0);
    let url = format!("http://127.0.0.1:{}", servers.port + 1);
    let promoted = run(memdb().args(["promote", &url]));
    assert_eq!(promoted.code, 0, "{}", promoted.err);
    assert_eq!(servers.script("stop").code, 0);
    let started = servers.script("start");
    assert_eq!((started.code, servers.ready(4)), (0, 4), "{} {}", started.out, started.err);
    assert_eq!(run(memdb().args(["health", "--writable", "--server", &url])).code, 0, "it leads as before");
}

#[test]
fn servers_that_do_not_become_ready_are_told_with_the_end_of_their_log_and_run_on() {
    let mut servers = Servers::new("start", "stop");
    assert_eq!(servers.script("start").code, 0);
    let promoted = run(memdb().args(["promote", &format!("http://127.0.0.1:{}", servers.port + 1)]));
    assert_eq!((promoted.code, servers.script("stop").code), (0, 0), "{}", promoted.err);
    // The leader's files are lost: nobody leads until somebody promotes.
    std::fs::remove_dir_all(servers.dir.path().join("run/replica-1")).expect("removed");
    servers.patience = 4;
    let started = servers.script("start");
    assert_eq!(started.code, 1, "{}", started.out);
    assert!(started.err.contains("after 4 s the leader is not ready"), "{}", started.err);
    assert!(started.err.contains("The end of its log") && started.err.contains("WARN"), "{}", started.err);
    let stopped = servers.script("stop");
    assert_eq!(stopped.out.matches("has stopped").count(), 4, "{}", stopped.out);
}

#[test]
fn a_leader_and_two_local_replicas_come_and_go() {
    Servers::new("start-local", "stop-local").come_and_go(3);
}

#[test]
fn a_port_that_is_taken_is_said_and_nothing_is_started_or_stopped() {
    let servers = Servers::new("start", "stop");
    let _taken = TcpListener::bind(("127.0.0.1", servers.port + 2)).expect("it was free a moment ago");
    let started = servers.script("start");
    assert_eq!((started.code, started.out.as_str()), (1, ""));
    assert!(started.err.contains(&format!("port {} is taken", servers.port + 2)), "{}", started.err);
    assert_eq!(servers.ready(2), 0);
}

#[test]
fn a_follower_that_does_not_start_takes_the_leader_with_it() {
    let servers = Servers::new("start", "stop");
    // A file where the replica's directory would be.
    std::fs::create_dir(servers.dir.path().join("run")).expect("made");
    std::fs::write(servers.dir.path().join("run/replica-1"), "").expect("written");
    let started = servers.script("start");
    assert_eq!(started.code, 1, "{}", started.out);
    assert!(started.err.contains("the replica-1 did not start: "), "{}", started.err);
    assert!(started.err.contains("The leader has stopped"), "{}", started.err);
    assert_eq!(servers.ready(1), 0);
}
