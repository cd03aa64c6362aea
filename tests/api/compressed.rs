//! Bodies and answers in gzip and zstd.

use crate::node::{Node, settings};
use memdb::{api::http::HttpSettings, base::limits};
use std::io::Write;
use testkit::wire::{Answer, Wire};

const CODINGS: [&str; 2] = ["gzip", "zstd"];

fn encoded(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).expect("a Vec takes every byte");
            encoder.finish().expect("a Vec takes every byte")
        }
        _ => zstd::encode_all(text, 3).expect("a Vec takes every byte"),
    }
}

fn bulk(wire: &mut Wire, lines: &str, body: impl AsRef<[u8]>) -> Answer {
    wire.ask(&format!("POST /bulk HTTP/1.1\r\n{lines}"), body)
}

fn members(answer: &Answer, names: &[&str]) -> Vec<u64> {
    let json = answer.json();
    names.iter().map(|name| json[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", answer.text()))).collect()
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().expect("a text").to_owned()
}

#[test]
fn compressed_lines_count_as_the_lines_themselves_do() {
    let node = Node::start(settings());
    let text: String = (0..400_000).map(|at| format!("word{} again\n", at % 1_000)).collect();
    for (at, coding) in CODINGS.into_iter().enumerate() {
        let mut wire = Wire::to(node.address());
        let heads = format!("Memdb-Stream: {coding}\r\nContent-Encoding: {coding}");
        let body = encoded(coding, text.as_bytes());
        let answer = bulk(&mut wire, &heads, &body);
        assert_eq!((answer.status, members(&answer, &["taken", "skipped", "words"])), (202, vec![400_000, 0, 800_000]));
        // Sent again in another form, each line is the same line.
        let plain = format!("Memdb-Stream: {coding}");
        let again = bulk(&mut wire, &plain, format!("{text}one more\n"));
        assert_eq!(members(&again, &["taken", "skipped"]), [1, 400_000]);
        let members_of_two = [encoded(coding, text.as_bytes()), encoded(coding, b"one more\nand more\n")].concat();
        let again = bulk(&mut wire, &heads, members_of_two);
        assert_eq!(members(&again, &["taken", "skipped", "stream_lines"]), [1, 400_001, 400_002]);
        let counts = wire.get("/wordcount?word=again&word=word7&word=more").text().to_owned();
        let times = at + 1;
        assert_eq!(counts, format!(r#"{{"again":{},"word7":{},"more":{}}}"#, times * 400_000, times * 400, times * 2));
    }
}

#[test]
fn compressed_lines_may_be_json_and_come_in_pieces() {
    let node = Node::start(settings());
    for (coding, media) in
        [("gzip", "application/jsonl"), ("x-gzip", "application/x-ndjson"), ("zstd", "application/x-jsonlines")]
    {
        let mut wire = Wire::to(node.address());
        let name = coding.trim_start_matches("x-");
        let body = encoded(name, b"{\"text\":\"hello\"}\n[\"hello\"]\n{\"text\":\"hello world\"}");
        wire.send(format!(
            "POST /bulk HTTP/1.1\r\nHost: a\r\nContent-Type: {media}\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        for byte in &body {
            wire.send("1\r\n").send([*byte]).send("\r\n");
        }
        let answer = wire.send("0\r\n\r\n").answer();
        assert_eq!((answer.status, members(&answer, &["taken", "refused", "words"])), (202, vec![2, 1, 3]), "{media}");
        let empty = bulk(&mut wire, &format!("Content-Encoding: {coding}"), "");
        assert_eq!((empty.status, members(&empty, &["taken"])), (202, vec![0]));
    }
    let mut wire = Wire::to(node.address());
    let answer = bulk(&mut wire, "Content-Encoding: identity", "plain\n");
    assert_eq!((answer.status, members(&answer, &["taken"])), (202, vec![1]));
}

#[test]
fn a_body_that_unfolds_out_of_proportion_is_413_and_costs_no_memory() {
    let node = Node::start(HttpSettings { max_upload_bytes: 64 << 20, ..settings() });
    let bomb = b"a\n".repeat(8 * limits::RATIO_FREE_BYTES as usize);
    for coding in CODINGS {
        let answer =
            bulk(&mut Wire::to(node.address()), &format!("Content-Encoding: {coding}"), encoded(coding, &bomb));
        assert_eq!((answer.status, answer.problem().as_str()), (413, "body-too-large"), "{coding}");
        let taken = members(&answer, &["taken"])[0];
        assert!(taken < limits::RATIO_FREE_BYTES, "{coding}: {taken} lines are counted");
        assert!(detail(&answer).contains("times as many"), "{}", detail(&answer));
    }
    assert_eq!(Wire::to(node.address()).get("/health").status, 200);
}

#[test]
fn a_compressed_body_that_is_none_or_is_cut_off_is_told_so() {
    let node = Node::start(settings());
    for coding in CODINGS {
        let heads = format!("Content-Encoding: {coding}");
        let whole = encoded(coding, "a few words in a line\n".repeat(200).as_bytes());
        for (body, said) in [
            (b"plain text\n".to_vec(), format!("no sound {coding}")),
            (whole[..whole.len() - 1].to_vec(), "is cut off".to_owned()),
            (whole[..3].to_vec(), "is cut off".to_owned()),
            ([&*whole, b"garbage"].concat(), format!("no sound {coding}")),
        ] {
            let answer = bulk(&mut Wire::to(node.address()), &heads, body);
            assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid-body"));
            assert!(detail(&answer).contains(&said), "{}", detail(&answer));
        }
    }
    // A frame whose window is larger than a browser would take is refused by that name.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(27).expect("a window");
    encoder.write_all(&b"word\n".repeat(100)).expect("written");
    let body = encoder.finish().expect("written");
    let answer = bulk(&mut Wire::to(node.address()), "Content-Encoding: zstd", body);
    assert!(answer.status == 400 && detail(&answer).contains("8 MiB"), "{answer:?}");
}

#[test]
fn a_body_that_cannot_be_decoded_is_never_counted_as_letters() {
    let node = Node::start(settings());
    let gzip = encoded("gzip", b"hello\n");
    for (target, coding) in [
        ("/post", "gzip"),
        ("/post", "zstd"),
        ("/post", ""),
        ("/update", "gzip"),
        ("/wordcount", "gzip"),
        ("/bulk", "br"),
        ("/bulk", "deflate"),
        ("/bulk", "gzip, zstd"),
        ("/bulk", "gzip, identity"),
        ("/bulk", ""),
        ("/sync", "gzip"),
    ] {
        let head = format!("POST {target} HTTP/1.1\r\nContent-Encoding: {coding}");
        let answer = Wire::to(node.address()).ask(&head, &gzip);
        assert_eq!((answer.status, answer.problem().as_str()), (415, "unsupported-media-type"), "{target} {coding:?}");
    }
    let twice = "Content-Encoding: gzip\r\nContent-Encoding: gzip";
    assert_eq!(bulk(&mut Wire::to(node.address()), twice, &gzip).problem(), "invalid-header");
    assert_eq!(Wire::to(node.address()).get("/sync").text(), "{}");
}

#[test]
fn the_memory_of_a_decoder_is_charged_to_the_uploads() {
    let node = Node::start(HttpSettings { max_upload_bytes: 1 << 20, ..settings() });
    let answer = bulk(&mut Wire::to(node.address()), "Content-Encoding: zstd", encoded("zstd", b"a\n"));
    assert_eq!((answer.status, answer.problem().as_str()), (503, "too-many-uploads"));
    let answer = bulk(&mut Wire::to(node.address()), "Content-Encoding: gzip", encoded("gzip", b"a\n"));
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[test]
fn answers_are_compressed_when_asked_and_never_the_small_ones() {
    let node = Node::start(HttpSettings { max_body_bytes: 1 << 20, ..settings() });
    let mut wire = Wire::to(node.address());
    let words: Vec<String> = (0..20_000).map(|number| format!("w{number}")).collect();
    wire.post(words.join(" "));
    wire.ask("POST /post?ns=small HTTP/1.1", "hello world");
    let get = |wire: &mut Wire, target: &str, accept: &str| {
        wire.ask(&format!("GET {target} HTTP/1.1\r\nAccept-Encoding: {accept}"), "")
    };
    for target in ["/sync", "/top?n=1000"] {
        let plain = wire.get(target);
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
        for (accept, coding) in [
            ("gzip", Some("gzip")),
            ("zstd", Some("zstd")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip;q=1, zstd;q=0.1", Some("gzip")),
            ("deflate\r\nAccept-Encoding: gzip", Some("gzip")),
            ("br", None),
            ("gzip;q=0", None),
            ("identity, gzip;q=0.5", None),
        ] {
            let answer = get(&mut wire, target, accept);
            assert_eq!((answer.status, answer.header("content-encoding")), (200, coding), "{target} {accept}");
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            assert_eq!(answer.header("memdb-position"), plain.header("memdb-position"));
            // The walk of /sync has no order.
            assert_eq!(answer.json(), plain.json(), "{target} {accept}");
            let tag = answer.header("etag").expect("a tag").to_owned();
            assert_eq!(tag.starts_with("W/"), coding.is_some() || target == "/sync", "{tag}");
            for accept in ["gzip", "identity"] {
                let head = format!("GET {target} HTTP/1.1\r\nAccept-Encoding: {accept}\r\nIf-None-Match: {tag}");
                let unchanged = wire.ask(&head, "");
                assert_eq!((unchanged.status, unchanged.header("vary")), (304, Some("accept-encoding")), "{target}");
                assert_eq!(unchanged.header("content-encoding"), None);
            }
        }
        let head = wire.ask(&format!("HEAD {target} HTTP/1.1\r\nAccept-Encoding: gzip"), "");
        assert_eq!((head.status, head.header("content-encoding")), (200, Some("gzip")));
        let get = get(&mut wire, target, "gzip");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
    }
    for target in
        ["/sync?ns=small", "/sync?ns=absent", "/top?ns=small", "/top", "/wordcount?word=w1", "/health", "/status"]
    {
        let answer = get(&mut wire, target, "gzip, zstd");
        assert_eq!((answer.status, answer.header("content-encoding")), (200, None), "{target}");
    }
    assert_eq!(get(&mut wire, "/sync?ns=small", "gzip").json(), serde_json::json!({"hello": 1, "world": 1}));
}
