//! HTTP/2 with prior knowledge: the same routes, the same refusals.

use crate::node::{Node, settings};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Response};

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
    assert_eq!(posted.headers()["memdb-position"], "1-1");
    let (_, read) = ask(&mut client, Method::GET, "http://a/wordcount?word=hello", b"").await;
    assert_eq!(read, r#"{"hello":2}"#);
    let (head, body) = ask(&mut client, Method::HEAD, "http://a/wordcount?word=hello", b"").await;
    assert_eq!(head.headers()["content-length"], "11");
    assert!(body.is_empty());
}

#[tokio::test]
async fn bad_requests_are_refused_over_http_2() {
    let node = Node::start(settings());
    let mut client = open(&node).await;
    let long: &'static [u8] = &[b'x'; 1_001];
    for (method, target, body, status, problem) in [
        (Method::CONNECT, "a:80", b"".as_slice(), 405, "method-not-allowed"),
        (Method::GET, "http://a/absent", b"", 404, "not-found"),
        (Method::GET, "http://a/post", b"", 405, "method-not-allowed"),
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
    assert_eq!(sync, "{}");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let idle_timeout = std::time::Duration::from_millis(50);
    let node = Node::start(memdb::api::http::HttpSettings { idle_timeout, ..settings() });
    let stream = tokio::net::TcpStream::connect(node.address()).await.expect("the server accepts");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let (answer, _) = ask(&mut client, Method::GET, "http://a/health", b"").await;
    assert_eq!(answer.status().as_u16(), 200);
    let ended = tokio::time::timeout(crate::node::PATIENCE, connection).await;
    assert!(ended.is_ok(), "the server says goodbye");
}
