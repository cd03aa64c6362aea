//! What leads in and out as a whole: the list of namespaces.

use crate::node::{Node, settings};
use tempfile::TempDir;
use testkit::{node::lead, wait_until, wire::Wire};

#[test]
fn namespaces_are_listed_with_words_totals_and_entries() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    assert_eq!(wire.get("/ns").text(), r#"{"namespaces":[]}"#);
    wire.post("hello world hello");
    for request in ["PUT /cache/a?ns=b HTTP/1.1", "PUT /cache/c?ns=b HTTP/1.1", "PUT /posts/1?ns=b HTTP/1.1"] {
        assert_eq!(wire.ask(request, "rain").status, 200, "{request}");
    }
    assert_eq!(wire.ask("POST /counter/visits/increment HTTP/1.1", "").status, 202);
    let listed = wire.get("/ns");
    assert_eq!((listed.status, listed.header("memdb-position").is_some()), (200, true));
    let (json, number) = (listed.json(), |value: &serde_json::Value| value.as_u64().unwrap_or_default());
    let all = json["namespaces"].as_array().expect("a list").clone();
    let of = |name: &str| all.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {json}"));
    let sizes = |name: &str| (number(&of(name)["words"]), number(&of(name)["total"]));
    assert_eq!((sizes("words"), sizes("b")), ((2, 3), (1, 1)));
    assert_eq!((number(&of("b")["cache"]["entries"]), number(&of("b")["posts"]["entries"])), (2, 1));
    assert!(number(&of("b")["cache"]["bytes"]) > 8 && number(&of("words")["bytes"]) > 0);
    assert!(all.iter().all(|row| !row["name"].as_str().unwrap_or("~").starts_with('~')), "{json}");
    wire.ask("DELETE /cache/a?ns=b HTTP/1.1", "");
    wire.ask("DELETE /cache/c?ns=b HTTP/1.1", "");
    assert_eq!(wire.get("/ns").json()["namespaces"][0]["cache"], serde_json::Value::Null, "an empty one is gone");
}

/// A leader with words in two namespaces, an entry with a time and one without, and a post.
fn filled() -> Node {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("hello world hello");
    assert_eq!(wire.ask("POST /update?ns=b HTTP/1.1", r#"{"a,\"b":-7}"#).status, 202);
    assert_eq!(wire.ask("PUT /cache/k?ns=b&ttl=60 HTTP/1.1\r\nContent-Type: text/x", "v\n").status, 200);
    assert_eq!(wire.ask("PUT /posts/1 HTTP/1.1", "rain").status, 200);
    node
}

#[test]
fn an_export_holds_everything_in_each_of_its_formats() {
    let node = filled();
    let mut wire = Wire::to(node.address());
    let mut of = |query: &str| {
        let answer = wire.get(&format!("/export?{query}"));
        assert_eq!(answer.status, 200, "{query}");
        let text = String::from_utf8(answer.body.clone()).expect("UTF-8");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        (answer.header("content-type").expect("a type").to_owned(), lines)
    };
    let (media, lines) = of("format=ndjson");
    assert_eq!(media, "application/x-ndjson");
    let all = lines.join("\n");
    for line in [
        r#"{"ns":"words","word":"hello","count":2}"#,
        r#"{"ns":"words","word":"rain","count":1}"#,
        r#"{"ns":"b","word":"a,\"b","count":-7}"#,
        r#"{"ns":"b","cache":"k","content_type":"text/x","expires_in":60,"base64":"dgo="}"#,
        r#""post":"1","content_type":"text/plain; charset=utf-8","expires_in":null,"counted":true,"base64":"cmFpbg=="}"#,
        r#"{"memdb":"export","version":1,"analyzer":"standard","position":"1-4-00000007"}"#,
        r#"{"end":true,"counts":4,"counters":0,"entries":2,"digest":""#,
    ] {
        assert!(all.contains(line), "{line} is not in {all}");
    }
    assert_eq!(of("format=csv&ns=b").1, ["\"a,\"\"b\",-7", "word,count"]);
    assert_eq!(
        of("format=tsv").1,
        ["b\ta,\"b\t-7", "ns\tword\tcount", "words\thello\t2", "words\train\t1", "words\tworld\t1"]
    );
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(
        json(&of("format=json").1[0]),
        serde_json::json!({"words":{"hello":2,"world":1,"rain":1},"b":{"a,\"b":-7}})
    );
    assert_eq!(json(&of("format=json&ns=words").1[0]), serde_json::json!({"hello":2,"world":1,"rain":1}));
    assert_eq!(of("format=json&ns=none").1, ["{}"]);
    assert_eq!(wire.get("/export?format=xml").status, 400);
}

/// An import of a table makes words of everything in it.
#[test]
fn tables_hold_counters_only_where_their_namespace_is_named() {
    let data = TempDir::new().expect("a directory");
    let leading = lead(data.path(), &[]).expect("a leader"); // with a worker that counts increments
    let mut wire = Wire::to(leading.address());
    wire.post("hello");
    for key in ["Visits", "visits"] {
        assert_eq!(wire.ask(&format!("POST /counter/{key}/increment HTTP/1.1"), "").status, 202);
        wait_until("it is counted", || wire.get(&format!("/counter/{key}")).text().contains(r#""value":1"#));
    }
    let mut of = |query: &str| wire.get(&format!("/export?{query}")).text().to_owned();
    assert_eq!(of("format=csv"), "ns,word,count\r\nwords,hello,1\r\n");
    assert_eq!(of("format=tsv"), "ns\tword\tcount\nwords\thello\t1\n");
    assert_eq!(of("format=json"), r#"{"words":{"hello":1}}"#);
    let named = of("format=csv&ns=counters");
    assert!(named.contains("Visits,1\r\n") && named.contains("visits,1\r\n"), "{named}");
    let lines = of("format=ndjson");
    assert!(lines.contains(r#"{"counter":"Visits","value":1}"#) && lines.contains(r#""counters":2"#), "{lines}");
}

/// An import brings the counts, and then the posts that own some of them.
#[test]
fn a_post_whose_words_are_there_already_owns_them_and_adds_none() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.post("rain rain");
    assert_eq!(wire.ask("PUT /posts/1?count=already HTTP/1.1", "rain").status, 200);
    assert_eq!(wire.get("/wordcount?word=rain").text(), r#"{"rain":2}"#);
    assert_eq!(wire.ask("DELETE /posts/1 HTTP/1.1", "").status, 200);
    assert_eq!(wire.get("/wordcount?word=rain").text(), r#"{"rain":1}"#);
}
