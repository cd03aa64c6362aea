//! One connection that posts texts and waits for each answer: HTTP/1.1 by hand, so that the client adds little.

use std::{
    io::{Error, Read, Result, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// An open connection.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// No answer may take longer than this: then something is broken, not slow.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Asks for a path and gives the status.
    pub fn get(&mut self, path: &str) -> Result<u16> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    /// Sends a request made by [`post`] and gives the status.
    pub fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request)?;
        self.received.clear();
        loop {
            if let Some((status, length)) = head(&self.received)?
                && self.received.len() >= length
            {
                return Ok(status);
            }
            let mut piece = [0; 4096];
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                return Err(Error::other("the server closed the connection"));
            }
            self.received.extend_from_slice(&piece[..read]);
        }
    }
}

/// The whole request that posts a text at level `leader`.
pub fn post(text: &str) -> Vec<u8> {
    let length = text.len();
    format!(
        "POST /post?ack=leader HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}"
    )
    .into_bytes()
}

/// The status, and the length of the whole answer, once its head is there.
fn head(received: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&received[..end]).map_err(Error::other)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Error::other(format!("no status in {text:?}")))?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or_else(|| Error::other(format!("an answer without Content-Length: {text:?}")))?;
    Ok(Some((status, end + 4 + length)))
}
