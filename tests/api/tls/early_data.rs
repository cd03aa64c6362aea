//! Data in front of the end of the handshake (0-RTT), which anybody who has seen it could send again.

use super::server;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};
use testkit::{PATIENCE, tls::AUTHORITY, wire::Wire};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, StreamOwned,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    },
    pki_types::ServerName,
};

/// Sessions of a client that sends early data although its ticket does not let it.
#[derive(Debug)]
struct EagerSessions(ClientSessionMemoryCache);

impl ClientSessionStore for EagerSessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, mut ticket: Tls13ClientSessionValue) {
        assert_eq!(ticket.max_early_data_size(), 0, "no ticket offers it");
        ticket._private_set_max_early_data_size(16_384);
        self.0.insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}

#[test]
fn data_in_front_of_the_handshake_is_neither_offered_nor_taken() {
    let (_node, server) = server("early");
    let mut config: ClientConfig = (**AUTHORITY.client(None).config()).clone();
    config.enable_early_data = true;
    config.resumption = Resumption::store(Arc::new(EagerSessions(ClientSessionMemoryCache::new(8))));
    let config = Arc::new(config);
    let connect = || {
        let session = ClientConnection::new(Arc::clone(&config), "localhost".try_into().expect("a name"));
        let socket = TcpStream::connect(server.local_addr()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        StreamOwned::new(session.expect("a sound configuration"), socket)
    };
    let ask = |stream: &mut StreamOwned<ClientConnection, TcpStream>, target: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("an open connection");
        let mut answer = vec![0; 4_096];
        let bytes = stream.read(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..bytes]).into_owned()
    };
    let mut first = connect();
    assert!(ask(&mut first, "/health").starts_with("HTTP/1.1 200"));
    let mut again = connect();
    let post = "POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nearly";
    let sent = again.conn.early_data().expect("it has a ticket").write(post.as_bytes()).expect("room");
    assert_eq!(sent, post.len());
    let answer = ask(&mut again, "/wordcount?word=early");
    assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(!again.conn.is_early_data_accepted());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#"{"early":0}"#), "{answer}");
    assert_eq!(Wire::protected(server.local_addr()).get("/wordcount?word=early").text(), r#"{"early":0}"#);
}
