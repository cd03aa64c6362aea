//! HTTP/1.1 by hand, so that the client adds little.

use crate::speech::Answer;
use std::io::{Error, Result};

/// The request that posts a text.
pub fn post(path: &str, text: &str) -> Vec<u8> {
    let length = text.len();
    format!("POST {path} HTTP/1.1\r\nHost: memdb\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}")
        .into_bytes()
}

/// The request that reads some words at one position.
pub fn read(words: &[String]) -> Vec<u8> {
    let query: Vec<_> = words.iter().map(|word| format!("word={word}")).collect();
    format!("GET /wordcount?{} HTTP/1.1\r\nHost: memdb\r\n\r\n", query.join("&")).into_bytes()
}

/// The answer to a post and its length, once all of it is there.
pub fn answer(received: &[u8]) -> Result<Option<(Answer, usize)>> {
    let Some(head) = Head::of(received)? else { return Ok(None) };
    let refusal = (head.status != 202).then(|| String::from_utf8_lossy(received).into_owned());
    Ok(Some((Answer { refusal, acknowledged: head.acks > 0 }, head.whole)))
}

/// The counts in the answer to a read, once all of it is there.
pub fn counts(received: &[u8], words: &[String]) -> Result<Option<Vec<usize>>> {
    let Some(head) = Head::of(received)? else { return Ok(None) };
    let body = String::from_utf8_lossy(&received[head.body..head.whole]);
    let unexpected = || Error::other(format!("a read was answered {}: {body}", head.status));
    let count = |word: &String| {
        let name = format!("\"{word}\":");
        let (_, rest) = body.split_once(&name)?;
        rest.split(|end: char| !end.is_ascii_digit()).next()?.parse().ok()
    };
    let counts: Option<Vec<usize>> = words.iter().map(count).collect();
    counts.filter(|_| head.status == 200).map(Some).ok_or_else(unexpected)
}

struct Head {
    status: u16,
    acks: u32,
    /// Where the body begins, and where it ends.
    body: usize,
    whole: usize,
}

impl Head {
    /// The head of an answer of which all is there.
    fn of(received: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(body) = response.parse(received).map_err(Error::other)? else {
            return Ok(None);
        };
        let number = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok()?.parse::<usize>().ok()
        };
        let length = number("content-length").ok_or_else(|| Error::other("an answer without Content-Length"))?;
        let status = response.code.ok_or_else(|| Error::other("an answer without status"))?;
        let acks = number("memdb-acks").unwrap_or(0) as u32;
        let whole = body + length;
        Ok((received.len() >= whole).then_some(Self { status, acks, body, whole }))
    }
}
