//! What a node says of itself, on stderr and in its log file.

use super::only_file;
use reqwest::blocking::Response;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;
use testkit::process::memdb_binary;

/// All that a leader with these arguments says, from its start in `dir` to its clean stop; `meanwhile` has its address.
fn said(dir: &Path, arguments: &[&str], variables: &[(&str, &str)], meanwhile: impl FnOnce(&str)) -> Vec<String> {
    let mut process = Command::new(memdb_binary())
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(dir)
        .args(["leader", "--port", "0", "--data-dir", "data"])
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is built");
    let mut lines = BufReader::new(process.stderr.take().expect("it was asked for")).lines().map_while(Result::ok);
    let mut said = Vec::new();
    let address = loop {
        let line = lines.next().unwrap_or_else(|| panic!("the leader did not start:\n{}", said.join("\n")));
        let address = line.split_once("127.0.0.1:").map(|(_, port)| port.chars().take_while(char::is_ascii_digit));
        let address: Option<String> = address.map(|port| format!("127.0.0.1:{}", port.collect::<String>()));
        let is_serving = line.contains("serving");
        said.push(line);
        if let Some(address) = address.filter(|_| is_serving) {
            break address;
        }
    };
    let rest = std::thread::Builder::new().spawn(move || lines.collect::<Vec<_>>()).expect("a thread");
    meanwhile(&address);
    let stopped = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().expect("kill is there");
    assert!(stopped.success() && process.wait().expect("it ends").success());
    said.extend(rest.join().expect("no panic"));
    said
}

/// One request by way of the fast path, one post, one that the routes answer, one that none answers.
fn ask_around(address: &str) {
    let client = testkit::client::new_client();
    let get = |path: &str| client.get(format!("http://{address}{path}")).send().expect("it answers");
    let post = client.post(format!("http://{address}/post")).header("content-type", "text/plain").body("unspoken");
    let status = |answer: Response| answer.status().as_u16();
    assert_eq!(status(post.send().expect("it answers")), 202);
    for (path, expected) in
        [("/wordcount?word=unspoken", 200), ("/health", 200), ("/top?prefixes=unspoken", 400), ("/no", 404)]
    {
        assert_eq!(status(get(path)), expected, "{path}");
    }
}

#[test]
fn json_logs_have_an_object_a_line_who_began_and_at_debug_each_request() {
    let dir = TempDir::new().expect("a directory");
    let lines = said(dir.path(), &["--log", "debug", "--log-format", "json", "--ack", "leader"], &[], ask_around);
    let file = fs::read_to_string(only_file(&dir.path().join("data"), "memdb.log")).expect("it was written");
    for lines in [lines, file.lines().map(str::to_owned).collect()] {
        assert!(!lines.iter().any(|line| line.contains("unspoken")), "the words that are asked for are nobody else's");
        let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
        let first = &events[0];
        assert_eq!(
            (&first["role"], &first["version"]),
            (&"leader".into(), &env!("CARGO_PKG_VERSION").into()),
            "{first}"
        );
        let directory = Path::new(first["data_dir"].as_str().expect("a path"));
        assert!(directory.is_absolute() && directory.ends_with("data"), "{first}");
        assert!(first["pid"].is_u64() && events.iter().any(|event| event["address"].is_string()), "{first}");
        let requests = events.iter().filter(|event| event["target"] == "memdb::request");
        let shown = requests.map(|event| {
            assert!(event["duration_us"].is_u64() && event["level"] == "DEBUG", "{event}");
            format!("{} {} {}", event["method"], event["path"], event["status"]).replace('"', "")
        });
        let expected = ["POST /post 202", "GET /wordcount 200", "GET /health 200", "GET /top 400", "GET /no 404"];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn text_logs_name_who_began_without_colours_and_no_requests() {
    let dir = TempDir::new().expect("a directory");
    for variables in [&[][..], &[("NO_COLOR", "1"), ("MEMDB_LOG_FORMAT", "text")]] {
        let lines = said(dir.path(), &["--ack", "leader"], variables, ask_around);
        assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
        let data_dir = format!("data_dir=\"{}/data\"", dir.path().canonicalize().expect("it is there").display());
        for part in ["version=", "role=\"leader\"", "pid=", &data_dir] {
            assert!(lines[0].contains(part), "{part}: {}", lines[0]);
        }
        assert!(lines.iter().all(|line| !line.contains("/wordcount")), "{lines:?}");
    }
}
