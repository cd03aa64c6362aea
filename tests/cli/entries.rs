//! `memdb cache`, `memdb posts` and `memdb stats` at a real leader.

use crate::{Ran, memdb, run};
use tempfile::TempDir;
use testkit::process::{Node, Start};

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
        run(memdb().env("MEMDB_SERVER", &self.node.url).args(arguments))
    }

    /// Runs what must succeed; its output.
    #[track_caller]
    fn say(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran.out
    }

    fn count(&self, word: &str) -> i64 {
        testkit::client::read(&self.node.url, &[word])[word]
    }
}

#[test]
fn a_value_comes_back_as_it_was_put_whatever_its_bytes_and_its_key() {
    let leader = Leader::new();
    let bytes: Vec<u8> = (0..=255).collect();
    for (key, value) in [("a/b", &bytes[..]), ("ü +%2F?#", b"x\n"), ("empty", b"")] {
        let put = memdb()
            .env("MEMDB_SERVER", &leader.node.url)
            .args(["cache", "put", key])
            .write_stdin(value)
            .output()
            .expect("the binary runs");
        assert!(put.status.success(), "{key}: {}", String::from_utf8_lossy(&put.stderr));
        assert_eq!(String::from_utf8_lossy(&put.stdout), format!("{key}: {} bytes\n", value.len()));
        let got = memdb().env("MEMDB_SERVER", &leader.node.url).args(["cache", "get", key]).output();
        assert_eq!(got.expect("the binary runs").stdout, value, "{key}");
    }
    let elsewhere = leader.run(&["cache", "get", "a/b", "--ns", "other"]);
    assert_eq!((elsewhere.code, elsewhere.out.as_str()), (1, ""));
    assert!(elsewhere.err.contains("there is no entry a/b in namespace other at http://"), "{}", elsewhere.err);
}

#[test]
fn a_value_with_a_time_to_live_says_so_and_its_description_is_json() {
    let leader = Leader::new();
    let put = ["cache", "put", "session/17", "--value", "alice", "--content-type", "text/plain", "--ttl", "600.5"];
    assert_eq!(leader.say(&put), "session/17: 5 bytes, expires in 600.5 s\n");
    let json: serde_json::Value =
        serde_json::from_str(&leader.say(&["cache", "get", "session/17", "--json"])).expect("JSON");
    assert_eq!((&json["value"], &json["bytes"], &json["key"]), (&"alice".into(), &5.into(), &"session/17".into()));
    assert!(json["etag"].as_str().is_some_and(|etag| etag.len() == 66), "{json}");
    let json: serde_json::Value = serde_json::from_str(&leader.say(&["cache", "list", "--json"])).expect("JSON");
    assert!(json["expires_in"].as_f64().is_some_and(|left| left > 590.0 && left <= 600.5), "{json}");
}

#[test]
fn a_condition_that_does_not_hold_is_exit_1_and_changes_nothing() {
    let leader = Leader::new();
    leader.say(&["cache", "put", "lock", "--value", "me", "--if-absent"]);
    let second = leader.run(&["cache", "put", "lock", "--value", "you", "--if-absent"]);
    assert_eq!((second.code, second.out.as_str()), (1, ""));
    assert!(second.err.contains("412"), "{}", second.err);
    assert_eq!(leader.run(&["cache", "del", "lock", "--if-match", "\"0\""]).code, 1);
    assert_eq!(leader.say(&["cache", "get", "lock"]), "me");
}

#[test]
fn touch_sets_the_expiry_and_leaves_the_value() {
    let leader = Leader::new();
    leader.say(&["cache", "put", "a b", "--value", "1", "--ttl", "600"]);
    leader.say(&["posts", "put", "17", "--value", "rain", "--ttl", "600"]);
    assert_eq!(leader.say(&["cache", "touch", "a b", "--ttl", "0"]), "1 stay\n");
    assert_eq!(leader.say(&["posts", "touch", "17", "--ttl", "900.5"]), "1 expire in 900.5 s\n");
    let listed = |kind: &str| -> serde_json::Value {
        serde_json::from_str(&leader.say(&[kind, "list", "--json"])).expect("JSON")
    };
    assert_eq!(listed("cache")["expires_in"], serde_json::Value::Null);
    assert!(listed("posts")["expires_in"].as_f64().is_some_and(|left| left > 890.0));
    assert_eq!((leader.say(&["cache", "get", "a b"]), leader.count("rain")), ("1".to_owned(), 1));
    let ran = leader.run(&["cache", "touch", "a b", "none", "--ttl", "5", "--json"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "{\"absent\":[\"none\"],\"touched\":1}\n"));
    assert!(ran.err.contains("there is no entry none"), "{}", ran.err);
    assert_eq!(leader.run(&["cache", "touch", "a b"]).code, 2, "a time is wanted");
    assert_eq!(leader.run(&["cache", "touch", "a b", "--ttl", "5", "--if-match", "\"0\""]).code, 1);
}

#[test]
fn deletes_say_how_many_there_were_and_what_was_not_there() {
    let leader = Leader::new();
    leader.say(&["cache", "put", "a", "--value", "1"]);
    let ran = leader.run(&["cache", "del", "a", "b"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "1 deleted\n", "memdb: there is no entry b\n"));
    let json: serde_json::Value = serde_json::from_str(&leader.say(&["cache", "del", "a", "--json"])).expect("JSON");
    assert_eq!(json, serde_json::json!({"deleted": 0, "absent": ["a"]}));
}

#[test]
fn a_list_that_is_cut_goes_on_behind_the_key_it_names() {
    let leader = Leader::new();
    for key in ["s/1", "s/2", "s/3", "other"] {
        leader.say(&["cache", "put", key, "--value", key]);
    }
    let first = leader.run(&["cache", "list", "s/", "-n", "2"]);
    assert_eq!((first.code, first.out.lines().count()), (0, 2), "{}", first.err);
    let after = first.err.trim().strip_prefix("memdb: there are more: go on with --after ").expect("more").to_owned();
    let rest = leader.run(&["cache", "list", "s/", "--after", &after]);
    assert_eq!((rest.code, rest.out.lines().count(), rest.err.as_str()), (0, 1, ""));
    let mut keys: Vec<_> = [&first.out, &rest.out]
        .iter()
        .flat_map(|out| out.lines())
        .map(|line| line.split_whitespace().next().expect("a key").to_owned())
        .collect();
    keys.sort();
    assert_eq!(keys, ["s/1", "s/2", "s/3"]);
}

#[test]
fn a_post_counts_while_it_is_there_and_an_equal_one_not_again() {
    let leader = Leader::new();
    let put = |text| leader.say(&["posts", "put", "17", "--value", text]);
    assert_eq!(put("rain and wind"), "17: 13 bytes, 3 words\n");
    put("rain and wind");
    assert_eq!(["rain", "wind"].map(|word| leader.count(word)), [1, 1]);
    put("rain");
    assert_eq!(["rain", "wind"].map(|word| leader.count(word)), [1, 0]);
    assert_eq!(leader.say(&["posts", "get", "17"]), "rain");
    assert_eq!(leader.say(&["posts", "put", "18", "--value", "rain", "--no-count"]), "18: 4 bytes\n");
    assert_eq!(leader.say(&["posts", "list"]).lines().count(), 2);
    leader.say(&["posts", "del", "17"]);
    assert_eq!(leader.count("rain"), 0);
    let gone = leader.run(&["posts", "get", "17"]);
    assert_eq!(gone.code, 1);
    assert!(gone.err.starts_with("memdb: there is no post 17 at http://"), "{}", gone.err);
}

#[test]
fn a_json_file_is_a_post_of_its_title_and_content() {
    let (leader, dir) = (Leader::new(), TempDir::new().expect("a directory"));
    let file = dir.path().join("post.json");
    std::fs::write(&file, r#"{"id":"1","title":"Storm","content":"storm again","author":"me"}"#).expect("written");
    leader.say(&["posts", "put", "1", file.to_str().expect("UTF-8")]);
    assert_eq!(["storm", "again", "me"].map(|word| leader.count(word)), [2, 1, 0]);
}

#[test]
fn stats_and_status_tell_of_entries() {
    let leader = Leader::new();
    leader.say(&["cache", "put", "a", "--value", "1"]);
    leader.say(&["cache", "get", "a"]);
    leader.run(&["cache", "get", "b"]);
    let json: serde_json::Value = serde_json::from_str(&leader.say(&["stats", "--json"])).expect("JSON");
    let number = |name: &str| json[name].as_u64();
    assert_eq!(["entries", "gets", "hits", "misses"].map(number), [Some(1), Some(2), Some(1), Some(1)], "{json}");
    let shown = leader.say(&["stats"]);
    assert!(shown.contains("hits") && shown.contains(&leader.node.url), "{shown}");
    assert!(leader.say(&["status"]).contains("entries"));
}

#[test]
fn a_value_larger_than_the_node_takes_is_refused_with_the_bound() {
    let (leader, dir) = (Leader::new(), TempDir::new().expect("a directory"));
    let file = dir.path().join("large");
    for (bytes, said) in
        [((1 << 20) + 1, "413"), ((8 << 20) + 1, "larger than the 8,388,608 bytes that a node may take")]
    {
        std::fs::write(&file, vec![b'a'; bytes]).expect("written");
        let ran = leader.run(&["cache", "put", "large", file.to_str().expect("UTF-8")]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{bytes}");
        assert!(ran.err.contains(said), "{bytes}: {}", ran.err);
    }
}
