//! What listens where a replica should be.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// Answers every request with a status and a body, chosen by the request's first line.
pub struct Impostor {
    pub url: String,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Impostor {
    pub fn start(mut answer: impl FnMut(&str) -> (u16, Vec<u8>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                exchange(stream, &mut answer);
            }
        };
        let thread = std::thread::Builder::new().spawn(serve).expect("a thread");
        Self { url, stopping, thread }
    }

    /// From then on nothing listens there.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        let address = self.url.trim_start_matches("http://");
        TcpStream::connect(address).expect("it listens"); // so that it looks
        self.thread.join().expect("it does not panic");
    }
}

fn exchange(stream: TcpStream, answer: &mut impl FnMut(&str) -> (u16, Vec<u8>)) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut line, mut bytes) = (String::new(), String::new(), 0);
    if reader.read_line(&mut first).is_err() {
        return;
    }
    while matches!(reader.read_line(&mut line), Ok(3..)) {
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            bytes = length.trim().parse().expect("a number");
        }
        line.clear();
    }
    let mut body = vec![0; bytes];
    let _ = reader.read_exact(&mut body); // whatever it is
    let (status, body) = answer(&first);
    let head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let mut stream = reader.into_inner();
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)); // the other side may have gone
}
