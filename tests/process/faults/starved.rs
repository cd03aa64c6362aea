//! A node that has run out of something: room on its disk, descriptors.

use memdb::{leader::AckLevel, position::PositionToken};
use rustix::process::Signal;
use std::{
    io::Write,
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    PATIENCE,
    checker::History,
    client::{Answer, new_client, post, read, status},
    process::{Node, Start, equal_within},
    wait_for,
};

/// Runs a program; what it said, if it failed.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Says what this system does not let a test do, also where the output of a test that holds is not shown:
/// `scripts/test` ends with it.
pub fn skipped(what: &str) {
    let line = format!("SKIPPED: {what}\n");
    let _ = std::io::stderr().write_all(line.as_bytes()); // past what keeps the output of tests back
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped.txt");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("written");
}

/// A file system of its own, as long as it lives.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    pub fn new(mebibytes: u32) -> Result<Self, String> {
        let at = TempDir::new().expect("a directory");
        let path = at.path().to_str().expect("UTF-8");
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs", path])?;
        Ok(Self(at))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes room, or gives it back.
    pub fn occupy(&self, mebibytes: usize) {
        std::fs::write(self.path().join("ballast"), vec![0; mebibytes << 20]).expect("there is room");
    }
}

impl SmallDisk {
    /// Takes all the room there is.
    pub fn fill(&self) {
        let mut ballast = std::fs::File::create(self.path().join("ballast")).expect("made");
        let piece = vec![0; 64 << 10];
        while ballast.write_all(&piece).is_ok() {}
    }

    /// Lets it be only read (`ro`), or written again (`rw`).
    pub fn remount(&self, how: &str) -> Result<(), String> {
        run("mount", &["-o", &format!("remount,{how}"), self.path().to_str().expect("UTF-8")])
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = run("umount", &["--lazy", self.path().to_str().expect("UTF-8")]);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

/// Posts texts of many new words one after the other, and keeps the history of it.
struct Poster {
    history: History,
    begun: Instant,
    posts: u64,
}

const WORDS: u64 = 2_000;

impl Poster {
    fn new() -> Self {
        Self { history: History::default(), begun: Instant::now(), posts: 0 }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn post(&mut self, url: &str) -> Answer {
        self.posts += 1;
        let words: Vec<_> = (0..WORDS).map(|number| format!("word{number}of{}", self.posts)).collect();
        let amounts: Vec<_> = words.iter().map(|word| (word.as_str(), 1)).collect();
        let write = self.history.sent(self.now(), &amounts);
        let answer = post(url, "?ack=disk", &words.join(" "));
        let now = self.now();
        match answer.status {
            202 => {
                let position = answer.body["position"].as_str().expect("a position").parse::<PositionToken>();
                self.history.acknowledged(write, now, position.expect("a position").position, AckLevel::Disk);
            }
            500 => {}
            503 => self.history.refused(write),
            _ => panic!("{answer:?}"),
        }
        answer
    }

    /// All nodes hold what was acknowledged, and nothing else that was not sent.
    fn check(mut self, nodes: &[&Node]) {
        equal_within(PATIENCE, nodes[0], &nodes[1..]);
        for node in nodes {
            let (position, counts) = testkit::client::counts(&node.url);
            self.history.ends(&node.url, position.position, counts);
        }
        let checked = self.history.check().unwrap_or_else(|broken| panic!("{broken}"));
        println!("{checked:?}");
    }
}

pub fn problem(answer: &Answer) -> &str {
    let name = answer.body["type"].as_str().unwrap_or_default();
    name.strip_prefix("urn:memdb:problem:").unwrap_or(name)
}

/// Writes are refused with the reason, reads go on, and once there is room again writes are taken; a kill on the way
/// loses nothing. A replica whose disk is full goes on without files.
#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let disks = match [SmallDisk::new(64), SmallDisk::new(64)] {
        [Ok(one), Ok(two)] => [one, two],
        [one, two] => {
            let why = one.err().or(two.err()).unwrap_or_default();
            return skipped(&format!("a full disk: no small file system can be mounted here ({why})"));
        }
    };
    disks[0].occupy(60);
    let mut leader = Start::leader(disks[0].path()).run();
    let mut replica = Start::replica(&leader).data(disks[1].path()).run();
    leader.until_connected(1);
    let mut poster = Poster::new();
    let full = (0..4_000).map(|_| poster.post(&leader.url)).find(|answer| answer.status != 202);
    let full = full.expect("the disk is full at some time");
    println!("after {} posts: {full:?}", poster.posts);
    assert_eq!(problem(&full), "outcome-unknown", "the write that met the end of the disk");
    let next = poster.post(&leader.url);
    assert!(["disk-full", "outcome-unknown"].contains(&problem(&next)), "{next:?}");
    assert_eq!(read(&leader.url, &["word1of1", "word7of2"]).values().copied().collect::<Vec<_>>(), [1, 1]);
    assert!(leader.is_ready());

    disks[0].occupy(0);
    wait_for("writes are taken again", || (poster.post(&leader.url).status == 202).then_some(()));
    leader.end(Signal::KILL);
    leader.start_again();
    // The replica's is next.
    disks[1].fill();
    wait_for("the replica's disk is full", || {
        poster.post(&leader.url);
        replica.said().contains("it goes on without files").then_some(())
    });
    equal_within(PATIENCE, &leader, &[&replica]);
    assert_eq!(read(&replica.url, &["word1of1"])["word1of1"], 1);
    disks[1].occupy(0);
    replica.end(Signal::KILL);
    replica.start_again();
    replica.until_ready();
    assert_eq!(poster.post(&leader.url).status, 202);
    poster.check(&[&leader, &replica]);
}

/// Ticks of processor time a process has used.
fn ticks(node: &Node) -> u64 {
    let stat = node.proc_file("stat");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// With all descriptors taken by idle connections, who is connected already is served, and nobody spins; once they are
/// closed, all is as before.
#[test]
fn a_leader_without_descriptors_loses_nothing_and_goes_on_after_it() {
    let data = TempDir::new().expect("a directory");
    let mut leader = Start::leader(data.path()).run();
    leader.until_ready();
    let client = new_client();
    let say = |word: &str| {
        let answer = client.post(format!("{}/post?ack=disk", leader.url)).body(word.to_owned()).send();
        answer.map(|answer| answer.status().as_u16())
    };
    let (mut acknowledged, mut posts) = (0, 0);
    for _ in 0..10 {
        assert_eq!(say("before").expect("it answers"), 202);
    }
    // It counts its connections against the limit it was started with, which is lowered now.
    let most = leader.descriptors() + 8;
    let before = leader.limit_descriptors(most as u64);
    let idle: Vec<_> = (0..64).filter_map(|_| TcpStream::connect(("127.0.0.1", leader.port)).ok()).collect();
    wait_for("no descriptor is left", || (leader.descriptors() >= most).then_some(()));
    let (ticks_before, begun) = (ticks(&leader), Instant::now());
    let mut answers = std::collections::BTreeMap::<String, u64>::new();
    for _ in 0..200 {
        posts += 1;
        let answer = say("meanwhile");
        acknowledged += i64::from(matches!(answer, Ok(202)));
        *answers.entry(answer.map_or_else(|_| "none".to_owned(), |status| status.to_string())).or_default() += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let (used, took) = (ticks(&leader) - ticks_before, begun.elapsed());
    println!("{} idle connections; answers {answers:?}; {used} ticks in {took:?}", idle.len());
    assert!(acknowledged > 0, "{answers:?}");
    // A hundred ticks a second is a core: one that spins has them all.
    assert!(used < took.as_millis() as u64 * 7 / 100, "it spins: {used} ticks of 10 ms in {took:?}");
    drop(idle);
    leader.limit_descriptors(before);
    wait_for("it is as before", || (post(&leader.url, "?ack=disk", "after").status == 202).then_some(()));
    leader.end(Signal::KILL);
    leader.start_again();
    let counts = read(&leader.url, &["before", "meanwhile", "after"]);
    assert_eq!(counts["before"], 10);
    assert!((acknowledged..=posts).contains(&counts["meanwhile"]), "{acknowledged} acknowledged, {counts:?}");
    assert!(counts["after"] >= 1 && status(&leader.url).is_some());
}
