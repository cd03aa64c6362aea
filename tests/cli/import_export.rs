//! `memdb export` and `memdb import` at real leaders.

use crate::{Ran, memdb, run};
use std::{fs, path::Path, process::Stdio};
use tempfile::TempDir;
use testkit::{
    client::read,
    process::{Node, Start, memdb_binary},
};

struct Leader {
    node: Node,
    _data: TempDir,
}

impl Leader {
    fn new() -> Self {
        let data = TempDir::new().expect("a directory");
        Leader { node: Start::leader(data.path()).run(), _data: data }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(memdb().env("MEMDB_SERVER", &self.node.url).env("MEMDB_LEADER", &self.node.url).args(arguments))
    }

    /// Runs what must succeed; what it tells.
    #[track_caller]
    fn tell(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran.err + &ran.out
    }

    fn import(&self, file: &Path) -> Ran {
        self.run(&["import", file.to_str().expect("UTF-8")])
    }

    /// The digest of all counts and entries, as an export states it.
    #[track_caller]
    fn digest(&self) -> String {
        let told = self.tell(&["export"]);
        let line = told.lines().find(|line| line.starts_with("exported")).expect("a report").to_owned();
        line.rsplit(' ').next().expect("a digest").to_owned()
    }
}

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
    assert!(again.contains("0 items imported, 11 imported before"), "{again}");
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
    let made = testkit::wait::wait_for("a snapshot is there", || {
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
    let data = TempDir::new().expect("a directory");
    let node = Start::leader(Path::new(&anew)).run();
    assert_eq!(Leader { node, _data: data }.digest(), digest);
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
}
