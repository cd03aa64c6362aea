//! What `memdb post` reads from: pipes, compressed files, directories, NDJSON; and how long it is patient.

use crate::{
    Ran,
    fake::{Fake, Fate, leader, leader_with},
    memdb, run,
};
use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::wait_until;
use tokio::io::AsyncWriteExt;

fn post(fake: &Fake, arguments: &[&str]) -> Ran {
    run(memdb().args(["post", "--leader", &fake.url]).args(arguments))
}

fn post_stdin(fake: &Fake, arguments: &[&str], text: impl Into<Vec<u8>>) -> Ran {
    run(memdb().args(["post", "--leader", &fake.url, "-"]).args(arguments).write_stdin(text))
}

fn counts(fake: &Fake) -> BTreeMap<String, i64> {
    fake.state.lock().expect("no panic").counts.clone()
}

fn name(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Some blocks of lines, each with a word of its own and a common one.
fn long_text(lines: usize) -> String {
    let filler = "x".repeat(8_000);
    (0..lines).map(|line| format!("every word-{line} {filler}\n")).collect()
}

fn assert_each_once(fake: &Fake, lines: usize) {
    let counts = counts(fake);
    assert_eq!(counts["every"], lines as i64);
    assert!((0..lines).all(|line| counts[&format!("word-{line}")] == 1));
}

fn compressed(text: &[u8]) -> [Vec<u8>; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (mut gzip, mut zstd) = (GzipEncoder::new(Vec::new()), ZstdEncoder::new(Vec::new()));
        gzip.write_all(text).await.expect("memory");
        gzip.shutdown().await.expect("memory");
        zstd.write_all(text).await.expect("memory");
        zstd.shutdown().await.expect("memory");
        [gzip.into_inner(), zstd.into_inner()]
    })
}

#[test]
fn standard_input_in_blocks_counts_once_though_answers_are_lost() {
    let fake = leader_with(|arrived| match arrived % 701 {
        150 => Fate::Busy,
        300 => Fate::AnswerLost,
        450 => Fate::Unknown,
        600 => Fate::RequestLost,
        _ => Fate::Counted,
    });
    let ran = post_stdin(&fake, &[], long_text(3_000));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("3,000 lines, 9,000 words counted in "), "{}", ran.out);
    assert_each_once(&fake, 3_000);
    let streams = fake.state.lock().expect("no panic").streams.len();
    assert_eq!(streams, 3, "a stream for each 8 MiB, not one for each connection");
}

#[test]
fn standard_input_under_a_name_goes_on_where_it_was_cut_off() {
    let gate = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let open = std::sync::Arc::clone(&gate);
    let fake = leader_with(move |arrived| {
        let passes = arrived < 1_700 || open.load(std::sync::atomic::Ordering::SeqCst);
        if passes { Fate::Counted } else { Fate::Busy }
    });
    let text = long_text(3_000);
    // One block at a time: of a second one, the leader might count what it has received after the run has ended.
    let one_by_one = ["--stream", "long", "--retry-seconds", "0", "--in-flight", "1"];
    let cut = post_stdin(&fake, &one_by_one, text.clone());
    assert_eq!(cut.code, 1);
    gate.store(true, std::sync::atomic::Ordering::SeqCst);
    let rest = post_stdin(&fake, &["--stream", "long"], text);
    assert_eq!(rest.code, 0, "{}", rest.err);
    assert!(rest.err.contains("1,700 lines were counted before"), "{}", rest.err);
    assert!(rest.out.starts_with("1,300 lines, 3,900 words counted"), "{}", rest.out);
    assert_each_once(&fake, 3_000);
}

#[test]
fn a_line_of_a_pipe_counts_before_the_next_one_comes() {
    let fake = leader();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("memdb"))
        .env_clear()
        .args(["post", "--leader", &fake.url, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut pipe = child.stdin.take().expect("piped");
    for word in ["one", "two", "three"] {
        pipe.write_all(format!("{word}\n").as_bytes()).expect("it reads");
        wait_until("the leader has counted it", || counts(&fake).contains_key(word));
    }
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("3 lines, 3 words counted"), "{output:?}");
}

#[test]
fn the_names_of_pipes_are_read_as_standard_input_is() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("it runs").success());
    let memdb = assert_cmd::cargo::cargo_bin!("memdb");
    let script = format!(
        "printf 'a b\\n' > {fifo} & {memdb} post --leader {url} {fifo} && \
         {memdb} post --leader {url} <(echo c) <(echo d) && echo e | {memdb} post --leader {url} /dev/stdin",
        fifo = fifo.display(),
        memdb = memdb.display(),
        url = fake.url
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(counts(&fake).into_keys().collect::<String>(), "abcde", "{output:?}");
}

#[test]
fn compressed_files_and_pipes_count_as_what_is_in_them() {
    let dir = TempDir::new().expect("a directory");
    let text = long_text(300);
    for (at, bytes) in compressed(text.as_bytes()).into_iter().enumerate() {
        let fake = leader();
        let path = dir.path().join(format!("no-name-tells-{at}"));
        fs::write(&path, &bytes).expect("written");
        let ran = post(&fake, &[name(&path)]);
        assert!(ran.out.starts_with("300 lines, 900 words counted"), "{} {}", ran.out, ran.err);
        assert_each_once(&fake, 300);
        let repeat = post(&fake, &[name(&path)]);
        assert!(repeat.err.contains("all 300 lines were counted before"), "{}", repeat.err);
        let ran = post_stdin(&fake, &[], bytes.clone());
        assert_eq!((ran.code, counts(&fake)["every"]), (0, 600), "{}", ran.err);
        fs::write(&path, &bytes[..bytes.len() - 9]).expect("written");
        let torn = post(&fake, &[name(&path)]);
        assert_eq!((torn.code, counts(&fake)["every"]), (1, 600), "{}", torn.err);
        assert!(torn.err.contains("cannot read "), "{}", torn.err);
    }
}

#[test]
fn a_directory_is_read_in_the_order_of_names_without_what_is_hidden() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    for file in ["b/deep/x.txt", "a.txt", "b/.hidden/y", "b/.z", "c"] {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().expect("inside")).expect("made");
        fs::write(&path, file.replace('/', "-")).expect("written");
    }
    std::os::unix::fs::symlink(dir.path(), dir.path().join("round")).expect("linked");
    let ran = post(&fake, &["--recursive", "--in-flight", "1", name(dir.path())]);
    assert!(ran.out.starts_with("3 lines, 3 words counted"), "{} {}", ran.out, ran.err);
    assert_eq!(fake.state.lock().expect("no panic").texts, ["a.txt", "b-deep-x.txt", "c"]);
    let empty = TempDir::new().expect("a directory");
    let ran = post(&fake, &["--recursive", name(empty.path())]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("there is no file in it"), "{}", ran.err);
}

#[test]
fn ndjson_is_told_by_name_or_first_line_and_what_is_refused_is_told() {
    let dir = TempDir::new().expect("a directory");
    let good = "{\"text\":\"a b\"}\n\n{\"id\":7,\"text\":\"b\"}\n";
    let path = dir.path().join("some.txt");
    fs::write(&path, good).expect("written");
    let fake = leader();
    let ran = post(&fake, &[name(&path)]);
    assert_eq!((ran.code, counts(&fake)["b"]), (0, 2), "{}", ran.err);
    assert_eq!(post_stdin(&fake, &[], good).code, 0);
    assert_eq!(counts(&fake)["b"], 4);
    let as_text = leader();
    assert_eq!(post(&as_text, &["--format", "text", name(&path)]).code, 0);
    assert!(counts(&as_text).contains_key("{\"text\":\"a"), "{:?}", counts(&as_text));
    let odd = dir.path().join("odd.jsonl");
    fs::write(&odd, b"nothing\n{\"text\":\"c\"}\n\n{}\n\xff\n").expect("written");
    for arguments in [vec![name(&odd)], vec!["--format", "ndjson", name(&odd)]] {
        let fake = leader();
        let ran = post(&fake, &arguments);
        assert_eq!((ran.code, counts(&fake)["c"]), (1, 1), "{}", ran.out);
        for line in ["line 1: a JSON object", "line 4: a JSON object"] {
            assert!(ran.err.contains(line), "{}", ran.err);
        }
    }
    let both = post(&fake, &["--format", "ndjson", "--per", "file", name(&odd)]);
    assert_eq!(both.code, 2);
}

#[test]
fn texts_in_other_encodings_count_as_what_they_say_and_go_on_where_they_were() {
    let dir = TempDir::new().expect("a directory");
    let text = "Grüße aus Wien\nПривет Wien\n";
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
    let marked = utf16(&format!("\u{feff}{text}"), u16::to_le_bytes);
    let [gzip, _] = compressed(&marked);
    let cyrillic = b"\xcf\xf0\xe8\xe2\xe5\xf2 Wien\n".to_vec();
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("utf-16le with a mark", marked.clone(), &[]),
        ("the same, misnamed", marked, &["--encoding", "windows-1251"]),
        ("the same, compressed", gzip, &[]),
        ("utf-16be without a mark", utf16(text, u16::to_be_bytes), &["--encoding", "utf-16be"]),
        ("utf-8 with a mark", format!("\u{feff}{text}").into_bytes(), &[]),
        ("windows-1251", cyrillic, &["--encoding", "Windows-1251"]),
    ];
    for (case, bytes, arguments) in cases {
        let fake = leader();
        let path = dir.path().join(case);
        fs::write(&path, &bytes).expect("written");
        let arguments = [arguments, &[name(&path)]].concat();
        let ran = post(&fake, &arguments);
        let counted = counts(&fake);
        let (lines, wien) = if case == "windows-1251" { ("1 lines", 1) } else { ("2 lines", 2) };
        assert_eq!((ran.code, counted["Wien"], counted["Привет"]), (0, wien, 1), "{case}: {}", ran.err);
        assert_eq!(counted.get("Grüße").copied(), (wien == 2).then_some(1), "{case}: {counted:?}");
        let repeat = post(&fake, &arguments);
        assert!(repeat.out.contains(&format!("{lines} counted before")), "{case}: {}", repeat.out);
        let piped = post_stdin(&fake, &arguments[..arguments.len() - 1], bytes);
        assert_eq!((piped.code, counts(&fake)["Wien"]), (0, 2 * wien), "{case}: {}", piped.err);
    }
}

#[test]
fn a_text_that_breaks_its_encoding_is_told_by_the_name_of_that_encoding() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let odd = b"\xff\xfea\0\n\0b\0\xd8".to_vec();
    let path = dir.path().join("odd.txt");
    fs::write(&path, &odd).expect("written");
    for ran in [post(&fake, &[name(&path)]), post_stdin(&fake, &[], odd)] {
        assert!(ran.err.contains("line 2 is not UTF-16LE (byte 3 of the text, as UTF-8)"), "{}", ran.err);
    }
    let ran = post_stdin(&fake, &[], b"\xff\n");
    assert!(ran.err.contains("line 1 is not UTF-8 (byte 0 of the text)"), "{}", ran.err);
}

#[test]
fn a_mark_in_front_of_ndjson_is_passed_over() {
    let fake = leader();
    let ran = post_stdin(&fake, &[], "\u{feff}{\"text\":\"a b\"}\n");
    assert_eq!((ran.code, counts(&fake).into_keys().collect::<String>()), (0, "ab".to_owned()), "{}", ran.err);
}

#[test]
fn a_binary_input_is_refused_with_the_way_to_go_on() {
    let (fake, dir) = (leader(), TempDir::new().expect("a directory"));
    let unmarked: Vec<u8> = "some words\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (file, bytes) in [("program", b"\x7fELF\n\0\0".to_vec()), ("unmarked", unmarked)] {
        let path = dir.path().join(file);
        fs::write(&path, &bytes).expect("written");
        for ran in [post(&fake, &[name(&path)]), post_stdin(&fake, &["--per", "file"], bytes)] {
            assert_eq!((ran.code, counts(&fake).len()), (1, 0), "{}", ran.err);
            assert!(
                ran.err.contains("looks binary or UTF-16") && ran.err.contains("--encoding utf-16le"),
                "{}",
                ran.err
            );
        }
    }
    let unknown = post_stdin(&fake, &["--encoding", "ebcdic"], "a\n");
    assert_eq!(unknown.code, 2, "{}", unknown.err);
    assert!(unknown.err.contains("give a label of the Encoding Standard"), "{}", unknown.err);
}

#[test]
fn results_can_be_had_as_json() {
    let ran = post_stdin(&leader(), &["--json"], "a b\nc\n");
    let result: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(
        (&result["counted"], &result["words"], &result["faults"], &result["position"]),
        (&2.into(), &3.into(), &0.into(), &"1-2-00000007".into())
    );
}

/// Runs `memdb post` on what is piped into it, and how long it took.
fn timed(url: &str, arguments: &[&str]) -> (Ran, Duration) {
    let begun = Instant::now();
    let ran = run(memdb().args(["post", "--leader", url]).args(arguments).write_stdin("a\n"));
    (ran, begun.elapsed())
}

#[test]
fn a_leader_that_hangs_is_given_up_after_the_seconds_that_were_said() {
    // It takes connections, as the system does for it, and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", listener.local_addr().expect("bound"));
    let fake = leader_with(|_| Fate::Hung);
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("book.txt");
    fs::write(&path, "a\nb\n").expect("written");
    for url in [&silent, &fake.url] {
        for file in ["-", name(&path)] {
            let (ran, took) = timed(url, &["--retry-seconds", "1", file]);
            assert_eq!(ran.code, 1, "{}", ran.err);
            assert!(ran.err.contains("gave up after 1 s"), "{}", ran.err);
            assert!(took < Duration::from_secs(6), "{took:?}: {}", ran.err);
        }
    }
}
