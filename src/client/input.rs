//! The stages between a file or pipe and the lines in it: each reads the one before.

use crate::text::charset::{Charset, Utf8Decoder, check_no_nul};
use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use futures::stream;
use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader, ReadBuf};
use tokio_util::io::StreamReader;

/// Bytes to be read once.
pub type InputStream = Box<dyn AsyncRead + Send + Unpin>;

/// Bytes that are decompressed at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes that are decoded at a time.
const DECODED_BYTES: usize = 64 << 10;
/// Bytes within which the first line is looked for.
const FIRST_LINE_BYTES: usize = 64 << 10;

/// The compression of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// By gzip, in one member or several.
    Gzip,
    /// By Zstandard, in one frame or several.
    Zstd,
}

/// The bytes a compressed input begins with: where `mask` has a bit, it is that of `bytes`.
struct MagicBytes {
    compression: Compression,
    bytes: &'static [u8],
    mask: &'static [u8],
}

const MAGIC: [MagicBytes; 3] = [
    MagicBytes { compression: Compression::Gzip, bytes: &[0x1f, 0x8b, 0x08], mask: &[0xff; 3] },
    MagicBytes { compression: Compression::Zstd, bytes: &[0x28, 0xb5, 0x2f, 0xfd], mask: &[0xff; 4] },
    // A frame to be skipped, with which some writers begin.
    MagicBytes { compression: Compression::Zstd, bytes: &[0x50, 0x2a, 0x4d, 0x18], mask: &[0xf0, 0xff, 0xff, 0xff] },
];

impl MagicBytes {
    /// Returns whether an input that begins so may have this compression, as far as the bytes reach.
    fn may_be(&self, start: &[u8]) -> bool {
        start.iter().zip(self.bytes).zip(self.mask).all(|((byte, magic), mask)| byte & mask == *magic)
    }
}

/// An input as it is after its decompression, if its first bytes say that it is compressed.
///
/// # Errors
/// If the input cannot be read: its error. Compressed data that is damaged fails later, when it is read.
pub async fn decompressed(input: InputStream) -> io::Result<(InputStream, Option<Compression>)> {
    // No longer than it may be something: a pipe whose first line is short is not waited for.
    let wants_more = |start: &[u8]| MAGIC.iter().any(|magic| start.len() < magic.bytes.len() && magic.may_be(start));
    let (start, input) = peek(input, wants_more).await?;
    let found = MAGIC.iter().find(|magic| start.len() >= magic.bytes.len() && magic.may_be(&start));
    let buffered = BufReader::with_capacity(CHUNK_BYTES, input);
    Ok(match found.map(|magic| magic.compression) {
        None => (buffered.into_inner(), None),
        Some(Compression::Gzip) => {
            let mut decoder = GzipDecoder::new(buffered);
            decoder.multiple_members(true);
            (Box::new(decoder), Some(Compression::Gzip))
        }
        Some(Compression::Zstd) => {
            let mut decoder = ZstdDecoder::new(buffered);
            decoder.multiple_members(true);
            (Box::new(decoder), Some(Compression::Zstd))
        }
    })
}

/// The byte-order marks of UTF-8 and of both UTF-16.
const MARKS: [&[u8]; 3] = [UTF8_MARK, b"\xff\xfe", b"\xfe\xff"];
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// An input as UTF-8, without its byte-order mark: the mark says what is decoded, or `named` where there is none. What
/// cannot be decoded becomes bytes that are no UTF-8. At U+0000 the input ends with an error. Gives the
/// encoding too, if it is not UTF-8.
///
/// # Errors
/// If the input cannot be read: its error. Text that cannot be decoded fails later, when it is read.
pub async fn decoded(input: InputStream, named: Option<Charset>) -> io::Result<(InputStream, Option<Charset>)> {
    // As for the compression, no longer than it may be a mark.
    let wants_more = |start: &[u8]| MARKS.iter().any(|mark| start.len() < mark.len() && mark.starts_with(start));
    let (start, input) = peek(input, wants_more).await?;
    let charset = Charset::of_mark(&start).or(named);
    let text: InputStream = match charset {
        Some(charset) => to_utf8(input, charset),
        None if start.starts_with(UTF8_MARK) => {
            let (mut input, mut mark) = (input, [0; UTF8_MARK.len()]);
            input.read_exact(&mut mark).await?;
            input
        }
        None => input,
    };
    Ok((Box::new(NulCheckedInput { text, passed: 0, found: None }), charset))
}

/// An input in another encoding, as UTF-8.
fn to_utf8(input: InputStream, charset: Charset) -> InputStream {
    let decoder = Some(charset.decoder());
    let pieces = stream::try_unfold((input, decoder), |(mut input, decoder)| async move {
        let Some(mut decoder): Option<Utf8Decoder> = decoder else { return io::Result::Ok(None) };
        let (mut bytes, mut text) = (vec![0; DECODED_BYTES], Vec::new());
        let read = input.read(&mut bytes).await?;
        decoder.push(&bytes[..read], read == 0, &mut text);
        Ok(Some((Cursor::new(text), (input, (read > 0).then_some(decoder)))))
    });
    Box::new(StreamReader::new(Box::pin(pieces)))
}

/// A text up to the first U+0000 in it.
struct NulCheckedInput {
    text: InputStream,
    /// Bytes that were given.
    passed: u64,
    /// The offset of the first.
    found: Option<u64>,
}

impl AsyncRead for NulCheckedInput {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        if this.found.is_none() {
            ready!(Pin::new(&mut this.text).poll_read(context, into))?;
            let given = &into.filled()[before..];
            let (length, nul) = check_no_nul(given).map_or_else(|nul| (nul.offset, true), |()| (given.len(), false));
            this.passed += length as u64;
            this.found = nul.then_some(this.passed);
            into.set_filled(before + length);
        }
        match this.found {
            // What stands before it comes first.
            Some(offset) if into.filled().len() == before => Poll::Ready(Err(holds_nul(offset))),
            _ => Poll::Ready(Ok(())),
        }
    }
}

fn holds_nul(offset: u64) -> io::Error {
    let message = format!(
        "U+0000 at byte {offset} of the text: it looks binary or UTF-16. If it is text, name its encoding \
         (--encoding utf-16le), or leave the zeros out (tr -d '\\0')"
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Returns whether the first line is a JSON object with a string member `text`, as in NDJSON that can be counted.
///
/// # Errors
/// If the input cannot be read: its error.
pub async fn is_ndjson(input: InputStream) -> io::Result<(InputStream, bool)> {
    let wants_more = |start: &[u8]| {
        let start = start.trim_ascii_start();
        start.first().is_none_or(|&first| first == b'{') && memchr::memchr(b'\n', start).is_none()
    };
    let (start, input) = peek(input, |start| start.len() < FIRST_LINE_BYTES && wants_more(start)).await?;
    let line = start.trim_ascii_start().split(|&byte| byte == b'\n').next().unwrap_or_default();
    let object = serde_json::from_slice::<serde_json::Value>(line).ok();
    Ok((input, object.is_some_and(|object| object.is_object() && object["text"].is_string())))
}

/// Reads from the front as long as more is wanted, and puts it back.
async fn peek(mut input: InputStream, wants_more: impl Fn(&[u8]) -> bool) -> io::Result<(Vec<u8>, InputStream)> {
    let mut start = Vec::new();
    while wants_more(&start) {
        // Little at first: what is read is put back in front of every later read.
        let mut piece = [0; 4 << 10];
        match input.read(&mut piece).await? {
            0 => break,
            read => start.extend_from_slice(&piece[..read]),
        }
    }
    let input = Box::new(Cursor::new(start.clone()).chain(input));
    Ok((start, input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
    use tokio::io::AsyncWriteExt;

    /// An input that gives `step` bytes at a time.
    fn input(bytes: &[u8], step: usize) -> InputStream {
        let pieces: Vec<_> = bytes.chunks(step).map(|piece| io::Result::Ok(piece.to_vec())).collect();
        let pieces = pieces.into_iter().map(|piece| piece.map(Cursor::new));
        Box::new(StreamReader::new(stream::iter(pieces)))
    }

    async fn all(mut input: InputStream) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).await.map(|_| bytes)
    }

    async fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(text).await.expect("memory");
        encoder.shutdown().await.expect("memory");
        encoder.into_inner()
    }

    async fn zstd(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZstdEncoder::new(Vec::new());
        encoder.write_all(text).await.expect("memory");
        encoder.shutdown().await.expect("memory");
        encoder.into_inner()
    }

    #[tokio::test]
    async fn inputs_are_decompressed_by_their_first_bytes_however_they_arrive() {
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd(b"a b\n").await.as_slice()].concat();
        let twice = [gzip(b"a ").await, gzip(b"b\n").await].concat();
        let frames = [zstd(b"a ").await, zstd(b"b\n").await].concat();
        let cases = [
            (b"a b\n".to_vec(), None),
            (b"".to_vec(), None),
            (b"(a b".to_vec(), None),
            (vec![0x1f, 0x8b], None),
            (gzip(b"a b\n").await, Some(Compression::Gzip)),
            (twice, Some(Compression::Gzip)),
            (zstd(b"a b\n").await, Some(Compression::Zstd)),
            (frames, Some(Compression::Zstd)),
            (skipped, Some(Compression::Zstd)),
        ];
        for (bytes, compression) in cases {
            for step in [1, 3, 1_000] {
                let (text, found) = decompressed(input(&bytes, step)).await.expect("no error");
                assert_eq!(found, compression, "{bytes:?}");
                let expected = if found.is_some() { b"a b\n".to_vec() } else { bytes.clone() };
                assert_eq!(all(text).await.expect("whole"), expected, "{bytes:?} by {step}");
            }
        }
    }

    #[tokio::test]
    async fn a_compressed_input_that_breaks_off_is_an_error() {
        let text = "many words that differ 1 2 3 4 5 6 7 8 9\n".repeat(100);
        for whole in [gzip(text.as_bytes()).await, zstd(text.as_bytes()).await] {
            let (text, _) = decompressed(input(&whole[..whole.len() - 5], 100)).await.expect("it begins well");
            assert_eq!(all(text).await.expect_err("it breaks off").kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn texts_are_decoded_by_their_marks_or_by_name_however_they_arrive() {
        let named = |label| Charset::of_label(label).expect("known");
        let cases: [(&[u8], &str, &[u8]); 11] = [
            (b"\xff\xfeh\0\xe9\0\n\0", "utf-8", "hé\n".as_bytes()),
            (b"\xfe\xff\0h\0\xe9", "utf-8", "hé".as_bytes()),
            (b"\xfe\xff\0h\0\xe9", "windows-1251", "hé".as_bytes()),
            (b"\0h\0\xe9", "utf-16be", "hé".as_bytes()),
            (b"h\0\0\xd8e\0", "utf-16le", b"h\xffe"),
            (b"h\0e", "utf-16le", b"h\xff"),
            (b"\xcf\xf0", "windows-1251", "Пр".as_bytes()),
            (b"\xef\xbb\xbfa", "utf-8", b"a"),
            (b"\xef\xbb", "utf-8", b"\xef\xbb"),
            (b"\xff", "utf-8", b"\xff"),
            (b"", "utf-16le", b""),
        ];
        for (bytes, label, expected) in cases {
            for step in [1, 3, 1_000] {
                let (text, _) = decoded(input(bytes, step), named(label)).await.expect("no error");
                assert_eq!(all(text).await.expect("whole"), expected, "{bytes:?} as {label} by {step}");
            }
        }
    }

    #[tokio::test]
    async fn a_text_ends_with_an_error_at_u_0000_after_what_stands_before_it() {
        for step in [1, 3, 1_000] {
            let (mut text, _) = decoded(input(b"a b\nc\0\n", step), None).await.expect("it begins well");
            let mut before = Vec::new();
            let error = text.read_to_end(&mut before).await.expect_err("no text").to_string();
            assert_eq!(before, b"a b\nc", "by {step}");
            assert!(error.contains("U+0000 at byte 5") && error.contains("looks binary or UTF-16"), "{error}");
        }
    }

    #[tokio::test]
    async fn ndjson_is_told_by_its_first_line() {
        let cases = [
            ("{\"text\":\"a\"}\nrest", true),
            ("\n {\"id\":1,\"text\":\"a\"}", true),
            ("{\"text\":1}\n", false),
            ("[\"text\"]\n", false),
            ("{text}\n", false),
            ("a {\"text\":\"a\"}\n", false),
            ("", false),
        ];
        for (text, expected) in cases {
            let (again, found) = is_ndjson(input(text.as_bytes(), 2)).await.expect("no error");
            assert_eq!(found, expected, "{text}");
            assert_eq!(all(again).await.expect("whole"), text.as_bytes());
        }
    }
}
