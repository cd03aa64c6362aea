//! Bodies of lines, of any length: what counts, what is refused, and that a body sent again counts each line once.

use crate::node::{Node, settings};
use memdb::{
    api::http::HttpSettings,
    base::limits::{BULK_BLOCK_BYTES, DEFAULT_NAMESPACE},
    data::command::WriteBatch,
    data::counts::{WriteOp, word_counts::WordCounts},
};
use testkit::{
    wait_until,
    wire::{Answer, Wire},
};

fn bulk(wire: &mut Wire, head: &str, body: impl AsRef<[u8]>) -> Answer {
    wire.ask(&format!("POST /bulk HTTP/1.1{head}"), body)
}

const KEYED: &str = "\r\nMemdb-Stream: s";

fn member(answer: &Answer, name: &str) -> u64 {
    answer.json()[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", answer.text()))
}

fn done(answer: &Answer) -> (u16, u64, u64, u64) {
    (answer.status, member(answer, "taken"), member(answer, "skipped"), member(answer, "refused"))
}

#[test]
fn each_line_of_a_bulk_body_counts_as_a_text() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let answer = bulk(&mut wire, "", "hello world\n\nHello\nagain");
    assert_eq!((done(&answer), member(&answer, "words")), ((202, 4, 0, 0), 4));
    assert_eq!(
        (answer.header("memdb-position"), answer.json()["position"].clone()),
        (Some("1-1-00000007"), "1-1-00000007".into())
    );
    assert_eq!(wire.get("/wordcount?word=hello&word=again").text(), r#"{"hello":2,"again":1}"#);
    let json = "{\"text\":\"a b\",\"id\":7}\r\n{\"text\":\"a\"}\n";
    let answer = wire.ask("POST /bulk?ns=json HTTP/1.1\r\nContent-Type: application/x-ndjson", json);
    assert_eq!((done(&answer), member(&answer, "words")), ((202, 2, 0, 0), 3));
    assert_eq!(wire.get("/wordcount?ns=json&word=a").text(), r#"{"a":2}"#);
    let empty = bulk(&mut wire, "", "");
    assert_eq!((done(&empty), empty.header("memdb-position")), ((202, 0, 0, 0), Some("1-2-00000007")));
}

#[test]
fn lines_in_another_charset_are_decoded_as_they_come() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let utf16: Vec<u8> = "café\ncafé au lait\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let answer = bulk(&mut wire, "\r\nContent-Type: text/plain; charset=utf-16le", &utf16);
    assert_eq!((done(&answer), member(&answer, "words")), ((202, 2, 0, 0), 4));
    assert_eq!(wire.get("/wordcount?word=caf%C3%A9").text(), "{\"café\":2}");
    // Half a character at the end, and the same bytes without their charset.
    let broken = bulk(&mut wire, "\r\nContent-Type: text/plain; charset=utf-16le", b"a\0\n\0b\0\x3d\xd8");
    assert_eq!(done(&broken), (202, 1, 0, 1));
    let reason = broken.json()["refusals"][0]["reason"].to_string();
    assert!(reason.contains("UTF-16LE") && !reason.contains("UTF-8"), "{reason}");
    let unnamed = bulk(&mut wire, "", b"a\nh\0i\0\n");
    assert_eq!(done(&unnamed), (202, 1, 0, 1));
    let reason = unnamed.json()["refusals"][0]["reason"].to_string();
    assert!(reason.contains("looks binary or UTF-16"), "{reason}");
}

#[test]
fn a_line_that_cannot_be_read_is_told_and_the_others_count() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let long = "x".repeat(1_001);
    let answer = bulk(&mut wire, "", [b"a\n\xff\n", long.as_bytes(), b"\na\n"].concat());
    assert_eq!(done(&answer), (202, 2, 0, 2));
    let refusals = answer.json()["refusals"].clone();
    assert_eq!((refusals[0]["line"].clone(), refusals[1]["line"].clone()), (2.into(), 3.into()));
    assert!(refusals[0]["reason"].as_str().is_some_and(|reason| reason.contains("UTF-8")), "{refusals}");
    assert_eq!(refusals[1]["reason"], "longer than 1000 bytes");
    assert_eq!(wire.get("/wordcount?word=a").text(), r#"{"a":2}"#);
}

#[test]
fn a_json_line_that_is_no_object_with_a_text_is_refused() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let lines = [
        (r#"["doc one","doc two"]"#, "it is an array"),
        (r#"["doc"]"#, "it is an array"),
        (r#""doc""#, "it is a string"),
        (r#"{"text":["doc"]}"#, "member \"text\": is an array, not a string"),
        (r#"{"text":"doc","text":"doc"}"#, "given twice"),
        (r#"{"text":"doc"} 5"#, "trailing characters"),
        (r#"{"text":"\ud800"}"#, "half a surrogate pair"),
        (r#"{"id":"x"}"#, "the member text is missing"),
    ];
    let body: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let counts = r#"{"other":"\ud800","deep":[[{}]],"text":"doc"}"#;
    let head = "POST /bulk HTTP/1.1\r\nContent-Type: application/x-ndjson";
    let answer = wire.ask(head, format!("{body}{counts}\n"));
    assert_eq!(done(&answer), (202, 1, 0, lines.len() as u64));
    for (at, (line, said)) in lines.iter().enumerate() {
        let reason = answer.json()["refusals"][at]["reason"].as_str().expect("a text").to_owned();
        assert!(reason.contains(said) && !reason.contains("struct"), "{line}: {reason}");
    }
    assert_eq!(wire.get("/sync").text().trim_end(), r#"{"doc":1}"#);
}

/// Has the count of a word stand so many in front of the end of the 64-bit range, where only an earlier release lets it
/// come.
fn poison(node: &Node, word: &str, room: i64) {
    let identity = node.leader.view().current().as_ref().expect("it serves").identity;
    let mut tally = WordCounts::new(identity.hasher());
    tally.add(word, i64::MAX - room).expect("in range");
    let namespace = DEFAULT_NAMESPACE.into();
    let batch = WriteBatch {
        entries: Vec::new(),
        namespace,
        op: WriteOp::Add,
        counts: tally,
        words: 1,
        left_out: 0,
        is_post: false,
        key: None,
        fingerprint: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(node.leader.submit(batch, None)).expect("written");
}

#[test]
fn a_line_that_would_overflow_is_told_and_the_others_count() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    poison(&node, "the", 2);
    let text = "the Whale\nThe the\nthe sea\n\nthe\nwhale caf\u{e9}\n";
    let first = bulk(&mut wire, KEYED, text);
    assert_eq!((done(&first), member(&first, "words")), ((202, 4, 0, 2), 6));
    let refusals = first.json()["refusals"].clone();
    assert_eq!((&refusals[0]["line"], &refusals[1]["line"]), (&2.into(), &5.into()));
    assert!(refusals[0]["reason"].as_str().is_some_and(|reason| reason.contains("\"the\"")), "{refusals}");
    let counts = format!("{{\"the\":{},\"whale\":2,\"sea\":1,\"café\":1}}", i64::MAX);
    let read = |wire: &mut Wire| wire.get("/wordcount?word=the&word=whale&word=sea&word=caf%C3%A9").text().to_owned();
    assert_eq!(read(&mut wire), counts);
    // Refused lines are done, as all others are: the same body counts nothing, and what is behind it goes on.
    for _ in 0..2 {
        let again = bulk(&mut wire, KEYED, text);
        assert_eq!((done(&again), member(&again, "stream_words")), ((202, 0, 6, 0), 6));
    }
    let more = bulk(&mut wire, KEYED, format!("{text}the\nsea\n"));
    assert_eq!((done(&more), member(&more, "stream_lines"), member(&more, "stream_words")), ((202, 1, 6, 1), 8, 7));
    // Lines of JSON, and a block of which nothing is left.
    let json = "{\"text\":\"the\"}\n{\"text\":\"sea\"}\n{\"text\":7}\n";
    let answer = wire.ask("POST /bulk HTTP/1.1\r\nContent-Type: application/x-ndjson", json);
    assert_eq!((done(&answer), member(&answer, "words")), ((202, 1, 0, 2), 1));
    assert_eq!(done(&bulk(&mut wire, "", "the\nthe\n")), (202, 0, 0, 2));
    assert_eq!(wire.post("the sea").problem(), "overflow");
    assert_eq!(wire.post("sea").status, 202);
    // Taken down, it bars nobody.
    assert_eq!(wire.ask("POST /update HTTP/1.1", r#"{"the":-9000000000000000000}"#).status, 202);
    assert_eq!(done(&bulk(&mut wire, "", "the\n")), (202, 1, 0, 0));
}

#[test]
fn a_body_may_be_larger_than_any_bound() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    let line = "one two three four five six seven eight nine ten\n";
    let lines = 13_000_000 / line.len();
    let answer = bulk(&mut wire, KEYED, line.repeat(lines));
    assert_eq!((done(&answer), member(&answer, "words")), ((202, lines as u64, 0, 0), 10 * lines as u64));
    let long = "x ".repeat(3_000_000);
    let answer = bulk(&mut wire, "", format!("{line}{long}\n{line}"));
    assert_eq!(done(&answer), (202, 2, 0, 1));
    assert_eq!(wire.get("/wordcount?word=ten&word=x").text(), format!(r#"{{"ten":{},"x":0}}"#, lines + 2));
}

#[test]
fn a_body_sent_again_counts_what_is_new() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    assert_eq!(done(&bulk(&mut wire, KEYED, "a\nb")), (202, 2, 0, 0));
    assert_eq!(done(&bulk(&mut wire, KEYED, "a\nb")), (202, 0, 2, 0));
    assert_eq!(done(&bulk(&mut wire, KEYED, "a\nb\na\nlast")), (202, 2, 2, 0));
    assert_eq!(wire.get("/wordcount?word=a&word=b").text(), r#"{"a":2,"b":1}"#);
    let asked = bulk(&mut wire, KEYED, "");
    assert_eq!((done(&asked), member(&asked, "stream_lines"), member(&asked, "stream_words")), ((202, 0, 0, 0), 4, 4));
    for (other, head) in [("a\nc\na\n", KEYED), ("a\n", KEYED), ("a\nb\na\n\n", KEYED)] {
        let refused = bulk(&mut wire, head, other);
        assert_eq!((refused.status, refused.problem().as_str()), (422, "key-reused"), "{other}");
        wire = Wire::to(node.address());
    }
    // In another namespace it is another stream.
    let elsewhere = wire.ask("POST /bulk?ns=other HTTP/1.1\r\nMemdb-Stream: s", "a\nb");
    assert_eq!(done(&elsewhere), (202, 2, 0, 0));
    // A stream of posts under the same name is another.
    let post = wire.ask("POST /post HTTP/1.1\r\nMemdb-Stream: s\r\nMemdb-Stream-Seq: 1", "a");
    assert_eq!((post.status, post.header("memdb-replayed")), (202, None));
}

#[test]
fn a_body_that_breaks_off_counts_whole_lines_and_its_repeat_the_rest() {
    let node = Node::start(settings());
    let text: String = (0..900_000).map(|at| format!("word{} again\n", at % 1_000)).collect();
    for cut in [1, BULK_BLOCK_BYTES + 100_001, BULK_BLOCK_BYTES + 1_000_000, text.len() - 1] {
        let mut wire = Wire::to(node.address());
        wire.send(format!(
            "POST /bulk HTTP/1.1\r\nHost: a\r\n{}\r\nContent-Length: {}\r\n\r\n",
            &KEYED[2..],
            text.len()
        ));
        wire.send(&text.as_bytes()[..cut]).finish();
        assert_eq!(wire.answer().problem(), "invalid-body");
    }
    let mut wire = Wire::to(node.address());
    let answer = bulk(&mut wire, KEYED, &text);
    let (status, taken, skipped, refused) = done(&answer);
    assert_eq!((status, taken + skipped, refused), (202, 900_000, 0));
    assert!(skipped > 0, "the whole blocks of what was cut off are done");
    assert_eq!(wire.get("/wordcount?word=again&word=word7").text(), r#"{"again":900000,"word7":900}"#);
}

#[test]
fn lines_do_not_wait_for_a_body_that_pauses() {
    let node = Node::start(settings());
    let mut wire = Wire::to(node.address());
    wire.send("POST /bulk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nmine\nno\r\n");
    let mut reader = Wire::to(node.address());
    while reader.get("/wordcount?word=mine").text() != r#"{"mine":1}"# {
        std::thread::yield_now();
    }
    assert_eq!(reader.get("/wordcount?word=no").text(), r#"{"no":0}"#, "its line may go on");
    wire.send("3\r\ntes\r\n0\r\n\r\n");
    assert_eq!(done(&wire.answer()), (202, 2, 0, 0));
    assert_eq!(reader.get("/wordcount?word=notes").text(), r#"{"notes":1}"#);
}

#[test]
fn a_bulk_body_with_headers_of_a_post_is_refused() {
    let node = Node::start(settings());
    for (head, problem) in [
        ("\r\nIdempotency-Key: k", "invalid-header"),
        ("\r\nMemdb-Stream: s\r\nMemdb-Stream-Seq: 1", "invalid-header"),
        ("\r\nContent-Type: application/json", "unsupported-media-type"),
        ("\r\nContent-Type: text/plain; charset=klingon", "unsupported-media-type"),
    ] {
        assert_eq!(bulk(&mut Wire::to(node.address()), head, "a").problem(), problem, "{head}");
    }
    let mut wire = Wire::to(node.address());
    let refused = wire.ask("POST /bulk?ack=replica+disk HTTP/1.1", "a\n");
    assert_eq!((refused.problem().as_str(), member(&refused, "taken")), ("ack-unavailable", 0));
    let late = Wire::to(node.address()).ask("POST /bulk?ack=replica HTTP/1.1", "a\n");
    assert_eq!((late.problem().as_str(), member(&late, "taken")), ("not-replicated", 1));
    node.leader.stop();
    let refused = bulk(&mut Wire::to(node.address()), "", "a\n");
    assert_eq!((refused.problem().as_str(), member(&refused, "taken")), ("stopping", 0));
}

#[test]
fn one_of_two_senders_of_a_stream_goes_on() {
    let node = Node::start(HttpSettings { threads: 2, ..settings() });
    let (mut first, mut second) = (Wire::to(node.address()), Wire::to(node.address()));
    let open = format!("POST /bulk HTTP/1.1\r\nHost: a\r\n{}\r\nTransfer-Encoding: chunked\r\n\r\n", &KEYED[2..]);
    let mut reader = Wire::to(node.address());
    let mut until = |words: &str| {
        while reader.get("/wordcount?word=a").text() != format!(r#"{{"a":{words}}}"#) {
            std::thread::yield_now();
        }
    };
    first.send(&open).send("2\r\na\n\r\n");
    until("1");
    second.send(&open).send("4\r\na\na\n\r\n");
    until("2");
    first.send("2\r\na\n\r\n0\r\n\r\n");
    let refused = first.answer();
    assert_eq!((refused.status, refused.problem().as_str(), member(&refused, "taken")), (409, "stream-gap", 1));
    second.send("0\r\n\r\n");
    assert_eq!(done(&second.answer()), (202, 1, 1, 0));
    assert_eq!(reader.get("/wordcount?word=a").text(), r#"{"a":2}"#);
}

/// Sends a piece of a chunked body.
fn chunk(wire: &mut Wire, bytes: &[u8]) {
    wire.send([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat());
}

fn begun(node: &Node, lines: &[u8]) -> Wire {
    let mut wire = Wire::to(node.address());
    wire.send("POST /bulk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    chunk(&mut wire, lines);
    wire
}

/// Waits until a word is counted so often.
fn until_counted(node: &Node, word: &str, count: usize) {
    let mut wire = Wire::to(node.address());
    let expected = format!("{{\"{word}\":{count}}}");
    wait_until(&expected, || wire.get(&format!("/wordcount?word={word}")).text().trim_end() == expected);
}

#[test]
fn lines_that_are_counted_are_charged_no_longer_while_their_body_goes_on() {
    let node = Node::start(HttpSettings { max_upload_bytes: 8 << 20, ..settings() });
    let line = "one two three\n";
    let lines = (3 << 20) / line.len();
    let mut open = Vec::new();
    for bodies in 1..=4 {
        open.push(begun(&node, line.repeat(lines).as_bytes()));
        until_counted(&node, "one", bodies * lines);
    }
    // Nor while a little comes of it, again and again.
    for wire in &mut open {
        chunk(wire, b"and a line\n");
    }
    until_counted(&node, "line", open.len());
    let mut wire = Wire::to(node.address());
    assert_eq!(done(&bulk(&mut wire, "", line.repeat(lines))), (202, lines as u64, 0, 0));
    for mut wire in open {
        wire.send("0\r\n\r\n");
        assert_eq!(done(&wire.answer()), (202, lines as u64 + 1, 0, 0));
    }
}

#[test]
fn lines_count_within_a_second_or_two_however_the_rest_trickles_in_and_a_line_has_an_end_of_time() {
    let body_timeout = std::time::Duration::from_secs(3);
    let node = Node::start(HttpSettings { body_timeout, max_body_bytes: 1 << 20, ..settings() });
    let mut wire = begun(&node, b"first\n");
    let counted = || Wire::to(node.address()).get("/wordcount?word=first").text().contains(":1");
    let mut pieces = 0;
    while !wire.has_something() {
        chunk(&mut wire, b"x ");
        pieces += 1;
        assert!(pieces < 100_000, "a line that never ends is never refused");
        #[allow(clippy::disallowed_methods)] // what comes comes within the time after which a pause is one
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let answer = wire.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (408, "request-timeout"));
    assert!(counted());
}
