//! The table of bad and odd requests, run; afterwards the server still counts.

use crate::{
    cases::{
        After::{Closed, Open},
        cases,
    },
    node::{Node, settings},
};
use testkit::wire::Wire;

#[test]
fn each_bad_request_gets_its_exact_answer_and_the_server_still_counts() {
    let node = Node::start(settings());
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in &cases {
        let mut wire = Wire::to(node.address());
        wire.send(&case.bytes);
        let answer = wire.answer();
        assert_eq!(answer.status, case.status, "{}: {answer:?}", case.name);
        if answer.status >= 400 {
            assert_eq!(answer.problem(), case.problem, "{}: {answer:?}", case.name);
        } else {
            assert_eq!(case.problem, "", "{}", case.name);
        }
        for (name, value) in case.headers {
            assert_eq!(answer.header(name), Some(*value), "{}: {answer:?}", case.name);
        }
        match case.after {
            Open => assert_eq!(wire.get("/health").status, 200, "{}: the connection goes on", case.name),
            Closed => assert!(wire.is_closed(), "{}: the connection is closed", case.name),
        }
        // In pieces of a byte the answer is the same.
        if case.bytes.len() < 500 {
            let mut slow = Wire::to(node.address());
            for byte in case.bytes.chunks(1) {
                slow.send(byte);
            }
            assert_eq!(slow.answer().status, case.status, "{} in single bytes", case.name);
        }
    }
    let mut wire = Wire::to(node.address());
    let before = wire.get("/wordcount?word=counted").text().to_owned();
    assert_eq!(before, r#"{"counted":0}"#);
    assert_eq!(wire.post("counted").status, 202);
    assert_eq!(wire.get("/wordcount?word=counted").text(), r#"{"counted":1}"#);
    // Of all the cases only those that are taken were counted, nothing of a refused one: two texts of 500 words, and
    // small ones in other charsets, each sent whole and byte by byte.
    let sync = wire.get("/sync").json();
    assert_eq!(sync, serde_json::json!({"x": 1_000, "counted": 1, "a": 2, "café": 2}));
}

#[test]
fn a_refused_body_is_told_its_offset_or_member() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let detail = |answer: &testkit::wire::Answer| answer.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail(&wire.post(b"ab\xff")).contains("offset 2"));
    assert!(detail(&wire.ask("POST /update HTTP/1.1", r#"{"a":1,"bad":"x"}"#)).contains("\"bad\""));
}

#[test]
fn a_json_body_that_is_no_object_is_refused_in_the_words_of_json() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    for (route, body, said) in [
        ("/post", r#"["doc one","doc two"]"#, "it is an array, not an object"),
        ("/post", r#"["text"]"#, "it is an array, not an object"),
        ("/post", "5", "it is a number, not an object"),
        ("/post", "null", "it is null, not an object"),
        ("/post", r#"{"text":["a"]}"#, "member \"text\": is an array, not a string"),
        ("/post", r#"{"text":null}"#, "member \"text\": is null, not a string"),
        ("/post", r#"{"text":"a","id":{}}"#, "member \"id\": is an object, not a string"),
        ("/post", r#"{"text":"a","id":"x","id":"x"}"#, "member \"id\": is given twice"),
        ("/post", r#"{"Text":"a"}"#, "the member text is missing"),
        ("/post", r#"{"text":"a"},"#, "trailing characters"),
        ("/post", r#"{"text":"\ud83d"}"#, "the \\ud83d at byte 9 is half a surrogate pair"),
        ("/post", r#"{"text":"\ude00 x"}"#, "the \\ude00 at byte 9 is half a surrogate pair"),
        ("/update", r#"[["hello",5]]"#, "it is an array, not an object"),
        ("/update", r#""hello""#, "it is a string, not an object"),
        ("/update", r#"{"a":1e999}"#, "number out of range"),
        ("/update", r#"{"a":{"b":[1]}}"#, "member \"a\": is an object"),
        ("/update", r#"{"\udc00":1}"#, "the \\udc00 at byte 2 is half a surrogate pair"),
    ] {
        let answer = wire.ask(&format!("POST {route} HTTP/1.1\r\nContent-Type: application/json"), body);
        assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid-body"), "{body}");
        let detail = answer.json()["detail"].as_str().expect("a text").to_owned();
        assert!(detail.contains(said), "{body}: {detail}");
        for word in ["struct", "sequence", "Cow", "i64", "String", "map"] {
            assert!(!detail.split(|letter: char| !letter.is_alphanumeric()).any(|one| one == word), "{detail}");
        }
    }
    assert_eq!(wire.get("/sync").text().trim_end(), "{}", "nothing was counted");
}
