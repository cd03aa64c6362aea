//! `GET /top` with a prefix, in pages and of many words.

use crate::node::{Node, settings};
use testkit::wire::Wire;

/// `w0` once, `w1` twice and so on, `x0` once.
fn filled() -> (Node, Wire) {
    let node = Node::start(memdb::api::http::HttpSettings { max_body_bytes: 1 << 20, ..settings() });
    let mut wire = Wire::to(node.address());
    let words: Vec<String> = (0..6).flat_map(|at| vec![format!("w{at}"); at + 1]).collect();
    wire.post(format!("{} x0", words.join(" ")));
    (node, wire)
}

fn words(answer: &testkit::wire::Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let list = answer.json();
    let list = list.as_array().expect("a list");
    list.iter().map(|entry| format!("{} {}", entry["word"].as_str().expect("a word"), entry["count"])).collect()
}

#[test]
fn pages_join_to_one_long_answer_and_the_last_names_no_next() {
    let (_node, mut wire) = filled();
    for query in ["", "&prefix=w", "&prefix=W", "&prefix=none"] {
        let whole = words(&wire.get(&format!("/top?n=100000{query}")));
        for n in [1, 2, 3, 7] {
            let (mut joined, mut after) = (Vec::new(), String::new());
            loop {
                let page = wire.get(&format!("/top?n={n}{query}&after={after}"));
                let listed = words(&page);
                let is_full = listed.len() == n;
                joined.extend(listed);
                assert_eq!(page.header("memdb-next").is_some(), is_full, "{query} {n}");
                match page.header("memdb-next") {
                    Some(next) => after = next.to_owned(),
                    None => break,
                }
            }
            assert_eq!(joined, whole, "{query} {n}");
        }
    }
    assert_eq!(words(&wire.get("/top?prefix=W&n=2")), ["w5 6", "w4 5"], "a prefix is folded as a word is");
    let page = wire.get("/top?n=2");
    let next = page.header("memdb-next").expect("there is more").to_owned();
    wire.post("w9 w9 w9");
    assert_eq!(
        words(&wire.get(&format!("/top?n=2&after={next}"))),
        ["w3 4", "w2 3"],
        "the cursor is a place, not a time"
    );
    let head = wire.ask(&format!("HEAD /top?n=2&after={next} HTTP/1.1"), "");
    assert!(head.header("memdb-next").is_some());
}

#[test]
fn a_cursor_that_is_not_of_this_order_is_refused_with_the_reason() {
    let (_node, mut wire) = filled();
    wire.ask("POST /post?ns=other HTTP/1.1", "a b");
    let mut next = |target: &str| wire.get(target).header("memdb-next").expect("there is more").to_owned();
    let (plain, of_prefix, of_other) = (next("/top?n=1"), next("/top?n=1&prefix=w"), next("/top?n=1&ns=other"));
    for (query, said) in [
        ("after=hello".to_owned(), "after is no cursor"),
        ("after=1-2-00000007".to_owned(), "after is no cursor"),
        (format!("after={}", &plain[..plain.len() - 1]), "after is no cursor"),
        (format!("after={of_other}"), "another namespace"),
        (format!("after={plain}&ns=other"), "another namespace"),
        (format!("after={of_prefix}"), "another prefix"),
        (format!("after={of_prefix}&prefix=wo"), "another prefix"),
        (format!("after={plain}&after={plain}"), "given twice"),
        ("n=0".to_owned(), "a whole number from 1 to 100000"),
        ("n=100001".to_owned(), "a whole number from 1 to 100000"),
        ("prefix=_".to_owned(), "prefix: name at least one word"),
    ] {
        let refused = wire.get(&format!("/top?{query}"));
        assert_eq!((refused.status, refused.problem().as_str()), (400, "invalid-parameter"), "{query}");
        assert!(refused.detail().contains(said), "{}", refused.text());
    }
}

#[test]
fn a_long_answer_comes_in_pieces_and_may_be_compressed_or_unchanged() {
    let (_node, mut wire) = filled();
    let text: Vec<String> = (0..30_000).map(|number| format!("p{number}")).collect();
    wire.post(text.join(" "));
    let long = wire.get("/top?n=20000&prefix=p");
    assert_eq!((long.header("content-length"), words(&long).len()), (None, 20_000));
    let position = wire.get("/top").header("memdb-position").map(str::to_owned);
    assert_eq!(long.header("memdb-position"), position.as_deref());
    let rest = wire.get(&format!("/top?n=20000&prefix=p&after={}", long.header("memdb-next").expect("there is more")));
    assert_eq!((words(&rest).len(), rest.header("memdb-next")), (10_000, None));
    let encoded = wire.ask("GET /top?n=20000&prefix=p HTTP/1.1\r\nAccept-Encoding: zstd", "");
    assert_eq!((encoded.header("content-encoding"), encoded.json()), (Some("zstd"), long.json()));
    let tag = long.header("etag").expect("a tag");
    let unchanged = wire.ask(&format!("GET /top?n=20000&prefix=p HTTP/1.1\r\nIf-None-Match: {tag}"), "");
    assert_eq!((unchanged.status, unchanged.header("memdb-next")), (304, long.header("memdb-next")));
    wire.post("p1");
    let changed = wire.ask(&format!("GET /top?n=20000&prefix=p HTTP/1.1\r\nIf-None-Match: {tag}"), "");
    assert_eq!((changed.status, words(&changed)[0].as_str()), (200, "p1 2"));
}
