//! Messages of a node to a service manager, by a socket that stands for systemd's.

use parking_lot::Mutex;
use rustix::process::Signal;
use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    client::new_client,
    process::{Node, Start},
    wait::wait_until,
};

/// A service manager that writes down what it hears, and when.
struct FakeManager {
    folder: TempDir,
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl FakeManager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        let heard = Arc::<Mutex<Vec<_>>>::default();
        let hears = Arc::clone(&heard);
        let listen = move || {
            let mut message = [0; 1_024];
            while let Ok(bytes) = socket.recv(&mut message) {
                let text = String::from_utf8(message[..bytes].to_vec()).expect("UTF-8");
                hears.lock().push((Instant::now(), text));
            }
        };
        std::thread::Builder::new().spawn(listen).expect("a thread"); // it ends with the tests
        Self { folder, heard }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The same start, of a node that this manager looks after.
    fn looks_after(&self, start: Start, patience: Duration) -> Start {
        let socket = self.folder.path().join("notify");
        let start = start.variable("NOTIFY_SOCKET", socket.to_str().expect("UTF-8"));
        start.variable("WATCHDOG_USEC", &patience.as_micros().to_string())
    }

    /// The moments at which it has heard this.
    fn times(&self, begin: &str) -> Vec<Instant> {
        self.heard.lock().iter().filter(|(_, text)| text.starts_with(begin)).map(|(at, _)| *at).collect()
    }

    fn wait_for(&self, begin: &str, times: usize) {
        wait_until(begin, || self.times(begin).len() >= times);
    }
}

const WATCHDOG: &str = "WATCHDOG=1";
const PATIENCE: Duration = Duration::from_millis(400);

fn leader(data: &Path) -> Start {
    Start::plain_leader(data)
}

fn post(node: &Node) {
    let post = new_client().post(format!("{}/post", node.url)).header("content-type", "text/plain").body("hello");
    assert_eq!(post.send().expect("it answers").status(), 202);
}

#[test]
fn a_long_start_is_given_more_time_until_the_node_serves_and_lives() {
    let manager = FakeManager::new();
    let slow = leader(&manager.data()).variable("MEMDB_FAILPOINT", "start.read=sleep1500:1");
    let mut node = manager.looks_after(slow, PATIENCE).run();
    manager.wait_for(WATCHDOG, 3);
    let ready = manager.times("READY=1");
    assert_eq!(ready.len(), 1);
    let extended = manager.times("EXTEND_TIMEOUT_USEC=30000000");
    assert!(extended.len() >= 3 && extended[0] + Duration::from_millis(1_000) < ready[0], "{extended:?} {ready:?}");
    assert!(manager.times(WATCHDOG)[0] >= extended[extended.len() - 1]);
    node.signal(Signal::HUP);
    manager.wait_for("RELOADING=1", 1);
    manager.wait_for("READY=1", 2);
    assert!(node.end(Signal::TERM).success());
    manager.wait_for("STOPPING=1", 1);
}

#[test]
fn a_writer_that_is_stuck_is_not_said_to_live_and_one_that_goes_on_is() {
    let manager = FakeManager::new();
    let stuck = leader(&manager.data()).variable("MEMDB_FAILPOINT", "ack.begin=sleep3000:1");
    let node = manager.looks_after(stuck, PATIENCE).run();
    manager.wait_for(WATCHDOG, 3);
    post(&node);
    let before = manager.times(WATCHDOG).len();
    manager.wait_for(WATCHDOG, before + 3);
    let times = manager.times(WATCHDOG);
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("several");
    assert!(gap >= Duration::from_millis(2_500), "it was said to live within {gap:?}");
    assert!(node.said().contains("the Writer gives no sign of life"), "{}", node.said());
    node.finish(Signal::TERM);
}

#[test]
fn a_node_lives_while_it_changes_its_role() {
    let manager = FakeManager::new();
    let mut before = leader(&manager.folder.path().join("before")).run();
    let candidate = Start::replica(&before).data(&manager.data());
    let candidate = candidate.variable("MEMDB_FAILPOINT", "promote.stopped=sleep3000:1");
    let candidate = manager.looks_after(candidate, PATIENCE).run();
    candidate.until_ready();
    before.until_connected(1);
    manager.wait_for(WATCHDOG, 3);
    let asked = new_client().post(format!("{}/promote", candidate.url)).send().expect("it answers");
    assert_eq!(asked.status(), 200, "{:?}", asked.text());
    let heard = manager.times(WATCHDOG).len();
    let leads =
        || new_client().get(format!("{}/health/leader", candidate.url)).send().is_ok_and(|it| it.status() == 200);
    wait_until("it leads", leads);
    let meanwhile = manager.times(WATCHDOG).len() - heard;
    assert!(meanwhile >= 8, "it has said {meanwhile} times within three seconds that it lives");
    let led = manager.times(WATCHDOG).len();
    manager.wait_for(WATCHDOG, led + 3);
    candidate.finish(Signal::TERM);
    before.end(Signal::KILL);
}
