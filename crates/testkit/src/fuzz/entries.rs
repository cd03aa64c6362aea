//! What clients send of entries: keys, times to live, conditions, many entries in one body, documents of posts.

use bytes::Bytes;
use memdb::{
    api::http::fuzz_api::entries as api,
    base::limits::{MAX_ENTRY_KEY_BYTES, MAX_TTL_MS},
    data::entries::{EntryOp, Expiry, WriteCondition, hash_of},
    data::posts::post_text,
};

const MAX_VALUE_BYTES: usize = 1_000;

/// The first byte: what of it.
pub fn entries(data: &[u8]) {
    let Some((&which, rest)) = data.split_first() else { return };
    if which % 6 == 5 {
        return document(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match which % 6 {
        0 => key(text),
        1 => time_to_live(text),
        2 => condition(text),
        3 => many(text),
        _ => created(text),
    }
}

/// A key is what a path says by everybody's rules, and is passed on as the same key.
fn key(encoded: &str) {
    let Ok(key) = api::path_key(encoded) else { return };
    super::accepted();
    assert!((1..=MAX_ENTRY_KEY_BYTES).contains(&key.len()));
    assert!(percent_encoding::percent_decode_str(encoded).eq(key.bytes()), "{encoded:?}");
    match api::passed_path(encoded) {
        Ok(passed) => {
            assert!(passed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{passed}");
            assert_eq!(api::path_key(&passed), Ok(key));
        }
        Err(status) => assert!(status == 400 && [".", ".."].contains(&&*key), "{encoded:?}"),
    }
}

/// A time to live is as long as asked for, to half a millisecond, and the same in a query and in JSON.
fn time_to_live(text: &str) {
    let Ok(expiry) = api::time_to_live(text) else { return };
    super::accepted();
    let seconds: f64 = text.parse().expect("a number");
    assert_eq!(api::numeric_time_to_live(seconds), Some(expiry), "{text}");
    match expiry {
        Expiry::Never => assert!(seconds == 0.0, "{text} is not for ever"),
        Expiry::AfterMs(ms) => {
            assert!((1..=MAX_TTL_MS).contains(&ms), "{text}");
            assert!((ms as f64 - seconds * 1e3).abs() <= 0.501 || ms == 1, "{text} is {ms} ms");
        }
    }
}

/// Two lines: `If-Match` and `If-None-Match`. A read and a write understand the second alike.
fn condition(text: &str) {
    let (if_match, if_none_match) = text.split_once('\n').unwrap_or((text, ""));
    let (matches, none) = (api::condition(Some(if_match), None), api::condition(None, Some(if_none_match)));
    assert_eq!(api::condition(Some(if_match), Some(if_none_match)), Err(400));
    let (Ok(matches), Ok(none)) = (matches, none) else { panic!("one condition alone is one: {text:?}") };
    super::accepted();
    let (hash, tag) = (hash_of(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let names = |tags: &[Box<str>]| tags.iter().any(|one| **one == *tag);
    let is_excluded = match &none {
        WriteCondition::Absent => true,
        WriteCondition::MatchesNone(tags) => names(tags),
        other => panic!("{if_none_match:?} is {other:?}"),
    };
    assert_eq!(api::is_known(if_none_match, &hash), is_excluded, "{if_none_match:?}");
    match &matches {
        WriteCondition::Present => assert!(if_match.contains('*')),
        WriteCondition::Matches(tags) => assert!(!names(tags) || api::is_known(if_match, &hash), "{if_match:?}"),
        other => panic!("{if_match:?} is {other:?}"),
    }
}

/// All entries of a list are stored, or none.
fn many(body: &str) {
    let Ok(writes) = api::many_entries(body, MAX_VALUE_BYTES) else { return };
    super::accepted();
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let read: serde_json::Value = serde_json::from_str(body).expect("accepted, so JSON");
    let listed = read["entries"].as_array().expect("a list");
    assert_eq!(listed.len(), writes.len());
    for (write, entry) in writes.iter().zip(listed) {
        let EntryOp::Put(value, expiry) = &write.op else { panic!("{write:?}") };
        assert_eq!(entry["key"].as_str(), Some(&*write.key));
        assert_eq!(entry["content_type"].as_str().unwrap_or_default(), value.content_type());
        assert_eq!(api::numeric_time_to_live(entry["ttl"].as_f64().unwrap_or(0.0)), Some(*expiry));
        if let Some(text) = entry["value"].as_str() {
            assert_eq!(value.hash(), hash_of(text.as_bytes()));
            assert!(text.len() <= MAX_VALUE_BYTES);
        }
    }
}

/// A document of `POST /create`.
fn created(body: &str) {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let Ok((id, post)) = api::created_post(&body) else { return };
    let read: serde_json::Value = serde_json::from_slice(&body).expect("accepted, so JSON");
    assert_eq!(read["id"].as_str(), Some(&*id));
    is_taken_back_as_counted(&body, &post);
}

/// The type in the first line, and a document of it for `PUT /posts/{id}`.
fn document(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { return };
    let Ok(media) = std::str::from_utf8(&bytes[..end]) else { return };
    let body = Bytes::copy_from_slice(&bytes[end + 1..]);
    if let Ok(post) = api::put_post(media, &body) {
        is_taken_back_as_counted(&body, &post);
    }
}

/// What is stored is what came, and the text that its words are taken back by is the one they were counted by.
fn is_taken_back_as_counted(body: &Bytes, post: &api::StoredDocument) {
    super::accepted();
    let EntryOp::Put(value, Expiry::Never) = &post.op else { panic!("{:?}", post.op) };
    assert!(value.counts() && value.hash() == hash_of(body));
    assert_eq!(post_text(value.content_type(), body).expect("it was counted"), post.text);
}
