//! Tests of the routes that write.

use super::*;
use crate::base::hash::WordHasher;

async fn batch(media: MediaType, body: &'static [u8]) -> Result<WriteBatch, ApiError> {
    let text = PostedText {
        bytes: Bytes::from_static(body),
        media,
        charset: None,
        naming: DedupHeaders::default(),
        namespace: "words".into(),
    };
    text.into_batch(Analyzer::Standard, WordCounts::new(WordHasher::new(1))).await
}

#[tokio::test]
async fn every_media_type_gives_the_same_words() {
    let multipart = MediaType::Multipart { boundary: "b".to_owned() };
    let uploaded =
        b"--b\r\nContent-Disposition: form-data; name=\"text\"; filename=\"t\"\r\n\r\nhello world hello\r\n--b--\r\n";
    for (media, body) in [
        (MediaType::Plain, b"hello world hello".as_slice()),
        (MediaType::Plain, b"\xef\xbb\xbfhello world hello"),
        (MediaType::Json, b"\xef\xbb\xbf{\"text\":\"hello world hello\"}"),
        (MediaType::Form, b"x=1&text=hello+world%20hello"),
        (MediaType::Json, br#"{"other":[1],"text":"hello world\u0020hello"}"#),
        (multipart, uploaded),
    ] {
        let batch = batch(media.clone(), body).await.expect("sound");
        assert_eq!((batch.words, batch.counts.len(), batch.left_out), (3, 2, 0), "{media:?}");
    }
}

#[tokio::test]
async fn texts_that_cannot_be_read_are_refused() {
    let multipart = || MediaType::Multipart { boundary: "b".to_owned() };
    for (media, body, kind) in [
        (MediaType::Plain, b"".as_slice(), "empty-text"),
        (MediaType::Plain, b"ok \xff", "invalid-utf8"),
        (MediaType::Form, b"text=", "empty-text"),
        (MediaType::Form, b"other=1", "empty-text"),
        (MediaType::Form, b"text=a&text=b", "invalid-body"),
        (MediaType::Form, b"text=100%", "invalid-body"),
        (MediaType::Form, b"text=%ff", "invalid-utf8"),
        (MediaType::Plain, b"h\0i\0", "invalid-body"),
        (MediaType::Form, b"text=h%00i", "invalid-body"),
        (MediaType::Json, br#"{"text":"a\u0000b"}"#, "invalid-body"),
        (MediaType::Json, b"", "empty-text"),
        (MediaType::Json, b"{}", "invalid-body"),
        (MediaType::Json, br#"{"text":1}"#, "invalid-body"),
        (MediaType::Json, br#"{"text":""}"#, "empty-text"),
        (MediaType::Json, br#"{"text":"a","text":"b"}"#, "invalid-body"),
        (MediaType::Json, br#"{"text":"a","id":5}"#, "invalid-body"),
        (MediaType::Json, br#"{"text":"a"} {}"#, "invalid-body"),
        (MediaType::Json, b"{\"text\":\"\xff\"}", "invalid-utf8"),
        (multipart(), b"", "invalid-body"),
        (multipart(), b"--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\na\r\n--b--\r\n", "empty-text"),
        (multipart(), b"--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\na", "invalid-body"),
    ] {
        let problem = batch(media.clone(), body).await.expect_err("unreadable");
        let told = String::from_utf8(problem.body()).expect("JSON is UTF-8");
        assert!(told.contains(&format!("problem:{kind}\"")), "{media:?} {body:?}: {told}");
    }
}

#[tokio::test]
async fn over_long_tokens_are_left_out_and_counted_as_such() {
    let long: &'static str = Box::leak(format!("a {} b", "x".repeat(MAX_WORD_BYTES + 1)).into_boxed_str());
    let batch = batch(MediaType::Plain, long.as_bytes()).await.expect("sound");
    assert_eq!((batch.words, batch.left_out), (2, 1));
}

#[test]
fn a_receipt_tells_of_repeats_and_streams_only_where_they_apply() {
    let receipt = WriteReceipt {
        position: crate::base::position::Position::new(1, 7),
        words: 2,
        distinct: 1,
        left_out: 0,
        acks: 0,
        replayed: false,
        stream_last: None,
    };
    let acceptance = |receipt| AcceptedWrite { receipt, database: DatabaseTag::of(7) };
    let plain = accepted(&acceptance(receipt));
    assert!(!plain.headers().contains_key(&headers::MEMDB_REPLAYED));
    assert_eq!(plain.headers()[&headers::MEMDB_POSITION], "1-7-00000007");
    let repeated = accepted(&acceptance(WriteReceipt { replayed: true, stream_last: Some(3), ..receipt }));
    assert_eq!(repeated.headers()[&headers::MEMDB_REPLAYED], "true");
}
