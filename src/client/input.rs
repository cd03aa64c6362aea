//! The stages between a file or pipe and the lines in it: each reads the one before.

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use std::io::{self, Cursor};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};

/// Bytes to be read once.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;

/// Bytes that are decompressed at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes within which the first line is looked for.
const FIRST_LINE_BYTES: usize = 64 << 10;

/// How an input is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// By gzip, in one member or several.
    Gzip,
    /// By Zstandard, in one frame or several.
    Zstd,
}

/// The bytes a compressed input begins with: where `mask` has a bit, it is that of `bytes`.
struct Magic {
    compression: Compression,
    bytes: &'static [u8],
    mask: &'static [u8],
}

const MAGIC: [Magic; 3] = [
    Magic { compression: Compression::Gzip, bytes: &[0x1f, 0x8b, 0x08], mask: &[0xff; 3] },
    Magic { compression: Compression::Zstd, bytes: &[0x28, 0xb5, 0x2f, 0xfd], mask: &[0xff; 4] },
    // A frame to be skipped, with which some writers begin.
    Magic { compression: Compression::Zstd, bytes: &[0x50, 0x2a, 0x4d, 0x18], mask: &[0xf0, 0xff, 0xff, 0xff] },
];

impl Magic {
    /// Whether what begins so may be this, as far as it goes.
    fn may_be(&self, start: &[u8]) -> bool {
        start.iter().zip(self.bytes).zip(self.mask).all(|((byte, magic), mask)| byte & mask == *magic)
    }
}

/// An input as it is after its decompression, if its first bytes say that it is compressed.
///
/// # Errors
/// The reader's.
pub async fn decompressed(input: Input) -> io::Result<(Input, Option<Compression>)> {
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

/// Whether the first line is a JSON object with a string member `text`, as in NDJSON that can be counted.
///
/// # Errors
/// The reader's.
pub async fn is_ndjson(input: Input) -> io::Result<(Input, bool)> {
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
async fn peek(mut input: Input, wants_more: impl Fn(&[u8]) -> bool) -> io::Result<(Vec<u8>, Input)> {
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
    fn input(bytes: &[u8], step: usize) -> Input {
        let pieces: Vec<_> = bytes.chunks(step).map(|piece| io::Result::Ok(piece.to_vec())).collect();
        let pieces = pieces.into_iter().map(|piece| piece.map(Cursor::new));
        Box::new(tokio_util::io::StreamReader::new(futures::stream::iter(pieces)))
    }

    async fn all(mut input: Input) -> io::Result<Vec<u8>> {
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
