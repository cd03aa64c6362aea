//! Followers of the leader's files.

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use testkit::{
    PATIENCE,
    client::{counts, posted, update},
    process::{REPAIR, Start, equal_within},
};

/// Before: what had been posted since the last backup reached them with the next one, which never came once writes had
/// stopped; and after a restart of their own they had nothing.
#[test]
fn local_replicas_do_not_stay_a_backup_behind_and_are_not_empty_after_their_own_restart() {
    let data = TempDir::new().expect("a directory");
    let mut leader = Start::leader(data.path()).run();
    let mut locals = [(); 2].map(|()| Start::local_replica(data.path()).run());
    for number in 0..100 {
        posted(&leader.url, &format!("word{number} all"));
    }
    // And now nobody writes.
    let (expected, took) = equal_within(REPAIR, &leader, &locals.each_ref());
    println!("local replicas equal {took:?} after the last post");
    assert_eq!((expected.len(), expected["all"]), (101, 100));
    for (local, signal) in locals.iter_mut().zip([Signal::TERM, Signal::KILL]) {
        local.end(signal);
        local.start_again();
        local.until_ready();
        assert_eq!(counts(&local.url).1, expected, "as before, from the first moment it is ready");
    }
    // A write that one of them passes on reaches the other; also after the leader has come back.
    passed_on(&locals[0].url, 2);
    leader.end(Signal::KILL);
    leader.start_again();
    passed_on(&locals[1].url, 1);
    let (counts, _) = equal_within(REPAIR, &leader, &locals.each_ref());
    assert_eq!((counts.len(), counts["passed"]), (102, 3));
}

#[track_caller]
fn passed_on(url: &str, amount: i64) {
    let answer = update(url, &json!({ "passed": amount }));
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Before: 51 of 51 words differed.
#[test]
fn local_replicas_are_consistent_after_a_run() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let locals = [(); 2].map(|()| Start::local_replica(data.path()).run());
    let ran = assert_cmd::cargo::cargo_bin_cmd!("perf")
        .env_clear()
        .args([&leader.url, &locals[0].url, &locals[1].url])
        .timeout(PATIENCE)
        .output()
        .expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && err.is_empty(), "{out}{err}");
    assert!(out.contains("All replicas are consistent with the leader."), "{out}");
    assert!(out.contains("Total Requests to Leader: 1000") && !out.contains("inconsistenc"), "{out}");
    let (counts, _) = equal_within(REPAIR, &leader, &locals.each_ref());
    assert_eq!(counts["distributed"], 200);
}
