//! `memdb backup` and `memdb restore`: of real leaders, to directories and as streams.

use crate::{leader::Leader, memdb, run};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;
use testkit::{
    process::memdb_binary,
    wait::{wait_for, wait_until},
};

#[test]
fn a_backup_is_restored_to_the_last_digest_and_never_over_a_database() {
    let leader = Leader::new();
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let (copy, anew) = (path("copy"), path("anew"));
    leader.tell(&["cache", "put", "a", "--value", "x"]);
    let text = path("text");
    fs::write(&text, "hello world\n").expect("written");
    leader.tell(&["post", &text]);
    let made = wait_for("a snapshot is there", || {
        let ran = leader.run(&["backup", &copy]);
        assert!(ran.code == 0 || ran.err.contains("no snapshot"), "{}", ran.err);
        (ran.code == 0).then_some(ran.out)
    });
    assert!(made.contains("Backed up database "), "{made}");
    let again = leader.run(&["backup", &copy]);
    assert!(again.code == 1 && again.err.contains("holds a database already"), "{}", again.err);
    let restored = run(memdb().args(["restore", "--from", &copy, "--data-dir", &anew]));
    assert_eq!(restored.code, 0, "{}", restored.err);
    let over = run(memdb().args(["restore", "--from", &copy, "--data-dir", &anew]));
    assert!(over.code == 1 && over.err.contains("holds a database already"), "{}", over.err);
    let digest = leader.digest();
    drop(leader);
    assert_eq!(Leader::on(Path::new(&anew)).digest(), digest);
    // A byte that is not what was written is seen before it is called done.
    let snapshot = fs::read_dir(&copy).expect("listed").map(|entry| entry.expect("listed").path());
    let snapshot = snapshot.filter(|path| path.to_string_lossy().contains("snapshot-")).max().expect("one");
    let mut bytes = fs::read(&snapshot).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&snapshot, bytes).expect("written");
    let damaged = path("damaged");
    let refused = run(memdb().args(["restore", "--from", &copy, "--data-dir", &damaged]));
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(!Path::new(&damaged).exists(), "nothing is left of it");
}

/// A leader with counts and entries, of which the last are behind its snapshot.
fn filled(directory: &TempDir) -> Leader {
    let leader = Leader::new();
    let text = directory.path().join("text");
    fs::write(&text, "hello world\n").expect("written");
    let text = text.to_str().expect("UTF-8");
    leader.tell(&["cache", "put", "a", "--value", "x"]);
    leader.tell(&["post", text]);
    wait_until("a snapshot is there", || backup(&leader).status.success());
    leader.tell(&["posts", "put", "17", text]);
    leader.tell(&["post", "--again", "--ns", "titles", text]);
    leader
}

fn backup(leader: &Leader) -> Output {
    memdb().args(["backup", "--server", &leader.node.url, "-"]).output().expect("the binary runs")
}

/// The output of `memdb backup -`.
#[track_caller]
fn stream(leader: &Leader) -> Vec<u8> {
    let output = backup(leader);
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success() && told.starts_with("Backed up database "), "{told}");
    output.stdout
}

fn restoring(directory: &Path) -> Child {
    let mut command = Command::new(memdb_binary());
    command.args(["restore", "-"]).arg(directory).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

/// Restores a stream; the exit code, and what was said.
fn restored(stream: &[u8], directory: &Path) -> (i32, String) {
    let mut child = restoring(directory);
    // It may have seen enough before it has taken all.
    let _ = child.stdin.take().expect("a pipe").write_all(stream);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("no signal"), String::from_utf8(said).expect("UTF-8"))
}

#[test]
fn a_backup_through_a_pipe_gives_the_same_digest() {
    let directory = TempDir::new().expect("a directory");
    let leader = filled(&directory);
    let anew = directory.path().join("anew");
    let mut backup = Command::new(memdb_binary());
    backup.args(["backup", "--server", &leader.node.url, "-"]).env_clear();
    let mut backup = backup.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let mut restore = Command::new(memdb_binary());
    restore.args(["restore", "-"]).arg(&anew).env_clear().stdin(backup.stdout.take().expect("a pipe"));
    let output = restore.output().expect("the binary runs");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && told.starts_with("Restored database "), "{told}");
    assert!(backup.wait().expect("it ends").success());
    let digest = leader.digest();
    drop(leader);
    let other = Leader::on(&anew);
    assert_eq!(other.digest(), digest);
    other.tell(&["posts", "del", "17"]);
}

#[test]
fn a_stream_that_is_cut_or_altered_is_refused_and_nothing_is_left_of_it() {
    let directory = TempDir::new().expect("a directory");
    let whole = stream(&filled(&directory));
    let (anew, empty) = (directory.path().join("anew"), directory.path().join("empty"));
    fs::create_dir(&empty).expect("made");
    let middle = whole.len() / 2;
    let altered = |at: usize| {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        altered
    };
    let without_end = whole[..whole.len() - 44].to_vec();
    for (bad, why) in [
        (Vec::new(), "the stream broke off at byte 0"),
        (b"hello world, this is no backup".to_vec(), "this is no stream of `memdb backup -`"),
        (whole[..middle].to_vec(), "the stream broke off"),
        (without_end, "the stream broke off"),
        (whole[..whole.len() - 1].to_vec(), "the stream broke off"),
        (altered(middle), "the checksum does not match"),
        (altered(whole.len() - 20), "the checksum does not match"),
        ([&whole[..], b"\n"].concat(), "bytes behind the end"),
    ] {
        for to in [&anew, &empty] {
            let (code, said) = restored(&bad, to);
            assert!(code == 1 && said.contains(why) && said.contains("nothing was restored"), "{why}: {code} {said}");
        }
        assert!(!anew.exists(), "{why}");
        let left: Vec<PathBuf> =
            fs::read_dir(&empty).expect("listed").map(|entry| entry.expect("listed").path()).collect();
        assert!(left.iter().all(|path| path.ends_with("LOCK")), "{why}: {left:?}");
    }
    let file = directory.path().join("monday");
    fs::write(&file, &whole).expect("written");
    let ran = run(memdb().arg("restore").arg(&file).arg(&anew));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let (code, said) = restored(&whole, &anew);
    assert!(code == 1 && said.contains("holds a database already"), "{said}");
}

#[test]
fn a_restore_that_is_killed_leaves_nothing_that_a_leader_starts_on_and_another_takes_its_place() {
    let directory = TempDir::new().expect("a directory");
    let leader = filled(&directory);
    let (whole, digest) = (stream(&leader), leader.digest());
    drop(leader);
    let anew = directory.path().join("anew");
    for signal in ["-INT", "-KILL"] {
        let mut child = restoring(&anew);
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(&whole[..whole.len() - 1]).expect("taken");
        wait_until("some of it is written", || anew.join("snapshot-received.new").exists());
        let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
        let ended = child.wait().expect("it ends");
        drop(input);
        if signal == "-INT" {
            assert_eq!(ended.code(), Some(130));
            assert!(!anew.exists(), "nothing is left of it");
            continue;
        }
        let refused = run(memdb().args(["leader", "--port", "0", "--data-dir"]).arg(&anew));
        assert!(refused.code == 1 && refused.err.contains("refusing to start"), "{}", refused.err);
    }
    let (code, said) = restored(&whole, &anew);
    assert_eq!(code, 0, "{said}");
    assert_eq!(Leader::on(&anew).digest(), digest);
}
