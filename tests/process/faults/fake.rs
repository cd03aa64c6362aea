//! What stands between a leader and its replica, or in the replica's place, and does not work.

use parking_lot::Mutex;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};
use testkit::{guard::NodeGuard, process::Node};

/// Lengths, in bytes, after which a bad line breaks, one after the other: in the head of an offer, in its records,
/// in the answer, and late enough for some offers to get through.
const BREAKS: [u64; 7] = [60, 300, 700, 2_000, 9_000, 70_000, 1_000_000];

/// What each piece waits on a slow line.
const SLOW: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// Each connection breaks after some bytes.
    Bad,
    /// Whatever is passed on waits.
    Slow,
    /// Each connection is closed at once.
    Cut,
}

struct Shared {
    state: State,
    to: Option<u16>,
    connections: Vec<TcpStream>,
    accepted: usize,
}

/// A line to a replica that can be cut.
pub struct Line {
    pub url: String,
    shared: Arc<Mutex<Shared>>,
}

impl Line {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let scheme = NodeGuard::from_environment().scheme();
        let url = format!("{scheme}://{}", listener.local_addr().expect("bound"));
        let shared = Shared { state: State::Sound, to: None, connections: Vec::new(), accepted: 0 };
        let shared = Arc::new(Mutex::new(shared));
        let line = Self { url, shared: Arc::clone(&shared) };
        let accept = move || listener.incoming().map_while(Result::ok).for_each(|from| join(from, &shared));
        std::thread::Builder::new().spawn(accept).expect("a thread"); // it ends with the process
        line
    }

    /// Where it leads.
    pub fn lead_to(&self, node: &Node) {
        self.shared.lock().to = Some(node.port);
    }

    pub fn cut(&self) {
        self.become_(State::Cut);
    }

    pub fn slow_down(&self) {
        self.become_(State::Slow);
    }

    pub fn go_bad(&self) {
        self.become_(State::Bad);
    }

    pub fn mend(&self) {
        self.become_(State::Sound);
    }

    /// Connections made so far.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    fn become_(&self, state: State) {
        let mut shared = self.shared.lock();
        shared.state = state;
        for connection in shared.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both); // it may have gone by itself
        }
    }
}

/// Joins a connection to one that leads on.
fn join(from: TcpStream, shared: &Mutex<Shared>) {
    let mut shared = shared.lock();
    shared.accepted += 1;
    let Some(to) = shared.to.filter(|_| shared.state != State::Cut) else { return };
    let Ok(to) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let most = match shared.state {
        State::Bad => BREAKS[shared.accepted % BREAKS.len()],
        _ => u64::MAX,
    };
    let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    shared.connections.extend([clone(&from), clone(&to)]);
    let delay = if shared.state == State::Slow { SLOW } else { Duration::ZERO };
    for (from, to) in [(clone(&from), clone(&to)), (to, from)] {
        std::thread::Builder::new().spawn(move || pass_on(from, to, most, delay)).expect("a thread");
    }
}

/// Passes on so many bytes at most, then breaks the line.
fn pass_on(mut from: TcpStream, mut to: TcpStream, mut left: u64, delay: Duration) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let passed = left.min(read as u64);
        std::thread::sleep(delay);
        if to.write_all(&buffer[..passed as usize]).is_err() || passed < read as u64 {
            break;
        }
        left -= passed;
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)); // one of them may have gone
}

/// What listens where a replica should be, and gives every request the same answer. Gives its address.
pub fn impostor(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let answer_all = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 64 << 10];
            let _ = stream.read(&mut request); // whatever it is
            let _ = stream.write_all(answer.as_bytes());
        }
    };
    std::thread::Builder::new().spawn(answer_all).expect("a thread"); // it ends with the process
    url
}
