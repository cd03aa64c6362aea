//! Entries of a cache: any bytes under any key, for a time or for ever.

use crate::node::{Node, settings};
use memdb::api::http::HttpSettings;
use std::time::Duration;
use testkit::wire::{Answer, Wire};

/// SHA-256 of nothing, and of `hello`.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn put(wire: &mut Wire, target: &str, body: impl AsRef<[u8]>) -> Answer {
    wire.ask(&format!("PUT {target} HTTP/1.1"), body)
}

fn delete(wire: &mut Wire, target: &str) -> Answer {
    wire.ask(&format!("DELETE {target} HTTP/1.1"), "")
}

fn many(wire: &mut Wire, target: &str, body: &str) -> Answer {
    wire.ask(&format!("POST {target} HTTP/1.1\r\nContent-Type: application/json"), body)
}

#[test]
fn a_value_is_served_as_it_came_with_its_type_and_tag() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let stored = wire.ask("PUT /cache/greeting?ttl=60 HTTP/1.1\r\nContent-Type: text/html", "hello");
    let expected =
        format!(r#"{{"key":"greeting","etag":"{HELLO}","expires_in":60,"acks":0,"position":"1-1-00000007"}}"#);
    assert_eq!((stored.status, stored.text()), (200, &*expected));
    let tag = format!("\"{HELLO}\"");
    assert_eq!(stored.header("etag"), Some(&*tag));
    assert_eq!((stored.header("memdb-position"), stored.header("memdb-acks")), (Some("1-1-00000007"), Some("0")));
    node.clock.advance(Duration::from_millis(20_500));
    let read = wire.get("/cache/greeting");
    assert_eq!((read.status, read.text()), (200, "hello"));
    for (name, value) in [
        ("content-type", "text/html"),
        ("etag", &*tag),
        ("memdb-position", "1-1-00000007"),
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    ] {
        assert_eq!(read.header(name), Some(value), "{name}");
    }
    let head = wire.ask("HEAD /cache/greeting HTTP/1.1", "");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5"), 0));
    assert_eq!(head.header("etag"), Some(&*tag));
    // Without a type and without a time.
    assert_eq!(put(&mut wire, "/cache/raw", b"\xff\x00\xfe").json()["expires_in"], serde_json::Value::Null);
    let raw = wire.get("/cache/raw");
    assert_eq!((raw.header("content-type"), raw.header("cache-control")), (Some("application/octet-stream"), None));
    assert_eq!(raw.body, b"\xff\x00\xfe");
}

/// A fault of the system whose part this is: it took an empty value for none.
#[test]
fn an_empty_value_is_a_value() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    assert_eq!(put(&mut wire, "/cache/empty", "").status, 200);
    let read = wire.get("/cache/empty");
    assert_eq!((read.status, read.body.len(), read.header("content-length")), (200, 0, Some("0")));
    assert_eq!(read.header("etag"), Some(&*format!("\"{EMPTY}\"")));
    let listed = wire.get("/cache?key=empty").json();
    assert_eq!((&listed["entries"][0]["found"], &listed["entries"][0]["value"]), (&true.into(), &"".into()));
}

#[test]
fn any_text_is_a_key_and_each_is_another() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let long = "k".repeat(512);
    let keys =
        ["a", "A", "a/b", "a/b/", "a//b", "%E5%8C%97%E4%BA%AC", "a%20b", "a+b", "%2525", "%00", "a%3Fb", "...", &long];
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(put(&mut wire, &format!("/cache/{key}"), format!("value {at}")).status, 200, "{key}");
    }
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(wire.get(&format!("/cache/{key}")).text(), format!("value {at}"), "{key}");
    }
    assert_eq!(wire.get("/cache/a%2Fb").text(), "value 2", "an encoded slash is a slash");
    assert_eq!(put(&mut wire, "/cache/a%2Fb", "x").json()["key"], "a/b");
    assert_eq!(wire.get("/cache?ns=other&key=a").json()["entries"][0]["found"], false, "a namespace of its own");
}

#[test]
fn a_key_or_a_value_or_a_time_that_cannot_be_is_refused() {
    let node = Node::start(HttpSettings { max_value_bytes: 100, ..settings() });
    let mut wire = Wire::to(node.address());
    let (long, most) = (format!("/cache/{}", "k".repeat(513)), "v".repeat(100));
    assert_eq!(put(&mut wire, "/cache/most", &most).status, 200);
    for (target, body, status, problem) in [
        ("/cache/a", "v".repeat(101), 413, "body-too-large"),
        (&*long, String::new(), 400, "invalid-parameter"),
        ("/cache/%zz", String::new(), 400, "invalid-parameter"),
        ("/cache/a%2", String::new(), 400, "invalid-parameter"),
        ("/cache/.", String::new(), 400, "invalid-parameter"),
        ("/cache/..", String::new(), 400, "invalid-parameter"),
        ("/cache/%2e%2E", String::new(), 400, "invalid-parameter"),
        ("/posts/.%2e", String::new(), 400, "invalid-parameter"),
        ("/cache/%ff", String::new(), 400, "invalid-utf8"),
        ("/cache/a?ttl=-1", String::new(), 400, "invalid-parameter"),
        ("/cache/a?ttl=NaN", String::new(), 400, "invalid-parameter"),
        ("/cache/a?ttl=inf", String::new(), 400, "invalid-parameter"),
        ("/cache/a?ttl=1e999", String::new(), 400, "invalid-parameter"),
        ("/cache/a?ttl=99999999999999999999", String::new(), 400, "invalid-parameter"),
        ("/cache/a?ttl=", String::new(), 400, "invalid-parameter"),
        ("/cache/a?ttl=1&ttl=1", String::new(), 400, "invalid-parameter"),
        ("/cache/a?ns=..", String::new(), 400, "invalid-parameter"),
        ("/cache/a?ack=all", String::new(), 400, "invalid-parameter"),
    ] {
        let answer = put(&mut Wire::to(node.address()), target, &body);
        assert_eq!((answer.status, &*answer.problem()), (status, problem), "{target}");
    }
    let typed = format!("PUT /cache/a HTTP/1.1\r\nContent-Type: {}", "t".repeat(128));
    assert_eq!(wire.ask(&typed, "").problem(), "invalid-header");
    assert_eq!(wire.get("/cache/a").problem(), "entry-not-found", "nothing of it was stored");
    let allowed = Wire::to(node.address()).ask("POST /cache/a HTTP/1.1", "v");
    assert_eq!((allowed.status, allowed.header("allow")), (405, Some("PUT, GET, HEAD, PATCH, DELETE")));
    assert_eq!(put(&mut wire, "/cache/", "").header("allow"), Some("POST, GET, HEAD"), "an empty key is none");
}

/// A value is served as it came, and so is its type: what came encoded would be served as if it were not.
#[test]
fn a_value_that_comes_encoded_is_refused_and_not_stored() {
    let node = Node::start(settings());
    let body = zstd::encode_all(&b"hello hello"[..], 3).expect("a Vec takes every byte");
    for target in ["PUT /cache/a", "PUT /posts/a", "PUT /posts/a?count=false", "POST /create", "POST /cache"] {
        for coding in ["zstd", "gzip", "br", "gzip, zstd", "identity, gzip", ""] {
            let head = format!("{target} HTTP/1.1\r\nContent-Encoding: {coding}");
            let answer = Wire::to(node.address()).ask(&head, &body);
            assert_eq!((answer.status, &*answer.problem()), (415, "unsupported-media-type"), "{target} {coding:?}");
        }
    }
    let mut wire = Wire::to(node.address());
    assert_eq!((wire.get("/cache/a").status, wire.get("/posts/a").status, wire.get("/sync").text()), (404, 404, "{}"));
    // No coding at all may be said so.
    let plain = wire.ask("PUT /cache/a HTTP/1.1\r\nContent-Encoding: identity", "hello");
    assert_eq!((plain.status, wire.get("/cache/a").text()), (200, "hello"));
}

/// Expiry is hidden at once, though no record has said so yet.
#[test]
fn an_entry_is_gone_once_its_time_has_come() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    put(&mut wire, "/cache/short?ttl=0.5", "a");
    put(&mut wire, "/cache/long?ttl=1.5", "b");
    put(&mut wire, "/cache/ever?ttl=0", "c");
    node.clock.advance(Duration::from_millis(499));
    assert_eq!(wire.get("/cache/short").status, 200);
    node.clock.advance(Duration::from_millis(1));
    let gone = wire.get("/cache/short");
    assert_eq!((gone.status, &*gone.problem()), (404, "entry-not-found"));
    assert_eq!(gone.header("memdb-position"), Some("1-3-00000007"), "a read has a position, whatever it finds");
    let many = wire.get("/cache?key=short&key=long&key=ever").json();
    let found: Vec<_> = (0..3).map(|at| many["entries"][at]["found"].clone()).collect();
    assert_eq!(found, [false, true, true]);
    assert_eq!(many["entries"][1]["expires_in"], 1);
    let keys = wire.get("/cache").json();
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "{keys}");
    // What is there for nobody is no obstacle, and no match.
    assert_eq!(wire.ask("PUT /cache/short HTTP/1.1\r\nIf-None-Match: *", "d").status, 200);
    node.clock.advance(Duration::from_secs(100_000));
    assert_eq!((wire.get("/cache/short").text(), wire.get("/cache/ever").text()), ("d", "c"));
    assert_eq!(wire.get("/cache/long").status, 404);
}

#[test]
fn reads_with_a_tag_that_the_client_has_are_304() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    put(&mut wire, "/cache/a?ttl=60", "hello");
    for tag in [&format!("\"{HELLO}\""), HELLO, &format!("W/\"{HELLO}\""), &format!("\"x\", {HELLO}"), "*"] {
        let known = wire.ask(&format!("GET /cache/a HTTP/1.1\r\nIf-None-Match: {tag}"), "");
        assert_eq!((known.status, known.body.len()), (304, 0), "{tag}");
        assert_eq!(known.header("etag"), Some(&*format!("\"{HELLO}\"")));
        assert_eq!((known.header("cache-control"), known.header("content-type")), (Some("no-cache"), None));
    }
    let two = format!("GET /cache/a HTTP/1.1\r\nIf-None-Match: \"x\"\r\nIf-None-Match: \"{HELLO}\"");
    assert_eq!(wire.ask(&two, "").status, 304);
    put(&mut wire, "/cache/a", "changed");
    let changed = wire.ask(&format!("GET /cache/a HTTP/1.1\r\nIf-None-Match: \"{HELLO}\""), "");
    assert_eq!((changed.status, changed.text()), (200, "changed"));
    let range = wire.ask("GET /cache/a HTTP/1.1\r\nRange: bytes=0-1", "");
    assert_eq!((range.status, range.text()), (200, "changed"), "ranges are not known");
}

#[test]
fn a_condition_where_none_is_taken_is_refused_and_not_passed_over() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    put(&mut wire, "/cache/a", "kept");
    for (target, body) in [
        ("/cache", r#"{"entries":[{"key":"a","value":"lost"}]}"#),
        ("/post?store=true", r#"{"id":"a","text":"hello"}"#),
        ("/post?ttl=60", r#"{"text":"hello"}"#),
        ("/post", r#"{"text":"hello"}"#),
        ("/update", r#"{"hello":1}"#),
    ] {
        for condition in ["If-Match: \"x\"", "If-None-Match: *"] {
            let line = format!("POST {target} HTTP/1.1\r\nContent-Type: application/json\r\n{condition}");
            let refused = wire.ask(&line, body);
            assert_eq!((refused.status, &*refused.problem()), (400, "invalid-header"), "{target} {condition}");
        }
    }
    assert_eq!((wire.get("/cache/a").text(), wire.get("/top").text()), ("kept", "[]"));
    wire.post("hello");
    for condition in ["If-Match: *", "If-None-Match: \"x\""] {
        for (line, body) in [
            ("POST /bulk HTTP/1.1\r\nContent-Type: text/plain", "hello"),
            // What the fast path would take.
            ("POST /post HTTP/1.1", "hello"),
            ("DELETE /wordcount?word=hello HTTP/1.1", ""),
            ("DELETE /ns/words HTTP/1.1", ""),
        ] {
            let refused = Wire::to(node.address()).ask(&format!("{line}\r\n{condition}"), body);
            assert_eq!((refused.status, &*refused.problem()), (400, "invalid-header"), "{line} {condition}");
        }
    }
    assert_eq!(wire.get("/wordcount?word=hello").text(), r#"{"hello":1}"#);
}

#[test]
fn a_write_that_depends_on_another_state_is_412() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let write = |wire: &mut Wire, method: &str, condition: &str| {
        let answer =
            wire.ask(&format!("{method} /cache/a HTTP/1.1\r\n{condition}"), if method == "PUT" { "hello" } else { "" });
        assert!(
            answer.status == 200 || (answer.status, &*answer.problem()) == (412, "precondition-failed"),
            "{answer:?}"
        );
        answer.status
    };
    let (tag, weak) = (format!("If-Match: \"{HELLO}\""), format!("If-Match: W/\"{HELLO}\""));
    assert_eq!(write(&mut wire, "PUT", "If-Match: *"), 412, "there is nothing yet");
    assert_eq!(write(&mut wire, "PUT", &tag), 412);
    assert_eq!(write(&mut wire, "DELETE", &tag), 412);
    assert_eq!(write(&mut wire, "PUT", "If-None-Match: *"), 200);
    assert_eq!(write(&mut wire, "PUT", "If-None-Match: *"), 412);
    assert_eq!(write(&mut wire, "PUT", &tag), 200);
    assert_eq!(write(&mut wire, "PUT", &format!("If-Match: {HELLO}")), 200, "without quotes too");
    assert_eq!(write(&mut wire, "PUT", &weak), 412, "a weak tag never matches strongly");
    assert_eq!(write(&mut wire, "PUT", &format!("If-None-Match: \"{HELLO}\"")), 412);
    assert_eq!(write(&mut wire, "PUT", "If-None-Match: \"other\""), 200);
    assert_eq!(write(&mut wire, "DELETE", "If-Match: \"other\""), 412);
    assert_eq!(wire.get("/cache/a").text(), "hello");
    assert_eq!(write(&mut wire, "DELETE", &tag), 200);
    assert_eq!(wire.get("/cache/a").status, 404);
    let both = wire.ask("PUT /cache/a HTTP/1.1\r\nIf-Match: *\r\nIf-None-Match: *", "v");
    assert_eq!((both.status, &*both.problem()), (400, "invalid-header"));
}

#[test]
fn a_patch_sets_the_expiry_alone() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let patch = |wire: &mut Wire, target: &str| wire.ask(&format!("PATCH {target} HTTP/1.1"), "");
    wire.ask("PUT /cache/a%2Fb?ttl=60 HTTP/1.1\r\nContent-Type: text/x", "hello");
    let set = patch(&mut wire, "/cache/a/b?ttl=1.5");
    let expected = r#"{"key":"a/b","expires_in":1.5,"acks":0,"position":"1-2-00000007"}"#;
    assert_eq!((set.status, set.text()), (200, expected));
    let read = wire.get("/cache/a/b");
    assert_eq!((read.text(), read.header("content-type")), ("hello", Some("text/x")));
    assert_eq!(read.header("etag"), Some(&*format!("\"{HELLO}\"")));
    node.clock.advance(Duration::from_millis(1_000));
    assert_eq!(patch(&mut wire, "/cache/a/b?ttl=0").json()["expires_in"], serde_json::Value::Null);
    node.clock.advance(Duration::from_secs(600));
    assert_eq!(wire.get("/cache/a/b").text(), "hello", "it stays now");
    patch(&mut wire, "/cache/a/b?ttl=1");
    node.clock.advance(Duration::from_secs(1));
    for target in ["/cache/a/b?ttl=60", "/cache/absent?ttl=60", "/cache/a/b?ttl=60&ns=other"] {
        let gone = patch(&mut wire, target);
        assert_eq!((gone.status, &*gone.problem()), (404, "entry-not-found"), "{target}");
    }
    assert_eq!(wire.get("/cache/a/b").status, 404, "what has expired does not come back");
    // A post keeps its words.
    put(&mut wire, "/posts/1?ttl=1", "one two");
    assert_eq!(patch(&mut wire, "/posts/1?ttl=90").json()["id"], "1");
    node.clock.advance(Duration::from_secs(2));
    assert_eq!(wire.get("/posts/1").text(), "one two");
    assert_eq!(wire.get("/wordcount?word=two").text(), r#"{"two":1}"#);
    assert_eq!(patch(&mut wire, "/posts/2?ttl=90").problem(), "post-not-found");
}

#[test]
fn a_patch_knows_conditions_and_keys_and_refuses_what_it_cannot_do() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    put(&mut wire, "/cache/a", "hello");
    let mut ask = |line: &str, fields: &str, body: &str| {
        let answer = wire.ask(&format!("PATCH {line} HTTP/1.1{fields}"), body);
        (answer.status, if answer.status < 400 { String::new() } else { answer.problem() })
    };
    let of_other = format!("\r\nIf-Match: \"{EMPTY}\"");
    let of_this = format!("\r\nIf-Match: \"{HELLO}\"");
    for (line, fields, body, status, problem) in [
        ("/cache/a?ttl=1", &*of_other, "", 412, "precondition-failed"),
        ("/cache/a?ttl=1", &*of_this, "", 200, ""),
        ("/cache/absent?ttl=1", "\r\nIf-Match: *", "", 412, "precondition-failed"),
        ("/cache/a", "", "", 400, "invalid-parameter"),
        ("/cache/a?ttl=-1", "", "", 400, "invalid-parameter"),
        ("/cache/a?ttl=1&count=false", "", "", 400, "invalid-parameter"),
        ("/cache/a?ttl=1", "", "another value", 400, "invalid-body"),
        // A repeat is told what the first was told, whatever is there by now.
        ("/cache/b?ttl=9", "\r\nIdempotency-Key: k", "", 404, "entry-not-found"),
        ("/cache/b?ttl=9", "\r\nIdempotency-Key: k", "", 404, "entry-not-found"),
        ("/cache/b?ttl=8", "\r\nIdempotency-Key: k", "", 422, "key-reused"),
        ("/cache/a?ttl=9", "\r\nIdempotency-Key: l", "", 200, ""),
        ("/cache/a?ttl=9", "\r\nIdempotency-Key: l", "", 200, ""),
    ] {
        assert_eq!(ask(line, fields, body), (status, problem.to_owned()), "{line} {fields:?}");
    }
    assert_eq!(wire.get("/cache/a").text(), "hello");
}

#[test]
fn a_delete_says_whether_there_was_anything() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    put(&mut wire, "/cache/a", "v");
    let gone = delete(&mut wire, "/cache/a");
    assert_eq!((gone.status, gone.text()), (200, r#"{"deleted":1,"acks":0,"position":"1-2-00000007"}"#));
    assert_eq!(delete(&mut wire, "/cache/a").json()["deleted"], 0);
    put(&mut wire, "/cache/b", "v");
    for replayed in [None, Some("true")] {
        let keyed = wire.ask("DELETE /cache/b HTTP/1.1\r\nIdempotency-Key: k", "");
        assert_eq!((&keyed.json()["deleted"], keyed.header("memdb-replayed")), (&1.into(), replayed));
    }
    assert_eq!(wire.get("/cache/a").problem(), "entry-not-found");
}

#[test]
fn a_write_under_a_key_is_done_once_and_another_under_it_refused() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let keyed =
        |wire: &mut Wire, line: &str, body: &str| wire.ask(&format!("{line} HTTP/1.1\r\nIdempotency-Key: k"), body);
    let first = keyed(&mut wire, "PUT /cache/a?ttl=5", "v");
    put(&mut wire, "/cache/a", "meanwhile");
    let again = keyed(&mut wire, "PUT /cache/a?ttl=5", "v");
    assert_eq!((again.status, again.text()), (200, first.text()));
    assert_eq!((first.header("memdb-replayed"), again.header("memdb-replayed")), (None, Some("true")));
    assert_eq!(wire.get("/cache/a").text(), "meanwhile");
    for (line, body) in
        [("PUT /cache/a?ttl=5", "w"), ("PUT /cache/a?ttl=6", "v"), ("PUT /cache/b?ttl=5", "v"), ("DELETE /cache/a", "")]
    {
        assert_eq!(keyed(&mut wire, line, body).problem(), "key-reused", "{line}");
    }
}

#[test]
fn many_entries_are_stored_in_one_record_and_read_at_one_position() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let body = r#"{"entries":[{"key":"a","value":"text","ttl":1.5},{"key":"b/ü","base64":"/wA=","content_type":"image/x"},{"key":"c","value":""}]}"#;
    let stored = many(&mut wire, "/cache?ns=other", body);
    assert_eq!((stored.status, stored.text()), (200, r#"{"entries":3,"acks":0,"position":"1-1-00000007"}"#));
    let read = wire.get("/cache?ns=other&key=c&key=a&key=absent&key=b%2F%C3%BC&key=a");
    assert_eq!(read.header("memdb-position"), Some("1-1-00000007"));
    let entries = read.json()["entries"].clone();
    let seen: Vec<_> = entries.as_array().expect("a list").iter().map(|one| one["key"].clone()).collect();
    assert_eq!(seen, ["c", "a", "absent", "b/ü"]);
    assert_eq!((&entries[1]["value"], &entries[1]["expires_in"]), (&"text".into(), &1.5.into()));
    assert_eq!((&entries[3]["base64"], &entries[3]["content_type"]), (&"/wA=".into(), &"image/x".into()));
    assert_eq!(entries[2], serde_json::json!({"key":"absent","found":false}));
    let tag = wire.get("/cache?ns=other&key=c").header("etag").expect("a tag").to_owned();
    let again = wire.ask(&format!("GET /cache?ns=other&key=c HTTP/1.1\r\nIf-None-Match: {tag}"), "");
    assert_eq!(again.status, 304);
    for (body, said) in [
        (r#"{"entries":[{"key":"x","value":"1"},{"key":"x","value":"2"}]}"#, "two entries"),
        (r#"{"entries":[{"key":"x","value":"1"},{"key":"y"}]}"#, "no value"),
        ("{}", "names no entries"),
    ] {
        let refused = many(&mut wire, "/cache", body);
        assert_eq!((refused.status, &*refused.problem()), (400, "invalid-body"));
        assert!(refused.text().contains(said), "{}", refused.text());
    }
    assert_eq!(wire.get("/cache/x").status, 404, "all or none");
    let form =
        Wire::to(node.address()).ask("POST /cache HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded", body);
    assert_eq!(form.status, 415);
    assert_eq!(wire.get("/cache?key=a&prefix=b").problem(), "invalid-parameter");
    assert_eq!(wire.get(&format!("/cache?{}", "key=a&".repeat(1_001))).problem(), "invalid-parameter");
}

#[test]
fn pages_give_every_key_once() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    for at in 0..250 {
        put(&mut wire, &format!("/cache/user%2F{at}"), "v");
    }
    put(&mut wire, "/cache/other", "v");
    let (mut keys, mut after) = (std::collections::BTreeSet::new(), String::new());
    loop {
        let page = wire.get(&format!("/cache?prefix=user/&limit=60{after}")).json();
        for entry in page["keys"].as_array().expect("a list") {
            assert!(keys.insert(entry["key"].as_str().expect("a text").to_owned()), "{entry} comes twice");
            assert_eq!((&entry["bytes"], &entry["expires_in"]), (&1.into(), &serde_json::Value::Null));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", next.replace('/', "%2F")),
            None => break,
        }
    }
    assert_eq!(keys.len(), 250);
    assert_eq!(
        wire.get("/cache").json()["keys"].as_array().map(Vec::len),
        Some(100),
        "a page says nothing of its size"
    );
    for bad in ["limit=0", "limit=1001", "limit=x"] {
        assert_eq!(wire.get(&format!("/cache?{bad}")).problem(), "invalid-parameter", "{bad}");
    }
    assert_eq!(wire.get("/cache?ns=none").text(), r#"{"keys":[],"next":null}"#);
}

#[test]
fn pages_of_other_origins_store_nothing() {
    let node = Node::start(settings());
    for line in
        ["PUT /cache/a", "PATCH /cache/a?ttl=1", "DELETE /cache/a", "PUT /posts/a", "POST /create", "POST /cache"]
    {
        let page = format!("{line} HTTP/1.1\r\nOrigin: http://page.example");
        let refused = Wire::to(node.address()).ask(&page, "v");
        assert_eq!((refused.status, &*refused.problem()), (403, "cross-site"), "{line}");
    }
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.ask("GET /cache/a HTTP/1.1\r\nOrigin: http://page.example", "").status, 404);
}

/// A fault of the system whose part this is: a call that failed was told as a miss.
#[test]
fn a_node_without_data_says_so_and_not_that_there_is_nothing() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    put(&mut wire, "/cache/a", "v");
    node.leader.view().withdraw();
    for target in ["/cache/a", "/cache?key=a", "/cache", "/post?id=a", "/posts/a", "/posts"] {
        let answer = wire.get(target);
        assert_eq!((answer.status, &*answer.problem()), (503, "not-ready"), "{target}");
    }
}

#[test]
fn a_read_of_an_entry_waits_for_its_position() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    put(&mut wire, "/cache/a", "v");
    let read = |wire: &mut Wire, position: &str| {
        wire.ask(&format!("GET /cache/a HTTP/1.1\r\nMemdb-Min-Position: {position}"), "")
    };
    assert_eq!(read(&mut wire, "1-1-00000007").status, 200);
    assert_eq!(read(&mut wire, "1-2-00000007").problem(), "position-ahead");
    assert_eq!(read(&mut wire, "1-1-00000008").problem(), "position-other-database");
}

/// Faults of the system whose part this is: expired entries were never freed, totals were always 0, and every get of an
/// unknown key used memory for ever.
#[test]
fn totals_tell_what_is_there_and_go_back_once_it_is_gone() {
    let data = tempfile::TempDir::new().expect("a directory");
    let leading = testkit::node::lead(data.path(), &[]).expect("a leader");
    let mut wire = Wire::to(leading.address());
    let stats = |wire: &mut Wire| wire.get("/stats?scope=node").json();
    assert_eq!((&stats(&mut wire)["entries"], &stats(&mut wire)["bytes"]), (&0.into(), &0.into()));
    for at in 0..10 {
        put(&mut wire, &format!("/cache/{at}?ttl=0.2"), "v".repeat(1_000));
    }
    put(&mut wire, "/cache/kept", "v");
    let before = stats(&mut wire);
    assert!(before["bytes"].as_u64().is_some_and(|bytes| bytes > 1), "{before}");
    testkit::wait_until("what has expired to be freed", || stats(&mut wire)["entries"] == 1);
    let after = stats(&mut wire);
    assert_eq!((&after["expired"], &after["evicted"]), (&10.into(), &0.into()));
    assert!(after["bytes"].as_u64() < Some(1_000), "{after}");
    for at in 0..1_000 {
        assert_eq!(wire.get(&format!("/cache/unknown-{at}")).status, 404);
    }
    wire.get("/cache/kept");
    let reads = stats(&mut wire);
    assert_eq!((&reads["bytes"], &reads["entries"]), (&after["bytes"], &1.into()), "a get keeps nothing");
    assert_eq!((&reads["gets"], &reads["hits"], &reads["misses"]), (&1_001.into(), &1.into(), &1_000.into()));
    let status = wire.get("/status").json();
    assert_eq!((&status["entries"]["count"], &status["entries"]["expired"]), (&1.into(), &10.into()));
    let metrics = wire.get("/metrics");
    for line in [
        "memdb_entries 1",
        "memdb_entries_expired_total 10",
        "memdb_entries_evicted_total 0",
        "memdb_entry_gets_total{result=\"miss\"} 1000",
    ] {
        assert!(metrics.text().contains(line), "no {line} in {}", metrics.text());
    }
}
