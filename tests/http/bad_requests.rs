//! The table of bad and odd requests, run; afterwards the server still counts.

use crate::{
    cases::{
        After::{Closed, Open},
        cases,
    },
    node::{Node, settings},
    wire::Wire,
};

#[test]
fn each_gets_its_exact_answer_and_the_server_still_counts() {
    let node = Node::start(settings());
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in &cases {
        let mut wire = Wire::open(&node);
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
            let mut slow = Wire::open(&node);
            for byte in case.bytes.chunks(1) {
                slow.send(byte);
            }
            assert_eq!(slow.answer().status, case.status, "{} in single bytes", case.name);
        }
    }
    let mut wire = Wire::open(&node);
    let before = wire.get("/wordcount?word=counted").text().to_owned();
    assert_eq!(before, r#"{"counted":0}"#);
    assert_eq!(wire.post("counted").status, 202);
    assert_eq!(wire.get("/wordcount?word=counted").text(), r#"{"counted":1}"#);
    // Of all the cases only the two of 500 words were counted, nothing of a refused one.
    let sync = wire.get("/sync").json();
    assert_eq!(sync, serde_json::json!({"x": 1_000, "counted": 1}));
}

#[test]
fn offsets_and_members_are_named() {
    let node = Node::start(settings());
    let mut wire = Wire::open(&node);
    let detail = |answer: &crate::wire::Answer| answer.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail(&wire.post(b"ab\xff")).contains("offset 2"));
    assert!(detail(&wire.ask("POST /update HTTP/1.1", r#"{"a":1,"bad":"x"}"#)).contains("\"bad\""));
}
