//! Reads that other nodes answer, which are played by sockets; planted defects are found.

use super::*;
use crate::base::failpoint::{Defect, inject_defect};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread::JoinHandle,
};

/// A node that answers one request in this way, and gives the lines of its head.
struct PlayedNode {
    url: String,
    heads: JoinHandle<Vec<String>>,
}

impl PlayedNode {
    fn new(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let play = move || {
            let (socket, _) = listener.accept().expect("somebody asks");
            let lines = BufReader::new(socket.try_clone().expect("a socket")).lines();
            let lines: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            // Who has gone away needs no answer.
            let _ = (&socket).write_all(format!("HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n").as_bytes());
            lines
        };
        Self { url, heads: std::thread::Builder::new().spawn(play).expect("a thread") }
    }

    /// The head of what it was asked; empty if nobody has.
    fn asked(self) -> Vec<String> {
        let address = self.url.trim_start_matches("http://");
        let _ = std::net::TcpStream::connect(address); // if nobody has asked, this ends it
        self.heads.join().expect("a node")
    }
}

const NOT_READY: &str = "503 Service Unavailable\r\ncontent-length: 0";
const NO_ROUTE: &str = "404 Not Found\r\ncontent-length: 0";
const NO_ENTRY: &str = "404 Not Found\r\nmemdb-position: 1-7-00000001\r\ncontent-length: 0";

/// Who answers, with which status.
type Answered = Option<(usize, u16)>;

fn read(answers: &[&'static str], target: &str) -> (Answered, Vec<Vec<String>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let nodes: Vec<PlayedNode> = answers.iter().map(|answer| PlayedNode::new(answer)).collect();
    let urls: Vec<String> = nodes.iter().map(|node| node.url.clone()).collect();
    let answer = runtime.block_on(async {
        let fallback = ReadFallback::new(&ClientTls::default()).expect("a client");
        fallback.read(&urls, &Method::GET, target, &HeaderMap::new()).await
    });
    let at = |answer: PeerAnswer| {
        let node = urls.iter().position(|url| *url == answer.node).expect("one of them");
        (node, answer.response.status().as_u16())
    };
    (answer.map(at), nodes.into_iter().map(PlayedNode::asked).collect())
}

/// Looks at all that a read by way of another node promises.
fn check() -> Result<(), String> {
    let (answered, asked) = read(&[NOT_READY, NO_ROUTE, NO_ENTRY], "/cache/a?ns=b");
    if answered != Some((2, 404)) {
        return Err(format!("{answered:?} is the answer of a node without data"));
    }
    for head in asked {
        let says_so = head.iter().any(|line| line.eq_ignore_ascii_case("memdb-read-forwarded: 1"));
        if head[0] != "GET /cache/a?ns=b HTTP/1.1" || !says_so {
            return Err(format!("{head:?} was asked"));
        }
    }
    match read(&["200 OK\r\ncontent-length: 0"], "/cache/a/../b") {
        (None, asked) if asked == [Vec::<String>::new()] => Ok(()),
        other => Err(format!("another path was asked for: {other:?}")),
    }
}

#[test]
fn a_read_is_answered_by_a_node_that_has_data_and_is_sent_on_no_further() {
    check().unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn planted_defects_of_reads_by_way_of_others_are_found() {
    for defect in [Defect::PassesReadsOnAgain, Defect::BelievesNodesThatAreNotReady, Defect::AsksForAnotherPath] {
        let _injected = inject_defect(Some(defect));
        assert!(check().is_err(), "{defect:?} is not found");
    }
}
