//! One connection to another node, for append requests: HTTP/1.1, one request at a time.
//!
//! Append requests go to every replica thousands of times a second. What a general client does for each, a pool, a task
//! for the connection that is woken twice, headers in maps, cost more than all else that the leader does for an
//! exchange (`docs/decisions/0012-fewer-steps-between-leader-and-replica.md`).

use super::{
    http_client::EXCHANGE_TIMEOUT, link_error::LinkError, node_stream::NodeStream, peer_credentials::PeerCredentials,
    tls::client::ClientTls,
};
use crate::base::trace::TraceParent;
use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::Url;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Parts of a request are gathered up to this size before they are written.
const TOGETHER_BYTES: usize = 64 << 10;
/// The most bytes that the head of an answer may have, and its body.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: usize = 1 << 20;
const MAX_HEADERS: usize = 32;

/// The way for `POST`s to one path of one node.
pub(super) struct AppendConnection {
    host: String,
    port: u16,
    /// Over TLS, if the URL says so.
    tls: Option<ClientTls>,
    /// All of a request's head in front of the number of its bytes.
    head: Vec<u8>,
    /// The connection, between two exchanges.
    kept: Mutex<Option<OpenSocket>>,
}

struct OpenSocket {
    stream: NodeStream,
    buffer: Vec<u8>,
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HttpResponse {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// The reason why there is no answer.
enum ExchangeError {
    /// The connection was closed before a byte of the answer came.
    Closed(io::Error),
    Other(LinkError),
}

impl AppendConnection {
    /// `None` if `url` is not of HTTP.
    pub(super) fn new(url: &Url, content_type: &str, credentials: &PeerCredentials) -> Option<Self> {
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(credentials.tls.clone()),
            _ => return None,
        };
        let named = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let mut head = format!("POST {} HTTP/1.1\r\nhost: {named}\r\ncontent-type: {content_type}\r\n", url.path());
        if let Some(secret) = &credentials.secret {
            head += &format!("authorization: Bearer {}\r\n", secret.expose());
        }
        head += "content-length: ";
        let host = host.trim_matches(['[', ']']).to_owned(); // of an IPv6 address
        Some(Self { host, port, tls, head: head.into_bytes(), kept: Mutex::new(None) })
    }

    /// Sends a body and gives the answer. It may arrive twice: where a kept connection turns out to be closed, it is
    /// sent again.
    pub(super) async fn post(&self, parts: &[Bytes], trace: &TraceParent) -> Result<HttpResponse, LinkError> {
        // Taken out, so that nobody finds the rest of an exchange that was given up.
        let kept = self.kept.lock().take();
        if let Some(mut connection) = kept
            && connection.stream.is_silent()
        {
            match self.exchange(connection, parts, trace).await {
                Err(ExchangeError::Closed(_)) => {}
                Err(ExchangeError::Other(error)) => return Err(error),
                Ok(answered) => return Ok(answered),
            }
        }
        // Once anew, and no more: whether to try again is for the leader's pauses to decide.
        let connecting = timeout(EXCHANGE_TIMEOUT, NodeStream::connect(&self.host, self.port, self.tls.as_ref()));
        let stream = connecting.await.map_err(|_| LinkError::Lost("no connection in time".to_owned()))??;
        match self.exchange(OpenSocket { stream, buffer: Vec::new() }, parts, trace).await {
            Err(ExchangeError::Closed(error)) => Err(error.into()),
            Err(ExchangeError::Other(error)) => Err(error),
            Ok(answered) => Ok(answered),
        }
    }

    async fn exchange(
        &self,
        mut connection: OpenSocket,
        parts: &[Bytes],
        trace: &TraceParent,
    ) -> Result<HttpResponse, ExchangeError> {
        let OpenSocket { stream, buffer } = &mut connection;
        let sent = send(stream, buffer, (&self.head, trace), parts).await;
        // Also if not all was sent: a node that refuses a request need not take the whole of it.
        buffer.clear();
        let head = loop {
            match stream.read_buf(buffer).await {
                // Without a byte of an answer the request may be sent again: it says which record it follows, so
                // twice is as good as once (decision 12).
                Ok(0) if buffer.is_empty() => return Err(ExchangeError::Closed(sent.err().unwrap_or_else(closed))),
                Err(error) if buffer.is_empty() => return Err(ExchangeError::Closed(sent.err().unwrap_or(error))),
                Ok(0) => return Err(ExchangeError::Other(closed().into())),
                Err(error) => return Err(ExchangeError::Other(error.into())),
                Ok(_) => {}
            }
            if let Some(head) =
                ResponseHead::read(buffer).map_err(|what| ExchangeError::Other(LinkError::Strange(what)))?
            {
                break head;
            }
        };
        while buffer.len() < head.bytes + head.body_bytes {
            match stream.read_buf(buffer).await {
                Ok(0) => return Err(ExchangeError::Other(closed().into())),
                Err(error) => return Err(ExchangeError::Other(error.into())),
                Ok(_) => {}
            }
        }
        let body = buffer[head.bytes..][..head.body_bytes].to_vec();
        // Bytes behind the answer belong to no request, and would be taken for the answer to the next.
        if sent.is_ok() && head.stays_open && buffer.len() == head.bytes + head.body_bytes {
            *self.kept.lock() = Some(connection);
        }
        Ok(HttpResponse { status: head.status, body })
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")
}

async fn send(
    stream: &mut NodeStream,
    buffer: &mut Vec<u8>,
    (head, trace): (&[u8], &TraceParent),
    parts: &[Bytes],
) -> io::Result<()> {
    let bytes: usize = parts.iter().map(Bytes::len).sum();
    // Records are small, and there may be thousands of them.
    buffer.clear();
    buffer.extend_from_slice(head);
    buffer.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
    buffer.extend_from_slice(b"\r\n");
    for (name, value) in trace.headers() {
        [&*name, ": ", &*value, "\r\n"].into_iter().for_each(|part| buffer.extend_from_slice(part.as_bytes()));
    }
    buffer.extend_from_slice(b"\r\n");
    for part in parts {
        if buffer.len() + part.len() > TOGETHER_BYTES {
            stream.write_all(buffer).await?;
            buffer.clear();
        }
        match part.len() {
            0..TOGETHER_BYTES => buffer.extend_from_slice(part),
            _ => stream.write_all(part).await?,
        }
    }
    stream.write_all(buffer).await?;
    stream.flush().await
}

/// The parsed head of an answer.
struct ResponseHead {
    status: u16,
    bytes: usize,
    body_bytes: usize,
    stays_open: bool,
}

impl ResponseHead {
    /// `None` if it is not whole; else what is wrong with it.
    fn read(bytes: &[u8]) -> Result<Option<Self>, String> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes).map_err(|error| error.to_string())? else {
            return if bytes.len() > MAX_HEAD_BYTES { Err("its head is too long".to_owned()) } else { Ok(None) };
        };
        let status = response.code.unwrap_or_default();
        let value = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            str::from_utf8(found.value).ok()
        };
        // The other end is memdb, which states the length of an answer. What comes chunked is from somebody else.
        let body_bytes = match value("content-length") {
            Some(length) => length.parse().ok().filter(|length| *length <= MAX_BODY_BYTES),
            None => (status == 204).then_some(0),
        };
        let Some(body_bytes) = body_bytes else {
            return Err(format!("it answered {status} without the length of its body, or with a long one"));
        };
        let stays_open = response.version == Some(1)
            && !value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok(Some(Self { status, bytes: length, body_bytes, stays_open }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const OK: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok";

    /// Answers connections one after the other: each request of one with the next of its answers, then closes it. Gives
    /// the requests.
    async fn node(listener: TcpListener, connections: Vec<Vec<&'static [u8]>>) -> Vec<String> {
        let mut seen = Vec::new();
        for answers in connections {
            let (mut stream, _) = listener.accept().await.expect("somebody connects");
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"two") {
                    assert!(stream.read_buf(&mut request).await.expect("a request") > 0, "{request:?}");
                }
                seen.push(String::from_utf8(request).expect("ASCII"));
                stream.write_all(answer).await.expect("somebody listens");
            }
        }
        seen
    }

    /// Sends some requests to a node with these connections.
    async fn exchanges(
        connections: Vec<Vec<&'static [u8]>>,
        requests: usize,
    ) -> (Vec<Result<HttpResponse, LinkError>>, Vec<String>) {
        exchanges_of(&[Bytes::from_static(b"one "), Bytes::from_static(b"two")], connections, requests).await
    }

    async fn exchanges_of(
        parts: &[Bytes],
        connections: Vec<Vec<&'static [u8]>>,
        requests: usize,
    ) -> (Vec<Result<HttpResponse, LinkError>>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let node = tokio::spawn(node(listener, connections));
        let url = format!("http://{address}/update").parse().expect("an address");
        let secret = Some("s3cret-of-18-bytes".parse().expect("long enough"));
        let credentials = PeerCredentials { secret, tls: ClientTls::default() };
        let wire = AppendConnection::new(&url, "a/b", &credentials).expect("of HTTP");
        let mut answers = Vec::new();
        for _ in 0..requests {
            answers.push(wire.post(parts, &TraceParent::default()).await);
        }
        drop(wire);
        (answers, node.await.expect("no panic"))
    }

    fn ok() -> HttpResponse {
        HttpResponse { status: 202, body: b"ok".to_vec() }
    }

    #[tokio::test]
    async fn requests_go_over_one_connection_as_they_should_be() {
        let (answers, seen) = exchanges(vec![vec![OK, OK]], 2).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer == ok())));
        let (host, rest) = seen[1].split_once("\r\ncontent-type").expect("a head");
        assert!(host.starts_with("POST /update HTTP/1.1\r\nhost: 127.0.0.1:"));
        assert_eq!(rest, ": a/b\r\nauthorization: Bearer s3cret-of-18-bytes\r\ncontent-length: 7\r\n\r\none two");
    }

    #[tokio::test]
    async fn parts_of_all_sizes_arrive_in_order() {
        let sizes = [10, TOGETHER_BYTES - 1, 3, TOGETHER_BYTES, 1, 2 * TOGETHER_BYTES, 40_000, 40_000];
        let mut parts: Vec<Bytes> = (b'a'..).zip(sizes).map(|(byte, size)| vec![byte; size].into()).collect();
        parts.push(Bytes::from_static(b"two"));
        let (answers, seen) = exchanges_of(&parts, vec![vec![OK, OK]], 2).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer == ok())));
        let whole = parts.concat();
        for request in seen {
            let (head, body) = request.split_once("\r\n\r\n").expect("a head");
            assert!(body.as_bytes() == whole && head.ends_with(&format!("content-length: {}", whole.len())), "{head}");
        }
    }

    #[tokio::test]
    async fn a_connection_closed_meanwhile_is_opened_again_and_the_request_repeated() {
        let (answers, seen) = exchanges(vec![vec![OK], vec![OK]], 2).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer == ok())));
        assert_eq!(seen.len(), 2);
        let told_to_close = b"HTTP/1.1 202 Accepted\r\nConnection: Close\r\ncontent-length: 2\r\n\r\nok";
        let (answers, _) = exchanges(vec![vec![told_to_close], vec![OK]], 2).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer == ok())));
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_or_cannot_be_read_is_an_error() {
        for (answer, said) in [
            (b"".as_slice(), "closed the connection"),
            (b"HTTP/1.1 202 Acc", "closed the connection"),
            (b"HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\nok", "closed the connection"),
            (b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "without the length"),
            (b"HTTP/1.1 202 Accepted\r\ncontent-length: 99999999999\r\n\r\n", "a long one"),
            (b"SSH-2.0-OpenSSH\r\n", "cannot be read"),
        ] {
            let (answers, _) = exchanges(vec![vec![answer]], 1).await;
            let error = answers[0].as_ref().expect_err("no whole answer").to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_from_a_lost_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/update", listener.local_addr().expect("bound")).parse().expect("an address");
        drop(listener);
        let wire = AppendConnection::new(&url, "a/b", &PeerCredentials::default()).expect("of HTTP");
        assert!(matches!(wire.post(&[], &TraceParent::default()).await, Err(LinkError::NothingThere)));
    }
}
