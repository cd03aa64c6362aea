//! Reads, settings, mistakes: what each verb says and how it exits.

use crate::{fake::leader, memdb, run};

#[test]
fn counts_and_top_are_shown_as_a_table_or_json() {
    let fake = leader();
    fake.state.lock().expect("no panic").counts =
        [("whale", 1_700), ("sea", 455), ("a\u{1b}b", 1)].map(|(word, count)| (word.to_owned(), count)).into();
    let ask = |arguments: &[&str]| run(memdb().env("MEMDB_SERVER", &fake.url).args(arguments));
    assert_eq!(
        ask(&["get", "whale", "sea", "never", "ü&="]).out,
        "1,700  whale\n  455  sea\n    0  never\n    0  ü&=\n"
    );
    assert_eq!(ask(&["get", "--json", "whale"]).out, "{\"whale\":1700}\n");
    assert_eq!(ask(&["top"]).out, "1,700  whale\n  455  sea\n    1  a\\u{1b}b\n");
    assert!(ask(&["top", "--json"]).out.starts_with(r#"[{"count":1700,"word":"whale"}"#));
    assert_eq!(ask(&["status"]).out, "role           leader\nqueue.limit    4096\nqueue.waiting  0\n");
    let health = ask(&["health"]);
    assert_eq!((health.code, health.out), (0, format!("ready: {}\n", fake.url)));
}

#[test]
fn a_server_that_is_not_there_is_one_clear_line() {
    // Bound and closed again: nothing listens there for the moment of the test.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let url = format!("http://{free}");
    let cases = [
        vec!["get", "a"],
        vec!["top"],
        vec!["health"],
        vec!["status"],
        vec!["stats"],
        vec!["cache", "get", "a"],
        vec!["posts", "put", "a", "/etc/passwd"],
        vec!["post", "/etc/passwd"],
    ];
    for arguments in cases {
        let whom = if arguments[0] == "post" { "leader" } else { "node" };
        let line = format!(
            "memdb: nothing answers at {url} (connection refused): is the {whom} running? start one with `memdb leader`\n"
        );
        let ran = run(memdb().args(&arguments).args(["--server", &url]));
        assert_eq!((ran.code, ran.err.as_str()), (1, line.as_str()), "{arguments:?}");
    }
}

#[test]
fn clients_and_nodes_read_addresses_alike() {
    let fake = leader();
    let port = fake.url.rsplit(':').next().expect("a port");
    for server in [port.to_owned(), format!("127.0.0.1:{port}"), format!("{}/", fake.url)] {
        let ran = run(memdb().args(["health", "--server", &server]));
        assert_eq!((ran.code, ran.out), (0, format!("ready: {}\n", fake.url)), "{server}: {}", ran.err);
        let settings = ["config", "--role", "replica", "--leader", &server, "--advertise", &server];
        let ran = run(memdb().args(settings));
        assert_eq!(ran.code, 0, "{server}: {}", ran.err);
    }
    let ran = run(memdb().args(["top", "--server", "no-such-host.invalid"]));
    assert!(ran.code == 1 && ran.err.contains("http://no-such-host.invalid:8080 (no such name: "), "{}", ran.err);
}

#[test]
fn a_node_that_hangs_is_waited_for_as_long_as_was_said() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("a port"); // connects, and nobody answers
    let server = hanging.local_addr().expect("bound").to_string();
    let dir = tempfile::TempDir::new().expect("a directory");
    let dir = dir.path().to_str().expect("UTF-8");
    let restore = ["restore", "--data-dir", dir, "--from", &server];
    let ask: [&[&str]; 8] = [
        &["get", "a", "--server", &server],
        &["top", "--server", &server],
        &["health", "--json", "--server", &server],
        &["status", "--server", &server],
        &["stats", "--server", &server],
        &["posts", "list", "--server", &server],
        &["promote", &server, "--wait", "0"],
        &restore,
    ];
    let begun = std::time::Instant::now();
    for arguments in ask {
        let ran = run(memdb().args(arguments).args(["--timeout", "1"]));
        assert!(ran.code == 1 && ran.err.contains(&format!("http://{server}")), "{arguments:?}: {}", ran.err);
        assert_eq!(ran.out.contains("\"ready\":false"), arguments[0] == "health", "{arguments:?}: {}", ran.out);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(50), "the default would be 60 s in all");
}

#[test]
fn mistakes_exit_2_and_say_what_would_be_right() {
    let cases: [(&[&str], &str); 25] = [
        (&["leader", "--port", "70000"], "give a whole number from 0 to 65535"),
        (&["leader", "--bind", "0.0.0.0"], "--insecure"),
        (&["leader", "--analyzer", "go"], "standard"),
        (&["leader", "--prot", "1"], "'--port'"),
        (&["leeder"], "'leader'"),
        (&["leader", "--replica", "127.0.0.1:8081/x"], "give http://HOST:PORT"),
        (&["leader", "--leader", "http://127.0.0.1:8080"], "'--leader'"),
        (&["leader", "--ack", "all"], "replica+disk"),
        (&["replica"], "needs --leader URL"),
        (&["replica", "--leader", "http://127.0.0.1:8080/sync"], "give http://HOST:PORT without a path"),
        (&["replica", "--leader", "http://a:1", "--cluster-secret-file", "no-such-file"], "the file cannot be read"),
        (&["replica", "--leader", "http://a:1", "--bind", "10.0.0.1", "--insecure"], "--cluster-secret-file FILE"),
        (&["local-replica"], "needs --data-dir DIR"),
        (&["config", "--role", "replica"], "needs --leader URL"),
        (&["get"], "<WORD>"),
        (&["top", "-n", "100001"], "1..=100000"),
        (&["post", "--again", "--stream", "x", "f"], "cannot be used with"),
        (&["cache", "put", "a", "--ttl", "soon"], "give seconds, such as 60 or 0.5"),
        (&["cache", "put", "a", "--ttl", "-1"], "give seconds, such as 60 or 0.5"),
        (&["cache", "get", ".."], "a path cannot name it"),
        (&["posts", "put", "a", "--if-absent", "--if-match", "*"], "cannot be used with"),
        (&["posts", "del"], "<KEY>"),
        (&["cache", "del", "a", "b", "--if-match", "*"], "goes with one key"),
        (&["health", "--server", "ftp://x"], "such as http://127.0.0.1:8080"),
        (&["config", "--config", "no-such-file.toml"], "cannot read the settings in no-such-file.toml"),
    ];
    for (arguments, fix) in cases {
        let ran = run(memdb().args(arguments));
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(fix), "{arguments:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{arguments:?}");
    }
}

#[test]
fn config_shows_each_value_and_its_source() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("memdb.toml");
    std::fs::write(&file, "queue = 10\nport = 1\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let ask = |json: &[&str]| {
        run(memdb().env("MEMDB_PORT", "2").args(["config", "--config", file, "--threads", "3"]).args(json))
    };
    let plain = ask(&[]).out;
    let line = |name: &str| plain.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
    let fields = |name: &str| line(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(fields("port "), ["port", "2", "environment", "MEMDB_PORT"]);
    assert_eq!(fields("threads "), ["threads", "3", "flag"]);
    assert_eq!(fields("queue "), ["queue", "10", "file", file]);
    assert_eq!(fields("bind "), ["bind", "127.0.0.1", "default"]);
    let json: serde_json::Value = serde_json::from_str(&ask(&["--json"]).out).expect("JSON");
    assert_eq!(json["port"], serde_json::json!({"value": "2", "source": "environment MEMDB_PORT"}));
}

#[test]
fn config_shows_the_settings_of_a_role_and_of_a_secret_only_its_file() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("secret");
    std::fs::write(&file, "0123456789abcdef\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let ask = |extra: &[&str]| {
        run(memdb()
            .args(["config", "--role", "replica", "--leader", "http://a:1", "--cluster-secret-file", file])
            .args(extra))
    };
    let json: serde_json::Value = serde_json::from_str(&ask(&["--json"]).out).expect("JSON");
    assert_eq!(json["leader"]["value"], "http://a:1");
    assert_eq!(json["port"], serde_json::json!({"value": "8081", "source": "default"}));
    assert_eq!(json["cluster-secret-file"]["value"], file);
    assert_eq!(json["ack"]["value"], "replica", "for the day it leads");
    assert_eq!(json.get("init"), None);
    assert!(!json.to_string().contains("0123456789abcdef"));
    let wrong = ask(&["--init"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""));
    assert!(wrong.err.contains("--init is no setting of memdb replica"), "{}", wrong.err);
    std::fs::write(file, "short").expect("written");
    let wrong = ask(&[]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("16 to 1024 characters, not 5"), "{}", wrong.err);
}

#[test]
fn flags_that_may_be_repeated_are_a_list() {
    let ran = run(memdb().args(["config", "--json", "--replica", "http://a:1", "--replica", "http://b:1,http://c:1"]));
    let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(json["replica"]["value"], "http://a:1,http://b:1,http://c:1");
}

#[test]
fn help_names_defaults_and_what_is_required() {
    let help = |verb: &str| run(memdb().args([verb, "--help"])).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help("leader").contains("0 lets the system choose [default: 8080]"));
    assert!(help("replica").contains("0 lets the system choose [default: 8081]"));
    assert!(help("replica").contains("such as http://127.0.0.1:8080 [required]"));
    assert!(!help("replica").contains("--init"));
    assert!(help("config").contains("[default: leader: 8080; replica, local-replica: 8081]"));
    assert!(help("config").contains("[default: leader: ./data; replica: none; local-replica: required]"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("memdb"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn help_exits_0_and_shows_examples() {
    let verbs = "leader replica local-replica config post get top cache posts stats ns export import health status inspect repair backup restore completions";
    for verb in verbs.split(' ') {
        let ran = run(memdb().args([verb, "--help"]));
        assert_eq!(ran.code, 0, "{verb}");
        assert!(ran.out.contains("EXAMPLES"), "{verb}");
    }
    assert_eq!(run(&mut memdb()).code, 2);
}
