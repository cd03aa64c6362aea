//! Writes of entries: the fast path and the routes give the same bytes, and leave the same entries and counts.

use crate::{
    fast_path::{get, post, said, twins, untagged},
    node::{Node, settings},
};
use memdb::api::http::HttpSettings;

fn put(target: &str, lines: &str, body: &str) -> String {
    post(target, lines, body).replacen("POST", "PUT", 1)
}

/// Writes of entries, each with the status of its answer; one after the other, as they are here.
pub fn entry_writes() -> Vec<(String, u16)> {
    let json = "Content-Type: application/json\r\n";
    let document = r#"{"id":"7","title":"Hello world","content":"hello 北京"}"#;
    let mut writes = vec![
        // Recognised.
        (post("/create", json, document), 200),
        (post("/create", json, &document.replace("world", "again")), 200),
        (post("/create?count=false&ns=other&ttl=60", json, document), 200),
        (post("/create?", "Content-Type: application/x-www-form-urlencoded\r\n", document), 200),
        (post("/create", "Idempotency-Key: k\r\n", r#"{"id":"k","content":"once"}"#), 200),
        (post("/create", "Idempotency-Key: k\r\n", r#"{"id":"k","content":"once"}"#), 200),
        (post("/create", "Idempotency-Key: k\r\n", r#"{"id":"k","content":"another"}"#), 422),
        (post("/create", "Memdb-Stream: s\r\nMemdb-Stream-Seq: 1\r\n", r#"{"id":"s"}"#), 200),
        (post("/create", "Memdb-Stream: s\r\nMemdb-Stream-Seq: 3\r\n", r#"{"id":"s"}"#), 409),
        (put("/posts/a%2Fb", "Content-Type: text/plain; charset=utf-8\r\n", "hello two"), 200),
        (put("/posts/8", "", "hello three"), 200),
        (put("/posts/9?count=false", "Content-Type: image/png\r\n", "\0"), 200),
        (put("/posts/%22%5C?ttl=0.25", json, r#"{"text":"hello four"}"#), 200),
        (put("/cache/a", "", "value"), 200),
        (put("/cache/a", "", "value"), 200),
        (put("/cache/empty", "", ""), 200),
        (put("/cache/%E5%8C%97/+?ttl=0.0004&ack=leader&_=1", "Content-Type: text/html\r\n", "<p>"), 200),
        (put("/cache/long?ns=other&ttl=007", "", &"v".repeat(15_000)), 200),
        (put("/cache/longer", "", &"long value ".repeat(3_000)), 200),
        (put("/cache/a?ack=replica", "", "unreplicated"), 504),
        // Left to the routes.
        (put("/cache/a", "If-None-Match: *\r\n", "value"), 412),
        (put("/cache/a", "If-Match: \"x\"\r\n", "value"), 412),
        (put("/cache/b", "If-None-Match: *\r\n", "value"), 200),
        (put("/cache/a", "If-Match: *\r\nIf-None-Match: *\r\n", "value"), 400),
        (put("/cache/close", "Connection: close\r\n", "value"), 200),
        (put("/cache/own", "Origin: http://a\r\n", "value"), 200),
        (put("/cache/a", "Origin: http://b\r\n", "value"), 403),
        (put("/cache/a", "Sec-Fetch-Site: cross-site\r\n", "value"), 403),
        (put("/cache/a", "Expect: x\r\n", "value"), 417),
        (put("/cache/a", "Content-Encoding: gzip\r\n", "value"), 415),
        (put("/cache/a", "Content-Type: a\r\nContent-Type: b\r\n", "value"), 400),
        (put("/cache/a", "Idempotency-Key: \r\n", "value"), 400),
        (put("/cache/a", "Memdb-Stream: s\r\n", "value"), 400),
        (
            "PUT /cache/chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into(),
            200,
        ),
        ("PUT /cache/a HTTP/1.1\r\nHost: a\r\n\r\n".into(), 200),
        ("PUT /cache/old HTTP/1.0\r\nContent-Length: 1\r\n\r\na".into(), 200),
        (put("/posts/7", "Content-Type: image/png\r\n", "value"), 415),
        (put("/posts/7", "Content-Type: text/plain; charset=latin1\r\n", "value"), 415),
        (put("/posts/7", "", "a\0"), 400),
        (put("/posts/7", json, "{"), 400),
        (put("/posts/7?count=maybe", "", "a"), 400),
    ];
    let increment =
        |key: &str, lines: &str| (format!("POST /counter/{key}/increment HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), 202);
    for key in ["a", "a", "A", "a%2Fb%3F", "a/b/c", "%E5%8C%97", "increment"] {
        writes.push(increment(key, ""));
    }
    let keyed = post("/counter/a/increment?ack=leader", "Idempotency-Key: increment\r\n", "");
    writes.extend([(keyed.clone(), 202), (keyed, 202)]);
    for (target, status) in [
        ("/counter/b/increment", 422),
        ("/counter/%2e/increment", 400),
        ("/counter/a/increment?ns=b", 400),
        ("/counter/a", 405),
    ] {
        writes.push((post(target, "Idempotency-Key: increment\r\n", ""), status));
    }
    let refused =
        ["?ttl=-1", "?ttl=", "?ttl=1e3", "?ttl=1&ttl=1", "?count=false", "?ns=Capital", "?ns=..", "?ack=never"];
    writes.extend(refused.iter().map(|query| (put(&format!("/cache/a{query}"), "", "value"), 400)));
    writes.extend(["%zz", "%ff", "a%", &"k".repeat(513)].map(|key| (put(&format!("/cache/{key}"), "", "value"), 400)));
    let bad = ["", "{}", "[]", "null", r#"{"id":7}"#, r#"{"id":""}"#, r#"{"id":"a","title":7}"#, r#"{"id":"a"} x"#];
    writes.extend(bad.map(|document| (post("/create", json, document), 400)));
    writes
}

#[test]
fn entries_are_written_alike_by_the_fast_path_and_by_the_routes() {
    let twins = twins();
    for (request, status) in entry_writes() {
        let [fast_path, routes] = twins.each_ref().map(|node| said(node.address(), &[request.as_bytes()]));
        assert_eq!(fast_path.get(8..13), Some(&*format!(" {status} ")), "{request}: {fast_path}");
        assert_eq!(fast_path, routes, "{request}");
    }
    let reads: String = [
        "/cache/a",
        "/cache/empty",
        "/cache/%E5%8C%97/+",
        "/cache/long?ns=other",
        "/cache/longer",
        "/post?id=7",
        "/post?id=7&ns=other",
        "/posts/a/b",
        "/posts/%22%5C",
        "/cache?prefix=",
        "/posts",
        "/wordcount?word=hello&word=world&word=once&word=two&word=three&word=four&word=%E5%8C%97%E4%BA%AC",
    ]
    .map(|target| get(target, ""))
    .concat();
    let [fast_path, routes] = twins.each_ref().map(|node| said(node.address(), &[reads.as_bytes()]));
    assert_eq!(fast_path.matches("HTTP/1.1 200 OK\r\n").count(), 12, "{fast_path}");
    assert_eq!(untagged(&fast_path), untagged(&routes));
    // What they are counted under too; the time that they took is not the same.
    let counted = twins.each_ref().map(|node| {
        let shown = node.metrics.render();
        let requests = shown.lines().filter(|line| line.starts_with("memdb_http_requests_total"));
        requests.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(counted[0], counted[1]);
}

/// Each is answered before the next is looked at, and a read behind a write sees it.
#[test]
fn creates_and_reads_of_one_connection_come_in_order_however_they_are_cut() {
    let one = |number: usize| {
        let document = format!(r#"{{"id":"{number}","content":"hello number{number}"}}"#);
        format!(
            "{}{}{}",
            post("/create", "Content-Type: application/json\r\n", &document),
            put("/cache/last", "", &number.to_string()),
            get(&format!("/post?id={number}"), "") + &get("/cache/last", "")
        )
    };
    let all: String = (0..20).map(one).collect();
    for piece in [1, 13, 100, 1_000, 100_000] {
        let twins = twins();
        let pieces: Vec<&[u8]> = all.as_bytes().chunks(piece).collect();
        let fast_path = said(twins[0].address(), &pieces);
        let mut rest = &*fast_path;
        for number in 0..20 {
            for expected in [
                format!(r#"{{"status":"success","post_id":"{number}","#),
                r#"{"key":"last","etag":"#.to_owned(),
                format!(r#"{{"id":"{number}","content":"hello number{number}"}}"#),
                format!("\r\n\r\n{number}"),
            ] {
                let found = rest.split_once(&expected);
                rest = found.unwrap_or_else(|| panic!("no {expected} in {rest}, in pieces of {piece}")).1;
            }
        }
        assert_eq!(untagged(&fast_path), untagged(&said(twins[1].address(), &[all.as_bytes()])), "pieces of {piece}");
    }
}

/// A value is bounded by a setting of its own.
#[test]
fn a_value_over_its_bound_is_refused_on_both_ways() {
    let nodes = [true, false].map(|fast_path| {
        Node::start(HttpSettings { fast_path, max_value_bytes: 100, max_body_bytes: 10_000, ..settings() })
    });
    for (bytes, status) in [(100, 200), (101, 413)] {
        let request = put("/cache/a", "", &"v".repeat(bytes));
        let [fast_path, routes] = nodes.each_ref().map(|node| said(node.address(), &[request.as_bytes()]));
        assert!(fast_path.starts_with(&format!("HTTP/1.1 {status} ")), "{fast_path}");
        assert_eq!(fast_path, routes);
    }
}
