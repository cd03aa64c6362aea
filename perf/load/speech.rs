//! What is said to a server and understood of its answers, whichever protocol it speaks.

use crate::{http, resp, work::ID_DIGITS};
use std::{
    io::{Error, Read, Result, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No answer may take longer than this: then something is broken, not slow.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A protocol, and how posts are made in it.
#[derive(Clone)]
pub enum Speech {
    /// memdb, or whatever else speaks HTTP.
    Http {
        /// Where posts go.
        path: String,
    },
    /// Redis.
    Resp {
        /// Replicas to `WAIT` for after each post; none: no `WAIT`.
        wait: u32,
    },
}

/// A whole reply.
pub struct Answer {
    /// What was wrong, if it was not done.
    pub refusal: Option<String>,
    /// Whether it says that a replica has acknowledged the request.
    pub acknowledged: bool,
    /// Its bytes.
    pub length: usize,
}

/// A request, and how many replies Redis gives to it.
pub struct Request {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Replies to wait for; 1 over HTTP.
    pub replies: usize,
    /// The place of an id that is told when it is sent.
    pub id: Option<usize>,
}

impl Request {
    fn http(bytes: Vec<u8>) -> Self {
        Self { bytes, replies: 1, id: None }
    }
}

impl Speech {
    /// The request that posts a text.
    pub fn post(&self, text: &str) -> Request {
        match self {
            Self::Http { path } => Request::http(http::post(path, text)),
            Self::Resp { wait } => resp::post(text, *wait),
        }
    }

    /// The request that reads the counts of some words.
    pub fn read<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Request {
        match self {
            Self::Http { .. } => Request::http(http::read(words)),
            Self::Resp { .. } => resp::read(words),
        }
    }

    /// The request that asks for the path itself; of Redis, a ping.
    pub fn get(&self) -> Request {
        match self {
            Self::Http { path } => Request::http(http::get(path, None)),
            Self::Resp { .. } => Request { bytes: b"PING\r\n".to_vec(), replies: 1, id: None },
        }
    }

    /// The request that stores a value.
    pub fn put(&self, key: &str, value: &str) -> Request {
        match self {
            Self::Http { path } => Request::http(http::put(&format!("{path}{key}"), value)),
            Self::Resp { .. } => resp::command(&["SET", key, value]),
        }
    }

    /// The request that reads the value of a key; if `known` is that value, the server need not send it again.
    pub fn entry(&self, key: &str, known: Option<&str>) -> Request {
        match self {
            Self::Http { path } => Request::http(http::get(&format!("{path}{key}"), known)),
            Self::Resp { .. } => resp::command(&["GET", key]),
        }
    }

    /// The request that creates a document, whose id is the first row of zeros in it; to Redis a `SET` of it.
    pub fn create(&self, document: &str) -> Request {
        let zeros = "0".repeat(ID_DIGITS);
        let mut request = match self {
            Self::Http { path } => Request::http(http::create(path, document)),
            Self::Resp { .. } => resp::command(&["SET", &zeros, document]),
        };
        request.id = memchr::memmem::find(&request.bytes, zeros.as_bytes());
        request
    }

    /// The request that increments a counter.
    pub fn increment(&self, key: &str) -> Request {
        match self {
            Self::Http { path } => Request::http(http::post(&format!("{path}{key}/increment"), "")),
            Self::Resp { wait } => resp::post(key, *wait),
        }
    }

    /// The reply at the front of what was received, once all of it is there.
    pub fn answer(&self, received: &[u8]) -> Result<Option<Answer>> {
        match self {
            Self::Http { .. } => http::answer(received),
            Self::Resp { wait } => resp::answer(received, *wait),
        }
    }

    /// The counts in the answer to a read, once all of it is there.
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

/// Sends a request on a blocking connection and reads until `understood` finds all that is expected.
pub fn exchange<T>(
    stream: &mut TcpStream,
    request: &[u8],
    received: &mut Vec<u8>,
    mut understood: impl FnMut(&[u8]) -> Result<Option<T>>,
) -> Result<T> {
    stream.write_all(request)?;
    received.clear();
    loop {
        let mut piece = [0; 1 << 14];
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

/// As [`exchange`], for a request whose replies must all be good: whether a replica has acknowledged it.
pub fn asked(speech: &Speech, stream: &mut TcpStream, request: &Request, received: &mut Vec<u8>) -> Result<bool> {
    let (mut at, mut left) = (0, request.replies);
    exchange(stream, &request.bytes, received, |received| {
        while let Some(answer) = speech.answer(&received[at..])? {
            (at, left) = (at + answer.length, left - 1);
            answer.good()?;
            if left == 0 {
                return Ok(Some(answer.acknowledged));
            }
        }
        Ok(None)
    })
}

impl Answer {
    /// An error, if it is a refusal.
    pub fn good(&self) -> Result<()> {
        match &self.refusal {
            Some(refusal) => Err(Error::other(format!("a request was refused: {refusal}"))),
            None => Ok(()),
        }
    }
}
