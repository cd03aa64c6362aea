//! HTTP/2 with prior knowledge: the same routes, the same refusals.

use crate::{
    connections::wait_for_connections,
    node::{Node, PATIENCE, settings},
};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Response};
use memdb::api::http::HttpSettings;
use std::{io::Write, time::Duration};
use testkit::wire::Wire;

async fn open(node: &Node) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(node.address()).await.expect("the server accepts");
    let (client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn ask(
    client: &mut SendRequest<Bytes>,
    method: Method,
    target: &str,
    body: &'static [u8],
) -> (Response<()>, Bytes) {
    let request = Request::builder().method(method).uri(target).body(()).expect("a request");
    send(client, request, body).await
}

async fn send(client: &mut SendRequest<Bytes>, request: Request<()>, body: &'static [u8]) -> (Response<()>, Bytes) {
    let (answer, mut sending) = client.send_request(request, body.is_empty()).expect("an open connection");
    if !body.is_empty() {
        sending.send_data(Bytes::from_static(body), true).expect("room in the window");
    }
    let (head, mut incoming) = answer.await.expect("an answer").into_parts();
    let mut gathered = Vec::new();
    while let Some(piece) = incoming.data().await {
        let piece = piece.expect("a whole answer");
        incoming.flow_control().release_capacity(piece.len()).expect("what was taken");
        gathered.extend_from_slice(&piece);
    }
    (Response::from_parts(head, ()), gathered.into())
}

#[tokio::test]
async fn the_routes_answer_over_http_2() {
    let node = Node::start(settings());
    let mut client = open(&node).await;
    let (posted, _) = ask(&mut client, Method::POST, "http://a/post", b"hello world hello").await;
    assert_eq!(posted.status().as_u16(), 202);
    assert_eq!(posted.headers()["memdb-position"], "1-1-00000007");
    let (_, read) = ask(&mut client, Method::GET, "http://a/wordcount?word=hello", b"").await;
    assert_eq!(read, "{\"hello\":2}\n");
    let (head, body) = ask(&mut client, Method::HEAD, "http://a/wordcount?word=hello", b"").await;
    assert_eq!(head.headers()["content-length"], "12");
    assert!(body.is_empty());
}

#[tokio::test]
async fn entries_are_written_and_read_over_http_2() {
    let node = Node::start(settings());
    let mut client = open(&node).await;
    let put = |target: &str, media: &str| {
        let request = Request::put(target).header("content-type", media);
        request.body(()).expect("a request")
    };
    let (stored, told) = send(&mut client, put("http://a/cache/a%2Fb?ttl=60", "image/x"), b"\xff\x00").await;
    assert_eq!(stored.status().as_u16(), 200);
    assert_eq!(stored.headers()["memdb-position"], "1-1-00000007");
    assert!(told.starts_with(br#"{"key":"a/b","#), "{told:?}");
    let tag = stored.headers()["etag"].clone();
    let (read, value) = ask(&mut client, Method::GET, "http://a/cache/a/b", b"").await;
    assert_eq!((&value[..], &read.headers()["etag"]), (&b"\xff\x00"[..], &tag));
    assert_eq!(read.headers()["content-type"], "image/x");
    let (head, nothing) = ask(&mut client, Method::HEAD, "http://a/cache/a/b", b"").await;
    assert_eq!(head.headers()["content-length"], "2");
    assert!(nothing.is_empty());
    let known = Request::get("http://a/cache/a/b").header("if-none-match", &tag).body(()).expect("a request");
    assert_eq!(send(&mut client, known, b"").await.0.status().as_u16(), 304);
    let other = Request::put("http://a/cache/a/b").header("if-match", "\"x\"").body(()).expect("a request");
    assert_eq!(send(&mut client, other, b"lost").await.0.status().as_u16(), 412);
    // Without a body there is a value all the same: an empty one.
    let (emptied, _) = send(&mut client, put("http://a/cache/empty", "text/plain"), b"").await;
    let (empty, value) = ask(&mut client, Method::GET, "http://a/cache/empty", b"").await;
    assert_eq!((emptied.status().as_u16(), empty.status().as_u16(), value.len()), (200, 200, 0));
    let (post, _) = send(&mut client, put("http://a/posts/7", "text/plain"), b"rain and rain").await;
    let (_, counts) = ask(&mut client, Method::GET, "http://a/wordcount?word=rain", b"").await;
    assert_eq!((post.status().as_u16(), &counts[..]), (200, &b"{\"rain\":2}\n"[..]));
    let (gone, told) = ask(&mut client, Method::DELETE, "http://a/posts/7", b"").await;
    assert!(gone.status().as_u16() == 200 && told.starts_with(br#"{"deleted":1"#), "{told:?}");
    let (_, counts) = ask(&mut client, Method::GET, "http://a/wordcount?word=rain", b"").await;
    assert_eq!(&counts[..], b"{\"rain\":0}\n");
}

#[tokio::test]
async fn bad_requests_are_refused_over_http_2() {
    let node = Node::start(settings());
    let mut client = open(&node).await;
    let long: &'static [u8] = &[b'x'; 1_001];
    for (method, target, body, status, problem) in [
        (Method::CONNECT, "a:80", b"".as_slice(), 405, "method-not-allowed"),
        (Method::GET, "http://a/absent", b"", 404, "not-found"),
        (Method::GET, "http://a/update", b"", 405, "method-not-allowed"),
        (Method::POST, "http://a/post", b"", 400, "empty-text"),
        (Method::POST, "http://a/post", long, 413, "body-too-large"),
        (Method::POST, "http://a/post", b"\xff", 400, "invalid-utf8"),
    ] {
        let (answer, told) = ask(&mut client, method.clone(), target, body).await;
        assert_eq!(answer.status().as_u16(), status, "{method} {target}");
        let told = String::from_utf8(told.to_vec()).expect("JSON is UTF-8");
        assert!(told.contains(&format!("urn:memdb:problem:{problem}\"")), "{method} {target}: {told}");
    }
    let twice = Request::post("http://a/post").header("idempotency-key", "a").header("idempotency-key", "b");
    let (answer, _) = send(&mut client, twice.body(()).expect("a request"), b"x").await;
    assert_eq!(answer.status().as_u16(), 400);
    let (_, sync) = ask(&mut client, Method::GET, "http://a/sync", b"").await;
    assert_eq!(sync, "{}\n");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let idle_timeout = Duration::from_millis(50);
    let node = Node::start(HttpSettings { idle_timeout, ..settings() });
    let stream = tokio::net::TcpStream::connect(node.address()).await.expect("the server accepts");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let (answer, _) = ask(&mut client, Method::GET, "http://a/health", b"").await;
    assert_eq!(answer.status().as_u16(), 200);
    let ended = tokio::time::timeout(PATIENCE, connection).await;
    assert!(ended.is_ok(), "the server says goodbye");
}

/// A node that holds enough for a `/sync` that fits into no window.
fn with_many_words(settings: HttpSettings) -> Node {
    let node = Node::start(HttpSettings { max_body_bytes: 8 << 20, ..settings });
    let words: Vec<String> = (0..100_000).map(|number| format!("aratherlongword{number}")).collect();
    assert_eq!(Wire::to(node.address()).post(words.join(" ")).status, 202);
    node
}

/// That a client on another connection gets its posts counted.
fn others_are_served(node: &Node, word: &str) {
    let mut wire = Wire::to(node.address());
    for count in 1..=100 {
        assert_eq!(wire.post(word).status, 202);
        assert_eq!(wire.get(&format!("/wordcount?word={word}")).text(), format!("{{\"{word}\":{count}}}"));
    }
}

/// Reads an answer in four times the time that an idle connection has, in steps that are each far below it; gives
/// whether it came whole.
async fn is_read_slowly(idle_timeout: Duration) -> bool {
    let node = with_many_words(HttpSettings { idle_timeout, ..settings() });
    let stream = tokio::net::TcpStream::connect(node.address()).await.expect("the server accepts");
    let mut builder = h2::client::Builder::new();
    let (client, connection) =
        builder.initial_window_size(65_535).handshake::<_, Bytes>(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    let mut client = client.ready().await.expect("a connection");
    let request = Request::get("http://a/sync").body(()).expect("a request");
    let (answer, _) = client.send_request(request, true).expect("an open connection");
    let mut body = answer.await.expect("an answer").into_body();
    let (mut gathered, mut begun) = (0, tokio::time::Instant::now());
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return false };
        gathered += piece.len();
        if gathered < 1_500_000 {
            begun += idle_timeout * 4 / 90;
            tokio::time::sleep_until(begun).await;
        }
        body.flow_control().release_capacity(piece.len()).expect("what was taken");
    }
    gathered == Wire::to(node.address()).get("/sync").body.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_reader_of_a_long_answer_is_not_idle() {
    // On a machine that is so busy that nothing runs for a second, nothing is taken in a second: more time tells that
    // from a reader who is taken for idle whatever he does.
    for seconds in [1, 3, 9] {
        if is_read_slowly(Duration::from_secs(seconds)).await {
            return;
        }
    }
    panic!("the answer is cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn readers_that_take_nothing_are_dropped_and_others_are_served() {
    let node = with_many_words(HttpSettings { idle_timeout: Duration::from_millis(300), ..settings() });
    let stream = tokio::net::TcpStream::connect(node.address()).await.expect("the server accepts");
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("a connection");
    let mut held = Vec::new();
    for _ in 0..100 {
        let request = Request::get("http://a/sync").body(()).expect("a request");
        held.push(client.send_request(request, true).expect("an open connection"));
    }
    others_are_served(&node, "other");
    let ended = tokio::time::timeout(PATIENCE, connection).await;
    assert!(ended.is_ok(), "who takes nothing of 100 answers is idle");
    drop(held);
    wait_for_connections(&node, 0);
}

/// What a connection may send ahead is bounded; the rest stays with the client.
#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "the Writer is to wait all the while")]
async fn bodies_nobody_reads_wait_with_the_client() {
    let node = Node::start(HttpSettings { max_body_bytes: 8 << 20, ..settings() });
    let mut client = open(&node).await;
    ask(&mut client, Method::GET, "http://a/health", b"").await;
    let request = Request::post("http://a/post").body(()).expect("a request");
    let (answer, mut body) = client.send_request(request, false).expect("an open connection");
    body.reserve_capacity(8 << 20);
    let granted = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
    let granted = granted.expect("an open stream").expect("an open stream");
    assert!((1..=1 << 20).contains(&granted), "{granted} bytes before any are read");
    body.send_data(Bytes::from(vec![b'x'; 7 << 20]), true).expect("an open stream");
    assert_eq!(answer.await.expect("an answer").status().as_u16(), 202);
    let (_, read) = ask(&mut client, Method::GET, "http://a/sync", b"").await;
    assert_eq!(read, "{}\n", "a word of 7 MiB is left out");
}

#[tokio::test]
async fn more_requests_at_once_than_may_be_wait_and_are_answered() {
    let node = Node::start(settings());
    let mut client = open(&node).await;
    // From the first answer on the client knows how many may be under way; more before that are refused, to come again.
    ask(&mut client, Method::GET, "http://a/health", b"").await;
    let asked = (0..1_000).map(|_| {
        let client = client.clone();
        async move {
            let mut client = client.ready().await.expect("its turn comes");
            ask(&mut client, Method::GET, "http://a/wordcount?word=a", b"").await.0.status().as_u16()
        }
    });
    let statuses = futures::future::join_all(asked).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

/// CVE-2023-44487: each request is taken back at once, so the bound on streams never holds it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_requests_taken_back_at_once_starves_nobody() {
    let node = Node::start(settings());
    let client = open(&node).await;
    let mut sent = 0;
    for _ in 0..20_000 {
        let request = Request::post("http://a/post").body(()).expect("a request");
        let Ok(mut client) = client.clone().ready().await else { break };
        let Ok((_, mut sending)) = client.send_request(request, false) else { break };
        sending.send_reset(h2::Reason::CANCEL);
        sent += 1;
        if sent % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(sent > 0);
    others_are_served(&node, "other");
    drop(client);
    wait_for_connections(&node, 0);
    assert_eq!(Wire::to(node.address()).get("/sync").text(), r#"{"other":100}"#, "nothing that was taken back counts");
}

/// A frame: length, type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Sends a frame over and over until the server has closed; gives how many bytes it has taken.
fn flood(node: &Node, first: &[u8], again: &[u8], most: usize) -> Option<usize> {
    let mut stream = std::net::TcpStream::connect(node.address()).expect("the server accepts");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(&[BEGIN, first].concat()).expect("an open socket");
    let many = again.repeat((16 << 10) / again.len() + 1);
    let mut taken = 0;
    while taken < most {
        match stream.write_all(&many) {
            Ok(()) => taken += many.len(),
            Err(_) => return Some(taken),
        }
    }
    None
}

/// CVE-2024-24549 and its kin: a head that never ends.
#[test]
fn a_head_of_endless_continuations_is_cut_off() {
    let node = Node::start(settings());
    let literal = [b"\0\x01x\x7f\x81\x1f".as_slice(), &[b'y'; 300]].concat(); // x: yyy…, not indexed
    for (head, again) in [(literal.as_slice(), literal.as_slice()), (&[], &[])] {
        let taken = flood(&node, &frame(1, 0, 1, head), &frame(9, 0, 1, again), 64 << 20);
        let taken = taken.expect("the server closes");
        assert!(taken < 8 << 20, "{taken} bytes of a head");
    }
    others_are_served(&node, "other");
}

/// Each ping and each setting asks for an answer; nobody reads them.
#[test]
fn a_flood_of_frames_whose_answers_nobody_reads_is_cut_off() {
    let node = Node::start(HttpSettings { write_timeout: Duration::from_millis(200), ..settings() });
    for again in [frame(6, 0, 0, &[0; 8]), frame(4, 0, 0, &[])] {
        // What the server does not read waits in the client's buffers: the flood stands still until it is cut off.
        assert!(flood(&node, &[], &again, 1 << 30).is_some(), "the server closes");
    }
    others_are_served(&node, "other");
    wait_for_connections(&node, 0);
}
