//! A leader with users, and the ways in which requests come to it.

use crate::{
    node::{Node, PATIENCE, settings},
    tls::tls_of,
};
use bytes::Bytes;
use h2::client::SendRequest;
use memdb::api::{
    auth::{
        AccessControl, AccessSettings,
        users_file::{UserEntry, UsersFile},
    },
    http::{ApiContext, HttpServer, HttpSettings, access_cases::AccessCase},
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};
use tempfile::TempDir;
use testkit::tls::{AUTHORITY, connect};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};

/// The protocol of a connection, and who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    FastPath,
    /// HTTP/1 at a server without the fast path.
    Http1,
    Http2,
}

/// The way in which a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    pub protocol: Protocol,
    pub tls: bool,
}

/// Every way there is, those of HTTP/1 first.
pub const TRANSPORTS: [Transport; 6] = [
    Transport { protocol: Protocol::FastPath, tls: false },
    Transport { protocol: Protocol::Http1, tls: false },
    Transport { protocol: Protocol::FastPath, tls: true },
    Transport { protocol: Protocol::Http1, tls: true },
    Transport { protocol: Protocol::Http2, tls: false },
    Transport { protocol: Protocol::Http2, tls: true },
];

/// Those of HTTP/1.
pub const HTTP1_TRANSPORTS: &[Transport] = TRANSPORTS.split_at(4).0;

/// The beliefs and offers of a client of each protocol. Sessions are resumed, as those of any client are.
static CONFIGS: LazyLock<[Arc<ClientConfig>; 2]> = LazyLock::new(|| {
    [&b"http/1.1"[..], b"h2"].map(|protocol| {
        let mut config = (**AUTHORITY.client(None).config()).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    })
});

/// A leader with users, servers with and without fast path and TLS beside the one of the node, and the file.
pub struct UsersNode {
    pub node: Node,
    /// Each with the kind of connection that it serves.
    servers: Vec<(Transport, HttpServer)>,
    pub access: Arc<AccessControl>,
    folder: TempDir,
}

/// A connection of HTTP/1.
pub trait Connection: Read + Write {}

impl<S: Read + Write> Connection for S {}

impl UsersNode {
    pub fn start(users: &[UserEntry]) -> Self {
        Self::start_with(users, AccessSettings::default())
    }

    pub fn start_with(users: &[UserEntry], more: AccessSettings) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("users.json");
        write(&path, users);
        let audit_log = Some(folder.path().join("audit.jsonl"));
        let of_files = AccessSettings { users: Some(path), audit_log, ..more };
        let access = Arc::new(AccessControl::open(&of_files, [7; 32]).expect("they are sound"));
        let node = Node::start(settings());
        let tls = tls_of(AUTHORITY.node("users"), None);
        let servers = HTTP1_TRANSPORTS.iter().map(|&transport| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let tls = if transport.tls { Arc::clone(&tls) } else { Arc::default() };
            let api = ApiContext { access: Arc::clone(&access), tls, ..node.api.clone() };
            let settings = HttpSettings { fast_path: transport.protocol == Protocol::FastPath, ..settings() };
            (transport, HttpServer::start(listener, api, settings).expect("it starts"))
        });
        let servers = servers.collect();
        Self { node, servers, access, folder }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("users.json")
    }

    pub fn audited(&self) -> String {
        fs::read_to_string(self.folder.path().join("audit.jsonl")).expect("the audit log")
    }

    pub fn address(&self, transport: Transport) -> SocketAddr {
        let protocol = if transport.protocol == Protocol::Http1 { Protocol::Http1 } else { Protocol::FastPath };
        let (_, server) = self.servers.iter().find(|(of, _)| *of == Transport { protocol, ..transport }).expect("all");
        server.local_addr()
    }

    /// A connection for HTTP/1.
    pub fn connect(&self, transport: Transport) -> Box<dyn Connection> {
        let address = self.address(transport);
        if transport.tls {
            let stream = connect(address, "localhost", &CONFIGS[0]);
            stream.sock.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            return Box::new(stream);
        }
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Box::new(stream)
    }

    /// Status and body of an answer; of a stream, its status.
    pub fn ask(&self, transport: Transport, case: &AccessCase, authorization: Option<&str>) -> (u16, String) {
        match transport.protocol {
            Protocol::Http2 => self.ask_http2(transport, case, authorization),
            Protocol::FastPath | Protocol::Http1 => {
                let lines = authorization.map_or(String::new(), |value| format!("Authorization: {value}\r\n"));
                let lines =
                    case.header.iter().fold(lines, |lines, (name, value)| format!("{lines}{name}: {value}\r\n"));
                raw(self.connect(transport), case.method, &case.target, &lines)
            }
        }
    }

    fn ask_http2(&self, transport: Transport, case: &AccessCase, authorization: Option<&str>) -> (u16, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(self.address(transport)).await.expect("it accepts");
            let mut client = if transport.tls {
                let connecting = TlsConnector::from(Arc::clone(&CONFIGS[1]))
                    .connect("localhost".try_into().expect("a name"), stream);
                http2(connecting.await.expect("a handshake")).await
            } else {
                http2(stream).await
            };
            let scheme = if transport.tls { "https" } else { "http" };
            let uri = format!("{scheme}://localhost{}", case.target);
            let mut request = http::Request::builder().method(case.method).uri(uri);
            for (name, value) in case.header.iter().copied().chain(authorization.map(|value| ("authorization", value)))
            {
                request = request.header(name, value);
            }
            let request = request.header("content-length", "0").body(()).expect("a request");
            let (answer, _) = client.send_request(request, true).expect("an open connection");
            let (head, mut body) = answer.await.expect("an answer").into_parts();
            if head.status.as_u16() < 400 {
                return (head.status.as_u16(), String::new());
            }
            let mut gathered = Vec::<Bytes>::new();
            while let Some(piece) = body.data().await {
                gathered.push(piece.expect("a whole answer"));
            }
            (head.status.as_u16(), String::from_utf8(gathered.concat()).expect("UTF-8"))
        })
    }
}

/// Begins HTTP/2 on a connection.
async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// Replaces a users file.
pub fn write(path: &Path, users: &[UserEntry]) {
    let text = UsersFile { users: users.to_vec() }.render();
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, path).expect("a file");
}

/// Sends a request without a body. Gives the status, and everything behind it of an answer that is no stream.
pub fn raw(mut stream: impl Read + Write, method: &str, target: &str, lines: &str) -> (u16, String) {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{lines}\r\n");
    let head = if method == "GET" { head.replace("Content-Length: 0\r\n", "") } else { head };
    stream.write_all(head.as_bytes()).expect("an open socket");
    let (mut said, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        let bytes = stream.read(&mut piece).expect("an answer");
        said.extend_from_slice(&piece[..bytes]);
        let text = String::from_utf8_lossy(&said);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let status = head[9..12].parse().expect("a status");
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if bytes == 0 || status < 400 || length.is_none_or(|length: usize| body.len() >= length) {
                return (status, text.into_owned());
            }
        }
        assert!(bytes > 0, "it closes: {text}");
    }
}
