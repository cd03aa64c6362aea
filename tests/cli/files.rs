//! `memdb inspect` and `memdb repair` as a person uses them: what they print, what they touch, how they exit.

#![allow(clippy::disallowed_methods)] // spoils files as bad luck does

use memdb::storage::disk::RealDisk;
use std::path::Path;
use tempfile::TempDir;
use testkit::{
    database::{Database, Making},
    disk::Files,
};

const LOG: &str = "log-0000000001-00000000000000000001";

fn database() -> Database {
    Making::begin(1 << 20).write(3).sync().write(2).killed("five records, three synced")
}

fn put(files: &Files) -> TempDir {
    let directory = TempDir::new().expect("a directory");
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).expect("written");
    }
    directory
}

fn files(directory: &Path) -> Files {
    let entries = std::fs::read_dir(directory).expect("there").map(|entry| entry.expect("readable"));
    let named = entries.map(|entry| entry.file_name().into_string().expect("ASCII"));
    named.map(|name| (name.clone(), std::fs::read(directory.join(name)).expect("readable"))).collect()
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn memdb(arguments: &[&str], path: &Path) -> Ran {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("memdb");
    let output = command.args(arguments).arg(path).env_clear().output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code().expect("no signal"), out: text(output.stdout), err: text(output.stderr) }
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// Flips a bit in the payload of the second record.
fn spoil(directory: &Path) {
    let path = directory.join(LOG);
    let mut bytes = std::fs::read(&path).expect("there");
    let first = u32::from_le_bytes(bytes[80..84].try_into().expect("four bytes")) as usize;
    bytes[80 + 64 + first + 64 + 3] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_whole_directory_is_shown_and_a_running_leader_is_not_disturbed() {
    let directory = put(&database().files);
    let before = files(directory.path());
    let ran = memdb(&["inspect"], directory.path());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    says(
        &ran.out,
        &[
            "MANIFEST",
            "analyzer standard 2",
            "records      5, 0 of them with entries",
            "last         1-5-",
            "up to record 3",
        ],
    );
    says(&ran.out, &["a start recovers 1-5-", ": no clean stop; 5 records from the log"]);

    let ran = memdb(&["repair"], directory.path());
    assert_eq!((ran.code, ran.out.as_str()), (0, "nothing to repair: a start accepts these files\n"));
    assert_eq!(without_lock(files(directory.path())), without_lock(before));

    // Last: a child of another test, just forked, may hold the lock for a moment longer than this one does.
    let disk = RealDisk::existing(directory.path()).expect("there");
    let _lock = disk.lock().expect("free");
    let ran = memdb(&["inspect"], directory.path());
    assert_eq!(ran.code, 0);
    says(&ran.err, &[&format!("process {} uses this directory", std::process::id()), "in motion"]);
    let ran = memdb(&["repair", "--yes"], directory.path());
    assert_eq!(ran.code, 1);
    says(&ran.err, &["is in use", "stop that process first"]);
}

#[test]
fn inspect_shows_one_file_as_text_or_json() {
    let directory = put(&Making::begin(1 << 20).write(3).stopped("stopped").files);
    let snapshot = directory.path().join("snapshot-0000000001-00000000000000000003");
    let ran = memdb(&["inspect"], &snapshot);
    assert_eq!(ran.code, 0, "{}", ran.err);
    says(
        &ran.out,
        &["state at     1-3-", ", digest ", "namespace    other: 3 distinct words", "window       3 keys, 1 streams"],
    );
    let json: serde_json::Value = serde_json::from_str(&memdb(&["inspect", "--json"], &snapshot).out).expect("JSON");
    assert!(json["position"].as_str().is_some_and(|position| position.starts_with("1-3-")), "{json}");
    assert_eq!(json["whole"], true);
    assert_eq!((&json["analyzer"], &json["analyzer_version"]), (&"standard".into(), &2.into()));
    std::fs::write(&snapshot, b"memdb, but no snapshot").expect("written");
    let ran = memdb(&["inspect"], &snapshot);
    assert_eq!(ran.code, 1);
    says(&ran.out, &["DAMAGED      at byte 22: the file ends inside its header"]);
    for missing in ["inspect", "repair"] {
        let ran = memdb(&[missing], &directory.path().join("nothing"));
        assert_eq!(ran.code, 1);
        says(&ran.err, &["nothing: No such file or directory"]);
    }
}

#[test]
fn inspect_tells_how_many_entries_a_snapshot_has_and_how_many_records_change_some() {
    let made = Making::begin(1 << 20).write(2).write_entries().snapshot().killed("entries");
    let directory = put(&made.files);
    let path = |prefix: &str| {
        let name = made.files.keys().find(|name| name.starts_with(prefix)).expect("there is one");
        directory.path().join(name)
    };
    for (prefix, line, member, number) in [
        ("log-", "records      6, 4 of them with entries", "records_with_entries", 4),
        ("snapshot-", "words and 2 entries in the image", "image_entries", 2),
    ] {
        says(&memdb(&["inspect"], &path(prefix)).out, &[line]);
        let ran = memdb(&["inspect", "--json"], &path(prefix));
        let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(json[member], number, "{json}");
    }
}

#[test]
fn a_repair_tells_its_plan_and_its_result_as_json() {
    let directory = put(&database().files);
    let lines = |ran: &Ran| -> Vec<serde_json::Value> {
        ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let nothing = memdb(&["repair", "--json"], directory.path());
    assert_eq!((nothing.code, lines(&nothing)), (0, vec![serde_json::json!({"plan": null})]));
    spoil(directory.path());
    let planned = memdb(&["repair", "--json"], directory.path());
    assert_eq!((planned.code, lines(&planned).len()), (1, 1), "{}", planned.err);
    let repaired = memdb(&["repair", "--json", "--yes"], directory.path());
    assert_eq!(repaired.code, 0, "{}", repaired.err);
    let answers = lines(&repaired);
    let (plan, result) = (&answers[0]["plan"], &answers[1]["repaired"]);
    assert_eq!(lines(&planned)[0]["plan"], *plan);
    assert_eq!(plan["lost"], serde_json::json!({"first": 2, "last": 5, "last_synced": 3, "whole": 3}));
    assert_eq!((&plan["set_aside"][0]["file"], &plan["manifest_rebuilt"]), (&LOG.into(), &serde_json::Value::Null));
    assert!(plan["end"].as_str().is_some_and(|end| end.starts_with("1-1-")), "{plan}");
    assert!(result["position"].as_str().is_some_and(|position| position.contains("-1-")), "{result}");
}

#[test]
fn damage_is_shown_and_repaired_only_once_somebody_agrees() {
    let directory = put(&database().files);
    spoil(directory.path());
    let ran = memdb(&["inspect"], directory.path());
    assert_eq!(ran.code, 1);
    says(&ran.out, &["DAMAGED      at byte ", "a record's payload does not match", "behind it    3 whole records"]);
    says(&ran.err, &["a start would be refused: log-", "so 2 was durable", "`memdb repair` shows what could be kept"]);

    let before = files(directory.path());
    let ran = memdb(&["repair"], directory.path()); // nobody is at the terminal
    assert_eq!(ran.code, 1);
    says(&ran.out, &["everything up to record 1-1", "4 records: 2 to 5", "of which 2 to 3 were synced"]);
    says(&ran.err, &["no terminal to ask on: repeat with --yes", "nothing was changed"]);
    assert_eq!(without_lock(files(directory.path())), without_lock(before.clone()));

    let ran = memdb(&["repair", "--yes"], directory.path());
    assert_eq!(ran.code, 0, "{}", ran.err);
    says(&ran.out, &["repaired: the database goes on behind record 1"]);
    let after = files(directory.path());
    let rejoined = [&after[LOG][..], &after[&format!("{LOG}.damaged")]].concat();
    assert_eq!(rejoined, before[LOG], "nothing is destroyed");
    let ran = memdb(&["inspect"], directory.path());
    assert_eq!(ran.code, 0, "{}", ran.err);
    says(&ran.out, &["set aside by `memdb repair`", "a start recovers 1-1"]);
}

fn without_lock(mut files: Files) -> Files {
    files.remove("LOCK");
    files
}
