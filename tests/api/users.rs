//! Users and roles: every route as every user, by each way that requests come, and what is odd about credentials.

#![allow(clippy::disallowed_methods, clippy::print_stdout)] // makes files as a user has them, and tells times

mod node;

use crate::node::{Node, PATIENCE, settings};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use memdb::{
    api::{
        auth::{AccessControl, AccessRole, AccessSettings, RoleGrant, password, users_file::UserEntry},
        http::{
            ApiContext, HttpServer, NodeAccess,
            access_cases::{self, AccessCase},
        },
    },
    base::{reload::ReloadablePart, secret::Secret},
    replication::{HELLO_TYPE, RECORDS_TYPE, SNAPSHOT_TYPE},
};
use node::{HTTP1_TRANSPORTS, Protocol, TRANSPORTS, Transport, UsersNode, raw, write};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::guard;

/// The moment at which the clock of the tests stands.
const NOW: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
const DAY: &str = "Tue, 01 Dec 2026 00:00:00 GMT";
const SECRET: &str = "the-secret-of-this-cluster";
/// The transport of a request where it makes no difference.
const ANY: Transport = Transport { protocol: Protocol::Http1, tls: false };

/// The token of a user in these tests.
fn token_of(user: &str) -> String {
    format!("memdb_token-of-{user}")
}

fn user(name: &str, grants: &[&str]) -> UserEntry {
    guard::user(name, &token_of(name), grants)
}

fn with_password(user: UserEntry, given: &str) -> UserEntry {
    UserEntry { password: Some(password::hash(given.as_bytes()).expect("a hash")), ..user }
}

fn get(target: &str) -> AccessCase {
    let (route, target) = (String::new(), target.to_owned());
    AccessCase { route, method: "GET", target, header: None, needs: None, only_reads: true }
}

fn bearer(name: &str) -> String {
    format!("Bearer {}", token_of(name))
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// What became of a request, as far as its right goes.
fn decision((status, body): &(u16, String)) -> &'static str {
    match (status, body) {
        (401, body) if body.contains("urn:memdb:problem:unauthenticated") => "unauthenticated",
        (403, body) if body.contains("urn:memdb:problem:forbidden") => "forbidden",
        (401 | 403, _) => panic!("{body}"),
        _ => "allowed",
    }
}

#[test]
fn every_route_is_for_whom_the_table_says_by_every_way_that_requests_come() {
    let mut users = Vec::new();
    for role in AccessRole::ALL {
        for (end, begins) in [("all", None), ("ours", Some("ours")), ("theirs", Some("theirs"))] {
            let grant = begins.map_or(role.to_string(), |begin| format!("{role}:{begin}"));
            users.push(user(&format!("{role}-{end}"), &[&grant]));
        }
    }
    let node = UsersNode::start(&users);
    let cases = access_cases::all("ours-a", false);
    assert!(cases.len() > 40, "each row is there");
    for transport in TRANSPORTS {
        for case in &cases {
            let nobody = decision(&node.ask(transport, case, None));
            let expected = if case.needs.is_none() { "allowed" } else { "unauthenticated" };
            assert_eq!(nobody, expected, "{transport:?} {case:?} without credentials");
            for user in &users {
                // A user is let in by the grant that the file has; nothing else is asked here.
                let RoleGrant { role, namespaces } = &user.roles[0];
                let is_right = case.needs.as_ref().is_none_or(|(needed, namespace)| {
                    let of_role = role == needed || *role == AccessRole::Admin;
                    let of_namespace = match (namespaces, namespace) {
                        (None, _) => true,
                        (Some(_), None) => false,
                        (Some(begins), Some(namespace)) => namespace.starts_with(&begins[0]),
                    };
                    of_role && of_namespace
                });
                let expected = if is_right { "allowed" } else { "forbidden" };
                let answer = node.ask(transport, case, Some(&bearer(&user.name)));
                assert_eq!(decision(&answer), expected, "{transport:?} {case:?} as {}: {}", user.name, answer.1);
            }
        }
    }
}

#[test]
fn the_page_about_security_has_a_row_for_every_route() {
    let page = fs::read_to_string("docs/security.md").expect("the page");
    for [route, role, namespace] in access_cases::rights() {
        let row = format!("| {route} | {role} | {namespace} |");
        assert!(page.contains(&row), "docs/security.md has no row {row}");
    }
}

#[test]
fn without_users_every_route_is_as_before() {
    let node = Node::start(settings());
    for authorization in ["", "Authorization: Bearer x\r\n", "Authorization: Basic eDp5\r\n"] {
        let connect = || TcpStream::connect(node.address()).expect("the server accepts");
        assert_eq!(raw(connect(), "GET", "/wordcount?word=a", authorization).0, 200);
        assert_eq!(raw(connect(), "DELETE", "/ns/a", authorization).0, 202);
    }
}

#[test]
fn metrics_are_open_where_that_is_said() {
    let closed = UsersNode::start(&[user("ann", &["read:a"])]);
    let open = AccessSettings { metrics_open: true, ..AccessSettings::default() };
    let open = UsersNode::start_with(&[user("ann", &["read:a"])], open);
    assert_eq!(closed.ask(ANY, &get("/metrics"), None).0, 401);
    assert_eq!(open.ask(ANY, &get("/metrics"), None).0, 200);
}

#[test]
fn the_cluster_secret_may_everything_and_each_scheme_is_a_way_in() {
    let secret: Secret = SECRET.parse().expect("a secret");
    let ann = with_password(user("ann", &["read"]), "correct: horse");
    let node = UsersNode::start_with(&[ann], AccessSettings { secret: Some(secret), ..AccessSettings::default() });
    for transport in TRANSPORTS {
        for case in access_cases::all("a", false) {
            let answer = node.ask(transport, &case, Some(&format!("Bearer {SECRET}")));
            assert_eq!(decision(&answer), "allowed", "{case:?}");
        }
        let read = get("/wordcount?word=a");
        for right in [bearer("ann"), format!("bEARER  {}", token_of("ann")), basic("ann", "correct: horse")] {
            assert_eq!(node.ask(transport, &read, Some(&right)).0, 200, "{transport:?} {right}");
        }
    }
}

#[test]
fn what_is_odd_about_credentials_is_refused_clearly() {
    let ann = with_password(user("ann", &["read"]), "x");
    let node = UsersNode::start(&[ann]);
    let right = bearer("ann");
    for (transport, lines, status) in HTTP1_TRANSPORTS.iter().flat_map(|&transport| {
        [
            (transport, "Authorization: \r\n".to_owned(), 401),
            (transport, "Authorization: Bearer\r\n".to_owned(), 401),
            (transport, format!("Authorization: Token {}\r\n", token_of("ann")), 401),
            (transport, format!("Authorization: {}\r\n", token_of("ann")), 401),
            (transport, "Authorization: Basic !!!\r\n".to_owned(), 401),
            (transport, format!("Authorization: {right} x\r\n"), 401),
            (transport, format!("Authorization: {right}, {}\r\n", basic("ann", "x")), 401),
            (transport, format!("Authorization: {right}\r\nAuthorization: {right}\r\n"), 400),
            (transport, format!("Authorization: {right}\r\nauthorization: {}\r\n", basic("ann", "x")), 400),
            (transport, format!("Authorization: Bearer {}\r\n", "x".repeat(64 << 10)), 431),
            (transport, format!("Authorization: {right}\r\n"), 200),
        ]
    }) {
        let (answered, text) = raw(node.connect(transport), "GET", "/wordcount?word=a", &lines);
        assert_eq!(answered, status, "{transport:?} {}: {text}", &lines[..lines.len().min(80)]);
        assert_eq!(text.contains("www-authenticate: Bearer, Basic realm=\"memdb\""), status == 401, "{text}");
    }
    for target in ["/metrics", "/wordcount?word=a"] {
        let lines = format!("Authorization: Bearer {}\r\n", "x".repeat(9));
        assert_eq!(raw(node.connect(ANY), "GET", target, &lines).0, 401);
        assert_eq!(raw(node.connect(ANY), "GET", target, "").0, 401);
    }
    assert_eq!(
        raw(
            node.connect(Transport { protocol: Protocol::FastPath, tls: false }),
            "POST",
            "/post",
            &format!("Authorization: {right}\r\n")
        )
        .0,
        403
    );
    let counted = node.node.api.metrics.render();
    for (reason, count) in [("missing", 2), ("malformed", 36), ("wrong", 2), ("forbidden", 1)] {
        let line = format!("memdb_credentials_refused_total{{reason=\"{reason}\"}} {count}\n");
        assert!(counted.contains(&line), "no {line} in {counted}");
    }
}

#[test]
fn a_token_ends_with_its_time_and_with_its_user() {
    let mut late = user("late", &["read"]);
    late.tokens[0].expires = Some(NOW.to_owned());
    let mut early = user("early", &["read"]);
    early.tokens[0].expires = Some(DAY.to_owned());
    let node = UsersNode::start(&[late, early.clone(), user("ann", &["read"])]);
    let read = get("/wordcount?word=a");
    for transport in TRANSPORTS {
        assert_eq!(node.ask(transport, &read, Some(&bearer("late"))).0, 401);
        assert_eq!(node.ask(transport, &read, Some(&bearer("early"))).0, 200);
        assert_eq!(node.ask(transport, &read, Some(&bearer("ann"))).0, 200);
    }
    write(&node.file(), &[early]);
    assert!(node.access.has_changed());
    node.access.reload().expect("it is sound");
    assert!(!node.access.has_changed());
    for transport in TRANSPORTS {
        assert_eq!(node.ask(transport, &read, Some(&bearer("ann"))).0, 401, "{transport:?}");
        assert_eq!(node.ask(transport, &read, Some(&bearer("early"))).0, 200);
    }
    fs::write(node.file(), "{\"users\":[").expect("a file");
    assert!(node.access.reload().expect_err("it is cut off").contains("users.json: line 1"));
    assert!(!node.access.has_changed(), "it is told once");
    assert_eq!(node.ask(ANY, &read, Some(&bearer("early"))).0, 200, "the users before stay");
}

#[test]
fn a_stream_of_events_ends_when_its_user_loses_the_right() {
    let grants: &[&[&str]] = &[&["read"], &["read:words"], &["read:other"], &["write"]];
    for (transport, changed) in HTTP1_TRANSPORTS
        .iter()
        .flat_map(|&transport| [(transport, Some(grants[2])), (transport, Some(grants[3])), (transport, None)])
    {
        let node = UsersNode::start(&[user("ann", grants[0])]);
        let mut stream = node.connect(transport);
        let head = format!("GET /watch?word=a HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n", bearer("ann"));
        stream.write_all(head.as_bytes()).expect("an open socket");
        assert!(stream.read(&mut [0; 4_096]).expect("an answer") > 0);
        write(&node.file(), &[user("ann", grants[1])]);
        node.access.reload().expect("it is sound");
        let users: Vec<_> = changed.iter().map(|grants| user("ann", grants)).collect();
        write(&node.file(), &users);
        node.access.reload().expect("it is sound");
        let mut said = Vec::new();
        // The last chunk says that the stream has ended; the connection stays open.
        while !said.ends_with(b"0\r\n\r\n") {
            let mut piece = [0; 4_096];
            let bytes = stream.read(&mut piece).expect("the stream ends");
            assert!(bytes > 0 || said.is_empty());
            said.extend_from_slice(&piece[..bytes]);
        }
    }
}

#[test]
fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    // Each from its own node: the next wrong one of an address takes longer anyway.
    let took = |name: &str| {
        let times = (0..3).map(|_| {
            let node = UsersNode::start(&[with_password(user("ann", &["read"]), "right")]);
            let begun = Instant::now();
            let answer = node.ask(ANY, &get("/wordcount?word=a"), Some(&basic(name, "wrong")));
            assert_eq!(answer.0, 401);
            begun.elapsed()
        });
        times.min().expect("three")
    };
    let (known, unknown) = (took("ann"), took("bob"));
    let most = known.max(unknown);
    assert!(most - known.min(unknown) < most / 2 + Duration::from_millis(10), "{known:?} {unknown:?}");
}

#[test]
fn the_audit_log_has_what_is_refused_and_what_administers_and_no_secret() {
    let node =
        UsersNode::start(&[with_password(user("root", &["admin"]), "root-password"), user("ann", &["read:ours"])]);
    let drop = AccessCase { method: "DELETE", ..get("/ns/theirs") };
    node.ask(ANY, &drop, Some(&bearer("root")));
    node.ask(ANY, &drop, Some(&bearer("ann")));
    node.ask(ANY, &drop, None);
    node.ask(ANY, &drop, Some(&basic("root", "wrong-password")));
    let twice = format!("Authorization: {0}\r\nAuthorization: {0}\r\n", bearer("root"));
    assert_eq!(raw(plain(node.address(ANY)), "DELETE", &drop.target, &twice).0, 400);
    node.ask(ANY, &get("/wordcount?ns=ours&word=private"), Some(&bearer("ann")));
    node.access.reload().expect("it is sound");
    let audited = node.audited();
    let lines: Vec<serde_json::Value> = audited.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["user"].as_str(), line["decision"].as_str().expect("one"))).collect();
    assert_eq!(
        told,
        [
            (Some("root"), "allowed"),
            (Some("ann"), "forbidden"),
            (None, "unauthenticated"),
            (Some("root"), "unauthenticated"),
            (None, "invalid-header"),
            (None, "taken over"),
        ]
    );
    assert_eq!((&lines[0]["route"], &lines[0]["namespace"]), (&"DELETE /ns/NAME".into(), &"theirs".into()));
    assert_eq!((&lines[0]["token"], &lines[0]["address"]), (&"t".into(), &"127.0.0.1".into()));
    for secret in ["memdb_token", "root-password", "wrong-password", "private", "Bearer", "Basic"] {
        assert!(!audited.contains(secret), "{secret}: {audited}");
    }
    assert!(node.node.leader.view().current().is_some(), "it still serves");
}

fn plain(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("the server accepts")
}

#[test]
fn the_audit_log_of_a_node_without_users_has_what_the_cluster_secret_decides() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("audit.jsonl");
    let settings_of_access = AccessSettings { audit_log: Some(path.clone()), ..AccessSettings::default() };
    let access = Arc::new(AccessControl::open(&settings_of_access, [7; 32]).expect("it can be made"));
    let node = Node::start(settings());
    let nodes = NodeAccess::Secret(SECRET.parse().expect("a secret"));
    let api = ApiContext { access, nodes, ..node.api.clone() };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = HttpServer::start(listener, api, settings()).expect("it starts");
    let ask = |method, target, secret: &str, lines: &str| {
        raw(plain(server.local_addr()), method, target, &format!("Authorization: Bearer {secret}\r\n{lines}")).0
    };
    let requests = [
        ("POST", "/promote", String::new()),
        ("POST", "/sync", format!("Content-Type: {HELLO_TYPE}\r\n")),
        ("POST", "/update", format!("Content-Type: {RECORDS_TYPE}\r\n")),
        ("GET", "/sync", format!("Accept: {SNAPSHOT_TYPE}\r\n")),
    ];
    for (method, target, lines) in &requests {
        assert_eq!(ask(method, target, "another-secret-of-nobody", lines), 403, "{method} {target}");
    }
    for (method, target, lines) in &requests {
        assert_ne!(ask(method, target, SECRET, lines), 403, "{method} {target}");
    }
    assert_eq!(raw(plain(server.local_addr()), "DELETE", "/ns/a", "").0, 202);
    let audited = fs::read_to_string(path).expect("the audit log");
    let lines: Vec<serde_json::Value> = audited.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["route"].as_str().expect("one"), line["decision"].as_str().expect("one")))
        .collect();
    // Offers and announcements that are let in come many times a second: they are left out.
    assert_eq!(
        told,
        [
            ("POST /promote", "cluster-secret"),
            ("POST /sync", "cluster-secret"),
            ("POST /update", "cluster-secret"),
            ("GET /sync", "cluster-secret"),
            ("POST /promote", "allowed"),
            ("GET /sync", "allowed"),
            ("DELETE /ns/NAME", "allowed"),
        ]
    );
    assert!(!audited.contains("secret-of"), "{audited}");
}

/// Wrong passwords from one address, as fast as they can be sent, while somebody reads with a token and others come
/// with their passwords for the first time. Says how long these take.
#[test]
fn wrong_passwords_by_the_thousand_keep_neither_tokens_nor_passwords_from_elsewhere_out() {
    let users = [with_password(user("ann", &["read"]), "right"), user("bob", &["read"])];
    let node = UsersNode::start(&users);
    let address = node.address(Transport { protocol: Protocol::FastPath, tls: false });
    let read = format!("GET /wordcount?word=a HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n", bearer("bob"));
    let times = |begun: Instant| {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut times = Vec::new();
        while begun.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            stream.write_all(read.as_bytes()).expect("an open socket");
            let mut answer = [0; 4_096];
            let bytes = stream.read(&mut answer).expect("an answer");
            assert!(answer[..bytes].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..bytes]));
            times.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        times.sort_unstable();
        times
    };
    let quiet = times(Instant::now());
    let wrong = format!("GET /top HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n", basic("ann", "wrong"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let begun = Instant::now();
    let flood = runtime.spawn(async move {
        let mut sent = 0_u32;
        while begun.elapsed() < Duration::from_secs(2) {
            for _ in 0..10 {
                let wrong = wrong.clone();
                sent += 1;
                tokio::spawn(async move {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
                    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("all of 127/8 is loopback");
                    let Ok(mut stream) = socket.connect(address).await else { return };
                    let _ = stream.write_all(wrong.as_bytes()).await;
                    let _ = stream.read(&mut [0; 1_024]).await;
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sent
    });
    let busy = times(begun);
    let first = Instant::now();
    assert_eq!(node.ask(ANY, &get("/wordcount?word=a"), Some(&basic("ann", "right"))).0, 200);
    let first = first.elapsed();
    let sent = runtime.block_on(flood).expect("it ends");
    runtime.shutdown_background();
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    println!(
        "{sent} wrong passwords in 2 s; reads with a token, p99: {:?} quiet, {:?} meanwhile; a password from elsewhere, \
         for the first time: {first:?}",
        p99(&quiet),
        p99(&busy)
    );
    assert!(first < Duration::from_secs(3), "it waits for no turn: {first:?}");
}
