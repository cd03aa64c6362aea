//! Posts: documents served as they came, whose words are counted as long as they are there.

use crate::node::{Node, settings};
use memdb::api::http::HttpSettings;
use std::time::Duration;
use testkit::wire::{Answer, Wire};

const POST: &str = r#"{"id":"7", "title":"Hello world","content":"hello again","author":"Ann Author"}"#;

fn ask(wire: &mut Wire, line: &str, body: &str) -> Answer {
    wire.ask(&format!("{line} HTTP/1.1\r\nContent-Type: application/json"), body)
}

fn counts(wire: &mut Wire, target: &str) -> String {
    wire.get(target).text().to_owned()
}

const COUNTS: &str = "/wordcount?word=hello&word=world&word=again&word=author";

#[test]
fn a_created_post_is_served_byte_for_byte_with_its_hash_as_tag() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let created = ask(&mut wire, "POST /create", POST);
    assert_eq!(created.status, 200, "{created:?}");
    let answer = created.json();
    let hash = answer["hash"].as_str().expect("a hash").to_owned();
    assert_eq!((&answer["status"], &answer["post_id"]), (&"success".into(), &"7".into()));
    assert_eq!((&answer["words"], &answer["distinct"], hash.len()), (&4.into(), &3.into(), 64));
    for target in ["/post?id=7", "/posts/7"] {
        let read = wire.get(target);
        assert_eq!((read.status, read.body.as_slice()), (200, POST.as_bytes()), "{target}");
        assert_eq!(read.header("content-type"), Some("application/json"));
        assert_eq!(read.header("etag"), Some(&*format!("\"{hash}\"")));
        // The hash that `/create` gave is taken bare, as it was.
        for tag in [hash.clone(), format!("\"{hash}\"")] {
            let known = wire.ask(&format!("GET {target} HTTP/1.1\r\nIf-None-Match: {tag}"), "");
            assert_eq!((known.status, known.body.len()), (304, 0), "{target} {tag}");
        }
    }
    let took = wire.get("/post?id=7");
    let took = took.header("x-response-time").and_then(|text| text.parse::<u64>().ok()).expect("nanoseconds");
    assert!(took > 0);
    assert_eq!(counts(&mut wire, COUNTS), r#"{"hello":2,"world":1,"again":1,"author":0}"#);
    let other = ask(&mut wire, "POST /create", &POST.replace("again", "twice"));
    assert_ne!(other.json()["hash"], hash, "another document has another hash");
}

/// Faults of the system whose part this is.
#[test]
fn a_post_without_an_id_is_refused_and_one_that_is_not_there_not_found() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    for body in [
        "{}",
        r#"{"title":"a"}"#,
        r#"{"id":""}"#,
        r#"{"id":7}"#,
        "[]",
        "",
        "null",
        r#"{"id":"a","title":5}"#,
        r#"{"id":"a","content":"\u0000"}"#,
    ] {
        let refused = ask(&mut wire, "POST /create", body);
        assert_eq!((refused.status, &*refused.problem()), (400, "invalid-body"), "{body}");
    }
    assert_eq!(wire.get("/post").problem(), "invalid-parameter");
    assert_eq!(wire.get("/post?id=").problem(), "invalid-parameter");
    for target in ["/post?id=a", "/posts/a", "/post?id=a&ns=other"] {
        let absent = wire.get(target);
        assert_eq!((absent.status, &*absent.problem()), (404, "post-not-found"), "{target}");
    }
    assert_eq!(wire.get("/top").text(), "[]", "nothing of it was counted");
}

#[test]
fn clients_of_the_earlier_system_send_their_json_as_a_form() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let form = wire.ask("POST /create HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded", POST);
    assert_eq!((form.status, wire.get("/post?id=7").header("content-type")), (200, Some("application/json")));
}

#[test]
fn a_post_that_is_replaced_or_deleted_takes_its_words_back() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("hello kept");
    let before = wire.get("/sync").text().to_owned();
    ask(&mut wire, "PUT /posts/7?ns=words", r#"{"text":"hello hello world"}"#);
    assert_eq!(counts(&mut wire, COUNTS), r#"{"hello":3,"world":1,"again":0,"author":0}"#);
    let equal = ask(&mut wire, "PUT /posts/7", r#"{"text":"hello hello world"}"#);
    assert_eq!(equal.status, 200);
    assert_eq!(counts(&mut wire, COUNTS), r#"{"hello":3,"world":1,"again":0,"author":0}"#, "a repeat counts nothing");
    let plain = wire.ask("PUT /posts/7 HTTP/1.1\r\nContent-Type: text/plain", "world again");
    assert_eq!((plain.status, &plain.json()["id"]), (200, &"7".into()));
    assert_eq!(counts(&mut wire, COUNTS), r#"{"hello":1,"world":1,"again":1,"author":0}"#);
    let gone = wire.ask("DELETE /posts/7 HTTP/1.1", "");
    assert_eq!((gone.status, &gone.json()["deleted"]), (200, &1.into()));
    assert_eq!(wire.get("/sync").text(), before);
    assert_eq!(wire.get("/posts/7").problem(), "post-not-found");
}

#[test]
fn words_that_were_taken_away_by_hand_are_not_taken_below_zero() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    ask(&mut wire, "PUT /posts/7", r#"{"text":"hello hello world"}"#);
    ask(&mut wire, "POST /update", r#"{"hello":-1}"#);
    for line in ["DELETE /posts/7", "PUT /posts/7"] {
        let refused = ask(&mut wire, line, if line.starts_with("PUT") { r#"{"text":"other"}"# } else { "" });
        assert_eq!((refused.status, &*refused.problem()), (409, "below-zero"), "{line}");
    }
    assert_eq!(counts(&mut wire, COUNTS), r#"{"hello":1,"world":1,"again":0,"author":0}"#);
    ask(&mut wire, "POST /update", r#"{"hello":1}"#);
    assert_eq!(wire.ask("DELETE /posts/7 HTTP/1.1", "").status, 200);
}

#[test]
fn documents_of_other_types_are_stored_when_they_are_not_to_be_counted() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let page = "PUT /posts/page?count=false HTTP/1.1\r\nContent-Type: text/html";
    assert_eq!(wire.ask(page, "<p>hello").status, 200);
    let read = wire.get("/posts/page");
    assert_eq!((read.header("content-type"), read.text()), (Some("text/html"), "<p>hello"));
    assert_eq!(wire.get("/top").text(), "[]");
    for media in [
        "text/html",
        "application/x-www-form-urlencoded",
        "text/plain; charset=utf-16le",
        "multipart/form-data; boundary=b",
    ] {
        let refused = wire.ask(&format!("PUT /posts/a HTTP/1.1\r\nContent-Type: {media}"), "text=hello");
        assert_eq!((refused.status, &*refused.problem()), (415, "unsupported-media-type"), "{media}");
        assert!(refused.header("accept-post").is_some_and(|list| list.contains("text/plain")));
    }
    let odd = wire.ask("PUT /posts/a HTTP/1.1\r\nContent-Type: text/plain", b"\xff".as_slice());
    assert_eq!(odd.problem(), "invalid-utf8");
    assert_eq!(wire.ask("PUT /posts/a?count=maybe HTTP/1.1", "a").problem(), "invalid-parameter");
}

#[test]
fn a_text_is_kept_as_a_post_when_it_is_asked_for() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let kept = ask(&mut wire, "POST /post?store=true", r#"{"id":"a","text":"hello world"}"#);
    assert_eq!((kept.status, &kept.json()["words"]), (202, &2.into()));
    let read = wire.get("/post?id=a");
    assert_eq!((read.text(), read.header("content-type")), ("hello world", Some("text/plain; charset=utf-8")));
    // The id is the post's here, and no key: another text takes its place.
    let replaced = ask(&mut wire, "POST /post?store=true", r#"{"id":"a","text":"hello again"}"#);
    assert_eq!((replaced.status, replaced.header("memdb-replayed")), (202, None));
    assert_eq!(counts(&mut wire, COUNTS), r#"{"hello":1,"world":0,"again":1,"author":0}"#);
    assert_eq!(wire.ask("POST /post?store=true HTTP/1.1", "hello").status, 415, "nothing names it");
    // Without it the id is a key, as ever.
    ask(&mut wire, "POST /post", r#"{"id":"a","text":"once"}"#);
    assert_eq!(ask(&mut wire, "POST /post", r#"{"id":"a","text":"once"}"#).header("memdb-replayed"), Some("true"));
}

#[test]
fn a_text_that_is_kept_or_lent_is_bounded_as_a_value() {
    let node = Node::start(HttpSettings { max_value_bytes: 20, ..settings() });
    let mut wire = Wire::to(node.address());
    let body = |bytes| format!(r#"{{"id":"a","text":"{}"}}"#, "a".repeat(bytes));
    for target in ["/post?store=true", "/post?ttl=60", "/post?store=true&ttl=60"] {
        let refused = ask(&mut wire, &format!("POST {target}"), &body(21));
        assert_eq!((refused.status, &*refused.problem()), (413, "body-too-large"), "{target}");
        assert_eq!(wire.get("/top").text(), "[]", "nothing of it was counted");
    }
    assert_eq!(ask(&mut wire, "POST /post?store=true", &body(20)).status, 202);
    assert_eq!(ask(&mut wire, "POST /post?ttl=0", &body(21)).status, 202, "it is only counted");
}

#[test]
fn a_post_is_hidden_once_its_time_has_come() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let stored = ask(&mut wire, "PUT /posts/a?ttl=2.5", r#"{"title":"hello"}"#);
    assert_eq!(stored.json()["expires_in"], 2.5);
    node.clock.advance(Duration::from_millis(2_500));
    assert_eq!(wire.get("/posts/a").problem(), "post-not-found");
    assert_eq!(wire.get("/posts").text(), r#"{"posts":[],"next":null}"#);
}

#[test]
fn ids_are_listed_by_prefix() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    ask(&mut wire, "PUT /posts/a%2F1", r#"{"title":"x"}"#);
    wire.ask("PUT /posts/a/2?count=false HTTP/1.1", "x");
    ask(&mut wire, "PUT /posts/b", r#"{"title":"x"}"#);
    let page = wire.get("/posts?prefix=a/").json();
    let mut ids: Vec<_> = page["posts"].as_array().expect("a list").iter().map(|one| one["id"].to_string()).collect();
    ids.sort();
    assert_eq!((ids.join(" "), &page["next"]), (r#""a/1" "a/2""#.to_owned(), &serde_json::Value::Null));
}

#[test]
fn a_text_with_a_time_to_live_is_counted_and_taken_back_and_not_kept() {
    let data = tempfile::TempDir::new().expect("a directory");
    let leading = testkit::node::lead(data.path(), &[]).expect("a leader");
    let mut wire = Wire::to(leading.address());
    wire.post("hello kept");
    let before = wire.get("/sync").text().to_owned();
    let lent = wire.ask("POST /post?ttl=60 HTTP/1.1", "hello hello world");
    assert_eq!((lent.status, &lent.json()["words"]), (202, &3.into()));
    let short = wire.ask("POST /post?ttl=0.3 HTTP/1.1\r\nIdempotency-Key: k", "world");
    assert_eq!(short.status, 202);
    let again = wire.ask("POST /post?ttl=0.3 HTTP/1.1\r\nIdempotency-Key: k", "world");
    assert_eq!(again.header("memdb-replayed"), Some("true"));
    assert_eq!(wire.ask("POST /post?ttl=9 HTTP/1.1\r\nIdempotency-Key: k", "world").problem(), "key-reused");
    assert_eq!(counts(&mut wire, COUNTS), r#"{"hello":3,"world":2,"again":0,"author":0}"#);
    assert_eq!(wire.get("/stats?scope=node").json()["entries"], 0, "no client can read it");
    testkit::wait_until("the words to be taken back", || wire.get("/wordcount?word=world").text() == r#"{"world":1}"#);
    wire.ask("POST /update HTTP/1.1\r\nContent-Type: application/json", r#"{"hello":-2,"world":-1}"#);
    assert_eq!(wire.get("/sync").json(), serde_json::from_str::<serde_json::Value>(&before).expect("JSON"));
    for bad in ["ttl=-1", "ttl=x", "ttl=1e9"] {
        assert_eq!(wire.ask(&format!("POST /post?{bad} HTTP/1.1"), "a").problem(), "invalid-parameter", "{bad}");
    }
    assert_eq!(wire.ask("POST /post?ttl=5 HTTP/1.1", "  ").status, 202, "nothing is counted, and nothing is kept");
}
