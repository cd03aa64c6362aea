//! What pages in browsers may do with a node: the same on the fast path, through the routes, and over HTTP/2.

use crate::node::{Node, PATIENCE, settings};
use memdb::{
    api::http::{ApiContext, BrowserPolicy, HttpServer, HttpSettings},
    base::web_origin::CorsOrigins,
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
};
use testkit::wire::{Answer, Wire};

/// A leader, and two servers over it that keep this policy: the second has no fast path.
fn servers(hosts: Option<&[&str]>, cors: CorsOrigins) -> (Node, [HttpServer; 2]) {
    let node = Node::start(settings());
    assert_eq!(Wire::to(node.address()).post("hello").status, 202);
    let hosts = hosts.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let browsers = Arc::new(BrowserPolicy { hosts, cors, ..BrowserPolicy::default() });
    let servers = [true, false].map(|fast_path| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let api = ApiContext { browsers: Arc::clone(&browsers), ..node.api.clone() };
        HttpServer::start(listener, api, HttpSettings { fast_path, ..settings() }).expect("it starts")
    });
    (node, servers)
}

fn origins(list: &[&str]) -> CorsOrigins {
    CorsOrigins::These(list.iter().map(|origin| origin.parse().expect("an origin")).collect())
}

/// One answer to these bytes, the same from both servers but for its date, and for whether the rest of a body that
/// nobody wants had come.
fn alike(servers: &[HttpServer; 2], bytes: &str) -> Answer {
    let said = servers.each_ref().map(|server| {
        let mut stream = TcpStream::connect(server.local_addr()).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.write_all(bytes.as_bytes()).expect("an open socket");
        stream.shutdown(Shutdown::Write).expect("an open socket");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("an answer, and the end");
        said.split("\r\n")
            .filter(|line| !line.starts_with("date: ") && *line != "connection: close")
            .collect::<Vec<_>>()
            .join("\r\n")
    });
    assert_eq!(said[0], said[1], "{bytes}");
    Wire::to(servers[0].local_addr()).send(bytes).answer()
}

/// Whether caches are told that the answer depends on `Origin`.
fn varies(answer: &Answer) -> bool {
    answer.headers.iter().any(|(name, value)| name == "vary" && value == "Origin")
}

fn request(line: &str, host: &str, lines: &[&str], body: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{line} HTTP/1.1\r\nHost: {host}\r\n{lines}{length}\r\n{body}")
}

/// Every way to change something.
const CHANGES: [(&str, &str); 7] = [
    ("POST /post", "bad"),
    ("POST /bulk", "bad\n"),
    ("POST /update", "{\"bad\":1}"),
    ("DELETE /wordcount?word=hello", ""),
    ("DELETE /ns/words", ""),
    ("POST /promote", ""),
    ("POST /sync", "bad"),
];

#[test]
fn a_page_of_another_origin_changes_nothing() {
    let (node, servers) = servers(None, origins(&[]));
    for (line, body) in CHANGES {
        for foreign in [
            "Origin: http://evil.example",
            "Origin: https://a:8080",
            "Origin: http://a",
            "Origin: null",
            "Sec-Fetch-Site: cross-site",
            "Content-Type: text/plain\r\nOrigin: http://a:8080\r\nSec-Fetch-Site: cross-site",
        ] {
            let answer = alike(&servers, &request(line, "a:8080", &[foreign], body));
            assert_eq!((answer.status, answer.problem().as_str()), (403, "cross-site"), "{line} {foreign}");
            assert!(answer.text().contains("--cors-origin "), "{answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(Wire::to(node.address()).get("/sync").text(), r#"{"hello":1}"#);
}

#[test]
fn own_pages_and_clients_without_an_origin_are_served() {
    let (_node, servers) = servers(None, origins(&[]));
    for server in &servers {
        let mut wire = Wire::to(server.local_addr());
        for own in [
            &["Origin: http://a:8080", "Sec-Fetch-Site: same-origin"] as &[_],
            &["Sec-Fetch-Site: same-site"],
            &["Sec-Fetch-Site: none"],
            &[],
        ] {
            assert_eq!(wire.send(request("POST /post", "a:8080", own, "hello")).answer().status, 202, "{own:?}");
        }
        // What reads only is the browser's to keep from a page: nothing says that it may have the answer.
        let read =
            wire.send(request("GET /top", "a", &["Origin: http://b", "Sec-Fetch-Site: cross-site"], "")).answer();
        assert_eq!((read.status, read.header("access-control-allow-origin"), varies(&read)), (200, None, false));
        let read = wire.send(request("POST /wordcount", "a", &["Origin: http://b"], r#"{"words":["hello"]}"#)).answer();
        assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None));
    }
}

#[test]
fn a_host_that_was_not_named_is_refused_on_loopback() {
    let (_node, servers) = servers(Some(&["memdb.example"]), origins(&[]));
    let all = [("GET /wordcount?word=hello", ""), ("GET /health", ""), ("GET /sync", ""), ("GET /absent", "")];
    for (line, body) in CHANGES.into_iter().chain(all) {
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"] {
            let answer = alike(&servers, &request(line, host, &[], body));
            assert_eq!((answer.status, answer.problem().as_str()), (403, "host-not-allowed"), "{line} {host}");
            assert!(answer.text().contains("--allowed-host "), "{answer:?}");
        }
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]", "10.0.0.1", "Memdb.Example:8080"] {
        let answer = alike(&servers, &request("GET /wordcount?word=hello", host, &[], ""));
        assert_eq!((answer.status, answer.text()), (200, r#"{"hello":1}"#), "{host}");
    }
    let reads = |hosts: &[&str]| -> String {
        hosts.iter().map(|host| request("GET /wordcount?word=hello", host, &[], "")).collect()
    };
    for server in &servers {
        let mut wire = Wire::to(server.local_addr());
        wire.send(reads(&["localhost", "localhost", "memdb.example", "localhost", "evil.example", "localhost"]));
        for status in [200, 200, 200, 200, 403, 200] {
            assert_eq!(wire.answer().status, status, "one name is not let in by another");
        }
    }
    let old = alike(&servers, "GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(old.status, 200, "checks of old load balancers name no host, and browsers always do");
    let absolute = alike(&servers, &request("GET http://evil.example/health", "localhost", &[], ""));
    assert_eq!(absolute.problem(), "host-not-allowed");
}

#[test]
fn pages_of_a_named_origin_read_and_write() {
    let (_node, servers) = servers(None, origins(&["https://app.example", "http://b:3000"]));
    for given in ["https://app.example", "http://b:3000"] {
        let origin = format!("Origin: {given}");
        let page = [origin.as_str(), "Sec-Fetch-Site: cross-site"];
        let read = alike(&servers, &request("GET /wordcount?word=hello", "a", &page, ""));
        let same = alike(&servers, &request("GET /wordcount?word=hello", "a", &[&origin, "If-None-Match: *"], ""));
        let wrong = alike(&servers, &request("POST /post", "a", &page, ""));
        for (answer, status) in [(&read, 200), (&same, 304), (&wrong, 400)] {
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, Some(given)));
            let exposed = answer.header("access-control-expose-headers").expect("names");
            for name in ["Memdb-Position", "Memdb-Acks", "Memdb-Replayed", "Memdb-Lag", "ETag", "Retry-After"] {
                assert!(exposed.split(", ").any(|one| one == name), "{name} in {exposed}");
            }
            assert!(varies(answer));
        }
        for server in &servers {
            let write = Wire::to(server.local_addr()).send(request("POST /post", "a", &page, "written")).answer();
            assert_eq!((write.status, write.header("access-control-allow-origin")), (202, Some(given)));
        }
        let asked = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: idempotency-key"];
        let lines: Vec<&str> = std::iter::once(origin.as_str()).chain(asked).collect();
        for line in ["OPTIONS /post", "OPTIONS /bulk", "OPTIONS /wordcount?word=a", "OPTIONS /ns/a"] {
            let answer = alike(&servers, &request(line, "a", &lines, ""));
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(given)), "{line}");
            assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD, POST, PUT, PATCH, DELETE"));
            let headers = answer.header("access-control-allow-headers").expect("names").to_ascii_lowercase();
            for name in ["content-type", "idempotency-key", "memdb-min-position", "memdb-stream", "if-none-match"] {
                assert!(headers.split(", ").any(|one| one == name), "{name} in {headers}");
            }
        }
    }
    for other in ["Origin: https://app.example:444", "Origin: http://app.example", "Origin: null"] {
        assert_eq!(alike(&servers, &request("POST /post", "a", &[other], "x")).problem(), "cross-site", "{other}");
        let asked = [other, "Access-Control-Request-Method: DELETE"];
        assert_eq!(alike(&servers, &request("OPTIONS /ns/a", "a", &asked, "")).problem(), "cross-site", "{other}");
        let read = alike(&servers, &request("GET /top", "a", &[other], ""));
        assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None), "{other}");
    }
    // Caches must know also of answers to requests that name no origin.
    for lines in [&[] as &[&str], &["If-None-Match: *"], &["Memdb-Min-Position: 9-9"]] {
        for target in ["GET /wordcount?word=hello", "GET /health", "GET /status", "HEAD /top"] {
            for server in &servers {
                let mut wire = Wire::to(server.local_addr());
                let answer = wire.send(request(target, "a", lines, "")).answer_without_body();
                assert!(varies(&answer), "{target} {lines:?}");
            }
        }
    }
    let [fast_path, routes] =
        servers.each_ref().map(|server| Wire::to(server.local_addr()).post("a").header("vary").map(str::to_owned));
    assert_eq!((fast_path.as_deref(), routes.as_deref()), (Some("Origin"), Some("Origin")));
}

#[test]
fn a_star_lets_every_page_read_and_write() {
    let (_node, servers) = servers(None, CorsOrigins::Every);
    for origin in ["Origin: http://b", "Origin: null"] {
        for server in &servers {
            let mut wire = Wire::to(server.local_addr());
            let write =
                wire.send(request("POST /post", "a", &[origin, "Sec-Fetch-Site: cross-site"], "written")).answer();
            assert_eq!((write.status, write.header("access-control-allow-origin")), (202, Some("*")), "{origin}");
        }
    }
}

#[tokio::test]
async fn the_authority_of_http_2_is_checked_as_the_host_is() {
    let (_node, servers) = servers(Some(&[]), origins(&[]));
    for server in &servers {
        let stream = tokio::net::TcpStream::connect(server.local_addr()).await.expect("the server accepts");
        let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        for (target, origin, status) in [
            ("http://localhost:8080/update", Some("http://localhost:8080"), 415),
            ("http://localhost:8080/update", None, 415),
            ("http://localhost:8080/update", Some("http://localhost:8081"), 403),
            ("http://localhost:8080/update", Some("http://evil.example"), 403),
            ("http://evil.example/update", None, 403),
            ("http://evil.example/update", Some("http://evil.example"), 403),
        ] {
            let mut request = http::Request::post(target).header("content-type", "text/plain");
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let (answer, _) =
                client.send_request(request.body(()).expect("a request"), true).expect("an open connection");
            let answer: http::Response<h2::RecvStream> = answer.await.expect("an answer");
            assert_eq!(answer.status().as_u16(), status, "{target} {origin:?}");
        }
    }
}
