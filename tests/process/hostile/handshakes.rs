//! TLS handshakes that are left half done, by 1,000 clients at once: what those who are served notice of them.

use memdb::base::limits::MAX_TLS_HANDSHAKES;
use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};
use tempfile::TempDir;
use testkit::{
    process::{Node, Start},
    tls::AUTHORITY,
    wait_until,
    wire::Wire,
};

/// Clients that go no further.
const HALF: usize = 1_000;

/// The longest of the fastest 99 of 100 reads, in microseconds.
fn p99(wire: &mut Wire, reads: usize) -> u128 {
    let mut took: Vec<u128> = (0..reads)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(wire.get("/wordcount?word=a").status, 200);
            begun.elapsed().as_micros()
        })
        .collect();
    took.sort_unstable();
    took[reads * 99 / 100]
}

fn half_a_handshake(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(&[22, 3, 1, 1, 0, 1, 0]).expect("an open socket");
    stream
}

/// Returns whether the node has closed a connection on which it sends nothing.
fn has_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    !stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// The p99 of so many reads in quiet, and beside the crowd: the least of some rounds, since other programs of the
/// machine can only add to it.
fn beside_half_handshakes(rounds: usize, reads: usize) -> (u128, u128) {
    let data = TempDir::new().expect("a directory");
    let leader: Node = Start::leader(data.path()).protected(&AUTHORITY.node("handshakes")).run();
    let address = SocketAddr::from(([127, 0, 0, 1], leader.port));
    let mut wire = Wire::protected(address);
    p99(&mut wire, reads);
    let descriptors = leader.descriptors();
    let (mut quiet, mut crowded) = (u128::MAX, u128::MAX);
    for _ in 0..rounds {
        quiet = quiet.min(p99(&mut wire, reads));
        let held: Vec<TcpStream> = (0..HALF).map(|_| half_a_handshake(address)).collect();
        let ended = || held.iter().filter(|stream| has_ended(stream)).count();
        wait_until("those beyond the bound were broken off", || ended() >= HALF - MAX_TLS_HANDSHAKES);
        crowded = crowded.min(p99(&mut wire, reads));
        assert_eq!(Wire::protected(address).get("/health").status, 200, "a new client comes in");
        drop(held);
        wait_until("the crowd is gone", || leader.descriptors() <= descriptors + 8);
    }
    println!("p99 of reads: {quiet} us in quiet, {crowded} us beside {HALF} half handshakes");
    (quiet, crowded)
}

#[test]
fn a_thousand_half_handshakes_keep_nobody_from_being_served() {
    beside_half_handshakes(1, 1_000);
}

#[test]
#[ignore = "its times mean something only if nothing else runs: make hostile"]
fn a_thousand_half_handshakes_at_most_double_the_time_of_a_read() {
    let (quiet, crowded) = beside_half_handshakes(5, 20_000);
    assert!(crowded <= 2 * quiet, "{quiet} us in quiet, {crowded} us in the crowd");
}
