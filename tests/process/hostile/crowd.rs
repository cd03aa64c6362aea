//! Many connections at once that do no good.

use memdb::net::tls::client::ClientTls;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{
    client::{new_client, posted, read},
    process::{Node, Start},
    tls::AUTHORITY,
    wait_for,
};
use tokio::runtime::Runtime;
use tokio_rustls::rustls::{ClientConnection, Stream};

/// Connections of the small form.
const FEW: usize = 100;
/// Connections of the long form, as far as descriptors go.
const MANY: usize = 10_000;
/// Descriptors this process, and the leader, need beside the crowd's.
const SPARE: usize = 200;
/// What the leader's memory may grow by whatever the crowd does: buffers of its threads, pages the allocator keeps.
const NOISE_KIB: u64 = 24 << 10;
/// What a connection of the second crowd may cost beyond one of the first: the allocator settles at the fourth or so.
const SETTLES_KIB: u64 = 8;
/// Posts of the others while the crowd is there.
const POSTS: usize = 100;
/// Posts of one of them.
const POSTS_EACH: usize = 10;
/// So often at most a crowd comes, each time with a word of its own for the others.
const TURNS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
/// Words the leader holds: some 2.5 MB as `/sync` has them.
const WORDS: usize = 100_000;

/// What each connection of a crowd does, and what it may cost the leader.
struct Kind {
    name: &'static str,
    kib_each: u64,
    act: fn(&mut TcpStream),
}

const KINDS: [Kind; 6] = [
    Kind { name: "idle after a request", kib_each: 32, act: idle },
    Kind { name: "half a head", kib_each: 48, act: half_a_head },
    Kind { name: "half a body", kib_each: 320, act: half_a_body },
    Kind { name: "takes nothing of /sync", kib_each: 640, act: takes_nothing },
    Kind { name: "pipelines, takes nothing", kib_each: 768, act: pipelines },
    Kind { name: "HTTP/2, takes nothing", kib_each: 6 << 10, act: http2_takes_nothing },
];

/// The same at a leader that speaks TLS.
const TLS_KINDS: [Kind; 3] = [
    Kind { name: "TLS, half a handshake", kib_each: 48, act: half_a_handshake },
    Kind { name: "TLS, idle after a request", kib_each: 64, act: tls_idle },
    Kind { name: "TLS, takes nothing", kib_each: 768, act: tls_takes_nothing },
];

/// The head of a record of a hello, and the first bytes of that.
fn half_a_handshake(stream: &mut TcpStream) {
    send(stream, &[22, 3, 1, 1, 0, 1, 0]);
}

/// Carries out a handshake and sends a request; gives the session.
fn ask_over_tls(stream: &mut TcpStream, request: &str) -> ClientConnection {
    static CONFIG: LazyLock<ClientTls> = LazyLock::new(|| AUTHORITY.client(None));
    let name = "127.0.0.1".try_into().expect("a name");
    let mut session = ClientConnection::new(Arc::clone(CONFIG.config()), name).expect("a sound configuration");
    stream.set_nonblocking(false).expect("a socket");
    Stream::new(&mut session, stream).write_all(request.as_bytes()).expect("a handshake");
    session
}

fn tls_idle(stream: &mut TcpStream) {
    let mut session = ask_over_tls(stream, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(Stream::new(&mut session, stream).read(&mut [0; 1_024]).expect("an answer") > 0);
}

fn tls_takes_nothing(stream: &mut TcpStream) {
    ask_over_tls(stream, &"GET /sync HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20));
}

fn idle(stream: &mut TcpStream) {
    send(stream, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.set_nonblocking(false).expect("a socket");
    let mut answer = [0; 1_024];
    assert!(stream.read(&mut answer).expect("an answer") > 0);
}

fn half_a_head(stream: &mut TcpStream) {
    send(stream, format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(15_000)).as_bytes());
}

fn half_a_body(stream: &mut TcpStream) {
    send(stream, b"POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
    send(stream, &[b'x'; 100_000]);
}

fn takes_nothing(stream: &mut TcpStream) {
    send(stream, "GET /sync HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20).as_bytes());
}

fn pipelines(stream: &mut TcpStream) {
    let words: String = (0..300).map(|number| format!("word=aratherlongword{number}&")).collect();
    send(stream, format!("GET /wordcount?{words} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(2_000).as_bytes());
}

/// 100 requests for everything, with windows of nothing to put it in.
fn http2_takes_nothing(stream: &mut TcpStream) {
    let frame = |kind: u8, flags: u8, on: u32, payload: &[u8]| {
        [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags], &on.to_be_bytes(), payload].concat()
    };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])); // SETTINGS: INITIAL_WINDOW_SIZE 0
    for number in 0..100 {
        // GET, http, /sync as a literal, host a.
        let head = [b"\x82\x86\x04\x05/sync\x01\x01".as_slice(), b"a"].concat();
        bytes.extend(frame(1, 5, 2 * number + 1, &head));
    }
    send(stream, &bytes);
}

/// Sends what the socket takes at once; whoever does no good does not wait either.
fn send(stream: &mut TcpStream, mut bytes: &[u8]) {
    stream.set_nonblocking(true).expect("a socket");
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(taken) => bytes = &bytes[taken..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("the leader has closed: {error}"),
        }
    }
}

/// Lets this process and those it starts have as many descriptors as the system allows; gives how many connections that
/// is.
fn connections(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let possible = maximum.map_or(usize::MAX, |most| most as usize).saturating_sub(SPARE);
    if possible < wanted {
        println!("only {possible} connections instead of {wanted}: the hard limit on open files is {maximum:?}");
    }
    wanted.min(possible)
}

/// A leader that holds some words, with room for the crowd and for the others.
fn leader(data: &TempDir, tls: bool, crowd: usize) -> Node {
    let start = Start::leader(data.path()).with(&["--max-connections", &(crowd + 64).to_string()]);
    let node = if tls { start.protected(&AUTHORITY.node("crowds")) } else { start }.run();
    let words: Vec<String> = (0..WORDS).map(|number| format!("aratherlongword{number}")).collect();
    for some in words.chunks(WORDS / 4) {
        posted(&node.url, &some.join(" "));
    }
    node
}

/// Posts as others do, who come on connections of their own and stay for some posts; gives how long the middle one and
/// the slowest took.
fn others(node: &Node, word: &'static str) -> (Duration, Duration) {
    let mut client = new_client();
    let mut took: Vec<Duration> = (0..POSTS)
        .map(|number| {
            if number % POSTS_EACH == 0 {
                client = new_client();
            }
            let begun = Instant::now();
            let post = client.post(format!("{}/post", node.url)).header("content-type", "text/plain").body(word);
            assert_eq!(post.send().expect("it answers").status(), 202);
            begun.elapsed()
        })
        .collect();
    assert_eq!(read(&node.url, &[word])[word], POSTS as i64);
    took.sort_unstable();
    (took[POSTS / 2], took[POSTS - 1])
}

fn crowd_of(node: &Node, kind: &Kind, connections: usize) -> Vec<TcpStream> {
    let runtime = runtime();
    let join = |_| {
        let mut stream = connect(&runtime, node, "127.0.0.1");
        (kind.act)(&mut stream);
        stream
    };
    (0..connections).map(join).collect()
}

fn crowds(connections: usize, kinds: &[Kind], tls: bool) {
    println!("{connections} connections of each kind; others post {POSTS} times meanwhile");
    println!(
        "  {:26} {:>6} {:>9} {:>9} {:>9} {:>9} {:>18}",
        "", "there", "before", "with", "each", "after", "others' posts"
    );
    for kind in kinds {
        // What HTTP/2 may hold is bounded per connection at megabytes: fewer of these fit the machine.
        let connections = if kind.name.starts_with("HTTP/2") { connections / 20 } else { connections };
        let data = TempDir::new().expect("a directory");
        let node = leader(&data, tls, connections);
        others(&node, "before");
        let (before_kib, descriptors) = (node.resident_kib(), node.descriptors());
        let mut last_kib = None;
        let mut settled = false;
        // An allocator keeps what was freed, and not all of it fits the next crowd: at some time it has enough.
        for word in TURNS {
            let crowd = crowd_of(&node, kind, connections);
            let (middle, slowest) = others(&node, word);
            // Connections of the others, from before, may have been among the descriptors. Of a large crowd, the first
            // may have been timed out when the last come.
            let expected = descriptors + connections - POSTS / POSTS_EACH;
            if connections <= FEW {
                wait_for("all of the crowd is there", || (node.descriptors() >= expected).then_some(()));
            }
            let most_kib = node.resident_kib();
            let there = node.descriptors().saturating_sub(descriptors);
            let whole = there + POSTS / POSTS_EACH >= connections;
            drop(crowd);
            wait_for("the crowd's descriptors are free", || (node.descriptors() <= descriptors + 4).then_some(()));
            let each = most_kib.saturating_sub(before_kib) as f64 / connections as f64;
            println!(
                "  {:26} {there:>6} {:5} MiB {:5} MiB {:5.1} KiB {:5} MiB {:7.1?} {:8.1?}",
                kind.name,
                before_kib >> 10,
                most_kib >> 10,
                each,
                node.resident_kib() >> 10,
                middle,
                slowest
            );
            let allowed = kind.kib_each * connections as u64 + NOISE_KIB;
            assert!(most_kib <= before_kib + allowed, "{}: from {before_kib} to {most_kib} KiB", kind.name);
            // What was timed out before all had come says nothing of how many there were at most.
            let as_before = |last| most_kib <= last + SETTLES_KIB * connections as u64 + NOISE_KIB;
            settled = last_kib.is_some_and(|last| !whole || as_before(last));
            last_kib = Some(most_kib);
            if settled {
                break;
            }
        }
        assert!(settled, "{}: more each of {} times", kind.name, TURNS.len());
    }
}

#[test]
fn small_crowds() {
    crowds(connections(FEW), &KINDS, false);
}

#[test]
fn small_crowds_over_tls() {
    crowds(connections(FEW), &TLS_KINDS, true);
}

#[test]
#[ignore = "takes a minute and 10,000 descriptors in each of two processes: make hostile"]
fn large_crowds() {
    crowds(connections(MANY), &KINDS, false);
}

#[test]
#[ignore = "takes a minute and 10,000 descriptors in each of two processes: make hostile"]
fn large_crowds_over_tls() {
    crowds(connections(MANY), &TLS_KINDS, true);
}

/// One client that takes all it can get leaves the others what is theirs.
#[test]
fn an_address_that_takes_all_it_gets_starves_nobody() {
    let data = TempDir::new().expect("a directory");
    let bounds = ["--max-connections", "40", "--max-connections-per-address", "30"];
    let node = Start::leader(data.path()).with(&bounds).run();
    let runtime = runtime();
    let greedy: Vec<_> = (0..100).map(|_| connect(&runtime, &node, "127.0.0.2")).collect();
    others(&node, "other");
    drop(greedy);
    wait_for("the places are free", || (node.descriptors() < 40).then_some(()));
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime")
}

/// A connection with little room for answers, so that a client that takes none is soon seen to.
fn connect(runtime: &Runtime, node: &Node, from: &str) -> TcpStream {
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(8 << 10).expect("a size");
        socket.bind(format!("{from}:0").parse().expect("an address")).expect("all of 127/8 is loopback");
        let stream = socket.connect(([127, 0, 0, 1], node.port).into()).await.expect("it is accepted, and told");
        stream.into_std().expect("a socket")
    })
}
