//! Bodies that come compressed, decoded as they come.
//!
//! Decoding is done beside the serving threads, a bounded piece at a time, and the reader asks for the next one, so
//! that a body never unfolds further than it is read. What unfolds out of all proportion is refused: a few kilobytes
//! could keep a node at work for hours.

use super::coding::ContentCoding;
use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits::{MAX_DECODED_BYTES, MAX_DECODED_RATIO, RATIO_FREE_BYTES, ZSTD_WINDOW_LOG},
};
use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use futures::{Stream, StreamExt};
use std::pin::Pin;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// Bytes that are decoded at once.
const PIECE_BYTES: usize = 256 << 10;

/// Memory of a decoder, in bytes, beside a piece that it has decoded.
pub(super) const fn memory_bytes(coding: ContentCoding) -> usize {
    PIECE_BYTES
        + match coding {
            ContentCoding::Gzip => 64 << 10,
            ContentCoding::Zstd => (1 << ZSTD_WINDOW_LOG) + (512 << 10),
        }
}

enum DecoderLibrary {
    Gzip(Box<Decompress>),
    Zstd(Box<ZstdDecoder<'static>>),
}

impl DecoderLibrary {
    fn new(coding: ContentCoding) -> Result<Self, String> {
        Ok(match coding {
            ContentCoding::Gzip => DecoderLibrary::Gzip(Box::new(Decompress::new_gzip(15))),
            ContentCoding::Zstd => {
                let mut decoder = ZstdDecoder::new().map_err(|error| error.to_string())?;
                let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG);
                decoder.set_parameter(window).map_err(|error| error.to_string())?;
                DecoderLibrary::Zstd(Box::new(decoder))
            }
        })
    }
}

/// Decodes one body.
struct BodyDecoder {
    coding: ContentCoding,
    library: DecoderLibrary,
    /// True if a member (of gzip) or a frame (of zstd) has begun and not ended.
    is_within: bool,
    /// Bytes that have come, and bytes that were made of them.
    taken: u64,
    made: u64,
}

/// The result of one decoding step.
struct DecodeStep {
    decoded: Vec<u8>,
    /// Bytes of the input that are used.
    used: usize,
    /// True if there may be more without further input.
    is_full: bool,
}

impl BodyDecoder {
    fn new(coding: ContentCoding) -> Result<Self, ApiError> {
        let library = DecoderLibrary::new(coding).map_err(|why| ApiError::new(ErrorKind::Internal, why))?;
        Ok(Self { coding, library, is_within: false, taken: 0, made: 0 })
    }

    /// Decodes some of the input, up to [`PIECE_BYTES`].
    fn step(&mut self, input: &[u8]) -> Result<DecodeStep, ApiError> {
        let mut decoded = Vec::with_capacity(PIECE_BYTES);
        let mut used = 0;
        // Members and frames may follow each other.
        while decoded.len() < PIECE_BYTES {
            let before = decoded.len();
            let now = self.run(&input[used..], &mut decoded)?;
            used += now;
            if used == input.len() || (now == 0 && decoded.len() == before) {
                break;
            }
        }
        self.taken += used as u64;
        self.made += decoded.len() as u64;
        if self.made > MAX_DECODED_BYTES
            || (self.made > RATIO_FREE_BYTES && self.made > self.taken.saturating_mul(MAX_DECODED_RATIO))
        {
            let detail = format!(
                "{} compressed bytes have become {}: at most {MAX_DECODED_RATIO} times as many are taken, and {MAX_DECODED_BYTES} in \
                 all; send it as it is",
                self.taken, self.made
            );
            return Err(ApiError::new(ErrorKind::BodyTooLarge, detail));
        }
        let is_full = decoded.len() >= PIECE_BYTES;
        Ok(DecodeStep { decoded, used, is_full })
    }

    /// One call of the library; gives how much of the input it has used.
    fn run(&mut self, input: &[u8], decoded: &mut Vec<u8>) -> Result<usize, ApiError> {
        match &mut self.library {
            DecoderLibrary::Gzip(decoder) => {
                if !self.is_within {
                    if input.is_empty() {
                        return Ok(0);
                    }
                    **decoder = Decompress::new_gzip(15);
                    self.is_within = true;
                }
                let before = decoder.total_in();
                let status = decoder.decompress_vec(input, decoded, FlushDecompress::None);
                let used = (decoder.total_in() - before) as usize;
                match status {
                    Ok(Status::StreamEnd) => self.is_within = false,
                    Ok(_) => {}
                    Err(error) => return Err(self.damaged(used, &error.to_string())),
                }
                Ok(used)
            }
            DecoderLibrary::Zstd(decoder) => {
                if !self.is_within && input.is_empty() {
                    return Ok(0);
                }
                let (at, mut given) = (decoded.len(), InBuffer::around(input));
                let ran = decoder.run(&mut given, &mut OutBuffer::around_pos(decoded, at));
                match ran {
                    Ok(hint) => self.is_within = hint != 0,
                    Err(error) => return Err(self.damaged(given.pos(), &error.to_string())),
                }
                Ok(given.pos())
            }
        }
    }

    fn damaged(&self, used: usize, why: &str) -> ApiError {
        let at = self.taken + used as u64;
        let detail = format!(
            "the body is no sound {} near byte {at}: {why} (a zstd window has at most {} MiB)",
            self.coding.name(),
            (1 << ZSTD_WINDOW_LOG) >> 20
        );
        ApiError::new(ErrorKind::InvalidBody, detail)
    }

    fn check_end(&self) -> Result<(), ApiError> {
        if self.is_within {
            let detail = format!("the {} body is cut off: it ends within a member or frame", self.coding.name());
            return Err(ApiError::new(ErrorKind::InvalidBody, detail));
        }
        Ok(())
    }
}

/// A body as it comes, and its decoder.
struct DecodedBody<S> {
    body: Pin<Box<S>>,
    decoder: BodyDecoder,
    input: Bytes,
    is_full: bool,
}

/// The body, decoded.
///
/// # Errors
/// The stream gives a problem if the body cannot be decoded, is cut off, or unfolds to more than may be.
pub(super) fn decoded<S, B>(
    body: S,
    coding: ContentCoding,
) -> Result<impl Stream<Item = Result<Bytes, ApiError>> + use<S, B>, ApiError>
where
    S: Stream<Item = Result<B, ApiError>>,
    B: Buf,
{
    let decoder = BodyDecoder::new(coding)?;
    let decoding = DecodedBody { body: Box::pin(body), decoder, input: Bytes::new(), is_full: false };
    Ok(futures::stream::try_unfold(decoding, next))
}

async fn next<S, B>(mut decoding: DecodedBody<S>) -> Result<Option<(Bytes, DecodedBody<S>)>, ApiError>
where
    S: Stream<Item = Result<B, ApiError>>,
    B: Buf,
{
    loop {
        while decoding.input.is_empty() && !decoding.is_full {
            match decoding.body.next().await {
                Some(piece) => {
                    let mut piece = piece?;
                    decoding.input = piece.copy_to_bytes(piece.remaining());
                }
                None => {
                    decoding.decoder.check_end()?;
                    return Ok(None);
                }
            }
        }
        let DecodedBody { body, mut decoder, mut input, .. } = decoding;
        let step = tokio::task::spawn_blocking(move || {
            let step = decoder.step(&input);
            if let Ok(step) = &step {
                input.advance(step.used);
            }
            (decoder, input, step)
        });
        let failed = |_| ApiError::new(ErrorKind::Internal, "the body could not be decoded");
        let (decoder, input, step) = step.await.map_err(failed)?;
        let DecodeStep { decoded, is_full, .. } = step?;
        decoding = DecodedBody { body, decoder, input, is_full };
        if !decoded.is_empty() {
            return Ok(Some((decoded.into(), decoding)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::coding, *};
    use futures::stream;

    async fn read(pieces: Vec<Vec<u8>>, coding: ContentCoding) -> Result<Vec<u8>, ApiError> {
        let body = stream::iter(pieces.into_iter().map(|piece| Ok::<_, ApiError>(Bytes::from(piece))));
        let mut decoded = Box::pin(decoded(body, coding)?);
        let mut all = Vec::new();
        while let Some(piece) = decoded.next().await {
            let piece = piece?;
            assert!(piece.len() <= PIECE_BYTES);
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    fn cut(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
        bytes.chunks(size).map(<[u8]>::to_vec).collect()
    }

    fn refused(result: Result<Vec<u8>, ApiError>) -> (u16, String) {
        let problem = result.expect_err("refused");
        (problem.status().as_u16(), String::from_utf8(problem.body()).expect("UTF-8"))
    }

    const CODINGS: [ContentCoding; 2] = [ContentCoding::Gzip, ContentCoding::Zstd];

    #[tokio::test]
    async fn however_a_body_is_cut_it_is_decoded_alike() {
        let text: Vec<u8> = (0..60_000).flat_map(|at| format!("line {at} of many\n").into_bytes()).collect();
        for coding in CODINGS {
            let one = coding::encode(coding, &text).expect("encoded");
            let two = [one.clone(), coding::encode(coding, b"").expect("encoded"), one.clone()].concat();
            for size in [1, 7, 1_000, usize::MAX >> 1] {
                assert!(read(cut(&one, size), coding).await.expect("sound") == text, "{coding:?} in {size}");
                assert!(read(cut(&two, size), coding).await.expect("sound") == [&*text, &text].concat(), "twice");
            }
            assert_eq!(read(vec![], coding).await.expect("nothing"), b"");
        }
    }

    #[tokio::test]
    async fn a_compressed_body_cut_off_or_damaged_is_refused() {
        let text: Vec<u8> = (0..9_000).flat_map(|at| format!("line {at} of many\n").into_bytes()).collect();
        for coding in CODINGS {
            let whole = coding::encode(coding, &text).expect("encoded");
            for size in [1, 5, whole.len() / 2, whole.len() - 1] {
                let (status, said) = refused(read(vec![whole[..size].to_vec()], coding).await);
                assert!(status == 400 && said.contains("cut off"), "{coding:?} of {size}: {said}");
            }
            for (at, garbage) in [(whole.len(), b"garbage".as_slice()), (0, b"plain text, not compressed\n")] {
                let (status, said) = refused(read(vec![[&whole[..at], garbage].concat()], coding).await);
                assert!(status == 400 && said.contains(coding.name()), "{coding:?}: {said}");
            }
        }
        // gzip has a checksum.
        let mut damaged = coding::encode(ContentCoding::Gzip, &text).expect("encoded");
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        assert_eq!(refused(read(vec![damaged], ContentCoding::Gzip).await).0, 400);
    }

    #[tokio::test]
    async fn a_body_that_unfolds_out_of_proportion_is_refused() {
        for coding in CODINGS {
            let text = vec![b'a'; 4 * RATIO_FREE_BYTES as usize];
            let bomb = match coding {
                // As far as gzip goes, which the fastest level does not.
                ContentCoding::Gzip => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                    std::io::Write::write_all(&mut encoder, &text).expect("a Vec takes every byte");
                    encoder.finish().expect("a Vec takes every byte")
                }
                ContentCoding::Zstd => coding::encode(coding, &text).expect("encoded"),
            };
            let (status, said) = refused(read(cut(&bomb, 1_000), coding).await);
            assert!(status == 413 && said.contains("times as many"), "{coding:?}: {said}");
            let small = coding::encode(coding, &vec![b'a'; RATIO_FREE_BYTES as usize / 2]).expect("encoded");
            assert_eq!(read(vec![small], coding).await.expect("small enough").len(), RATIO_FREE_BYTES as usize / 2);
        }
    }
}
