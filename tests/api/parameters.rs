//! The parameters behind the `?`, on every route; and words that are named in a body, where a request line is too
//! short.

use crate::node::{Node, settings};
use memdb::api::http::HttpSettings;
use testkit::wire::Wire;

/// Every route, with a request it would answer, and a parameter it does not know with what is said of it.
const ROUTES: &[(&str, &str, &str, &str, &str)] = &[
    ("GET", "/wordcount?word=a", "", "limit=1", "this route takes `word`, `ns`"),
    ("HEAD", "/wordcount?word=a", "", "wrod=b", ""),
    ("GET", "/wordcount?word=a", "", "words=b", "did you mean `word`?"),
    ("POST", "/wordcount", r#"{"words":["a"]}"#, "namespace=b", "did you mean `ns`?"),
    ("DELETE", "/wordcount?word=a", "", "acks=disk", "did you mean `ack`?"),
    ("POST", "/post", "counted", "namespace=foo", "did you mean `ns`?"),
    ("POST", "/post", "counted", "word=a", "this route takes `ns`, `ack`"),
    ("POST", "/bulk", "counted", "namespace=foo", "did you mean `ns`?"),
    ("POST", "/update", r#"{"counted":1}"#, "Ns=foo", "did you mean `ns`?"),
    ("GET", "/top", "", "limit=3", "did you mean `n`?"),
    ("GET", "/top", "", "ack=disk", "this route takes `n`, `ns`, `prefix`, `after`"),
    ("GET", "/sync", "", "after=1-1", "this route takes `ns`"),
    ("DELETE", "/ns/other", "", "ns=words", "this route takes `ack`"),
    ("POST", "/promote", "", "forced=true", "did you mean `force`?"),
    ("PUT", "/cache/a", "v", "expires=5", "did you mean `ttl`?"),
    ("PUT", "/cache/a", "v", "tll=5", "did you mean `ttl`?"),
    ("GET", "/cache/a", "", "ttl=5", "this route takes `ns`"),
    ("DELETE", "/cache/a", "", "namespace=b", "did you mean `ns`?"),
    ("POST", "/cache", r#"{"entries":[{"key":"a","value":"v"}]}"#, "ttl=5", "this route takes `ns`, `ack`"),
    ("GET", "/cache", "", "cursor=a", "did you mean `after`?"),
    ("GET", "/cache", "", "keys=a", "did you mean `key`?"),
    ("POST", "/create", r#"{"id":"a"}"#, "counted=false", "did you mean `count`?"),
    ("GET", "/post?id=a", "", "post_id=a", "did you mean `id`?"),
    ("PUT", "/posts/a", "", "expiry=5", "did you mean `ttl`?"),
    ("GET", "/posts/a", "", "id=a", "this route takes `ns`"),
    ("DELETE", "/posts/a", "", "ttl=5", "this route takes `ns`, `ack`"),
    ("GET", "/stats", "", "scop=node", "did you mean `scope`?"),
    ("GET", "/posts", "", "page_size=5", "did you mean `limit`?"),
    ("GET", "/health", "", "verbose", "this route takes none"),
    ("GET", "/health/live", "", "ns=words", "this route takes none"),
    ("GET", "/health/ready", "", "wait=1", "this route takes none"),
    ("GET", "/metrics", "", "name=a", "this route takes none"),
    ("GET", "/status", "", "pretty", "this route takes none"),
];

#[test]
fn a_parameter_a_route_does_not_know_is_refused_and_nothing_is_done() {
    let node = Node::start(settings());
    for (method, target, body, unknown, said) in ROUTES {
        let ask = |parameter: &str| {
            let mark = if target.contains('?') { '&' } else { '?' };
            Wire::to(node.address()).ask(&format!("{method} {target}{mark}{parameter} HTTP/1.1"), body)
        };
        let refused = ask(unknown);
        assert_eq!(refused.status, 400, "{method} {target} {unknown}: {refused:?}");
        if !refused.body.is_empty() {
            assert_eq!(refused.problem(), "invalid-parameter", "{method} {target} {unknown}");
            assert!(refused.detail().contains(said), "{}", refused.text());
        }
        for odd in ["=x", "x%2=1", "ns%zz=1", "_=%f"] {
            assert_eq!(ask(odd).status, 400, "{method} {target} {odd}");
        }
        let through = ask("_=1&_cache%20bust=a&_=2&");
        assert_ne!(through.status, 400, "{method} {target}: {through:?}");
    }
    let counts = Wire::to(node.address()).get("/wordcount?word=counted&word=foo").text().trim_end().to_owned();
    assert_eq!(counts, r#"{"counted":4,"foo":0}"#, "what was let through counts, and nothing else");
}

#[test]
fn routes_between_nodes_know_their_parameters_too() {
    let node = Node::start(settings());
    let ask = |head: &str| Wire::to(node.address()).ask(head, "");
    let records = "HTTP/1.1\r\nAccept: application/vnd.memdb.records";
    for (head, said) in [
        (format!("GET /sync?afterwards=1-1 {records}"), "did you mean `after`?"),
        (format!("GET /sync?after=1-0&ns=a {records}"), "this route takes `after`"),
        (format!("GET /sync?after=1-0&after=1-0 {records}"), "after is given twice"),
        ("GET /sync?ns=a HTTP/1.1\r\nAccept: application/vnd.memdb.snapshot".to_owned(), "takes none"),
        ("POST /sync?ns=a HTTP/1.1\r\nContent-Type: application/vnd.memdb.hello".to_owned(), "takes none"),
        ("POST /update?ns=a HTTP/1.1\r\nContent-Type: application/vnd.memdb.records".to_owned(), "takes none"),
    ] {
        let refused = ask(&head);
        assert_eq!((refused.status, refused.problem().as_str()), (400, "invalid-parameter"), "{head}");
        assert!(refused.detail().contains(said), "{}", refused.text());
    }
    assert_ne!(ask(&format!("GET /sync?after=1-0-00000007&_=1 {records}")).status, 400);
}

const JSON: &str = "\r\nContent-Type: application/json";

#[test]
fn words_are_read_by_a_body_as_by_a_query() {
    let node = Node::start(HttpSettings { max_body_bytes: 100, ..settings() });
    let mut wire = Wire::to(node.address());
    wire.post("hello hello world");
    wire.ask("POST /post?ns=other HTTP/1.1", "hello");
    for (target, body, expected) in [
        ("/wordcount", r#"{"words":["Hello","absent","world","Hello"]}"#, r#"{"Hello":2,"absent":0,"world":1}"#),
        ("/wordcount?ns=other", r#"{"words":["hello"]}"#, r#"{"hello":1}"#),
        ("/wordcount?word=world", r#"{"words":["hello"]}"#, r#"{"world":1,"hello":2}"#),
        ("/wordcount?word=world", "", r#"{"world":1}"#),
    ] {
        for lines in [JSON, ""] {
            let answer = wire.ask(&format!("POST {target} HTTP/1.1{lines}"), body);
            assert_eq!((answer.status, answer.text().trim_end()), (200, expected), "{body}");
            assert_eq!(answer.header("memdb-position"), Some("1-2-00000007"), "nothing is written");
            assert_eq!(answer.header("memdb-acks"), None);
        }
    }
    let get = wire.get("/wordcount?word=hello");
    let ahead = wire.ask("POST /wordcount HTTP/1.1\r\nMemdb-Min-Position: 9-9-00000007", r#"{"words":["hello"]}"#);
    assert_eq!((ahead.status, ahead.problem().as_str()), (503, "position-ahead"));
    let tag = get.header("etag").expect("a tag");
    let posted = wire.ask(&format!("POST /wordcount HTTP/1.1\r\nIf-None-Match: {tag}"), r#"{"words":["hello"]}"#);
    assert_eq!((posted.status, posted.header("etag")), (200, Some(tag)), "304 is for GET");
    let page = "POST /wordcount HTTP/1.1\r\nOrigin: http://page.example\r\nSec-Fetch-Site: cross-site";
    assert_eq!(wire.ask(page, r#"{"words":["hello"]}"#).status, 200, "it changes nothing");
    let chunked = "POST /wordcount HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   13\r\n{\"words\":[\"hello\"]}\r\n0\r\n\r\n";
    assert_eq!(wire.send(chunked).answer().status, 200);
}

#[test]
fn a_body_that_names_no_words_is_refused() {
    let node = Node::start(settings());
    let many = |words: usize| format!(r#"{{"words":[{}]}}"#, vec![r#""a""#; words].join(","));
    let (as_many, too_many) = (many(1_000), many(1_001));
    let mut wire = Wire::to(node.address());
    for (lines, body, status, problem, said) in [
        ("", "", 400, "invalid-body", "EOF"),
        ("", "{}", 400, "invalid-body", "the member words is missing"),
        ("", r#"{"words":[]}"#, 400, "invalid-body", "at least one word"),
        ("", r#"{"words":["a",""]}"#, 400, "invalid-body", "no empty one"),
        ("", r#"{"words":"a"}"#, 400, "invalid-body", "is a string, not an array"),
        ("", r#"{"words":["a",5]}"#, 400, "invalid-body", "element 2 of the array is a number"),
        ("", r#"{"words":["a"],"words":["b"]}"#, 400, "invalid-body", "given twice"),
        ("", r#"{"word":["a"]}"#, 400, "invalid-body", "did you mean `words`?"),
        ("", r#"{"words":["a"],"ns":"b"}"#, 400, "invalid-body", "member \"ns\": is not known here"),
        ("", r#"["a"]"#, 400, "invalid-body", "it is an array, not an object"),
        ("", r#"{"words":["\ud800"]}"#, 400, "invalid-body", "half a surrogate pair"),
        ("", &too_many, 400, "invalid-parameter", "at most 1000 words"),
        ("\r\nContent-Type: text/plain", r#"{"words":["a"]}"#, 415, "unsupported-media-type", "JSON"),
        ("\r\nContent-Encoding: gzip", r#"{"words":["a"]}"#, 415, "unsupported-media-type", ""),
        ("\r\nContent-Length: 3000000", "", 413, "body-too-large", "2097152"),
    ] {
        let answer = wire.ask(&format!("POST /wordcount HTTP/1.1{lines}"), body);
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{lines} {body}");
        assert!(answer.detail().contains(said), "{}", answer.text());
        if status != 400 {
            wire = Wire::to(node.address());
        }
    }
    assert_eq!(wire.ask("POST /wordcount HTTP/1.1", as_many).status, 200);
}

/// As many words as may be read, each as long as a word may be: no request line holds them.
fn long_words() -> Vec<String> {
    (0..1_000).map(|at| format!("{at:0>256}")).collect()
}

#[test]
fn a_thousand_long_words_are_read_at_once() {
    let node = Node::start(HttpSettings { max_body_bytes: 1 << 20, ..settings() });
    let words = long_words();
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.post(words.join(" ")).status, 202);
    // The longest way to write them.
    let escaped =
        |word: &String| format!("\"{}\"", word.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>());
    let body = format!(r#"{{"words":[{}]}}"#, words.iter().map(escaped).collect::<Vec<_>>().join(","));
    let answer = wire.ask("POST /wordcount HTTP/1.1", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let counts = answer.json();
    assert!(words.iter().all(|word| counts[word] == 1), "each counts once");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = memdb::client::Client::new(&node.address().to_string()).expect("an address");
    let counts = runtime.block_on(client.counts(Some("words"), &words)).expect("it answers");
    assert!(words.iter().all(|word| counts[word] == 1), "{} counts", counts.len());
    let server = format!("http://{}", node.address());
    let output = assert_cmd::cargo::cargo_bin_cmd!("memdb")
        .env_clear()
        .args(["get", "--server", &server])
        .args(&words)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(lines.lines().filter(|line| line.starts_with("1  0")).count(), 1_000);
}
