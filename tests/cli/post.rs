//! `memdb post`: everything counts once, whatever happens on the way.

use crate::{
    Ran,
    fake::{Fake, Fate, leader, leader_with},
    memdb, run,
};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

fn post(fake: &Fake, arguments: &[&str]) -> Ran {
    run(memdb().args(["post", "--leader", &fake.url]).args(arguments))
}

/// A file of `lines` lines, each of its own words and a common one.
fn book(dir: &TempDir, lines: usize) -> PathBuf {
    let path = dir.path().join("book.txt");
    let text: String = (0..lines).map(|line| format!("every word-{line}\n")).collect();
    fs::write(&path, text).expect("written");
    path
}

fn name(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn count(fake: &Fake, word: &str) -> i64 {
    fake.state.lock().expect("no panic").counts.get(word).copied().unwrap_or(0)
}

/// Each line of the book is counted exactly once.
fn assert_counted_once(fake: &Fake, lines: usize) {
    let counts = fake.state.lock().expect("no panic").counts.clone();
    assert_eq!(counts["every"], lines as i64);
    assert_eq!(counts.len(), lines + 1);
    assert!(counts.iter().all(|(word, count)| word == "every" || *count == 1));
}

#[test]
fn a_repeat_counts_nothing_and_says_so_and_again_counts_anew() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let path = book(&dir, 1_000);
    let first = post(&fake, &[name(&path)]);
    assert_eq!((first.code, first.err.as_str()), (0, ""), "{}", first.out);
    assert!(first.out.starts_with("1,000 lines, 2,000 words counted in "), "{}", first.out);
    assert!(first.out.contains("position 1-1000"), "{}", first.out);
    assert_counted_once(&fake, 1_000);

    let repeat = post(&fake, &[name(&path)]);
    assert_eq!(repeat.code, 0);
    assert!(repeat.err.contains("all 1,000 lines were counted before"), "{}", repeat.err);
    assert_eq!(repeat.out, "0 lines, 0 words counted; 1,000 lines counted before\n");
    assert_counted_once(&fake, 1_000);

    let again = post(&fake, &["--again", name(&path)]);
    assert_eq!((again.code, count(&fake, "every")), (0, 2_000));
    let stream = again.err.split("--stream ").nth(1).expect("a name to resume by");
    let stream = stream.split_whitespace().next().expect("a name");
    let resumed = post(&fake, &["--stream", stream, name(&path)]);
    assert_eq!((resumed.code, count(&fake, "every")), (0, 2_000), "{}", resumed.err);
}

#[test]
fn a_run_that_was_cut_off_goes_on_where_it_was() {
    // After 3,200 posts nothing gets through any more.
    let gate = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let open = std::sync::Arc::clone(&gate);
    let fake = leader_with(move |arrived| {
        let passes = arrived < 3_200 || open.load(std::sync::atomic::Ordering::SeqCst);
        if passes { Fate::Counted } else { Fate::Busy }
    });
    let dir = TempDir::new().expect("a directory");
    let path = book(&dir, 10_000);
    let cut = post(&fake, &["--retry-seconds", "0", name(&path)]);
    assert_eq!(cut.code, 1);
    assert!(cut.err.contains("gave up after 0 s") && cut.err.contains("This goes on from there"), "{}", cut.err);
    assert!(cut.err.contains("Stopped with at least 3,200 posts counted"), "what is counted, not sent: {}", cut.err);
    let counted = fake.state.lock().expect("no panic").texts.len();
    assert_eq!(counted, 3_200);

    gate.store(true, std::sync::atomic::Ordering::SeqCst);
    let rest = post(&fake, &[name(&path)]);
    assert_eq!(rest.code, 0, "{}", rest.err);
    assert!(rest.err.contains("3,200 of 10,000 lines were counted before; counting the rest"), "{}", rest.err);
    assert!(rest.out.starts_with("6,800 lines, 13,600 words counted"), "{}", rest.out);
    assert_counted_once(&fake, 10_000);
}

#[test]
fn lost_answers_busy_leaders_and_unknown_outcomes_count_once() {
    let fake = leader_with(|arrived| match arrived % 11 {
        2 => Fate::Busy,
        4 => Fate::AnswerLost,
        6 => Fate::Unknown,
        8 => Fate::RequestLost,
        _ => Fate::Counted,
    });
    let dir = TempDir::new().expect("a directory");
    let path = book(&dir, 600);
    let ran = post(&fake, &[name(&path)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("600 lines, 1,200 words counted"), "{}", ran.out);
    assert_counted_once(&fake, 600);
}

#[test]
fn long_lines_are_cut_and_what_cannot_be_posted_is_told() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let path = dir.path().join("odd.txt");
    fs::write(&path, b"one two three four\n\n \t \nbad \xff line\nxxxxxxxxxxxxxxxxxxxxx\nlast").expect("written");
    let ran = post(&fake, &["--post-bytes", "10", name(&path)]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("odd.txt: line 4 is not UTF-8 (byte 28 of the text): not counted"), "{}", ran.err);
    assert!(ran.err.contains("odd.txt: line 5 has no white space to cut it at"), "{}", ran.err);
    assert!(ran.err.contains("2 parts could not be counted"), "{}", ran.err);
    let texts = fake.state.lock().expect("no panic").texts.clone();
    assert_eq!(texts, ["one two", "three four", "last"]);
}

#[test]
fn a_file_per_post_and_the_namespace_and_level_asked_for() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let paths: Vec<_> = (0..20).map(|at| dir.path().join(format!("{at}.txt"))).collect();
    for path in &paths {
        fs::write(path, "a b\nc\n").expect("written");
    }
    let mut arguments = vec!["--per", "file", "--ns", "titles", "--ack", "disk"];
    arguments.extend(paths.iter().map(|path| name(path)));
    let ran = post(&fake, &arguments);
    assert!(ran.out.starts_with("20 files, 60 words counted"), "{} {}", ran.out, ran.err);
    let state = fake.state.lock().expect("no panic");
    assert_eq!(state.texts, vec!["a b\nc\n"; 20]);
    assert!(state.queries.iter().all(|query| query == "ns=titles&ack=disk"), "{:?}", state.queries);
}

#[test]
fn another_namespace_or_unit_is_another_stream() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let path = book(&dir, 3);
    for (runs, arguments) in [vec![], vec!["--ns", "x"], vec!["--per", "file"]].into_iter().enumerate() {
        let mut arguments = arguments;
        arguments.push(name(&path));
        assert_eq!(post(&fake, &arguments).code, 0);
        assert_eq!(count(&fake, "every"), 3 * (runs as i64 + 1));
    }
}

#[test]
fn standard_input_counts_each_time_unless_it_has_a_name() {
    let fake = leader();
    let from_stdin = |arguments: &[&str]| {
        run(memdb().args(["post", "--leader", &fake.url, "-"]).args(arguments).write_stdin("a\nb\nc\n"))
    };
    let ran = from_stdin(&[]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("give it a name with --stream NAME"), "{}", ran.err);
    from_stdin(&[]);
    assert_eq!(count(&fake, "a"), 2);
    assert_eq!(from_stdin(&["--stream", "letters"]).err, "");
    assert_eq!(count(&fake, "a"), 3);
    let ran = from_stdin(&["--stream", "letters"]);
    assert_eq!((ran.code, count(&fake, "a")), (0, 3));
    assert!(ran.err.contains("3 lines were counted before"), "{}", ran.err);
}

#[test]
fn a_post_the_leader_finds_too_large_tells_the_way_out() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let path = dir.path().join("large.txt");
    fs::write(&path, "word ".repeat(1 << 20)).expect("written");
    let ran = post(&fake, &["--post-bytes", "2000000", name(&path)]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("--post-bytes") && ran.err.contains("--max-body-bytes"), "{}", ran.err);
    let ran = post(&fake, &[name(&path)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("6 posts, 1,048,576 words counted"), "{}", ran.out);
}

#[test]
fn files_that_cannot_be_read_are_told_before_anything_counts() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let path = book(&dir, 3);
    let missing = post(&fake, &[name(&path), "no-such-file"]);
    assert_eq!((missing.code, count(&fake, "every")), (1, 0));
    assert!(missing.err.contains("cannot read no-such-file: "), "{}", missing.err);
    let directory = post(&fake, &[name(dir.path())]);
    assert_eq!(directory.code, 1);
    assert!(directory.err.contains("--recursive"), "{}", directory.err);
    let twice = post(&fake, &[name(&path), name(&path)]);
    assert_eq!((twice.code, count(&fake, "every")), (0, 3));
    assert!(twice.err.contains("is named twice"), "{}", twice.err);
}

#[test]
fn ctrl_c_says_how_to_go_on() {
    let (reached, reaches) = std::sync::mpsc::channel();
    let fake = leader_with(move |arrived| {
        if arrived == 500 {
            reached.send(()).expect("the test waits");
        }
        if arrived < 500 { Fate::Counted } else { Fate::Busy }
    });
    let dir = TempDir::new().expect("a directory");
    let path = book(&dir, 10_000);
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("memdb"));
    command
        .env_clear()
        .args(["post", "--leader", &fake.url, name(&path)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("started");
    reaches.recv().expect("500 posts arrive");
    let interrupt = Command::new("/bin/kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(interrupt.success());
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("This goes on from there:") && err.contains(name(&path)), "{err}");
}

/// Posts 10,000 lines of 2,000 bytes, more than sockets hold, and changes the file when the first arrives: some of it
/// is still to be read then.
fn post_while(change: impl Fn(&Path) + Send + Sync + 'static) -> (Fake, Ran) {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("book.txt");
    fs::write(&path, format!("every {}\n", "x".repeat(2_000)).repeat(10_000)).expect("written");
    let changing = path.clone();
    let fake = leader_with(move |arrived| {
        if arrived == 0 {
            change(&changing);
        }
        Fate::Counted
    });
    let ran = post(&fake, &[name(&path)]);
    (fake, ran)
}

#[test]
fn a_file_that_grows_counts_as_it_was() {
    let (fake, ran) = post_while(|path| {
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("opens");
        file.write_all(b"every one more\n").expect("grows");
    });
    assert_eq!((ran.code, count(&fake, "every"), count(&fake, "one")), (0, 10_000, 0), "{}", ran.err);
}

#[test]
fn a_file_that_changes_otherwise_is_noticed() {
    let shrunk = |path: &Path| fs::OpenOptions::new().write(true).open(path).expect("opens").set_len(400_000);
    let edited = |path: &Path| {
        use std::io::{Seek, SeekFrom};
        let mut file = fs::OpenOptions::new().write(true).open(path).expect("opens");
        file.seek(SeekFrom::End(-9)).expect("seeks");
        file.write_all(b"y y").expect("changes");
    };
    let runs = [post_while(move |path| shrunk(path).expect("shrinks")), post_while(edited)];
    for (_, ran) in runs {
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("it changed while it was posted"), "{}", ran.err);
    }
}
