//! The smallest loop that answers: constant bytes to whatever looks like a request. What it takes is what the kernel,
//! the network stack and tokio take on this machine, and no server written on tokio can take less.
//!
//! `bench-ceiling ANSWER-BYTES` listens on a free port of loopback, prints it, and answers until it is killed. As in
//! memdb, a current-thread runtime per core, one listener dealing the connections out in turn.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for a person to run")]

use std::{
    io::{Error, Result, Write},
    net::{Ipv4Addr, TcpListener},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

/// What ends a request without a body.
const END: &[u8] = b"\r\n\r\n";
/// Connections that may wait to be taken over by their thread.
const WAITING: usize = 1_024;

fn main() -> Result<()> {
    let body = "x".repeat(std::env::args().nth(1).and_then(|bytes| bytes.parse().ok()).unwrap_or(24));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes();
    let answer: &'static [u8] = answer.leak();
    let threads = std::thread::available_parallelism()?.get();
    let queues: Vec<_> = (0..threads).map(|_| serve(answer)).collect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    for (connection, queue) in listener.incoming().zip(queues.iter().cycle()) {
        let connection = connection?;
        connection.set_nodelay(true)?;
        connection.set_nonblocking(true)?;
        queue.blocking_send(connection).map_err(Error::other)?;
    }
    Ok(())
}

/// A thread that serves what is sent to it.
fn serve(answer: &'static [u8]) -> mpsc::Sender<std::net::TcpStream> {
    let (queue, mut connections) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async {
            while let Some(connection) = connections.recv().await {
                let connection = TcpStream::from_std(connection).expect("a socket");
                tokio::spawn(answers(connection, answer));
            }
        });
    });
    queue
}

/// All requests of one wake-up are answered in one write.
async fn answers(mut connection: TcpStream, answer: &'static [u8]) -> Result<()> {
    let (mut received, mut out) = (Vec::with_capacity(1 << 14), Vec::with_capacity(1 << 14));
    while connection.read_buf(&mut received).await? > 0 {
        let mut at = 0;
        while let Some(end) = memchr::memmem::find(&received[at..], END) {
            at += end + END.len();
            out.extend_from_slice(answer);
        }
        received.drain(..at);
        connection.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}
