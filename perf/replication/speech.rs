//! What is said to a server and understood of its answers, whichever protocol it speaks.

use crate::{http, resp};
use std::{
    io::{Error, Read, Result, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No answer may take longer than this: then something is broken, not slow.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A protocol, and how posts are made in it.
pub enum Speech {
    /// memdb.
    Http {
        /// Where posts go.
        path: String,
    },
    /// Redis.
    Resp {
        /// Replicas to `WAIT` for after each post; none: no `WAIT`.
        wait: u32,
        /// Whether a post is a transaction.
        transaction: bool,
    },
}

/// A whole answer to a post.
pub struct Answer {
    /// What was wrong, if the post was not done.
    pub refusal: Option<String>,
    /// Whether a replica has acknowledged it.
    pub acknowledged: bool,
}

impl Speech {
    /// The request that posts a text.
    pub fn post(&self, text: &str) -> Vec<u8> {
        match self {
            Self::Http { path } => http::post(path, text),
            Self::Resp { wait, transaction } => resp::post(text, *wait, *transaction),
        }
    }

    /// The answer to a post, once all of it is there.
    pub fn answer(&self, received: &[u8]) -> Result<Option<Answer>> {
        let answer = match self {
            Self::Http { .. } => http::answer(received)?,
            Self::Resp { wait, transaction } => resp::answer(received, *wait, *transaction)?,
        };
        match answer {
            Some((_, length)) if length < received.len() => Err(Error::other("more was answered than asked")),
            answer => Ok(answer.map(|(answer, _)| answer)),
        }
    }

    /// The request that reads the counts of some words.
    pub fn read(&self, words: &[String]) -> Vec<u8> {
        match self {
            Self::Http { .. } => http::read(words),
            Self::Resp { .. } => resp::read(words),
        }
    }

    /// The counts in the answer to that, once all of it is there.
    pub fn counts(&self, received: &[u8], words: &[String]) -> Result<Option<Vec<usize>>> {
        match self {
            Self::Http { .. } => http::counts(received, words),
            Self::Resp { .. } => resp::counts(received),
        }
    }
}

/// Connects, for requests that are sent as soon as they are written.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Sends a request on a blocking connection and reads until `understood` finds a whole answer.
pub fn exchange<T>(
    stream: &mut TcpStream,
    request: &[u8],
    received: &mut Vec<u8>,
    understood: impl Fn(&[u8]) -> Result<Option<T>>,
) -> Result<T> {
    stream.write_all(request)?;
    received.clear();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(Error::other("the server closed the connection"));
        }
        received.extend_from_slice(&piece[..read]);
        if let Some(answer) = understood(received)? {
            return Ok(answer);
        }
    }
}
