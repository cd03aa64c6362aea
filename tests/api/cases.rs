//! Requests that are wrong or odd, each with the exact answer it gets.

/// All of them.
pub fn cases() -> Vec<Case> {
    [methods_and_paths(), parameters(), headers(), bodies(), framing()].into_iter().flatten().collect()
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request on it is answered.
    Open,
    /// It is closed.
    Closed,
}
use After::{Closed, Open};

pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub status: u16,
    /// The problem's type; empty for an answer that is none.
    pub problem: &'static str,
    pub after: After,
    /// Headers that must be there with this value.
    pub headers: &'static [(&'static str, &'static str)],
}

fn case(name: &'static str, bytes: impl AsRef<[u8]>, status: u16, problem: &'static str, after: After) -> Case {
    Case { name, bytes: bytes.as_ref().to_vec(), status, problem, after, headers: &[] }
}

impl Case {
    fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }
}

/// A request line with a host, more header lines, and a body with its length.
fn request(line: &str, lines: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut head = format!("{line} HTTP/1.1\r\nHost: a\r\n");
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

fn methods_and_paths() -> Vec<Case> {
    vec![
        case("no such path", request("GET /absent", &[], ""), 404, "not-found", Open),
        case("the root", request("GET /", &[], ""), 404, "not-found", Open),
        case("a path in capitals", request("GET /HEALTH", &[], ""), 404, "not-found", Open),
        case("below a route", request("GET /top/1", &[], ""), 404, "not-found", Open),
        case("dots in a path", request("GET /../etc/passwd", &[], ""), 404, "not-found", Open),
        case("two slashes", request("GET //post", &[], ""), 404, "not-found", Open),
        case("an encoded slash", request("GET /health%2Flive", &[], ""), 404, "not-found", Open),
        case("an absolute target", request("GET http://a/health", &[], ""), 200, "", Open),
        case("the asterisk", request("OPTIONS *", &[], ""), 404, "not-found", Open),
        case("GET of a write", request("GET /update", &[], ""), 405, "method-not-allowed", Open)
            .with(&[("allow", "POST")]),
        case("PUT", request("PUT /post", &[], "a"), 405, "method-not-allowed", Open)
            .with(&[("allow", "POST, GET, HEAD")]),
        case("POST of a read", request("POST /top", &[], ""), 405, "method-not-allowed", Open)
            .with(&[("allow", "GET, HEAD")]),
        case("PUT of words", request("PUT /wordcount?word=a", &[], ""), 405, "method-not-allowed", Open)
            .with(&[("allow", "GET, HEAD, POST, DELETE")]),
        case("DELETE of all", request("DELETE /sync", &[], ""), 405, "method-not-allowed", Open)
            .with(&[("allow", "GET, HEAD, POST")]),
        case("GET of a namespace", request("GET /ns/a", &[], ""), 405, "method-not-allowed", Open)
            .with(&[("allow", "DELETE")]),
        case("POST of health", request("POST /health/live", &[], ""), 405, "method-not-allowed", Open)
            .with(&[("allow", "GET, HEAD")]),
        case("OPTIONS of a route", request("OPTIONS /update", &[], ""), 405, "method-not-allowed", Open)
            .with(&[("allow", "POST")]),
        case("a method nobody knows", request("BREW /top", &[], ""), 405, "method-not-allowed", Open),
        case("TRACE", request("TRACE /status", &[], ""), 405, "method-not-allowed", Open),
        case("CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405, "method-not-allowed", Open),
        case("CONNECT to a path", request("CONNECT /post", &[], ""), 405, "method-not-allowed", Open),
        case(
            "an upgrade nobody does",
            request("GET /health", &["Upgrade: h2c", "Connection: upgrade"], ""),
            200,
            "",
            Open,
        ),
    ]
}

fn parameters() -> Vec<Case> {
    let words = |count: usize| format!("GET /wordcount?{}", "word=a&".repeat(count));
    let bad = |name, line: &str| case(name, request(line, &[], ""), 400, "invalid-parameter", Open);
    vec![
        bad("no word", "GET /wordcount"),
        bad("an empty word", "GET /wordcount?word="),
        bad("one empty word of two", "GET /wordcount?word=a&word="),
        bad("a word of underscores", "GET /wordcount?word=__"),
        bad("a word nobody sees", "GET /wordcount?word=%C2%AD"),
        bad("one word of two that folds to nothing", "GET /wordcount?word=a&word=%EF%BC%BF"),
        bad("a word of underscores to take away", "DELETE /wordcount?word=a&word=_"),
        bad("a broken escape", "GET /wordcount?word=%4"),
        case("a word that is not UTF-8", request("GET /wordcount?word=%ff", &[], ""), 400, "invalid-utf8", Open),
        case("as many words as may be", request(&words(1_000), &[], ""), 200, "", Open),
        bad("one word too many", &words(1_001)),
        case(
            "a word that is too long to count",
            request(&format!("GET /wordcount?word={}", "a".repeat(300)), &[], ""),
            200,
            "",
            Open,
        ),
        bad("deleting a word that is too long", &format!("DELETE /wordcount?word={}", "a".repeat(257))),
        bad("a namespace in capitals", "GET /wordcount?word=a&ns=Words"),
        bad("a namespace too long", &format!("GET /sync?ns={}", "a".repeat(65))),
        bad("a namespace twice", "GET /sync?ns=a&ns=b"),
        bad("no namespace to delete", "DELETE /ns/%20"),
        bad("a namespace of a dot", "POST /post?ns=."),
        bad("a namespace of two dots", "POST /update?ns=%2E."),
        bad("an unknown parameter", "GET /wordcount?word=a&verbose"),
        bad("an unknown parameter of a write", "POST /post?namespace=a"),
        bad("an unknown parameter of health", "GET /health?verbose"),
        bad("a parameter without a name", "GET /wordcount?word=a&=b"),
        case("an underscore's parameter", request("GET /wordcount?word=a&_=1", &[], ""), 200, "", Open),
        bad("n too small", "GET /top?n=0"),
        bad("n too large", "GET /top?n=100001"),
        bad("n no number", "GET /top?n=ten"),
        case("a level there is not", request("POST /post?ack=most", &[], "a"), 400, "invalid-parameter", Open),
        case(
            "a level without replicas",
            request("POST /post?ack=replica+disk", &[], "a"),
            400,
            "ack-unavailable",
            Open,
        ),
    ]
}

fn headers() -> Vec<Case> {
    let read = |name, line| case(name, request("GET /wordcount?word=a", &[line], ""), 400, "invalid-header", Open);
    let write = |name, lines: &[&str]| case(name, request("POST /post", lines, "x"), 400, "invalid-header", Open);
    let long_key = format!("Idempotency-Key: {}", "k".repeat(256));
    vec![
        read("a position that is none", "Memdb-Min-Position: seven"),
        read("a position with a sign", "Memdb-Min-Position: +1-1-00000007"),
        read("a position without a database", "Memdb-Min-Position: 1-1"),
        read("a position in umlauts", "Memdb-Min-Position: \u{fc}"),
        write("an empty key", &["Idempotency-Key:"]),
        write("a key too long", &[&long_key]),
        write("a key in umlauts", &["Idempotency-Key: \u{fc}"]),
        write("two keys", &["Idempotency-Key: a", "Idempotency-Key: b"]),
        write("a stream without its number", &["Memdb-Stream: s"]),
        write("a number without its stream", &["Memdb-Stream-Seq: 1"]),
        write("number zero of a stream", &["Memdb-Stream: s", "Memdb-Stream-Seq: 0"]),
        write("a number that is none", &["Memdb-Stream: s", "Memdb-Stream-Seq: 1.5"]),
        write("a key and a stream", &["Memdb-Stream: s", "Memdb-Stream-Seq: 1", "Idempotency-Key: k"]),
        write("two types", &["Content-Type: text/plain", "Content-Type: application/json"]),
        case(
            "an expectation nobody meets",
            request("POST /post", &["Expect: fireworks"], "x"),
            417,
            "expectation-failed",
            Open,
        ),
        case(
            "key and id that differ",
            request(
                "POST /post",
                &["Idempotency-Key: a", "Content-Type: application/json"],
                r#"{"text":"x","id":"b"}"#,
            ),
            400,
            "invalid-header",
            Open,
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let typed = |name, kind: &str, body: &[u8], status, problem| {
        case(name, request("POST /post", &[&format!("Content-Type: {kind}")], body), status, problem, Open)
    };
    let update = |name, body: &str| case(name, request("POST /update", &[], body), 400, "invalid-body", Open);
    let chunks = |line: &str, chunks: &str| {
        format!("{line} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    let part = |name, lines: &str, status| {
        let body = format!("--b\r\nContent-Disposition: form-data; name=\"text\"\r\n{lines}\r\nx\r\n--b--\r\n");
        typed(name, "multipart/form-data; boundary=b", body.as_bytes(), status, "unsupported-media-type")
    };
    let form = "application/x-www-form-urlencoded";
    let multipart = "multipart/form-data; boundary=b";
    vec![
        update("a member that folds to nothing", "{\"a\":1,\"__\":1}"),
        typed("a text in latin1", "text/plain; charset=iso-8859-1", b"caf\xe9", 202, ""),
        typed("a text that is not in its charset", "text/plain; charset=utf-16le", b"h\0e", 400, "invalid-body"),
        typed("JSON in another charset", "application/json; charset=utf-16le", b"a", 415, "unsupported-media-type"),
        typed("UTF-16 without its name", "text/plain", b"h\0i\0", 400, "invalid-body"),
        typed("a mark in front of JSON", "application/json", b"\xef\xbb\xbf{\"text\":\"a\"}", 202, ""),
        case("no body", request("POST /post", &[], ""), 400, "empty-text", Open),
        case("a length of zero", request("POST /post", &["Content-Length: 0"], ""), 400, "empty-text", Open),
        case("chunks without a byte", chunks("POST /post", ""), 400, "empty-text", Open),
        case("a body as large as may be", request("POST /post", &[], "x ".repeat(500)), 202, "", Open),
        case("a body one byte larger", request("POST /post", &[], "x".repeat(1_001)), 413, "body-too-large", Open),
        case(
            "chunks as large as may be",
            chunks("POST /post", &format!("3e8\r\n{}\r\n", "x ".repeat(500))),
            202,
            "",
            Open,
        ),
        case(
            "chunks one byte larger",
            chunks("POST /post", &format!("3e8\r\n{}\r\n1\r\nx\r\n", "x".repeat(1_000))),
            413,
            "body-too-large",
            Open,
        ),
        case(
            "a length nobody sends",
            "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n",
            413,
            "body-too-large",
            Closed,
        ),
        typed("bytes that are not UTF-8", "text/plain", b"ok \xff", 400, "invalid-utf8"),
        typed("half a character at the end", "text/plain", b"ok \xe5\x8c", 400, "invalid-utf8"),
        typed("another charset", "text/plain; charset=klingon", b"x", 415, "unsupported-media-type").with(&[(
            "accept-post",
            "text/plain, application/x-www-form-urlencoded, application/json, multipart/form-data; all in UTF-8",
        )]),
        typed("another type", "application/xml", b"<x/>", 415, "unsupported-media-type"),
        typed("no type at all", "", b"x", 415, "unsupported-media-type"),
        case(
            "a compressed body",
            request("POST /post", &["Content-Encoding: gzip"], "x"),
            415,
            "unsupported-media-type",
            Open,
        ),
        typed("a form without text", form, b"other=x", 400, "empty-text"),
        typed("a form with an empty text", form, b"text=", 400, "empty-text"),
        typed("a form with two texts", form, b"text=x&text=x", 400, "invalid-body"),
        typed("a form with a bare percent sign", form, b"text=100%", 400, "invalid-body"),
        typed("a form that is not UTF-8", form, b"text=%c3%28", 400, "invalid-utf8"),
        typed("JSON that breaks off", "application/json", br#"{"text":"x"#, 400, "invalid-body"),
        typed("JSON without text", "application/json", br#"{"id":"x"}"#, 400, "invalid-body"),
        typed("JSON with a number for text", "application/json", br#"{"text":5}"#, 400, "invalid-body"),
        typed("a JSON list", "application/json", b"[]", 400, "invalid-body"),
        typed("a JSON list of two texts", "application/json", br#"["doc one","doc two"]"#, 400, "invalid-body"),
        typed("a JSON string", "application/json", br#""text""#, 400, "invalid-body"),
        typed("two JSON objects", "application/json", br#"{"text":"x"}{"text":"y"}"#, 400, "invalid-body"),
        typed("JSON with text twice", "application/json", br#"{"text":"x","text":"x"}"#, 400, "invalid-body"),
        typed("JSON with a list for id", "application/json", br#"{"text":"x","id":["a"]}"#, 400, "invalid-body"),
        typed("half a surrogate pair", "application/json", br#"{"text":"\ud800"}"#, 400, "invalid-body"),
        typed("multipart without a boundary", "multipart/form-data", b"x", 400, "invalid-header"),
        typed(
            "multipart that breaks off",
            multipart,
            b"--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nx",
            400,
            "invalid-body",
        ),
        typed("multipart without text", multipart, b"--b--\r\n", 400, "empty-text"),
        part("a part in another charset", "Content-Type: text/plain; charset=iso-8859-1\r\n", 415),
        part("a part in UTF-16", "Content-Type: text/plain; charset=\"utf-16le\"\r\n", 415),
        part("a part in base64", "Content-Transfer-Encoding: base64\r\n", 415),
        part("a part in quoted-printable", "content-transfer-encoding: Quoted-Printable\r\n", 415),
        part("a compressed part", "Content-Encoding: gzip\r\n", 415),
        typed(
            "a part behind the name of another charset",
            multipart,
            b"--b\r\nContent-Disposition: form-data; name=\"_charset_\"\r\n\r\niso-8859-1\r\n\
              --b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nx\r\n--b--\r\n",
            415,
            "unsupported-media-type",
        ),
        typed("a form in another charset", form, b"_charset_=windows-1252&text=x", 415, "unsupported-media-type"),
        update("an update of nothing at all", ""),
        update("an update with a fraction", r#"{"a":1.5}"#),
        update("an update with a string", r#"{"a":"1"}"#),
        update("an update out of range", r#"{"a":9223372036854775808}"#),
        update("an update with a list", r#"{"a":[1]}"#),
        update("an update with a name twice", r#"{"a":1,"a":1}"#),
        update("an update with an empty name", r#"{"":1}"#),
        case(
            "an update in a form",
            request("POST /update", &["Content-Type: text/plain"], "{}"),
            415,
            "unsupported-media-type",
            Open,
        ),
    ]
}

fn framing() -> Vec<Case> {
    let long = "a".repeat(16 << 10);
    let many: Vec<String> = (0..64).map(|at| format!("X-{at}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let bad = |name, bytes: &str| case(name, bytes, 400, "malformed-request", Closed);
    vec![
        bad("garbage", "\u{1}\u{2}\u{3}\r\n\r\n"),
        case("the begin of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed-request", Closed),
        bad("HTTP/0.9", "GET /health\r\n\r\n"),
        bad("no host", "GET /health HTTP/1.1\r\n\r\n"),
        bad("two hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        bad("a header without a colon", "GET /health HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n"),
        bad("a space before the colon", "GET /health HTTP/1.1\r\nHost : a\r\n\r\n"),
        bad("a folded header", "GET /health HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
        bad("a zero byte in a header", "GET /health HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
        bad(
            "both lengths",
            "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        bad(
            "both lengths the other way",
            "POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ),
        bad("two lengths", "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        bad("a length that is none", "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nabcde"),
        bad("a length below zero", "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        bad("another transfer encoding", "POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        bad("chunks in HTTP/1.0", "POST /post HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        case("a version of the future", "GET /health HTTP/3.0\r\nHost: a\r\n\r\n", 505, "unsupported-version", Closed),
        case("a target without end", format!("GET /{long}"), 414, "uri-too-long", Closed),
        case("a header without end", format!("GET / HTTP/1.1\r\nX: {long}"), 431, "head-too-large", Closed),
        case("as many headers as may be", request("GET /health", &many[..63], ""), 200, "", Open),
        case("one header too many", request("GET /health", &many, ""), 431, "head-too-large", Closed),
        case(
            "chunks that are none",
            "POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            400,
            "invalid-body",
            Closed,
        ),
        case(
            "a chunk longer than it says",
            "POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
            400,
            "invalid-body",
            Closed,
        ),
        case("empty lines before a request", "\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n", 200, "", Open),
        case("bare line feeds", "GET /health HTTP/1.1\nHost: a\n\n", 200, "", Open),
        case("HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n", 200, "", Closed),
        case("HTTP/1.0 kept open", "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "", Open),
        case("HTTP/1.0 and a body in pieces", "GET /sync HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "", Closed)
            .with(&[("connection", "close")]),
        case(
            "HTTP/1.0 kept open behind a short body",
            "GET /top HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            200,
            "",
            Open,
        )
        .with(&[("connection", "keep-alive")]),
        case("asked to close", "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, "", Closed),
    ]
}
