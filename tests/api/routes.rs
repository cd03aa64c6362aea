//! Every route's ordinary answers.

use crate::node::{Node, settings};
use memdb::engine::leader::Successor;
use testkit::wire::Wire;

#[test]
fn posted_words_are_counted_and_read_back() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let posted = wire.post("hello world hello");
    assert_eq!(posted.status, 202);
    assert_eq!(posted.header("memdb-position"), Some("1-1-00000007"));
    assert_eq!(posted.header("memdb-acks"), Some("0"));
    assert_eq!(posted.header("memdb-replayed"), None);
    assert_eq!(posted.text(), r#"{"words":3,"distinct":2,"left_out":0,"acks":0,"position":"1-1-00000007"}"#);
    let read = wire.get("/wordcount?word=Hello&word=absent&word=world&word=Hello");
    assert_eq!((read.status, read.text()), (200, r#"{"Hello":2,"absent":0,"world":1}"#));
    assert_eq!(read.header("memdb-position"), Some("1-1-00000007"));
    assert_eq!(read.header("content-type"), Some("application/json"));
    assert_eq!(wire.get("/wordcount?word=%22").text(), r#"{"\"":0}"#);
}

#[test]
fn every_form_of_a_text_is_taken() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let post = |wire: &mut Wire, lines: &str, body: &str| {
        let answer = wire.ask(&format!("POST /post HTTP/1.1{lines}"), body);
        assert_eq!(answer.status, 202, "{lines} {body}: {answer:?}");
    };
    post(&mut wire, "", "a b");
    post(&mut wire, "\r\nContent-Type: text/plain; charset=utf-8", "a b");
    post(&mut wire, "\r\nContent-Type: application/x-www-form-urlencoded", "other=x&text=a+%62");
    post(&mut wire, "\r\nContent-Type: application/json", r#"{"text":"a b","unknown":[1]}"#);
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\na b\r\n--x--\r\n";
    post(&mut wire, "\r\nContent-Type: multipart/form-data; boundary=x", multipart);
    let part = "--x\r\nContent-Disposition: form-data; name=\"text\"\r\nContent-Type: text/plain; charset=UTF-8\r\n\
                Content-Transfer-Encoding: 8bit\r\n\r\nparts\r\n--x--\r\n";
    post(&mut wire, "\r\nContent-Type: multipart/form-data; boundary=x", part);
    let chunked = "POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na \r\n1\r\nb\r\n0\r\n\r\n";
    assert_eq!(wire.send(chunked).answer().status, 202);
    assert_eq!(wire.get("/wordcount?word=a&word=b").text(), r#"{"a":6,"b":6}"#);
    let expecting = "POST /post HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(wire.send(expecting).answer_without_body().status, 100);
    assert_eq!(wire.send("a b").answer().status, 202);
    assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":7}"#);
}

#[test]
fn white_space_counts_nothing_and_is_accepted() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("a");
    let answer = wire.post(" \n\t ");
    assert_eq!((answer.status, answer.header("memdb-position")), (202, Some("1-1-00000007")));
    assert_eq!(answer.json()["words"], 0);
    // With a key it is remembered, so a repeat is a repeat and another text is not.
    let keyed = "POST /post HTTP/1.1\r\nIdempotency-Key: k";
    assert_eq!(wire.ask(keyed, "  ").status, 202);
    assert_eq!(wire.ask(keyed, "  ").header("memdb-replayed"), Some("true"));
    assert_eq!(wire.ask(keyed, "a").problem(), "key-reused");
}

#[test]
fn long_texts_are_counted_like_short_ones() {
    let node = Node::start(memdb::api::http::HttpSettings { max_body_bytes: 1 << 20, ..settings() });
    let mut wire = Wire::to(node.address());
    let text = "lorem ipsum ".repeat(20_000);
    assert_eq!(wire.post(&text).json()["words"], 40_000);
    let long = format!("{} ok", "x".repeat(257));
    assert_eq!(wire.post(long).json()["left_out"], 1);
    assert_eq!(wire.get("/wordcount?word=ipsum&word=ok").text(), r#"{"ipsum":20000,"ok":1}"#);
}

#[test]
fn top_is_ordered_by_count_then_word() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.get("/top").text(), "[]");
    wire.post("b a c c");
    assert_eq!(wire.get("/top?n=2").text(), r#"[{"word":"c","count":2},{"word":"a","count":1}]"#);
    assert_eq!(wire.get("/top").json().as_array().map(Vec::len), Some(3));
    assert_eq!(wire.get("/top?ns=other").text(), "[]");
}

#[test]
fn sync_streams_every_word_and_escapes_it() {
    let node = Node::start(memdb::api::http::HttpSettings { max_body_bytes: 1 << 20, ..settings() });
    let mut wire = Wire::to(node.address());
    let empty = wire.get("/sync");
    assert_eq!((empty.text(), empty.header("memdb-position")), ("{}", Some("1-0-00000007")));
    let words: Vec<String> = (0..20_000).map(|number| format!("w{number}")).collect();
    wire.post(words.join(" "));
    let odd = r#"{"\"\\\u0000\u2028":5,"北京":1}"#;
    assert_eq!(wire.ask("POST /update HTTP/1.1", odd).status, 202);
    let all = wire.get("/sync");
    assert_eq!(all.header("memdb-position"), Some("1-2-00000007"));
    // An old copy put back may come to the same position, but not to the same digest.
    let digest = wire.ask("GET /status HTTP/1.1", "").json()["digest"].as_str().expect("text").to_owned();
    let tag = format!("W/\"1-2-00000007-{digest}\"");
    assert_eq!(all.header("etag"), Some(&*tag));
    assert_eq!(all.header("transfer-encoding"), Some("chunked"));
    let object = all.json();
    assert_eq!(object.as_object().map(serde_json::Map::len), Some(20_002));
    assert_eq!((&object["w19999"], &object["\"\\\0\u{2028}"], &object["北京"]), (&1.into(), &5.into(), &1.into()));
    assert_eq!(wire.get("/sync?ns=other").text(), "{}");
    let head = wire.ask("HEAD /sync HTTP/1.1", "");
    assert_eq!((head.status, head.header("etag")), (200, Some(&*tag)));
    let unchanged = wire.ask(&format!("GET /sync HTTP/1.1\r\nIf-None-Match: {tag}"), "");
    assert_eq!((unchanged.status, unchanged.header("memdb-position")), (304, Some("1-2-00000007")));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_sync_costs_nothing() {
    let node = Node::start(memdb::api::http::HttpSettings { max_body_bytes: 8 << 20, ..settings() });
    let mut wire = Wire::to(node.address());
    let words: Vec<String> = (0..400_000).map(|number| format!("word{number}")).collect();
    wire.post(words.join(" "));
    for _ in 0..20 {
        let mut leaving = Wire::to(node.address());
        leaving.send("GET /sync HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(leaving.answer_without_body().status, 200);
    }
    assert_eq!(wire.get("/wordcount?word=word7").text(), r#"{"word7":1}"#);
    crate::connections::wait_for_connections(&node, 1);
}

#[test]
fn an_unchanged_count_is_304_although_the_position_moved() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("hello");
    let first = wire.get("/wordcount?word=hello");
    let tag = first.header("etag").expect("every read has one").to_owned();
    wire.post("other");
    let conditional = format!("GET /wordcount?word=hello HTTP/1.1\r\nIf-None-Match: \"x\", {tag}");
    let second = wire.ask(&conditional, "");
    assert_eq!((second.status, second.header("memdb-position")), (304, Some("1-2-00000007")));
    assert_eq!((second.header("etag"), second.header("content-type")), (Some(tag.as_str()), None));
    wire.post("hello");
    let third = wire.ask(&conditional, "");
    assert_eq!((third.status, third.text()), (200, r#"{"hello":2}"#));
    let top = wire.get("/top");
    let conditional = format!("GET /top HTTP/1.1\r\nIf-None-Match: {}", top.header("etag").expect("a tag"));
    assert_eq!(wire.ask(&conditional, "").status, 304);
}

#[test]
fn head_is_get_without_its_body() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("hello");
    for target in ["/wordcount?word=hello", "/top", "/health", "/status", "/metrics", "/absent", "/wordcount"] {
        let get = wire.get(target);
        let head = wire.ask(&format!("HEAD {target} HTTP/1.1"), "");
        assert_eq!((head.status, head.header("etag")), (get.status, get.header("etag")), "{target}");
        if !["/status", "/metrics"].contains(&target) {
            assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
        }
    }
    assert_eq!(wire.get("/health").status, 200, "nothing of a body was left on the connection");
}

#[test]
fn a_read_waits_for_the_position_it_asks_for() {
    let node = Node::start(memdb::api::http::HttpSettings { position_wait: crate::node::PATIENCE, ..settings() });
    let mut wire = Wire::to(node.address());
    wire.post("hello");
    let read = |wire: &mut Wire, position: &str| {
        wire.ask(&format!("GET /wordcount?word=hello HTTP/1.1\r\nMemdb-Min-Position: {position}"), "")
    };
    assert_eq!(read(&mut wire, "1-1-00000007").status, 200);
    let mut waiting = Wire::to(node.address());
    waiting.send("GET /wordcount?word=hello HTTP/1.1\r\nHost: a\r\nMemdb-Min-Position: 1-2-00000007\r\n\r\n");
    wire.post("hello");
    let waited = waiting.answer();
    assert_eq!((waited.text(), waited.header("memdb-position")), (r#"{"hello":2}"#, Some("1-2-00000007")));
    let node = node.restarted(settings());
    let mut wire = Wire::to(node.address());
    assert_eq!(read(&mut wire, "1-2-00000007").text(), r#"{"hello":2}"#);
    let lost = read(&mut wire, "1-3-00000007");
    assert_eq!((lost.status, lost.problem().as_str()), (410, "position-lost"));
    for ahead in ["2-3-00000007", "3-1-00000007"] {
        let ahead = read(&mut wire, ahead);
        assert_eq!((ahead.status, ahead.problem().as_str()), (503, "position-ahead"));
        assert_eq!(ahead.header("retry-after"), Some("1"));
    }
    for route in ["/sync", "/top"] {
        let head = format!("GET {route} HTTP/1.1\r\nMemdb-Min-Position: 1-3-00000007");
        assert_eq!(wire.ask(&head, "").problem(), "position-lost", "{route}");
    }
}

#[test]
fn a_position_of_another_database_is_gone_and_one_without_a_database_is_refused() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("hello");
    for (position, status, problem) in [
        ("1-1-00000007", 200, ""),
        ("1-1-00000008", 410, "position-other-database"),
        ("1-0-00000008", 410, "position-other-database"),
        ("9-9-5f2a9c01", 410, "position-other-database"),
        ("1-1", 400, "invalid-header"),
        ("0-0", 400, "invalid-header"),
        ("1-1-7", 400, "invalid-header"),
        ("1-1-00000007@7.812", 400, "invalid-header"),
        ("1-1-00000007,1-2-00000007", 400, "invalid-header"),
    ] {
        for route in ["/wordcount?word=hello", "/top", "/sync"] {
            let answer = wire.ask(&format!("GET {route} HTTP/1.1\r\nMemdb-Min-Position: {position}"), "");
            assert_eq!(answer.status, status, "{route} at {position}: {answer:?}");
            assert!(status == 200 || answer.problem() == problem, "{route} at {position}: {answer:?}");
        }
    }
    let untagged = wire.ask("GET /top HTTP/1.1\r\nMemdb-Min-Position: 1-1", "");
    let said = untagged.json()["detail"].to_string();
    assert!(said.contains("of which database") && said.contains("3-1042-5f2a9c01"), "{said}");
}

#[test]
fn health_tells_alive_from_ready() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.get("/health").text(), r#"{"status":"api up"}"#);
    assert_eq!(wire.get("/health/ready").status, 200);
    node.leader.view().set_ready(false);
    assert_eq!(wire.get("/health/ready").problem(), "not-ready");
    assert_eq!((wire.get("/health").status, wire.get("/health/live").status), (200, 200));
}

#[test]
fn a_leader_says_so_as_long_as_it_takes_writes() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.get("/health/leader").text(), r#"{"status":"leader"}"#);
    assert_eq!(wire.ask("HEAD /health/leader HTTP/1.1", "").status, 200);
    node.leader.set_disk_full(true);
    let full = wire.get("/health/leader");
    assert_eq!((full.status, full.problem().as_str()), (503, "disk-full"));
    assert_eq!(wire.ask("HEAD /health/leader HTTP/1.1", "").status, 503);
    node.leader.set_disk_full(false);
    assert_eq!(wire.get("/health/leader").status, 200);
    node.leader.view().set_ready(false);
    assert_eq!(wire.get("/health/leader").problem(), "not-ready");
    node.leader.view().set_ready(true);
    node.leader.stepped_down(Successor(None));
    let succeeded = wire.get("/health/leader");
    assert_eq!((succeeded.status, succeeded.problem().as_str()), (503, "stepped-down"));
    node.leader.poisoned();
    let poisoned = wire.get("/health/leader");
    assert_eq!((poisoned.status, poisoned.problem().as_str()), (503, "poisoned"));
    node.leader.stop();
    assert_eq!(wire.get("/health/leader").problem(), "stopping");
}

/// The page and the answer 404 are made of one table; each of its rows is a route.
#[test]
fn the_routes_that_are_told_are_there() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let page = wire.get("/docs");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert!(page.text().ends_with('\n'));
    let absent = wire.get("/absent");
    assert_eq!(absent.problem(), "not-found");
    let routes: Vec<(&str, &str)> = page
        .text()
        .lines()
        .filter_map(|line| line.split_once(" /"))
        .filter(|(method, _)| ["GET", "POST", "PUT", "DELETE"].contains(method))
        .map(|(method, rest)| (method, rest.split(' ').next().expect("a path")))
        .collect();
    assert!(routes.len() > 12, "{}", page.text());
    for (method, path) in routes {
        let asked = format!("{method} /{} HTTP/1.1", path.replace("NAME", "titles"));
        let answer = Wire::to(node.address()).ask(&asked, "");
        let is_route = answer.status != 405 && (answer.status != 404 || answer.problem() != "not-found");
        assert!(is_route, "{asked}: {answer:?}");
        assert!(absent.text().contains(&format!("{method} /{path}")), "{absent:?} does not name {method} /{path}");
    }
}

/// A browser gets a page that asks nobody for anything, and each route is on it.
#[test]
fn a_browser_gets_a_page_of_the_routes_that_loads_nothing() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let page = wire.ask("GET /docs HTTP/1.1\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8", "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("vary"), Some("accept"));
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));
    let plain = wire.get("/docs");
    let told = |line: &str| line.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>().join(" ");
    let calls = plain.text().lines().filter(|line| line.contains(" /") && !line.starts_with(' ')).map(told);
    for route in calls.filter(|route| route.split(' ').next().is_some_and(|method| method == method.to_uppercase())) {
        assert!(page.text().contains(&format!("<h3>{route}</h3>")), "{route}");
    }
    for outside in ["src=", "url(", "@import", "<script", "href=\"http"] {
        assert!(!page.text().contains(outside), "{outside}");
    }
}

/// Programs get a description of the routes. `scripts/openapi` has it validated, and a node asked by it.
#[test]
fn the_description_for_programs_names_the_routes() {
    let node = Node::start(settings());
    let described = Wire::to(node.address()).get("/openapi.json");
    assert_eq!((described.status, described.header("content-type")), (200, Some("application/json")));
    let described = described.json();
    assert_eq!(described["openapi"], "3.1.0");
    assert_eq!(described["paths"]["/wordcount"]["get"]["parameters"][0]["required"], true);
    assert!(described["paths"]["/counter/{key}/increment"]["post"]["responses"]["429"].is_object());
}

#[test]
fn status_and_metrics_tell_what_happened() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("hello world");
    wire.ask("POST /post?ns=other HTTP/1.1", "hello");
    wire.get("/absent");
    let status = wire.get("/status").json();
    for (member, expected) in [
        ("role", serde_json::json!("leader")),
        ("database", format!("{:032x}", 7).into()),
        ("node", format!("{:032x}", 1).into()),
        ("url", "http://leader.example:8080".into()),
        ("analyzer", "standard".into()),
        ("analyzer_version", 2.into()),
        ("default_ack", "replica".into()),
        ("ready", true.into()),
        ("epoch", 1.into()),
        ("sequence", 2.into()),
        ("position", "1-2-00000007".into()),
        ("words", 3.into()),
        ("namespaces", serde_json::json!({"other":1,"words":2})),
    ] {
        assert_eq!(status[member], expected, "{member}");
    }
    assert_eq!(status["digest"].as_str().map(str::len), Some(16));
    assert_eq!(status["writer"]["poisoned"], false);
    let metrics = wire.get("/metrics");
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    for line in [
        "memdb_http_requests_total{route=\"post\",status=\"2xx\"} 2",
        "memdb_http_requests_total{route=\"other\",status=\"4xx\"} 1",
        "memdb_position 2",
        "memdb_http_connections 1",
    ] {
        assert!(metrics.text().contains(line), "no {line} in {}", metrics.text());
    }
    assert!(!metrics.text().contains("hello"), "never a word as a label");
}
