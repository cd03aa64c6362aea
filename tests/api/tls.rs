//! TLS as clients meet it, honest ones and others. What is said over it is tested everywhere else, without.

#![allow(clippy::disallowed_methods, reason = "files of certificates are replaced")]

mod early_data;

use crate::node::{Node, settings};
use memdb::{
    api::http::{ApiContext, HttpServer, HttpSettings},
    base::reload::ReloadablePart,
    client::Client,
    net::tls::{
        client::ClientTls,
        files::{IdentityFiles, TlsFiles},
        node::NodeTls,
    },
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use testkit::{
    PATIENCE,
    tls::{AUTHORITY, TestAuthority, connect},
    wait_until,
    wire::Wire,
};
use tokio_rustls::rustls;

pub fn tls_of(identity: IdentityFiles, client_authorities: Option<PathBuf>) -> Arc<NodeTls> {
    NodeTls::read(TlsFiles { identity: Some(identity), client_authorities, ..TlsFiles::default() })
        .expect("sound files")
}

/// A second server over the same counts, which speaks TLS.
fn protected(node: &Node, tls: &Arc<NodeTls>, settings: HttpSettings) -> HttpServer {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    HttpServer::start(listener, ApiContext { tls: Arc::clone(tls), ..node.api.clone() }, settings).expect("it starts")
}

fn server(name: &str) -> (Node, HttpServer) {
    let node = Node::start(settings());
    let server = protected(&node, &tls_of(AUTHORITY.node(name), None), settings());
    (node, server)
}

/// What the command line says of a node at this address.
fn told(address: SocketAddr, host: &str, tls: &ClientTls) -> Result<(), String> {
    let client = Client::with_tls(&format!("https://{host}:{}", address.port()), PATIENCE, tls).expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(client.ready()).map_err(|error| error.to_string())
}

/// The bytes by which a client begins.
fn client_hello() -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let config = Arc::clone(AUTHORITY.client(None).config());
    let mut session = rustls::ClientConnection::new(config, name).expect("a configuration");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("room");
    hello
}

#[test]
fn the_fast_path_and_the_routes_answer_over_tls_as_they_do_without() {
    let (node, server) = server("answers");
    let (mut plain, mut wire) = (Wire::to(node.address()), Wire::protected(server.local_addr()));
    assert_eq!(wire.post("hello tls hello").status, 202);
    for target in ["/wordcount?word=hello", "/health", "/top?n=2", "/wordcount?word=", "/nothing", "/sync"] {
        let (over_tls, without) = (wire.get(target), plain.get(target));
        assert_eq!((over_tls.status, over_tls.body), (without.status, without.body), "{target}");
    }
}

#[test]
fn answers_larger_than_any_buffer_come_whole_to_a_client_that_is_slow_to_take_them() {
    let node = Node::start(settings());
    let large = HttpSettings { max_value_bytes: 8 << 20, max_body_bytes: 8 << 20, ..settings() };
    let server = protected(&node, &tls_of(AUTHORITY.node("large"), None), large);
    let mut wire = Wire::protected(server.local_addr());
    let value: Vec<u8> =
        (0..4_000_000_u32).flat_map(|number| [number as u8, (number >> 11) as u8]).take(6 << 20).collect();
    assert_eq!(wire.ask("PUT /cache/large HTTP/1.1", value.as_slice()).status, 200);
    assert!(wire.get("/cache/large").body == value);
    // Many small ones at once, taken only when all are asked for.
    let requests = 3_000;
    wire.send("GET /wordcount?word=a HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(requests));
    for _ in 0..requests {
        assert_eq!(wire.answer().text(), r#"{"a":0}"#);
    }
}

#[test]
fn a_client_that_chooses_http2_by_alpn_gets_it() {
    let (_node, server) = server("alpn");
    let mut config = (**AUTHORITY.client(None).config()).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.local_addr()).await.expect("it listens");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into().expect("a name"), stream).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = http::Request::get("https://localhost/health").body(()).expect("a request");
        let (answer, _) = sender.send_request(request, true).expect("an open connection");
        assert_eq!(answer.await.expect("an answer").status(), 200);
    });
}

#[test]
fn plain_http_is_told_that_the_port_speaks_tls_and_tls_that_it_does_not() {
    let (node, server) = server("plain");
    let mut wire = Wire::to(server.local_addr());
    let answer = wire.get("/wordcount?word=a");
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed-request"));
    assert!(answer.text().contains("this port speaks TLS"), "{}", answer.text());
    assert!(wire.is_closed());
    let refused = told(node.address(), "localhost", &AUTHORITY.client(None)).expect_err("that is a plain port");
    assert!(refused.contains("does not speak TLS") && refused.contains("http://"), "{refused}");
    let garbage = Wire::to(server.local_addr()).send(b"\x00\x01\x02garbage").answer();
    assert_eq!(garbage.status, 400);
}

#[test]
fn a_client_says_in_plain_words_why_it_does_not_believe_a_certificate() {
    let node = Node::start(settings());
    let foreign = TestAuthority::new("somebody else");
    let expired = protected(&node, &tls_of(AUTHORITY.expired("expired"), None), settings());
    let named = AUTHORITY.issue("named", &["db.example"], |_| {});
    let named = protected(&node, &tls_of(named, None), settings());
    let good = protected(&node, &tls_of(AUTHORITY.node("good"), None), settings());
    let knows = AUTHORITY.client(None);
    told(good.local_addr(), "127.0.0.1", &knows).expect("a good certificate");
    told(good.local_addr(), "localhost", &knows).expect("a good certificate");
    for (server, tls, said) in [
        (&expired, &knows, "its certificate has expired"),
        (&named, &knows, "its certificate is for db.example, not for 127.0.0.1"),
        (
            &good,
            &foreign.client(None),
            "an authority that is not trusted here: give the authority's certificate with --tls-ca",
        ),
    ] {
        let refused = told(server.local_addr(), "127.0.0.1", tls).expect_err(said);
        assert!(refused.starts_with("no TLS connection to https://") && refused.contains(said), "{refused}");
    }
}

#[test]
fn where_clients_have_to_show_a_certificate_none_comes_in_without_a_good_one() {
    let node = Node::start(settings());
    let server = protected(&node, &tls_of(AUTHORITY.node("mutual"), Some(AUTHORITY.file())), settings());
    let foreign = TestAuthority::new("somebody else").keep().node("impostor");
    let server_only = AUTHORITY.issue("server-only", &["localhost"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    told(server.local_addr(), "127.0.0.1", &AUTHORITY.client(Some(&AUTHORITY.node("ann")))).expect("it is let in");
    for (identity, said) in [
        (None, "it wants a certificate from its clients: give --tls-cert FILE and --tls-key FILE"),
        (Some(foreign), "it refuses this side's certificate"),
        (Some(AUTHORITY.expired("late")), "which has expired"),
        (Some(server_only), "it refuses this side's certificate"),
    ] {
        let refused = told(server.local_addr(), "127.0.0.1", &AUTHORITY.client(identity.as_ref())).expect_err(said);
        assert!(refused.contains(said), "{said}: {refused}");
    }
}

#[test]
fn a_stop_says_farewell_so_that_a_client_knows_that_nothing_was_cut_off() {
    let (_node, server) = server("farewell");
    let mut stream = connect(server.local_addr(), "localhost", AUTHORITY.client(None).config());
    stream.sock.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("an open connection");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    let stopping = std::thread::Builder::new().spawn(move || server.stop(PATIENCE)).expect("a thread");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("close_notify: without it this is an error");
    assert!(stopping.join().expect("no panic"), "nothing was in flight");
}

#[test]
fn handshakes_that_are_left_half_done_end_in_time_and_give_way_to_new_ones() {
    let node = Node::start(settings());
    let tls = tls_of(AUTHORITY.node("half"), None);
    let server = protected(&node, &tls, settings());
    let hello = client_hello();
    let half = |address| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(&hello[..hello.len() / 2]).expect("an open socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    };
    // More than there may be: the first ones are broken off, and whoever comes then is served.
    let mut held: Vec<TcpStream> =
        (0..memdb::base::limits::MAX_TLS_HANDSHAKES + 40).map(|_| half(server.local_addr())).collect();
    let mut first = held.remove(0);
    assert!(matches!(first.read(&mut [0]), Ok(0) | Err(_)), "the oldest gives way");
    assert_eq!(Wire::protected(server.local_addr()).get("/health").status, 200);
    drop(held);
    // The time of a head is that of a handshake too.
    let quick = protected(&node, &tls, HttpSettings { header_timeout: Duration::from_millis(100), ..settings() });
    for mut stream in [half(quick.local_addr()), TcpStream::connect(quick.local_addr()).expect("it listens")] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let ended = stream.read(&mut [0]);
        assert!(!matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "{ended:?}");
    }
}

#[test]
fn handshakes_are_counted_by_their_outcome() {
    let node = Node::start(settings());
    let tls = tls_of(AUTHORITY.node("counted"), None);
    let settings = HttpSettings { header_timeout: Duration::from_millis(300), ..settings() };
    let server = protected(&node, &tls, settings);
    let (address, hello) = (server.local_addr(), client_hello());
    let counted = |outcome: &str, count: usize| {
        let line = format!("memdb_tls_handshakes_total{{outcome=\"{outcome}\"}} {count}\n");
        wait_until(&line, || node.api.metrics.render().contains(&line));
    };
    assert!(!node.api.metrics.render().contains("memdb_tls_handshakes_total"));
    assert_eq!(Wire::protected(address).get("/health").status, 200);
    counted("ok", 1);
    told(address, "localhost", &TestAuthority::new("somebody else").client(None)).expect_err("it is foreign");
    counted("failed", 1);
    assert_eq!(Wire::to(address).get("/health").status, 400);
    counted("plain", 1);
    drop(TcpStream::connect(address).expect("it listens"));
    counted("silent", 1);
    let mut half = TcpStream::connect(address).expect("it listens");
    half.write_all(&hello[..hello.len() / 2]).expect("an open socket");
    counted("timed-out", 1);
    let most = memdb::base::limits::MAX_TLS_HANDSHAKES;
    let patient = protected(&node, &tls, HttpSettings { header_timeout: PATIENCE, ..settings });
    let held: Vec<_> = (0..=most).map(|_| TcpStream::connect(patient.local_addr()).expect("it listens")).collect();
    counted("gave-way", 1);
    drop(held);
}

#[test]
fn bad_beginnings_get_an_alert_or_the_end_and_harm_nobody() {
    let (_node, server) = server("hostile");
    let hello = client_hello();
    let mut old = hello.clone();
    old[9..11].copy_from_slice(&[3, 2]); // TLS 1.1 in the hello, and no list of versions that says more
    let versions = old.windows(2).position(|pair| pair == [0, 43]).expect("supported_versions");
    old[versions + 1] = 250;
    let huge = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &vec![b'x'; 100_000]].concat();
    let mut flipped = hello.clone();
    flipped[50] ^= 0xff;
    flipped[5] = 9;
    for (bytes, what) in [
        (old, "TLS 1.1"),
        (huge, "a hello of 16 MiB"),
        (flipped, "another message than a hello"),
        ([&[22, 3, 1, 0, 4][..], b"abcd"].concat(), "garbage in a record"),
        ([&[22, 3, 3, 0, 0][..]; 200].concat(), "empty records"),
    ] {
        let mut stream = TcpStream::connect(server.local_addr()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let _ = stream.write_all(&bytes); // it may be closed before all is sent
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let is_end = ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert!(is_end && (answer.is_empty() || answer[0] == 21), "{what}: {answer:?}");
    }
    for cut in [1, 5, 40, hello.len() - 1] {
        let mut stream = TcpStream::connect(server.local_addr()).expect("it listens");
        stream.write_all(&hello[..cut]).expect("an open socket");
    }
    assert_eq!(Wire::protected(server.local_addr()).get("/health").status, 200);
}

#[test]
fn a_certificate_is_replaced_while_clients_come_and_a_bad_one_never() {
    let node = Node::start(settings());
    let tls = tls_of(AUTHORITY.node("changes"), None);
    let server = protected(&node, &tls, settings());
    let shown = || {
        let mut stream = connect(server.local_addr(), "localhost", AUTHORITY.client(None).config());
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a handshake");
        stream.read_exact(&mut [0; 12]).expect("an answer");
        stream.conn.peer_certificates().expect("a certificate")[0].clone().into_owned()
    };
    let mut kept = Wire::protected(server.local_addr());
    assert_eq!(kept.get("/health").status, 200);
    let first = shown();
    assert!(!tls.has_changed());
    let files = AUTHORITY.node("changes");
    assert!(!tls.has_changed(), "somebody may be about to write the other file");
    assert!(tls.has_changed());
    let lines = tls.reload().expect("sound files");
    assert!(lines[0].contains("changes-cert.pem, valid until 4096-01-01"), "{lines:?}");
    let second = shown();
    assert_ne!(first, second);
    std::fs::write(&files.key, "nonsense").expect("room");
    let refused = tls.reload().expect_err("no key");
    assert!(refused.contains("changes-key.pem is no private key in PEM"), "{refused}");
    std::fs::copy(AUTHORITY.node("another").key, &files.key).expect("room");
    let refused = tls.reload().expect_err("another key");
    assert!(refused.contains("does not fit the certificate in"), "{refused}");
    assert_eq!(shown(), second, "the one before stays");
    assert_eq!(kept.get("/health").status, 200, "connections go on");
    wait_until("nothing is looked at twice", || !tls.has_changed());
}
