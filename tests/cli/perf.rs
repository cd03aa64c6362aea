//! `perf` as a person uses it: the real binary against real leaders. Another leader stands in for a replica that has
//! gone its own way, the leader itself for one that has not; who writes in between is made up.

use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use testkit::process::{Node, Start};

/// What the command wrote, and its exit code.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn perf(arguments: &[&str]) -> Ran {
    let output = assert_cmd::cargo::cargo_bin_cmd!("perf")
        .env_clear()
        .args(arguments)
        .timeout(Duration::from_secs(120))
        .output()
        .expect("the binary runs");
    Ran {
        code: output.status.code().expect("it ended by itself"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn start() -> (Node, TempDir) {
    let data = TempDir::new().expect("a directory");
    (Start::leader(data.path()).run(), data)
}

fn post(leader: &Node, text: &str) {
    let request =
        testkit::client::new_client().post(format!("{}/post", leader.url)).header("content-type", "text/plain");
    assert_eq!(request.body(text.to_owned()).send().expect("it answers").status(), 202);
}

fn words(leader: &Node) -> BTreeMap<String, i64> {
    let body = testkit::client::new_client()
        .get(format!("{}/sync", leader.url))
        .send()
        .expect("it answers")
        .bytes()
        .expect("whole");
    serde_json::from_slice(&body).expect("words with counts")
}

/// Whether this is a duration as Go writes it: `12.3ms`.
fn is_duration(text: &str) -> bool {
    let number = text.trim_end_matches(|letter: char| letter.is_alphabetic());
    let plain = !number.starts_with('.') && !number.ends_with('.') && number.matches('.').count() <= 1;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain && digits && matches!(&text[number.len()..], "ns" | "µs" | "ms" | "s")
}

/// Holds that the report is these lines; a line that ends in `…` ends in a duration.
#[track_caller]
fn is_report(out: &str, expected: &[&str]) {
    let lines: Vec<_> = out.lines().collect();
    let same = |line: &str, expected: &str| match expected.strip_suffix('…') {
        Some(name) => line.strip_prefix(name).is_some_and(is_duration),
        None => line == expected,
    };
    let all = lines.len() == expected.len() && lines.iter().zip(expected).all(|(line, expected)| same(line, expected));
    assert!(all && out.ends_with('\n'), "printed:\n{out}\nexpected:\n{}", expected.join("\n"));
}

/// The report up to the verdict, if all requests succeeded.
fn sections(posts: &str, reads: &str) -> Vec<String> {
    let section = |title: &str, to: &str, requests: &str| {
        [
            format!("=== {title} Performance ==="),
            format!("Total Requests to {to}: {requests}"),
            format!("Successful Requests: {requests}"),
            "Failed Requests: 0".to_owned(),
            "Average Request Time: …".to_owned(),
            "Fastest Request Time: …".to_owned(),
            "Slowest Request Time: …".to_owned(),
            String::new(),
        ]
    };
    let mut lines = section("Leader", "Leader", posts).to_vec();
    lines.extend(section("Replica", "Replicas", reads));
    lines.push("Total Test Duration: …".to_owned());
    lines
}

#[track_caller]
fn is_whole_report(out: &str, requests: [&str; 2], verdict: &[&str]) {
    let sections = sections(requests[0], requests[1]);
    let mut expected: Vec<_> = sections.iter().map(String::as_str).collect();
    expected.extend(verdict);
    expected.extend(["", "Test completed"]);
    is_report(out, &expected);
}

#[test]
fn a_thousand_posts_and_reads_all_counted_and_consistent() {
    let (leader, _data) = start();
    let ran = perf(&[&leader.url, &leader.url, &leader.url]);
    is_whole_report(&ran.out, ["1000", "1000"], &["All replicas are consistent with the leader."]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    // Each of the ten phrases a hundred times.
    let expected = [
        ("concurrency", 200),
        ("distributed", 200),
        ("go", 400),
        ("great", 100),
        ("hello", 200),
        ("high", 100),
        ("in", 100),
        ("is", 100),
        ("load", 100),
        ("model", 100),
        ("of", 100),
        ("parallel", 100),
        ("performance", 100),
        ("requests", 100),
        ("systems", 200),
        ("test", 200),
        ("world", 200),
    ];
    assert_eq!(words(&leader), expected.map(|(word, count)| (word.to_owned(), count)).into());
    leader.finish(Signal::TERM);
}

#[test]
fn perf_tells_each_difference_in_a_line_and_exits_1() {
    let ((leader, _one), (other, _two)) = (start(), start());
    post(&leader, "load load both");
    post(&other, "load both strange");
    post(&other, "strange");
    let ran = perf(&["--posts", "0", "--reads", "4", &leader.url, &leader.url, &other.url]);
    let line = |word: &str, leader: i64, count: i64| {
        format!("Inconsistency found for word {word}: leader count = {leader}, replica {} count = {count}", other.url)
    };
    let (load, strange) = (line("load", 2, 1), line("strange", 0, 2));
    is_whole_report(&ran.out, ["0", "4"], &[&load, &strange, "Found 2 inconsistencies between leader and replicas."]);
    assert_eq!(ran.code, 1, "{}", ran.err);
}

#[test]
fn a_replica_that_never_has_the_last_post_is_told_and_compared_as_it_is() {
    let ((leader, _one), (other, _two)) = (start(), start());
    let ran = perf(&["--posts", "20", "--reads", "0", "--wait", "0", &leader.url, &other.url]);
    assert_eq!(ran.code, 1);
    // All 17 words of the phrases are missing there.
    assert_eq!(ran.out.matches("Inconsistency found for word ").count(), 17, "{}", ran.out);
    assert!(ran.out.contains(&format!("word go: leader count = 8, replica {} count = 0\n", other.url)), "{}", ran.out);
    assert!(
        ran.out.ends_with("Found 17 inconsistencies between leader and replicas.\n\nTest completed\n"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains(&format!("perf: {} is at ", other.url)), "{}", ran.err);
}

#[test]
fn with_json_the_same_is_one_object() {
    let ((leader, _one), (other, _two)) = (start(), start());
    post(&leader, "a");
    post(&other, "b");
    let ran = perf(&["--json", "--posts", "0", "--reads", "30", &leader.url, &leader.url, &other.url]);
    let found: Value = serde_json::from_str(&ran.out).expect("one object");
    assert_eq!((ran.code, &found["ok"], &found["consistent"]), (1, &Value::Bool(false), &Value::Bool(false)));
    assert_eq!((&found["leader"]["requests"], &found["replicas"]["successful"]), (&0.into(), &30.into()));
    // `a` on both, `b` on the second.
    assert_eq!((&found["words_compared"], &found["inconsistencies_found"]), (&3.into(), &2.into()));
    let first = serde_json::json!({"word": "a", "replica": other.url, "leader_count": 1, "replica_count": 0});
    assert_eq!(found["inconsistencies"][0], first);

    let ran = perf(&["--json", "--posts", "30", "--reads", "30", "--concurrency", "3", &leader.url, &leader.url]);
    let found: Value = serde_json::from_str(&ran.out).expect("one object");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!((&found["ok"], &found["consistent"]), (&Value::Bool(true), &Value::Bool(true)));
    for kind in ["leader", "replicas"] {
        let ms = |name: &str| found[kind][name].as_f64().expect("a number");
        let order = ["fastest_ms", "p50_ms", "p99_ms", "slowest_ms"].map(ms);
        assert!(order[0] > 0.0 && order.is_sorted(), "{kind}: {found}");
    }
}

#[test]
fn perf_tells_absent_nodes_and_nonsense_in_one_line() {
    let ((leader, _one), (killed, _two)) = (start(), start());
    let nowhere = killed.url.clone();
    killed.finish(Signal::KILL);
    let ran = perf(&[&nowhere, &leader.url]);
    let expected = format!(
        "perf: nothing answers at {nowhere} (connection refused): is the leader running? start one with `memdb leader`\n"
    );
    assert_eq!((ran.code, ran.out.as_str(), ran.err), (1, "", expected));
    let ran = perf(&[&leader.url, &nowhere]);
    let expected = format!(
        "perf: nothing answers at {nowhere} (connection refused): is the replica running? start one with `memdb replica --leader {}`\n",
        leader.url
    );
    assert_eq!((ran.code, ran.out.as_str(), ran.err), (1, "", expected));
    assert_eq!(words(&leader), BTreeMap::new(), "nothing was posted");

    for (arguments, fix) in [
        (vec!["ftp://x", &leader.url], "such as http://127.0.0.1:8080"),
        (vec![&leader.url, "http://"], "is not the address of a node"),
        (vec![&leader.url], "<REPLICA_URL>"),
        (vec!["--concurrency", "0", &leader.url, &leader.url], "1..=10000"),
    ] {
        let ran = perf(&arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.err.contains(fix), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn help_teaches_by_example() {
    for flag in ["-h", "--help"] {
        let ran = perf(&[flag]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("EXAMPLES\n  perf http://localhost:8080 http://localhost:8081"), "{}", ran.out);
    }
}

/// A node with one word, whose count is its position: it grows at every read until it is at `last`. Posts are refused.
fn restless(last: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let at = Arc::new(AtomicU64::new(1));
    let serve = move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let at = Arc::clone(&at);
            std::thread::Builder::new().spawn(move || answer(socket, &at, last)).expect("a thread");
        }
    };
    std::thread::Builder::new().spawn(serve).expect("a thread");
    url
}

/// Answers one request and closes.
fn answer(mut socket: TcpStream, at: &AtomicU64, last: u64) -> Option<()> {
    let mut lines = BufReader::new(socket.try_clone().ok()?).lines().map_while(Result::ok);
    let request = lines.next()?;
    // To the end of the head, so that nothing unread is left to reset the connection.
    lines.find(|line| line.is_empty())?;
    let (status, at, body) = match request.split(' ').nth(1)?.split('?').next()? {
        "/health/ready" => ("200 OK", 0, "{}".to_owned()),
        "/post" => ("500 Internal Server Error", 0, "{\"title\":\"out of order\"}".to_owned()),
        _ => {
            let now = at.fetch_add(1, Ordering::SeqCst).min(last);
            ("200 OK", now, format!("{{\"a\":{now}}}"))
        }
    };
    let length = body.len();
    write!(
        socket,
        "HTTP/1.1 {status}\r\nConnection: close\r\nMemdb-Position: 1-{at}-00000007\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()
}

#[test]
fn while_somebody_else_writes_it_says_so_and_compares_again() {
    let node = restless(7);
    let ran = perf(&["--posts", "0", "--reads", "0", &node, &node]);
    is_whole_report(&ran.out, ["0", "0"], &["All replicas are consistent with the leader."]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    // Each attempt takes four answers, and from the seventh on the node rests: the third attempt is the good one.
    let told = format!(
        "perf: positions differ (the leader went from 1-1-00000007 to 1-2-00000007; the leader was at 1-1-00000007, {node} from 1-3-00000007 to 1-4-00000007): \
         somebody else writes, or a replica has gone its own way; comparing again"
    );
    let lines: Vec<_> = ran.err.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, told.as_str()), "{}", ran.err);
}

#[test]
fn writes_without_end_are_judged_in_the_end_with_a_warning() {
    let node = restless(u64::MAX);
    let ran = perf(&["--posts", "0", "--reads", "0", &node, &node]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.ends_with("Found 1 inconsistencies between leader and replicas.\n\nTest completed\n"),
        "{}",
        ran.out
    );
    assert_eq!(ran.err.lines().count(), 5, "{}", ran.err);
    assert!(ran.err.trim_end().ends_with("; differences may be due to that"), "{}", ran.err);
}

#[test]
fn requests_that_fail_are_counted_and_told_and_the_exit_is_1() {
    let node = restless(0);
    let ran = perf(&["--posts", "5", "--reads", "5", &node, &node]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let lines: Vec<_> = ran.out.lines().collect();
    let expected =
        ["Total Requests to Leader: 5", "Successful Requests: 0", "Failed Requests: 5", "Average Request Time: 0s"];
    assert_eq!(lines[1..5], expected, "{}", ran.out);
    assert!(ran.out.contains("All replicas are consistent with the leader.\n"), "{}", ran.out);
    assert_eq!(ran.err, format!("perf: 5 of 5 posts failed: 5 × {node} answered 500: out of order\n"));
}

#[test]
fn documents_are_created_and_compared_on_every_replica_where_they_are_asked_for() {
    let (leader, _data) = start();
    let arguments = ["--posts", "10", "--reads", "10", "--documents", "25", &leader.url, &leader.url, &leader.url];
    let ran = perf(&arguments);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    for line in [
        "=== Document Performance ===\nTotal Requests to Leader: 25\nSuccessful Requests: 25\n",
        "=== Document Read Performance ===\nTotal Requests to Replicas: 50\nSuccessful Requests: 50\n",
        "All replicas are consistent with the leader.\n",
        "All replicas have every document as it was sent.\n\nTest completed\n",
    ] {
        assert!(ran.out.contains(line), "{line}\n{}", ran.out);
    }

    let (other, _elsewhere) = start();
    let ran =
        perf(&["--posts", "0", "--reads", "0", "--documents", "3", "--json", "--wait", "1", &leader.url, &other.url]);
    let report: Value = serde_json::from_str(&ran.out).expect("one object");
    assert_eq!(ran.code, 1, "{}", ran.out);
    let told = report["documents"]["inconsistencies"].as_array().expect("a list");
    assert_eq!(told.len(), 3, "{report}");
    assert_eq!(told[0], format!("Inconsistency found for document perf-0: replica {} does not have it", other.url));
}
