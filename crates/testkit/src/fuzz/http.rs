//! The input of clients: bodies, queries, heads. Two ways to send one text count the same words, what comes in pieces
//! is what comes at once, and everything wrong has an answer.

use memdb::api::http::fuzz_api::{self, ScannedHead};

const MAX_HEAD_BYTES: usize = 2_000;

/// The first byte: which body, or a query.
pub fn http(data: &[u8]) {
    let Some((&which, body)) = data.split_first() else { return };
    let media = match which % 8 {
        0 => return same_text_in_every_form(body),
        1 => return update(body),
        2 => return query(body),
        3 => Some("application/x-www-form-urlencoded"),
        4 => Some("application/json"),
        5 => Some("multipart/form-data; boundary=b"),
        6 => None,
        _ => return content_type(body),
    };
    if let Ok(batch) = fuzz_api::post(media, body) {
        super::accepted();
        assert!(batch.counts.text_bytes() <= 11 * body.len(), "no more than folding makes of it");
        let counted: u64 = batch.counts.iter().map(|one| one.amount.unsigned_abs()).sum();
        assert_eq!(counted, batch.words);
    }
}

type Counts = Vec<(String, i64)>;

fn counts(content_type: Option<&str>, body: &[u8]) -> Result<Counts, u16> {
    let batch = fuzz_api::post(content_type, body)?;
    Ok(batch.counts.iter().map(|one| (one.word.to_owned(), one.amount)).collect())
}

fn same_text_in_every_form(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else {
        return assert_eq!(counts(None, body), Err(400), "what is not UTF-8 is refused");
    };
    super::accepted();
    let plain = counts(None, body);
    let form: String = form_urlencoded::Serializer::new(String::new()).append_pair("text", text).finish();
    assert_eq!(counts(Some("application/x-www-form-urlencoded"), form.as_bytes()), plain, "as a form");
    let json = serde_json::json!({ "text": text }).to_string();
    assert_eq!(counts(Some("application/json"), json.as_bytes()), plain, "as JSON");
    if !text.contains("--boundary") {
        let body =
            format!("--boundary\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n{text}\r\n--boundary--\r\n");
        assert_eq!(counts(Some("multipart/form-data; boundary=boundary"), body.as_bytes()), plain, "as an upload");
    }
}

fn update(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok((tally, words)) = fuzz_api::amounts(text) else { return };
    super::accepted();
    let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).expect("accepted, so JSON");
    let amounts: Vec<i64> = read.values().map(|value| value.as_i64().unwrap_or(0)).collect();
    let added = amounts.iter().fold(0_u64, |sum, amount| sum.saturating_add(amount.unsigned_abs()));
    assert_eq!(words, added.min(i64::MAX as u64), "as many as an answer may say");
    let total: i128 = amounts.iter().map(|&amount| i128::from(amount)).sum();
    assert_eq!(tally.iter().map(|one| i128::from(one.amount)).sum::<i128>(), total, "nothing is lost or doubled");
}

fn query(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok((_, words)) = fuzz_api::query(text) else { return };
    super::accepted();
    let lenient = form_urlencoded::parse(body).filter(|(name, _)| name == "word").map(|(_, value)| value.into_owned());
    assert_eq!(words, lenient.collect::<Vec<_>>(), "what is sound says to everybody the same");
}

fn content_type(body: &[u8]) {
    let Some(end) = body.iter().position(|&byte| byte == b'\n') else { return };
    let Ok(line) = std::str::from_utf8(&body[..end]) else { return };
    let _ = fuzz_api::post(Some(line), &body[end + 1..]);
}

/// The first byte: the size of the pieces the body comes in.
pub fn head(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let found = fuzz_api::look(bytes, MAX_HEAD_BYTES);
    if let ScannedHead::Sound(head_bytes) = found {
        super::accepted();
        assert!(head_bytes <= MAX_HEAD_BYTES && head_bytes <= bytes.len());
        assert_eq!(fuzz_api::look(&bytes[..head_bytes], MAX_HEAD_BYTES), found, "what follows changes nothing");
        for cut in 0..head_bytes {
            assert_eq!(fuzz_api::look(&bytes[..cut], MAX_HEAD_BYTES), ScannedHead::Partial, "cut at {cut}");
        }
        no_request_is_hidden(bytes, 1 + usize::from(piece));
    }
    if found == ScannedHead::Partial {
        assert!(bytes.len() <= MAX_HEAD_BYTES, "no more is kept than a head may have");
    }
}

/// Requests one behind the other, with their bodies: hyper begins no request where the guard has not looked at a head,
/// so that nothing can be smuggled past it.
fn no_request_is_hidden(bytes: &[u8], piece: usize) {
    let (guarded, passed) = fuzz_api::guarded_requests(bytes, MAX_HEAD_BYTES, bytes.len());
    let in_pieces = fuzz_api::guarded_requests(bytes, MAX_HEAD_BYTES, piece);
    assert_eq!(in_pieces, (guarded.clone(), passed), "the size of the pieces does not matter");
    // hyper may end earlier: at chunks that it refuses, or behind a request that is the last by its own word.
    let found = fuzz_api::hyper_requests(&bytes[..passed]);
    assert!(guarded.starts_with(&found), "{found:?} are not {guarded:?}: {:?}", String::from_utf8_lossy(bytes));
}
