//! Content codings: which one an answer may have, and the encoder of answers. `decoding` is the other direction.

use crate::api::error::{ApiError, ErrorKind};
pub(super) use crate::base::limits::{ENCODED_AT_ONCE, SMALLEST_ENCODED_BYTES};
use flate2::{Compress, Compression, FlushCompress, Status};
use std::io;
use zstd::stream::raw::{Encoder as ZstdEncoder, InBuffer, Operation, OutBuffer};

/// The fastest level: the thread that encodes answers nobody else meanwhile.
const LEVEL: u8 = 1;
/// The output grows by so many bytes.
const GROWTH_BYTES: usize = 8 << 10;

/// The compression of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentCoding {
    Gzip,
    Zstd,
}

impl ContentCoding {
    pub(super) const fn name(self) -> &'static str {
        match self {
            ContentCoding::Gzip => "gzip",
            ContentCoding::Zstd => "zstd",
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(ContentCoding::Gzip),
            "zstd" => Some(ContentCoding::Zstd),
            _ => None,
        }
    }

    /// Parses a `Content-Encoding`; `None` for a body that is not compressed.
    ///
    /// # Errors
    /// 415 if it names another coding, or several.
    pub(super) fn of_body(content_encoding: Option<&str>) -> Result<Option<Self>, ApiError> {
        match content_encoding {
            None => Ok(None),
            Some(name) if name.eq_ignore_ascii_case("identity") => Ok(None),
            Some(name) => ContentCoding::named(name).map(Some).ok_or_else(|| {
                let detail = "this route takes one Content-Encoding, gzip or zstd, or the body as it is";
                ApiError::new(ErrorKind::UnsupportedMediaType, detail)
            }),
        }
    }

    /// The coding that a client wants most of those there are, by the values of its `Accept-Encoding`; `None` if it
    /// wants none of them, or the answer as it is more than any.
    pub(super) fn wanted<'a>(accept_encoding: impl Iterator<Item = &'a str>) -> Option<Self> {
        let (mut gzip, mut zstd, mut identity, mut others) = (None, None, None, None);
        for one in accept_encoding.flat_map(|value| value.split(',')) {
            let mut parts = one.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let weight = weight.map_or(Some(1.0), |text| text.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)));
            let slot = match (ContentCoding::named(name), name) {
                (Some(ContentCoding::Gzip), _) => &mut gzip,
                (Some(ContentCoding::Zstd), _) => &mut zstd,
                (None, "*") => &mut others,
                (None, name) if name.eq_ignore_ascii_case("identity") => &mut identity,
                (None, _) => continue,
            };
            *slot = weight.or(Some(0.0)); // a weight that is none asks for nothing
        }
        let weight = |of: Option<f32>| of.or(others).unwrap_or(0.0);
        let best = if weight(zstd) >= weight(gzip) { ContentCoding::Zstd } else { ContentCoding::Gzip };
        let most = weight(zstd).max(weight(gzip));
        (most > 0.0 && identity.is_none_or(|identity| identity <= most)).then_some(best)
    }
}

/// Encodes one answer, piece by piece.
pub(super) enum BodyEncoder {
    Gzip(Box<Compress>),
    Zstd(Box<ZstdEncoder<'static>>),
}

impl BodyEncoder {
    /// # Errors
    /// [`io::Error`] if there is no memory for it.
    pub(super) fn new(coding: ContentCoding) -> io::Result<Self> {
        Ok(match coding {
            ContentCoding::Gzip => BodyEncoder::Gzip(Box::new(Compress::new_gzip(Compression::new(LEVEL.into()), 15))),
            ContentCoding::Zstd => BodyEncoder::Zstd(Box::new(ZstdEncoder::new(LEVEL.into())?)),
        })
    }

    /// Encodes a piece, of which some may stay within until the next; `is_last`: nothing stays.
    ///
    /// # Errors
    /// [`io::Error`] if the library fails, which it has no reason to.
    pub(super) fn encode(&mut self, piece: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
        let mut encoded = Vec::with_capacity(GROWTH_BYTES);
        match self {
            BodyEncoder::Gzip(encoder) => gzip(encoder, piece, is_last, &mut encoded)?,
            BodyEncoder::Zstd(encoder) => zstd(encoder, piece, is_last, &mut encoded)?,
        }
        Ok(encoded)
    }
}

fn gzip(encoder: &mut Compress, mut piece: &[u8], is_last: bool, encoded: &mut Vec<u8>) -> io::Result<()> {
    let flush = if is_last { FlushCompress::Finish } else { FlushCompress::None };
    loop {
        encoded.reserve(GROWTH_BYTES);
        let before = encoder.total_in();
        let status = encoder.compress_vec(piece, encoded, flush)?;
        piece = &piece[(encoder.total_in() - before) as usize..];
        if status == Status::StreamEnd || (piece.is_empty() && !is_last) {
            return Ok(());
        }
    }
}

fn zstd(encoder: &mut ZstdEncoder<'_>, piece: &[u8], is_last: bool, encoded: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = InBuffer::around(piece);
    loop {
        encoded.reserve(GROWTH_BYTES);
        let at = encoded.len();
        let mut room = OutBuffer::around_pos(encoded, at);
        if piece.pos() < piece.src.len() {
            encoder.run(&mut piece, &mut room)?;
        } else if !is_last || encoder.finish(&mut room, true)? == 0 {
            return Ok(());
        }
    }
}

/// A whole answer, encoded.
///
/// # Errors
/// [`io::Error`] if there is no memory for it.
pub(super) fn encode(coding: ContentCoding, answer: &[u8]) -> io::Result<Vec<u8>> {
    BodyEncoder::new(coding)?.encode(answer, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_coding_a_client_wants_most_is_taken() {
        for (accept, expected) in [
            ("", None),
            ("gzip", Some(ContentCoding::Gzip)),
            ("X-GZip", Some(ContentCoding::Gzip)),
            ("zstd", Some(ContentCoding::Zstd)),
            ("deflate, br", None),
            ("gzip, deflate, br, zstd", Some(ContentCoding::Zstd)),
            ("gzip;q=1.0, zstd;q=0.5", Some(ContentCoding::Gzip)),
            ("gzip;q=0", None),
            ("gzip; q=0.001 ,identity;q=0", Some(ContentCoding::Gzip)),
            ("gzip;q=0.5, identity", None),
            ("identity", None),
            ("*", Some(ContentCoding::Zstd)),
            ("*;q=0", None),
            ("zstd;q=0, *", Some(ContentCoding::Gzip)),
            ("gzip;q=nan", None),
            ("gzip;q=2", None),
            ("gzip;level=9;Q=0.3", Some(ContentCoding::Gzip)),
            (",,;q=1,", None),
        ] {
            assert_eq!(ContentCoding::wanted([accept].into_iter()), expected, "{accept}");
        }
        assert_eq!(ContentCoding::wanted(["deflate", "gzip"].into_iter()), Some(ContentCoding::Gzip), "on two lines");
    }

    #[test]
    fn an_answer_in_pieces_is_encoded_as_a_whole() {
        let text: String = (0..100_000).map(|at| format!("\"word{at}\":{at},")).collect();
        for coding in [ContentCoding::Gzip, ContentCoding::Zstd] {
            let mut encoder = BodyEncoder::new(coding).expect("there is memory");
            let mut encoded = Vec::new();
            for piece in text.as_bytes().chunks(30_000) {
                encoded.extend(encoder.encode(piece, false).expect("sound"));
            }
            encoded.extend(encoder.encode(b"", true).expect("sound"));
            let mut decoded = String::new();
            match coding {
                ContentCoding::Gzip => flate2::read::GzDecoder::new(&*encoded).read_to_string(&mut decoded),
                ContentCoding::Zstd => {
                    zstd::stream::read::Decoder::new(&*encoded).expect("sound").read_to_string(&mut decoded)
                }
            }
            .expect("sound");
            assert!(decoded == text && encoded.len() < text.len() / 2, "{coding:?}: {}", encoded.len());
        }
    }
}
