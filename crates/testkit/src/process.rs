//! Real processes: started on ports the system chooses, stopped, killed, started again where they were, and looked at
//! from outside.

use crate::{
    client::{Counts, counts, status},
    guard::NodeGuard,
    tls::AUTHORITY,
    wait_for, wait_for_within, wait_until,
};
use memdb::net::tls::files::IdentityFiles;
use parking_lot::Mutex;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// How soon all nodes must be equal once they can speak to each other.
pub const REPAIR: Duration = Duration::from_secs(5);
/// The last lines of a process that are kept.
const LINES: usize = 200;

/// The program that this build of the tests belongs to: it lies beside the directory of test binaries.
pub fn memdb_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    test.ancestors().nth(2).expect("deps lies in a directory").join("memdb")
}

/// The start of a node. Its arguments take precedence over the flags of its guard.
#[derive(Clone)]
pub struct Start {
    role: &'static str,
    arguments: Vec<OsString>,
    descriptors: Option<u32>,
    /// True if it serves TLS with a certificate of its own.
    protected: bool,
    guard: NodeGuard,
    environment: Vec<(&'static str, String)>,
    /// What is put before its command, such as `ip netns exec NAME`.
    within: Vec<String>,
    binary: PathBuf,
}

impl Start {
    pub fn leader(data: &Path) -> Self {
        let own = ["--data-dir".into(), data.into(), "--backup-interval-ms".into(), "20".into()];
        Self::of("leader", own.into())
    }

    /// With the snapshots that nobody has asked to come faster.
    pub fn plain_leader(data: &Path) -> Self {
        Self::of("leader", vec!["--data-dir".into(), data.into()])
    }

    pub fn replica(leader: &Node) -> Self {
        let own = ["--leader".into(), leader.url.clone().into()];
        Self::of("replica", own.into()).guarded(leader.start.guard)
    }

    pub fn local_replica(data: &Path) -> Self {
        Self::of("local-replica", vec!["--data-dir".into(), data.into()])
    }

    fn of(role: &'static str, arguments: Vec<OsString>) -> Self {
        let (environment, within, binary) = (Vec::new(), Vec::new(), memdb_binary());
        let guard = NodeGuard::from_environment();
        Self { role, arguments, descriptors: None, protected: false, guard, environment, within, binary }
    }

    /// Guards it like this, whatever is said for the run. A replica is guarded as its leader is.
    pub fn guarded(mut self, guard: NodeGuard) -> Self {
        self.guard = guard;
        self
    }

    /// Begins a log segment after so many bytes.
    pub fn segments(mut self, bytes: u64) -> Self {
        self.environment.push(("MEMDB_SEGMENT_BYTES", bytes.to_string()));
        self
    }

    /// Sets a variable of its environment.
    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Runs it within a network namespace.
    pub fn within(mut self, namespace: &str) -> Self {
        self.within = ["ip", "netns", "exec", namespace].map(str::to_owned).into();
        self
    }

    /// Runs another binary than that of this build.
    pub fn binary(mut self, binary: &Path) -> Self {
        binary.clone_into(&mut self.binary);
        self
    }

    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(OsString::from));
        self
    }

    /// Serves TLS with this certificate, and knows other nodes by the tests' authority, unless another is given behind
    /// this.
    pub fn protected(mut self, identity: &IdentityFiles) -> Self {
        self.protected = true;
        self.environment.push(("MEMDB_TLS_CA", AUTHORITY.file().to_str().expect("UTF-8").to_owned()));
        let files = ["--tls-cert".into(), (&identity.certificate).into(), "--tls-key".into(), (&identity.key).into()];
        self.arguments.extend::<[OsString; 4]>(files);
        self
    }

    pub fn data(mut self, data: &Path) -> Self {
        self.arguments.extend(["--data-dir".into(), data.into()]);
        self
    }

    /// Lets it have so many descriptors and no more.
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    fn command(&self, port: u16) -> Command {
        let binary = &self.binary;
        let mut command = match self.descriptors {
            None if self.within.is_empty() => Command::new(binary),
            None => {
                let mut within = Command::new(&self.within[0]);
                within.args(&self.within[1..]).arg(binary);
                within
            }
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(binary);
                shell
            }
        };
        if self.within.is_empty() {
            command.env_clear();
        }
        command.envs(self.guard.environment());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args([self.role, "--port", &port.to_string()]).args(&self.arguments);
        command
    }

    /// Starts it; returns once it listens.
    pub fn run(&self) -> Node {
        self.run_on(0).unwrap_or_else(|said| panic!("the {} did not start:\n{said}", self.role))
    }

    /// Starts it on a port, 0 being any; tells what it said if it did not start.
    fn run_on(&self, port: u16) -> Result<Node, String> {
        let mut process = self.command(port).stderr(Stdio::piped()).spawn().expect("the binary is built");
        let mut lines = BufReader::new(process.stderr.take().expect("it was asked for")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let address = loop {
            match lines.next() {
                Some(line) => match line.split_once("serving address=") {
                    Some((_, address)) => break address.trim().to_owned(),
                    None => said.push(line),
                },
                None => {
                    let _ = process.wait();
                    return Err(said.join("\n"));
                }
            }
        };
        // It must be able to write what it says until it ends.
        let kept = Arc::new(Mutex::new(SaidLines { total: said.len(), last: said.into() }));
        let said = Arc::clone(&kept);
        let keep = move |line| {
            let mut kept = kept.lock();
            kept.total += 1;
            kept.last.push_back(line);
            if kept.last.len() > LINES {
                kept.last.pop_front();
            }
        };
        std::thread::Builder::new().spawn(move || lines.for_each(keep)).expect("a thread");
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address with a port");
        let scheme = if self.protected { "https" } else { self.guard.scheme() };
        Ok(Node { url: format!("{scheme}://{address}"), port, start: self.clone(), process, said })
    }

    /// Starts what must not start on this port: its exit code, and what it says.
    pub fn refused(&self, port: u16) -> (Option<i32>, String) {
        let mut process = self.command(port).stderr(Stdio::piped()).spawn().expect("the binary is built");
        let ended = wait_for("a start that is refused ends", || process.try_wait().expect("it is ours"));
        let said = std::io::read_to_string(process.stderr.take().expect("it was asked for")).expect("UTF-8");
        (ended.code(), said)
    }
}

/// A node that runs, or did.
pub struct Node {
    pub url: String,
    pub port: u16,
    start: Start,
    process: Child,
    said: Arc<Mutex<SaidLines>>,
}

/// The lines that a process has said.
struct SaidLines {
    /// The last lines.
    last: VecDeque<String>,
    /// The number of all lines.
    total: usize,
}

impl Node {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// As if it hung, or the machine had gone to sleep.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it by a signal and waits for that.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let status = self.process.wait().expect("it ends");
        assert_eq!(status.success(), signal != Signal::KILL, "a stop by SIGTERM or SIGHUP is a clean one: {status}");
        status
    }

    /// Ends it by a signal, for good.
    pub fn finish(mut self, signal: Signal) {
        self.end(signal);
    }

    /// Starts it again where it was, once it has ended.
    pub fn start_again(&mut self) {
        let start = self.start.clone();
        // The port may have been given to a connection meanwhile.
        *self = wait_for("the old port is free", || match start.run_on(self.port) {
            Ok(node) => Some(node),
            Err(said) if said.contains("taken") => None,
            Err(said) => panic!("the {} did not start again:\n{said}", start.role),
        });
    }

    /// Stops it if it runs, and starts it where it was as something else.
    pub fn start_as(&mut self, start: Start) {
        if self.ended().is_none() {
            self.end(Signal::TERM);
        }
        self.start = start;
        self.start_again();
    }

    /// It has come to be something else by itself, and is started as that from now on.
    pub fn becomes(&mut self, start: Start) {
        self.start = start;
    }

    /// Starts it where it was as something else, with a place at which it is to die.
    pub fn start_as_to_die(&mut self, start: Start, at: &str) -> bool {
        self.kill();
        self.start = start;
        self.start_to_die(at)
    }

    /// Starts it again with a place at which it is to die (`src/base/failpoint.rs`); `false` if it has died before it
    /// served.
    pub fn start_to_die(&mut self, at: &str) -> bool {
        let mut start = self.start.clone();
        start.environment.push(("MEMDB_FAILPOINT", at.to_owned()));
        let started = wait_for("the old port is free", || match start.run_on(self.port) {
            Err(said) if said.contains("taken") => None,
            started => Some(started),
        });
        started
            .map(|mut node| {
                node.start.environment.pop();
                *self = node;
            })
            .is_ok()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("it is ours")
    }

    /// Ends it, whatever it is about to do.
    pub fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it ends");
    }

    /// Starts it again, and kills it after a while, whatever it has come to.
    pub fn start_and_kill(&self, after: Duration) {
        let mut process = self.start.command(self.port).stderr(Stdio::null()).spawn().expect("the binary is built");
        std::thread::sleep(after);
        process.kill().expect("it is ours");
        process.wait().expect("it ends");
    }

    pub fn is_ready(&self) -> bool {
        status(&self.url).is_some_and(|status| status["ready"] == true)
    }

    pub fn until_ready(&self) {
        wait_until(&format!("the {} is ready", self.start.role), || self.is_ready());
    }

    /// The sequence of its last record.
    pub fn sequence(&self) -> u64 {
        status(&self.url).and_then(|status| status["sequence"].as_u64()).unwrap_or(0)
    }

    /// Waits until so many replicas are connected to this leader and have everything.
    pub fn until_connected(&self, replicas: usize) {
        wait_for(&format!("{replicas} replicas are connected"), || {
            let status = status(&self.url)?;
            let streams = |one: &&serde_json::Value| one["state"] == "streaming" && one["lag_records"] == 0;
            (status["replicas"].as_array()?.iter().filter(streams).count() == replicas).then_some(())
        });
    }

    /// Files and sockets it has open.
    pub fn descriptors(&self) -> usize {
        self.entries("fd")
    }

    /// Lets it have so many descriptors from now on, and tells how many it could have before.
    pub fn limit_descriptors(&self, most: u64) -> u64 {
        let limit = Rlimit { current: Some(most), maximum: getrlimit(Resource::Nofile).maximum };
        let before = prlimit(Some(self.pid()), Resource::Nofile, limit).expect("it is ours");
        before.current.unwrap_or(u64::MAX)
    }

    /// Lets no file that it writes grow beyond so many bytes from now on; `None`: as far as the disk has room.
    pub fn limit_files_to(&self, most: Option<u64>) {
        let limit = Rlimit { current: most, maximum: getrlimit(Resource::Fsize).maximum };
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("it is ours");
    }

    pub fn threads(&self) -> usize {
        self.entries("task")
    }

    fn entries(&self, of: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{of}", self.process.id())).map_or(0, Iterator::count)
    }

    /// What the system says of it.
    pub fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.process.id())).unwrap_or_default()
    }

    /// Memory it holds, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// What it has said last.
    pub fn said(&self) -> String {
        self.said.lock().last.make_contiguous().join("\n")
    }

    /// The number of lines it has said.
    pub fn lines_said(&self) -> usize {
        self.said.lock().total
    }

    /// The lines it has said after the first `lines`.
    pub fn said_behind(&self, lines: usize) -> String {
        let mut said = self.said.lock();
        let (kept, more) = (said.last.len(), said.total - lines);
        said.last.make_contiguous()[kept.saturating_sub(more)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill(); // a test that failed leaves nothing behind
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the {} at {} said:\n{}", self.start.role, self.url, self.said());
        }
    }
}

/// Waits until the followers stand where the leader stands, then compares every word; gives the counts, and how long it
/// took until they stood there.
#[track_caller]
pub fn equal_within(patience: Duration, leader: &Node, followers: &[&Node]) -> (Counts, Duration) {
    let stands = |node: &Node| status(&node.url).map(|status| (status["position"].clone(), status["digest"].clone()));
    let begun = Instant::now();
    let there = wait_for("the leader answers", || stands(leader));
    for follower in followers {
        let left = patience.saturating_sub(begun.elapsed());
        wait_for_within(left, &format!("{} stands where the leader does, at {there:?}", follower.url), || {
            (stands(follower).as_ref() == Some(&there)).then_some(())
        });
    }
    let took = begun.elapsed();
    let (position, expected) = counts(&leader.url);
    assert_eq!(there.0, position.to_string(), "nobody writes meanwhile");
    for follower in followers {
        let (position, counts) = counts(&follower.url);
        assert_eq!(there.0, position.to_string());
        assert_same(&counts, &expected, &follower.url);
    }
    (expected, took)
}

/// Compares counts and shows some of the words that differ.
#[track_caller]
pub fn assert_same(counts: &Counts, expected: &Counts, whose: &str) {
    if counts == expected {
        return;
    }
    let words: std::collections::BTreeSet<_> = counts.keys().chain(expected.keys()).collect();
    let differ = words.into_iter().filter(|word| counts.get(*word) != expected.get(*word));
    let shown: Vec<_> = differ.map(|word| (word, counts.get(word), expected.get(word))).collect();
    panic!("{whose}: {} words differ (word, is, should be): {:?}", shown.len(), &shown[..shown.len().min(20)]);
}
