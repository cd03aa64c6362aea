//! HTTP/1.1 by hand, so that the client adds little.

use crate::speech::Answer;
use memdb::data::entries::hash_of;
use std::io::{Error, Result};

/// The request that posts a body.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    write("POST", path, "text/plain", body)
}

/// The request that stores a value.
pub fn put(path: &str, body: &str) -> Vec<u8> {
    write("PUT", path, "text/plain", body)
}

/// The request that creates a document.
pub fn create(path: &str, body: &str) -> Vec<u8> {
    write("POST", path, "application/json", body)
}

fn write(method: &str, path: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The request for a path; `known` is the value that the client has.
pub fn get(path: &str, known: Option<&str>) -> Vec<u8> {
    let tag = |value: &str| hash_of(value.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let known = known.map(|value| format!("If-None-Match: \"{}\"\r\n", tag(value))).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{known}\r\n").into_bytes()
}

/// The request that reads some words at one position.
pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let query: Vec<_> = words.into_iter().map(|word| format!("word={word}")).collect();
    get(&format!("/wordcount?{}", query.join("&")), None)
}

/// The front of `received`, once it is a whole answer.
pub fn answer(received: &[u8]) -> Result<Option<Answer>> {
    let Some(head) = Head::of(received)? else { return Ok(None) };
    let whole = head.body + head.length;
    if received.len() < whole {
        return Ok(None);
    }
    let good = matches!(head.status, b"200" | b"202" | b"304");
    let refusal = (!good).then(|| String::from_utf8_lossy(&received[..whole]).into_owned());
    Ok(Some(Answer { refusal, acknowledged: head.acknowledged, length: whole }))
}

/// The counts in the answer to a read, once all of it is there.
pub fn counts(received: &[u8], words: &[String]) -> Result<Option<Vec<usize>>> {
    let Some(answer) = answer(received)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&received[..answer.length]);
    let unexpected = || Error::other(format!("a read was answered {text}"));
    let body = text.split_once("\r\n\r\n").ok_or_else(unexpected)?.1;
    let count = |word: &String| {
        let name = format!("\"{word}\":");
        let (_, rest) = body.split_once(&name)?;
        rest.split(|end: char| !end.is_ascii_digit()).next()?.parse().ok()
    };
    let counts: Option<Vec<usize>> = words.iter().map(count).collect();
    counts.filter(|_| answer.refusal.is_none()).map(Some).ok_or_else(unexpected)
}

struct Head<'a> {
    status: &'a [u8],
    length: usize,
    acknowledged: bool,
    /// Where the body begins.
    body: usize,
}

impl<'a> Head<'a> {
    /// The head at the front of what was received, once it is whole. One walk over its lines: this is the client's
    /// whole work for an answer, and the servers pay for it where they share its cores.
    fn of(received: &'a [u8]) -> Result<Option<Self>> {
        let Some(mut at) = memchr::memchr(b'\n', received) else { return Ok(None) };
        let status = received.get(9..12).ok_or_else(|| Error::other("an answer without status"))?;
        let (mut length, mut acknowledged) = (None, false);
        loop {
            at += 1;
            let Some(line) = memchr::memchr(b'\n', &received[at..]) else { return Ok(None) };
            let header = &received[at..at + line];
            match header {
                b"\r" => break,
                [b'C' | b'c', b'o', ..] if named(header, b"content-length") => length = Some(number(&header[15..])),
                [b'M' | b'm', ..] if named(header, b"memdb-acks") => acknowledged = number(&header[11..]) > 0,
                _ => {}
            }
            at += line;
        }
        // That of what was not sent, if it is told.
        let length = if status == b"304" { Some(0) } else { length };
        let length = length.ok_or_else(|| Error::other("an answer without Content-Length"))?;
        Ok(Some(Self { status, length, acknowledged, body: at + 2 }))
    }
}

fn named(header: &[u8], name: &[u8]) -> bool {
    header.get(name.len()) == Some(&b':') && header[..name.len()].eq_ignore_ascii_case(name)
}

fn number(value: &[u8]) -> usize {
    value.iter().filter(|byte| byte.is_ascii_digit()).fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}
