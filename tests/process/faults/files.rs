//! Files and ports that are not as they should be.

use super::crashes::unfinished;
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    fs::DirEntry,
    net::TcpListener,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::Path,
};
use tempfile::TempDir;
use testkit::{
    PATIENCE,
    client::{post, posted, read},
    process::{Start, equal_within},
    wait_for,
};

/// Before: 1.7 s without an answer at a million words, each second.
///
/// A post is sent while a snapshot is being written, and is answered before that is finished. Were writes to wait for
/// the snapshot, no answer could ever come in between.
#[test]
fn a_backup_does_not_stall_writes() {
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let text = |part: u32| (0..10_000).map(|number| format!("part{part}word{number} ")).collect::<String>();
    for part in 0..10 {
        posted(&leader.url, &text(part));
    }
    // Snapshots that take long on a busy machine come only once the log has outgrown the last one.
    let large = text(0) + "again";
    let (mut within, mut posts) = (0, 0);
    let last = wait_for("five posts are answered while snapshots are written", || {
        let before = unfinished_inode(data.path());
        let text = if before.is_some() { "again" } else { &large };
        assert_eq!(post(&leader.url, "", text).status, 202);
        posts += 1;
        let same = before.filter(|_| before == unfinished_inode(data.path()));
        within += u32::from(same.is_some());
        same.filter(|_| within >= 5)
    });
    wait_for("what was being written is published", || {
        let mut entries = std::fs::read_dir(data.path()).expect("a directory").map_while(Result::ok);
        let published =
            |entry: &DirEntry| entry.ino() == last && !entry.file_name().to_string_lossy().ends_with(".new");
        entries.any(|entry| published(&entry)).then_some(())
    });
    println!("{within} of {posts} posts were sent and answered within the writing of one snapshot");
    assert_eq!(read(&leader.url, &["again"])["again"], posts);
}

/// Which file it is that is being written: the next one has the same name.
fn unfinished_inode(data: &Path) -> Option<u64> {
    Some(std::fs::metadata(data.join(unfinished(data)?)).ok()?.ino())
}

type Files = BTreeMap<String, Vec<u8>>;

/// The files of a database, without those every start may write: what the node says, and its lock.
fn files(data: &Path) -> Files {
    let entries = std::fs::read_dir(data).expect("a directory").map(|entry| entry.expect("listed"));
    let all = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let kept = all.filter(|(name, _)| !name.starts_with("memdb.log") && name != "LOCK");
    kept.map(|(name, path)| (name, std::fs::read(path).expect("read"))).collect()
}

fn put(files: &Files) -> TempDir {
    let data = TempDir::new().expect("a directory");
    for (name, bytes) in files {
        std::fs::write(data.path().join(name), bytes).expect("written");
    }
    data
}

/// The name that begins so.
fn named(files: &Files, prefix: &str) -> String {
    files.keys().rfind(|name| name.starts_with(prefix)).expect("there is one").clone()
}

/// A database that was stopped some times, until nothing but its snapshots has what was posted first.
fn database() -> Files {
    let data = TempDir::new().expect("a directory");
    let mut leader = Start::leader(data.path()).run();
    let is_first_log = |name: &String| name.starts_with("log-") && name.ends_with("-00000000000000000001");
    for _ in 0..10 {
        posted(&leader.url, "hello world");
        leader.end(Signal::TERM);
        let files = files(data.path());
        if !files.keys().any(is_first_log) {
            return files;
        }
        leader.start_again();
    }
    panic!("the log is never shortened: {:?}", files(data.path()).keys());
}

const OLD_BACKUP: &[u8] = br#"{"hello":5,"world":"#;

/// Ways to spoil a database that leave nothing to begin with: the name that must be told, and the files.
fn spoilt(sound: &Files) -> Vec<(&'static str, Files)> {
    let log = named(sound, "log-");
    let mut cases = Vec::new();
    for odd in [vec![], OLD_BACKUP.to_vec(), vec![0; 4_096], sound[&log].clone()] {
        cases.push(("snapshot-", with_each(sound, "snapshot-", |bytes| bytes.clone_from(&odd))));
        cases.push(("MANIFEST", with_each(sound, "MANIFEST", |bytes| bytes.clone_from(&odd))));
    }
    for prefix in ["snapshot-", "MANIFEST"] {
        cases.push((prefix, with_each(sound, prefix, |bytes| bytes.truncate(1))));
        cases.push((prefix, with_each(sound, prefix, |bytes| bytes.truncate(bytes.len() / 2))));
        cases.push((prefix, with_each(sound, prefix, |bytes| bytes.truncate(bytes.len() - 1))));
        let mut files = sound.clone();
        files.retain(|name, _| !name.starts_with(prefix));
        cases.push((if prefix == "MANIFEST" { prefix } else { "log-" }, files));
    }
    cases
}

/// The files, those whose names begin so being spoilt.
fn with_each(sound: &Files, prefix: &str, spoil: impl Fn(&mut Vec<u8>)) -> Files {
    let mut files = sound.clone();
    files.iter_mut().filter(|(name, _)| name.starts_with(prefix)).for_each(|(_, bytes)| spoil(bytes));
    files
}

/// Before: an odd backup was half read, or taken for an empty one and overwritten a second later.
#[test]
fn an_odd_backup_file_is_neither_half_read_nor_overwritten() {
    let sound = database();
    let cases = spoilt(&sound);
    let none_yet = TempDir::new().expect("a directory");
    let leader = Start::leader(none_yet.path()).run();
    for (name, spoilt) in cases.iter().map(|(name, files)| (*name, files)) {
        let data = put(spoilt);
        let (code, said) = Start::leader(data.path()).refused(0);
        assert_eq!(code, Some(1), "{name}: {said}");
        assert!(said.contains(name), "{name} is not named: {said}");
        assert!(files(data.path()) == *spoilt, "{name}: a refusal has changed the files");
    }
    // The leader of another database must not replace what a replica holds, be it sound or not.
    for spoilt in [&sound, &cases[0].1] {
        let data = put(spoilt);
        let mut replica = Start::replica(&leader).data(data.path()).run();
        wait_for("the replica is refused", || {
            let replicas = testkit::client::status(&leader.url)?["replicas"].clone();
            let url = &replica.url;
            let refused = |one: &serde_json::Value| one["url"] == **url && one["state"] == "refused";
            replicas.as_array()?.iter().any(refused).then_some(())
        });
        assert!(!replica.is_ready());
        replica.end(Signal::KILL);
        let after = files(data.path());
        for (name, bytes) in spoilt.iter().filter(|(name, _)| *name != "MANIFEST") {
            assert!(after.get(name) == Some(bytes), "{name} was overwritten by another database");
        }
    }
}

/// The backup of the first system lies in the directory: it is not this database's file, and stays as it is.
#[test]
fn a_file_of_somebody_else_stays_as_it_is() {
    let mut others = Files::new();
    others.insert("wordcounts.db".to_owned(), OLD_BACKUP.to_vec());
    let (of_leader, of_replica) = (put(&others), put(&others));
    let mut leader = Start::leader(of_leader.path()).run();
    let mut replica = Start::replica(&leader).data(of_replica.path()).run();
    leader.until_connected(1);
    posted(&leader.url, "hello");
    equal_within(PATIENCE, &leader, &[&replica]);
    replica.end(Signal::TERM);
    leader.end(Signal::TERM);
    for data in [of_leader, of_replica] {
        assert_eq!(files(data.path())["wordcounts.db"], OLD_BACKUP);
    }
}

/// A way to take the files of a running node away.
type Taking = (&'static str, fn(&Path));

fn takings() -> Vec<Taking> {
    fn move_away(data: &Path, prefix: &str) {
        let names = std::fs::read_dir(data).expect("a directory").map(|entry| entry.expect("listed").file_name());
        let name = names.map(|name| name.to_string_lossy().into_owned()).find(|name| name.starts_with(prefix));
        let name = name.expect("there is one");
        std::fs::rename(data.join(&name), data.join(format!("moved-{name}"))).expect("moved");
    }
    vec![
        ("the directory is removed", |data| std::fs::remove_dir_all(data).expect("removed")),
        ("the directory is moved", |data| std::fs::rename(data, data.with_extension("moved")).expect("moved")),
        ("another directory has its name", |data| {
            let names: Vec<_> =
                std::fs::read_dir(data).expect("a directory").map(|entry| entry.expect("listed")).collect();
            let away = data.with_extension("moved");
            std::fs::rename(data, &away).expect("moved");
            std::fs::create_dir(data).expect("made");
            for entry in names {
                // Some are gone by now.
                let _ = std::fs::copy(away.join(entry.file_name()), data.join(entry.file_name()));
            }
        }),
        ("the lock is moved", |data| move_away(data, "LOCK")),
        ("the MANIFEST is moved", |data| move_away(data, "MANIFEST")),
        ("a segment is moved", |data| move_away(data, "log-")),
        ("a segment is emptied", |data| {
            let names = std::fs::read_dir(data).expect("a directory").map(|entry| entry.expect("listed").path());
            let log = names.filter(|path| path.to_string_lossy().contains("/log-")).max().expect("there is one");
            std::fs::write(log, b"").expect("emptied");
        }),
    ]
}

fn is_unready(url: &str) -> Option<String> {
    let told = testkit::client::status(url)?;
    (told["ready"] == false).then(|| told["files_problem"].as_str().expect("it says why").to_owned())
}

/// Before: posts were 202 at level disk, the node was ready, and the next start was empty without a word.
#[test]
fn a_node_whose_files_are_taken_away_says_so_and_takes_no_more_writes() {
    for (what, take) in takings() {
        let parent = TempDir::new().expect("a directory");
        let data = parent.path().join("data");
        let leader = Start::plain_leader(&data).run();
        let replica = Start::replica(&leader).data(&parent.path().join("replica")).run();
        let local = Start::local_replica(&data).run();
        leader.until_connected(1);
        posted(&leader.url, "hello world");
        wait_for("the replicas have it", || (replica.is_ready() && local.is_ready()).then_some(()));
        take(&data);
        let problem = wait_for(what, || is_unready(&leader.url));
        assert!(!leader.is_ready(), "{what}");
        let refused = post(&leader.url, "?ack=disk", "hello");
        assert_eq!((refused.status, &refused.body["type"]), (503, &"urn:memdb:problem:files-lost".into()), "{what}");
        assert!(refused.body["detail"].as_str().expect("text").contains("GET /sync"), "{refused:?}");
        assert_eq!(read(&leader.url, &["hello"])["hello"], 1, "{what}: reads go on");
        wait_for("it is told", || leader.said().contains("GET /sync of each namespace").then_some(()));
        assert!(leader.said().contains(&problem), "{what}: {}", leader.said());
        if what.contains("directory is") {
            wait_for("the local replica says so", || is_unready(&local.url));
        }
        drop(leader);
        take(&parent.path().join("replica"));
        wait_for(what, || is_unready(&replica.url));
        assert_eq!(read(&replica.url, &["hello"])["hello"], 1, "{what}: reads go on");
    }
}

/// In another working directory than usual a node begins anew: it says so, and where.
#[test]
fn a_new_database_is_told_with_the_whole_path() {
    let parent = TempDir::new().expect("a directory");
    let data = parent.path().join("data");
    let mut leader = Start::leader(&data).run();
    let told = |said: &str| said.lines().any(|line| line.contains("WARN") && line.contains(&*data.to_string_lossy()));
    assert!(told(&leader.said()), "{}", leader.said());
    leader.end(Signal::TERM);
    leader.start_again();
    assert!(!told(&leader.said()), "{}", leader.said());
}

/// Before: a message, and exit code 0.
#[test]
fn the_process_exits_non_zero_when_its_port_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let data = TempDir::new().expect("a directory");
    let leader = Start::leader(data.path()).run();
    let other = TempDir::new().expect("a directory");
    let starts = [
        Start::leader(&other.path().join("leader")),
        Start::replica(&leader),
        Start::replica(&leader).data(&other.path().join("replica")),
        Start::local_replica(data.path()),
    ];
    for start in starts {
        let (code, said) = start.refused(port);
        assert_eq!(code, Some(1), "{said}");
        let named = said.contains(&port.to_string()) && said.contains("taken") && said.contains("--port");
        assert!(named && said.lines().count() == 1, "{said}");
    }
    assert_eq!(std::fs::read_dir(other.path()).expect("a directory").count(), 0, "nothing was made");
}
