//! An HTTP/1 client that sends any bytes and reads answers strictly.

use crate::PATIENCE;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

/// One connection.
pub struct Wire {
    stream: WireStream,
    read: Vec<u8>,
}

/// The bytes' way.
enum WireStream {
    Plain(TcpStream),
    Protected(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl WireStream {
    fn socket(&self) -> &TcpStream {
        match self {
            WireStream::Plain(stream) => stream,
            WireStream::Protected(stream) => &stream.sock,
        }
    }
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The one value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes twice");
        value
    }

    /// The body, without the newline that every body of JSON ends with.
    pub fn text(&self) -> &str {
        let text = std::str::from_utf8(&self.body).expect("answers are UTF-8");
        if self.is_json() { text.strip_suffix('\n').unwrap_or(text) } else { text }
    }

    fn is_json(&self) -> bool {
        self.header("content-type").is_some_and(|media| media.ends_with("json"))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The `detail` of a problem; empty if it has none.
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// What follows `urn:memdb:problem:`; panics unless this is a whole problem of RFC 9457.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let object = self.json();
        let begins = |name: &str| self.text().find(&format!("\"{name}\":"));
        let order = ["type", "title", "status", "detail"].map(begins);
        assert!(order.is_sorted() && order[0] == Some(1), "{self:?}");
        assert_eq!(object["status"], self.status, "{self:?}");
        assert!(object["title"].as_str().is_some_and(|title| !title.is_empty()), "{self:?}");
        assert!(object["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{self:?}");
        let kind = object["type"].as_str().expect("a type");
        kind.strip_prefix("urn:memdb:problem:").expect("one of ours").to_owned()
    }
}

impl Wire {
    /// A connection to a node.
    pub fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the server accepts"))
    }

    /// A connection from this address of loopback.
    pub fn from(client: &str, node: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind(format!("{client}:0").parse().expect("an address")).expect("all of 127/8 is loopback");
            socket.connect(node).await.expect("the server accepts").into_std().expect("a socket")
        });
        stream.set_nonblocking(false).expect("a socket");
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> Self {
        Self::of(WireStream::Plain(stream))
    }

    /// A connection over TLS.
    pub fn over_tls(stream: StreamOwned<ClientConnection, TcpStream>) -> Self {
        Self::of(WireStream::Protected(Box::new(stream)))
    }

    fn of(stream: WireStream) -> Self {
        stream.socket().set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.socket().set_write_timeout(Some(PATIENCE)).expect("a time-out");
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes; a server that has closed already is no failure here, its answer tells more.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = match &mut self.stream {
            WireStream::Plain(stream) => stream.write_all(bytes.as_ref()),
            WireStream::Protected(stream) => stream.write_all(bytes.as_ref()),
        };
        self
    }

    /// Says that nothing more comes, and still reads.
    pub fn finish(&mut self) -> &mut Self {
        self.stream.socket().shutdown(Shutdown::Write).expect("a connection");
        self
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, head: &str, body: impl AsRef<[u8]>) -> Answer {
        let length = match body.as_ref() {
            [] => String::new(),
            body => format!("Content-Length: {}\r\n", body.len()),
        };
        self.send(format!("{head}\r\nHost: localhost\r\n{length}\r\n")).send(body);
        if head.starts_with("HEAD") { self.answer_without_body() } else { self.answer() }
    }

    /// A GET on this connection.
    pub fn get(&mut self, target: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1"), "")
    }

    /// A plain text posted on this connection.
    pub fn post(&mut self, text: impl AsRef<[u8]>) -> Answer {
        self.ask("POST /post HTTP/1.1\r\nContent-Type: text/plain", text)
    }

    /// Reads one answer.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.answer_without_body();
        if matches!(answer.status, 204 | 304) {
            return answer;
        }
        match (answer.header("content-length"), answer.header("transfer-encoding")) {
            (Some(length), None) => {
                let length = length.parse().expect("a length");
                answer.body = self.take(length);
            }
            (None, Some("chunked")) => {
                while let Some(chunk) = self.chunk() {
                    answer.body.extend(chunk);
                }
            }
            (None, None) => self.rest_into(&mut answer.body),
            both => panic!("length and encoding: {both:?}"),
        }
        let mut decoded = Vec::new();
        match answer.header("content-encoding") {
            Some("gzip") => flate2::read::GzDecoder::new(&*answer.body).read_to_end(&mut decoded).expect("gzip"),
            Some("zstd") => zstd::stream::copy_decode(&*answer.body, &mut decoded).map(|()| 0).expect("zstd"),
            coding => {
                assert_eq!(coding, None, "it was not asked for");
                decoded.append(&mut answer.body);
                0
            }
        };
        answer.body = decoded;
        let lines = answer.body.iter().filter(|&&byte| byte == b'\n').count();
        // What a client has stored comes back as it was.
        let is_stored = answer.header("content-security-policy").is_some();
        let is_ndjson = answer.header("content-type") == Some("application/x-ndjson");
        assert!(
            is_stored || is_ndjson || !answer.is_json() || (lines == 1 && answer.body.ends_with(b"\n")),
            "JSON is one whole line: {answer:?}"
        );
        answer
    }

    /// The next piece of a body in chunks; `None` at its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line();
        let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
        let chunk = self.take(size);
        assert_eq!(self.line(), "", "a chunk ends with its line");
        if size > 0 { Some(chunk) } else { None }
    }

    pub fn answer_without_body(&mut self) -> Answer {
        let status_line = self.line();
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut answer = Answer {
            status: status.unwrap_or_else(|| panic!("not a status line: {status_line:?}")),
            headers: vec![],
            body: vec![],
        };
        loop {
            let line = self.line();
            if line.is_empty() {
                return answer;
            }
            let (name, value) = line.split_once(": ").expect("a header");
            answer.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    /// Whether the server has closed, without another byte. Waits for one or the other.
    pub fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.fill()
    }

    /// Whether an answer, or the end, has come; waits a little for it.
    pub fn has_something(&mut self) -> bool {
        self.stream.socket().set_read_timeout(Some(std::time::Duration::from_millis(2))).expect("a time-out");
        let peeked = self.stream.socket().peek(&mut [0]);
        self.stream.socket().set_read_timeout(Some(PATIENCE)).expect("a time-out");
        peeked.is_ok()
    }

    /// What comes until the server closes.
    fn rest_into(&mut self, body: &mut Vec<u8>) {
        while self.fill() {}
        body.append(&mut self.read);
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end + 2);
                return String::from_utf8(line[..end].to_vec()).expect("heads are ASCII");
            }
            assert!(self.fill(), "the server closed within a line: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.read.len() < bytes {
            assert!(self.fill(), "the server closed within a body");
        }
        self.read.drain(..bytes).collect()
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 16_384];
        let read = match &mut self.stream {
            WireStream::Plain(stream) => stream.read(&mut piece),
            WireStream::Protected(stream) => stream.read(&mut piece),
        };
        match read {
            Ok(bytes) => {
                self.read.extend_from_slice(&piece[..bytes]);
                bytes > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}; so far {:?}", String::from_utf8_lossy(&self.read)),
        }
    }
}
