//! The protocol of Redis: as much of it as ten `ZINCRBY`, a `WAIT` and a `ZMSCORE` need.

use crate::{options::WORDS, speech::Answer};
use std::io::{Error, Result};

/// The sorted set that holds the counts.
const KEY: &str = "words";
/// How long `WAIT` waits, in milliseconds: what memdb's `--ack-timeout-ms` is by default.
const WAIT_MS: &str = "1000";

/// The request that posts a text: its words added one by one, sent as one.
pub fn post(text: &str, wait: u32, transaction: bool) -> Vec<u8> {
    let mut request = Vec::new();
    if transaction {
        command(&mut request, &["MULTI"]);
    }
    for word in text.split(' ') {
        command(&mut request, &["ZINCRBY", KEY, "1", word]);
    }
    if transaction {
        command(&mut request, &["EXEC"]);
    }
    if wait > 0 {
        command(&mut request, &["WAIT", &wait.to_string(), WAIT_MS]);
    }
    request
}

/// The request that reads some words at one moment.
pub fn read(words: &[String]) -> Vec<u8> {
    let mut request = Vec::new();
    let arguments: Vec<&str> = ["ZMSCORE", KEY].into_iter().chain(words.iter().map(String::as_str)).collect();
    command(&mut request, &arguments);
    request
}

fn command(request: &mut Vec<u8>, arguments: &[&str]) {
    request.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        request.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
}

/// The answer to a post and its length, once all of it is there: a reply to each command, the last that of `WAIT`.
pub fn answer(received: &[u8], wait: u32, transaction: bool) -> Result<Option<(Answer, usize)>> {
    let replies = WORDS + if transaction { 2 } else { 0 } + usize::from(wait > 0);
    let (mut at, mut last, mut refusal) = (0, 0, None);
    for _ in 0..replies {
        let Some(end) = reply(received, at)? else { return Ok(None) };
        if received[at] == b'-' {
            refusal = Some(String::from_utf8_lossy(&received[at..end]).into_owned());
        }
        (last, at) = (at, end);
    }
    let acknowledged = wait > 0 && line(received, last)?.is_some_and(|(number, _)| number >= i64::from(wait));
    Ok(Some((Answer { refusal, acknowledged }, at)))
}

/// The counts in the answer to a read, once all of it is there.
pub fn counts(received: &[u8]) -> Result<Option<Vec<usize>>> {
    let Some(_) = reply(received, 0)? else { return Ok(None) };
    let unexpected = || Error::other(format!("a read was answered {}", String::from_utf8_lossy(received)));
    if received[0] != b'*' {
        return Err(unexpected());
    }
    let (many, mut at) = line(received, 0)?.ok_or_else(unexpected)?;
    let mut counts = Vec::new();
    for _ in 0..many {
        let (length, start) = line(received, at)?.ok_or_else(unexpected)?;
        let end = reply(received, at)?.ok_or_else(unexpected)?;
        // An absent word has no score: length -1.
        let score =
            if length < 0 { "0" } else { std::str::from_utf8(&received[start..end - 2]).map_err(Error::other)? };
        counts.push(score.parse().map_err(|_| unexpected())?);
        at = end;
    }
    Ok(Some(counts))
}

/// Where the reply that begins at `at` ends, once all of it is there.
fn reply(received: &[u8], at: usize) -> Result<Option<usize>> {
    let Some(kind) = received.get(at) else { return Ok(None) };
    if matches!(kind, b'+' | b'-') {
        return Ok(line_end(received, at));
    }
    let Some((number, mut end)) = line(received, at)? else { return Ok(None) };
    match kind {
        b'$' if number >= 0 => end += number as usize + 2,
        b'*' => {
            for _ in 0..number {
                let Some(next) = reply(received, end)? else { return Ok(None) };
                end = next;
            }
        }
        _ => {}
    }
    Ok((end <= received.len()).then_some(end))
}

/// The number on the line that begins at `at`, behind its first byte, and where the next line begins.
fn line(received: &[u8], at: usize) -> Result<Option<(i64, usize)>> {
    let Some(end) = line_end(received, at) else { return Ok(None) };
    let text = std::str::from_utf8(&received[at + 1..end - 2]).map_err(Error::other)?;
    let number = text.parse().map_err(|_| Error::other(format!("a number should stand in a reply: {text}")))?;
    Ok(Some((number, end)))
}

fn line_end(received: &[u8], at: usize) -> Option<usize> {
    memchr::memchr(b'\n', received.get(at..)?).map(|newline| at + newline + 1)
}
