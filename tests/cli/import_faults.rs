//! `memdb import` where something goes wrong: pipes that break off, files that change, leaders that do not answer.

use crate::{Ran, leader::Leader, memdb, run};
use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
};
use tempfile::TempDir;
use testkit::{client::read, process::memdb_binary};

fn import_pipe(leader: &Leader, name: &str, text: &str) -> Ran {
    let mut command = memdb();
    command.args(["import", "--leader", &leader.node.url, "--format", "csv", "--name", name, "-"]);
    run(command.write_stdin(text))
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|at| format!("w{at},{}\n", at % 7 + 1)).collect()
}

fn words(leader: &Leader) -> String {
    let told = leader.tell(&["export"]);
    let line = told.lines().find(|line| line.starts_with("exported")).expect("a report");
    line.split(' ').nth(1).expect("a number").to_owned()
}

/// A text that breaks off at the end of a line looks whole: what comes under its name later must not seem imported.
#[test]
fn a_pipe_that_broke_off_is_known_when_the_whole_text_comes_under_its_name() {
    let leader = Leader::new();
    let short = import_pipe(&leader, "monday", &lines(0..93_000));
    assert!(short.code == 0 && short.err.contains("93,000 items imported"), "{}", short.err);
    let digest = leader.digest();
    for (case, text) in [
        ("longer by less than a batch", lines(0..95_000)),
        ("longer by more", lines(0..200_000)),
        ("shorter by less than a batch", lines(0..92_999)),
        ("shorter by more", lines(0..50_000)),
        ("another end", lines(0..92_999) + "w92999,100\n"),
    ] {
        let other = import_pipe(&leader, "monday", &text);
        assert_eq!(other.code, 1, "{case}: {}", other.err);
        assert!(other.err.contains("another text was imported under this name"), "{case}: {}", other.err);
        assert_eq!(leader.digest(), digest, "{case}: nothing of it is imported");
    }
    let again = import_pipe(&leader, "monday", &lines(0..93_000));
    assert!(again.code == 0 && again.err.contains("0 items imported, 93,000 known before"), "{}", again.err);
    assert_eq!(leader.digest(), digest);
    let few = import_pipe(&leader, "few", "a,1\nb,1\n");
    assert_eq!(few.code, 0, "{}", few.err);
    assert_eq!(import_pipe(&leader, "few", "a,1\nb,1\nc,1\n").code, 1);
    assert_eq!(read(&leader.node.url, &["a", "c"]), [("a".to_owned(), 1), ("c".to_owned(), 0)].into());
}

#[test]
fn a_pipe_with_a_wrong_line_goes_on_under_its_name_once_the_line_is_right() {
    let leader = Leader::new();
    let wrong = import_pipe(&leader, "monday", &(lines(0..93_000) + "w93000,many\n" + &lines(93_001..95_000)));
    assert!(wrong.code == 1 && wrong.err.contains("line 93001: \"many\" is no whole number"), "{}", wrong.err);
    assert!(wrong.err.contains("under the same name it goes on"), "{}", wrong.err);
    let right = import_pipe(&leader, "monday", &lines(0..95_000));
    assert!(right.code == 0 && right.err.contains(" known before"), "{}", right.err);
    assert_eq!(words(&leader), "95,000");
    assert!(right.err.contains(&leader.digest()), "{}", right.err);
    let again = import_pipe(&leader, "monday", &lines(0..95_000));
    assert!(again.err.contains("0 items imported, 95,000 known before"), "{}", again.err);
}

#[test]
fn one_name_is_not_given_to_two_pipes() {
    let leader = Leader::new();
    let mut command = memdb();
    command.args(["import", "--leader", &leader.node.url, "--format", "csv", "--name", "two", "-", "/dev/stdin"]);
    let ran = run(command.write_stdin("a,1\n"));
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("one pipe at a time"), "{}", ran.err);
    assert_eq!(words(&leader), "0");
}

/// A relay in front of a leader; it does something first, once an import has read its files and begins to send.
fn relayed(leader: &Leader, first: impl FnOnce() + Send + 'static) -> String {
    let address = leader.node.url.strip_prefix("http://").expect("a URL").to_owned();
    let relay = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", relay.local_addr().expect("bound"));
    thread::spawn(move || {
        let mut first = Some(first);
        while let Ok((mut client, _)) = relay.accept() {
            first.take().into_iter().for_each(|first| first());
            let mut server = TcpStream::connect(&address).expect("the leader is there");
            let (mut back, mut forth) = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
            thread::spawn(move || io::copy(&mut client, &mut server));
            thread::spawn(move || io::copy(&mut back, &mut forth));
        }
    });
    url
}

#[test]
fn a_file_that_changes_between_its_two_reads_is_told_and_not_taken_for_the_old_one() {
    let leader = Leader::new();
    let directory = TempDir::new().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    let (first, second) = (file("first.csv"), file("second.csv"));
    for (replaced, word) in [(false, "written"), (true, "moved")] {
        fs::write(&first, format!("{word},1\n")).expect("written");
        fs::write(&second, "hello,1\nworld,1\n").expect("written");
        let (old, new) = (second.clone(), file("new"));
        let change = move || {
            fs::write(if replaced { &new } else { &old }, "peace,9\nearth,9\n").expect("written");
            if replaced {
                fs::rename(&new, &old).expect("moved");
            }
        };
        let url = relayed(&leader, change);
        let [one, two] = [&first, &second].map(|path| path.to_str().expect("UTF-8"));
        let ran = run(memdb().args(["import", "--leader", &url, one, two]));
        assert_eq!(ran.code, 1, "{word}: {}", ran.err);
        assert!(ran.err.contains("second.csv: it changed since it was looked through"), "{word}: {}", ran.err);
        let counts = read(&leader.node.url, &[word, "hello", "peace"]);
        assert_eq!((counts[word], counts["hello"], counts["peace"]), (1, 0, 0));
    }
    // As it is now it is another file.
    let ran = leader.run(&["import", second.to_str().expect("UTF-8")]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(read(&leader.node.url, &["peace"])["peace"], 9);
}

/// Imports `file` at a server that never answers, and stops it once it is asked.
fn stopped_at_a_mute_leader(file: &Path, arguments: &[&str]) -> String {
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let child = Command::new(memdb_binary())
        .args(["import", "--leader", &format!("http://{}", mute.local_addr().expect("bound"))])
        .args(arguments)
        .arg(file)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut asked = mute.accept().expect("it asks").0;
    asked.read_exact(&mut [0; 16]).expect("a request");
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(130));
    String::from_utf8(ended.stderr).expect("UTF-8")
}

#[test]
fn an_import_that_is_stopped_says_the_command_that_goes_on() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("a.csv");
    fs::write(&file, "hello,1\n").expect("written");
    let told = stopped_at_a_mute_leader(&file, &["--again"]);
    let name = told.split("say --name ").nth(1).expect("a name").split(' ').next().expect("a name");
    let rest = told.split("the rest: ").nth(1).expect("a command");
    assert!(rest.contains(&format!(" --name {name} ")) && !rest.contains("--stream"), "{told}");
}

#[test]
fn a_batch_without_an_answer_is_not_said_to_be_undone() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("a.csv");
    let name = file.to_str().expect("UTF-8");
    fs::write(&file, "hello,1\n").expect("written");
    let curt = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", curt.local_addr().expect("bound"));
    thread::spawn(move || {
        while let Ok((mut client, _)) = curt.accept() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"); // and no more
        }
    });
    let lost = run(memdb().args(["import", "--leader", &url, "--retry-seconds", "0", name]));
    assert_eq!(lost.code, 1, "{}", lost.err);
    assert!(lost.err.contains("it is not known whether they were applied"), "{}", lost.err);
    let leader = Leader::new();
    let largest = directory.path().join("largest.csv");
    fs::write(&largest, format!("hello,{}\n", 1_i64 << 62)).expect("written");
    leader.tell(&["import", largest.to_str().expect("UTF-8")]);
    let refused = leader.run(&["import", name]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("beyond") && refused.err.contains("nothing of them was applied"), "{}", refused.err);
}
