//! The protocol of Redis: as much of it as counting words in a hash, a `WAIT` and an `HMGET` need.

use crate::speech::{Answer, Request};
use std::{
    collections::HashMap,
    io::{Error, Result},
};

/// The hash that holds the counts.
const KEY: &str = "words";
/// How long `WAIT` waits: until it is done.
const WAIT_MS: &str = "0";

/// The request that posts a text, the quickest way there is: one word is `INCR`, several are an `HINCRBY` each, all
/// sent as one. Words that a text repeats are added up beforehand, as a good client would.
pub fn post(text: &str, wait: u32) -> Request {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let mut request = Request { bytes: Vec::new(), replies: 0, id: None };
    if let [word] = words[..] {
        add(&mut request, &["INCR", word]);
    } else {
        let mut counts: HashMap<&str, u64> = HashMap::new();
        words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
        for (word, count) in counts {
            add(&mut request, &["HINCRBY", KEY, word, &count.to_string()]);
        }
    }
    if wait > 0 {
        add(&mut request, &["WAIT", &wait.to_string(), WAIT_MS]);
    }
    request
}

/// The request that reads some words at one moment.
pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Request {
    let arguments: Vec<&str> = ["HMGET", KEY].into_iter().chain(words).collect();
    command(&arguments)
}

/// One command.
pub fn command(arguments: &[&str]) -> Request {
    let mut request = Request { bytes: Vec::new(), replies: 0, id: None };
    add(&mut request, arguments);
    request
}

fn add(request: &mut Request, arguments: &[&str]) {
    request.bytes.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        request.bytes.extend_from_slice(format!("${}\r\n{argument}\r\n", argument.len()).as_bytes());
    }
    request.replies += 1;
}

/// The reply at the front of what was received, once all of it is there. Only that of `WAIT` may acknowledge, and that
/// is the last of a request.
pub fn answer(received: &[u8], wait: u32) -> Result<Option<Answer>> {
    let Some(length) = reply(received, 0)? else { return Ok(None) };
    let refusal = (received[0] == b'-').then(|| String::from_utf8_lossy(&received[..length]).into_owned());
    let acknowledged = wait > 0 && line(received, 0)?.is_some_and(|(number, _)| number >= i64::from(wait));
    Ok(Some(Answer { refusal, acknowledged, length }))
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
        // An absent word has no value: length -1.
        let count =
            if length < 0 { "0" } else { std::str::from_utf8(&received[start..end - 2]).map_err(Error::other)? };
        counts.push(count.parse().map_err(|_| unexpected())?);
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
