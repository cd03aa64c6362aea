//! Nodes that start on a disk that takes nothing: full, or of a file system that can only be read.

use super::starved::{SmallDisk, problem, skipped};
use rustix::process::Signal;
use testkit::{
    PATIENCE,
    client::{Answer, counts, new_client, post, posted, read, status},
    process::{Node, Start, equal_within},
    wait_for,
};

/// What a start on such a disk does to a leader: all can be read, nothing can be written, and it says so.
fn serves_reads_alone(leader: &Node, expected: i64) {
    assert_eq!(read(&leader.url, &["kept"])["kept"], expected);
    let refused = post(&leader.url, "", "refused");
    assert_eq!((refused.status, problem(&refused)), (503, "disk-full"), "{refused:?}");
    let client = new_client();
    let get = |path: &str| client.get(format!("{}{path}", leader.url)).send().expect("it answers");
    let update = client.post(format!("{}/post", leader.url)).body("refused").send().expect("it answers");
    assert!(update.headers().contains_key("retry-after"), "{update:?}");
    let says = |path: &str| get(path).status().as_u16();
    assert_eq!((says("/health/live"), says("/health/ready"), says("/metrics")), (200, 200, 200));
    let leads = get("/health/leader");
    assert_eq!(leads.status(), 503);
    assert!(leads.text().expect("a text").contains("begins once its disk has room"));
    let status = status(&leader.url).expect("it answers");
    assert_eq!((&status["role"], status["ready"].as_bool()), (&"leader".into(), Some(true)), "{status}");
    assert!(status["no_room"].is_string(), "{status}");
}

/// Within a second or so it takes writes, in a new epoch.
fn leads_by_itself(leader: &Node, before: u64) -> Answer {
    let answer = wait_for("writes are taken", || {
        Some(post(&leader.url, "?ack=disk", "kept")).filter(|answer| answer.status == 202)
    });
    let status = status(&leader.url).expect("it answers");
    assert!(status["no_room"].is_null() && status["epoch"].as_u64() > Some(before), "{status}");
    answer
}

fn epoch(node: &Node) -> u64 {
    status(&node.url).and_then(|status| status["epoch"].as_u64()).expect("it answers")
}

fn no_disk(why: &str) {
    skipped(&format!("a start on a full disk: no small file system can be mounted here ({why})"));
}

#[test]
fn a_leader_that_starts_on_a_full_disk_serves_reads_and_leads_once_there_is_room() {
    let disk = match SmallDisk::new(16) {
        Ok(disk) => disk,
        Err(why) => return no_disk(&why),
    };
    let mut leader = Start::plain_leader(disk.path()).run();
    (0..100).for_each(|_| _ = posted(&leader.url, "kept"));
    let before = epoch(&leader);
    leader.end(Signal::KILL);
    disk.fill();
    for _ in 0..2 {
        leader.start_again();
        serves_reads_alone(&leader, 100);
        // Who only reads these files does not need room either.
        let local = Start::local_replica(disk.path()).run();
        local.until_ready();
        assert_eq!(counts(&local.url).1, counts(&leader.url).1);
        assert_eq!(epoch(&leader), before);
        leader.end(Signal::KILL);
    }
    leader.start_again();
    assert_eq!(leader.end(Signal::TERM).code(), Some(0), "a stop while it waits");
    leader.start_again();
    let replica = Start::replica(&leader).run();
    disk.occupy(0);
    leads_by_itself(&leader, before);
    equal_within(PATIENCE, &leader, &[&replica]);
    leader.end(Signal::KILL);
    leader.start_again();
    assert_eq!(read(&leader.url, &["kept", "refused"]).values().copied().collect::<Vec<_>>(), [101, 0]);
}

#[test]
fn a_leader_that_starts_on_a_file_system_it_can_only_read_leads_once_it_can_be_written() {
    let disk = match SmallDisk::new(16) {
        Ok(disk) => disk,
        Err(why) => return no_disk(&why),
    };
    for signal in [Signal::TERM, Signal::KILL] {
        let mut leader = Start::leader(disk.path()).run();
        posted(&leader.url, "kept");
        let (expected, before) = (read(&leader.url, &["kept"])["kept"], epoch(&leader));
        leader.end(signal);
        disk.remount("ro").expect("nobody writes it");
        leader.start_again();
        serves_reads_alone(&leader, expected);
        disk.remount("rw").expect("it was before");
        leads_by_itself(&leader, before);
        leader.end(Signal::KILL);
        leader.start_again();
        assert_eq!(read(&leader.url, &["kept"])["kept"], expected + 1);
    }
}

#[test]
fn a_leader_that_waits_for_room_begins_nothing_on_files_that_were_taken_away_or_after_another_has_led() {
    let (disk, other) = match (SmallDisk::new(16), SmallDisk::new(16)) {
        (Ok(disk), Ok(other)) => (disk, other),
        (Err(why), _) | (_, Err(why)) => return no_disk(&why),
    };
    let mut leader = Start::plain_leader(disk.path()).run();
    let replica = Start::replica(&leader).data(other.path()).run();
    leader.until_connected(1);
    posted(&leader.url, "kept");
    leader.until_connected(1);
    leader.end(Signal::KILL);
    disk.fill();
    leader.start_again();
    serves_reads_alone(&leader, 1);
    let promoted = new_client().post(format!("{}/promote", replica.url)).send().expect("it answers");
    assert_eq!(promoted.status(), 200, "{promoted:?}");
    wait_for("the replica leads", || (post(&replica.url, "?ack=disk", "kept").status == 202).then_some(()));
    disk.occupy(0);
    wait_for("the old leader follows", || (status(&leader.url)?["role"] == "replica").then_some(()));
    equal_within(PATIENCE, &replica, &[&leader]);

    let mut leader = replica;
    leader.end(Signal::KILL);
    other.fill();
    leader.start_again();
    for entry in std::fs::read_dir(other.path()).expect("there").flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("log-")) {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    other.occupy(0);
    wait_for("it says that they are gone", || status(&leader.url)?["files_problem"].as_str().map(drop));
    assert!(!leader.is_ready());
    assert_eq!(post(&leader.url, "", "refused").status, 503);
    assert_eq!(read(&leader.url, &["kept"])["kept"], 2, "what is in memory can be saved");
}

#[test]
fn a_replica_that_starts_on_a_full_disk_serves_what_it_has_and_follows_in_memory() {
    let (kept, small) = (tempfile::TempDir::new().expect("a directory"), SmallDisk::new(16));
    let disk = match small {
        Ok(disk) => disk,
        Err(why) => return no_disk(&why),
    };
    let mut leader = Start::leader(kept.path()).run();
    let mut replica = Start::replica(&leader).data(disk.path()).run();
    leader.until_connected(1);
    posted(&leader.url, "kept");
    equal_within(PATIENCE, &leader, &[&replica]);
    replica.end(Signal::KILL);
    disk.fill();
    leader.end(Signal::TERM);
    replica.start_again();
    assert_eq!(read(&replica.url, &["kept"])["kept"], 1, "its leader is away");
    leader.start_again();
    posted(&leader.url, "kept");
    equal_within(PATIENCE, &leader, &[&replica]);
    replica.until_ready();
    assert!(replica.said().contains("it goes on without files"), "{}", replica.said());
    disk.occupy(0);
    replica.end(Signal::TERM);
    replica.start_again();
    posted(&leader.url, "kept");
    equal_within(PATIENCE, &leader, &[&replica]);
    assert!(!replica.said().contains("it goes on without files"), "{}", replica.said());
}

#[test]
fn a_database_does_not_begin_on_a_full_disk_and_the_start_says_so() {
    let disk = match SmallDisk::new(1) {
        Ok(disk) => disk,
        Err(why) => return no_disk(&why),
    };
    disk.fill();
    let (code, said) = Start::plain_leader(disk.path()).refused(0);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no database can begin in") && said.contains("Make room"), "{said}");
}

/// Before: the signal that comes with it (SIGXFSZ) ended the process.
#[test]
fn a_leader_whose_files_may_grow_no_more_refuses_writes_and_goes_on() {
    let data = tempfile::TempDir::new().expect("a directory");
    let leader = Start::plain_leader(data.path()).run();
    posted(&leader.url, "kept");
    leader.limit_files_to(Some(0));
    let refused = wait_for("the bound is met", || {
        Some(post(&leader.url, "?ack=disk", "refused")).filter(|answer| problem(answer) == "disk-full")
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(read(&leader.url, &["kept", "refused"])["kept"], 1);
    leader.limit_files_to(None);
    let taken = wait_for("writes are taken", || {
        Some(post(&leader.url, "?ack=disk", "kept")).filter(|answer| answer.status == 202)
    });
    assert_eq!(taken.status, 202);
    assert_eq!(read(&leader.url, &["kept", "refused"]), [("kept".to_owned(), 2), ("refused".to_owned(), 0)].into());
}
