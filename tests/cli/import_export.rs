//! `memdb export` and `memdb import` at real leaders.

use crate::leader::Leader;
use std::{fs, process::Stdio};
use tempfile::TempDir;
use testkit::{client::read, process::memdb_binary};

#[test]
fn what_is_exported_and_imported_elsewhere_has_the_same_digest_and_repeats_import_nothing() {
    let (from, to) = (Leader::new(), Leader::new());
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("all.ndjson");
    let name = file.to_str().expect("UTF-8");
    let text = directory.path().join("text");
    fs::write(&text, "hello world, hello 北京 don't\n").expect("written");
    from.tell(&["post", text.to_str().expect("UTF-8")]);
    from.tell(&["post", "--ns", "titles", text.to_str().expect("UTF-8")]);
    from.tell(&["cache", "put", "a/b", "--value", "x\ny", "--ttl", "600"]);
    from.tell(&["cache", "put", "ü", "--ns", "b", "--value", "", "--content-type", "text/x"]);
    from.tell(&["posts", "put", "17", text.to_str().expect("UTF-8")]);
    from.tell(&["export", name]);
    assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 2, "no partial file is left");
    let first = to.tell(&["import", name]);
    assert_eq!(to.digest(), from.digest());
    assert!(first.contains(&from.digest()), "{first}");
    let again = to.tell(&["import", name]);
    assert!(again.contains("0 items imported, 11 known before"), "{again}");
    assert_eq!(to.digest(), from.digest());
    // The post owns its words, as it did where it came from.
    to.tell(&["posts", "del", "17"]);
    from.tell(&["posts", "del", "17"]);
    assert_eq!(to.digest(), from.digest());
    assert_eq!(read(&to.node.url, &["hello"])["hello"], 2);
    let told = to.tell(&["import", "--again", name]);
    assert!(told.contains("to resume this run, say --name again-"), "{told}");
    assert_eq!(read(&to.node.url, &["hello"])["hello"], 6);
}

#[test]
fn counts_are_imported_from_tables_and_from_the_old_system() {
    let leader = Leader::new();
    let directory = TempDir::new().expect("a directory");
    for (name, content) in [
        ("wordcounts.db", "{\"hello\":2,\"world\":1}"),
        ("a.csv", "word,count\nhello,3\nworld,-1\n"),
        ("b.tsv", "hello\t5\n"),
    ] {
        fs::write(directory.path().join(name), content).expect("written");
        assert_eq!(leader.import(&directory.path().join(name)).code, 0, "{name}");
    }
    assert_eq!(
        read(&leader.node.url, &["hello", "world"]),
        [("hello", 10), ("world", 0)].map(|(word, count)| (word.to_owned(), count)).into()
    );
}

#[test]
fn a_line_that_is_wrong_is_told_before_anything_is_imported() {
    let leader = Leader::new();
    let directory = TempDir::new().expect("a directory");
    let (good, bad) = (directory.path().join("good.csv"), directory.path().join("bad.csv"));
    fs::write(&good, "hello,1\n").expect("written");
    fs::write(&bad, "hello,1\nworld,many\n").expect("written");
    let ran = leader.run(&["import", good.to_str().expect("UTF-8"), bad.to_str().expect("UTF-8")]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("bad.csv: line 2: \"many\" is no whole number of 64 bits; nothing was imported"),
        "{}",
        ran.err
    );
    assert_eq!(read(&leader.node.url, &["hello"])["hello"], 0);
    let unknown = leader.run(&["import", "/etc/passwd"]);
    assert_eq!(unknown.code, 2, "{}", unknown.err);
}

/// Stopped by Ctrl-C or killed, an import goes on where it was: the counts are those of one import.
#[test]
fn an_import_that_is_stopped_in_the_middle_and_repeated_counts_once() {
    let leader = Leader::new();
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("words.csv");
    let words = 200_000;
    let lines: String = (0..words).map(|at| format!("w{at},{}\n", at % 7 + 1)).collect();
    fs::write(&file, lines).expect("written");
    for signal in ["-INT", "-KILL"] {
        let mut child = std::process::Command::new(memdb_binary())
            .args(["import", "--leader", &leader.node.url])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        testkit::wait::wait_until("some words are there", || {
            read(&leader.node.url, &["w0"])["w0"] > 0 || child.try_wait().expect("a child").is_some()
        });
        let _ = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        child.wait().expect("it ends");
    }
    assert_eq!(leader.import(&file).code, 0);
    let told = leader.tell(&["export"]);
    let digest = leader.digest();
    assert!(told.contains(&format!("exported {words} counts", words = "200,000")), "{}", &told[..200]);
    let other = Leader::new();
    assert_eq!(other.import(&file).code, 0);
    assert_eq!(other.digest(), digest);
}

/// Killed in the middle and started again, the leader goes on with the import where it was, and so does the client.
#[test]
fn an_import_goes_on_by_itself_once_a_leader_that_was_killed_is_there_again() {
    let mut leader = Leader::new();
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("words.tsv");
    let items = 300_000;
    let lines: String = (0..items).map(|at| format!("word-{at}\t{}\n", at % 7 + 1)).collect();
    fs::write(&file, &lines).expect("written");
    let child = std::process::Command::new(memdb_binary())
        .args(["import", "--progress-json", "--leader", &leader.node.url])
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    for _ in 0..2 {
        let before = leader.node.sequence();
        testkit::wait::wait_until("some more is there", || leader.node.sequence() > before + 1);
        leader.node.kill();
        leader.node.start_again();
    }
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{told}");
    let digest = leader.digest();
    assert!(told.lines().last().is_some_and(|line| line.ends_with(&format!("digest {digest}"))), "{digest}: {told}");
    // All of the file is done, and no more than it, in ever larger numbers.
    let progress: Vec<serde_json::Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let numbers = |name: &str| progress.iter().map(|line| line[name].as_u64().expect("a number")).collect::<Vec<_>>();
    for (name, of, all) in [("bytes", "of_bytes", lines.len() as u64), ("lines", "of_lines", items)] {
        let done = numbers(name);
        assert!(done.is_sorted() && done.last() == Some(&all), "{name}: {done:?}");
        assert!(numbers(of).iter().all(|&of| of == all), "{of}: {all}");
    }
    let last = progress.last().expect("a line");
    assert_eq!(
        last["items"].as_u64().zip(last["items_before"].as_u64()).map(|(new, before)| new + before),
        Some(items)
    );
}
