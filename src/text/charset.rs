//! Text in another encoding than UTF-8, on its way to UTF-8, and bytes that are no text at all.
//!
//! Labels and decoders are those of the [Encoding Standard](https://encoding.spec.whatwg.org/) (crate `encoding_rs`),
//! which browsers use. Nothing is replaced on the way: what cannot be decoded becomes [`UNREADABLE`], which is in no
//! UTF-8, so that whoever checks for UTF-8 refuses the text or the line that holds it.

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

/// Stands for a sequence of bytes that cannot be decoded.
pub const UNREADABLE: u8 = 0xff;
/// The most bytes of UTF-8 that a byte becomes: three, of a letter of a single-byte encoding.
pub const MOST_GROWTH: usize = 3;

/// An encoding that is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

/// No encoding has this label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the charset {0:?} is not known: give a label of the Encoding Standard, such as utf-16le or windows-1251")]
pub struct UnknownCharset(String);

impl Charset {
    /// The encoding with this label; `None` for UTF-8, and for ASCII, which is UTF-8 as it stands.
    ///
    /// # Errors
    /// [`UnknownCharset`], also for encodings that the standard has only to refuse them.
    pub fn of_label(label: &str) -> Result<Option<Self>, UnknownCharset> {
        let is_ascii = ["us-ascii", "ascii"].iter().any(|name| label.trim().eq_ignore_ascii_case(name));
        if is_ascii || label.trim().eq_ignore_ascii_case("utf8") {
            return Ok(None);
        }
        let shown = || UnknownCharset(label.chars().take(64).collect());
        let encoding = Encoding::for_label_no_replacement(label.as_bytes()).ok_or_else(shown)?;
        Ok((encoding != UTF_8).then_some(Self(encoding)))
    }

    /// The encoding that a byte-order mark at the start of a text tells, if it is not UTF-8.
    pub fn of_mark(start: &[u8]) -> Option<Self> {
        Encoding::for_bom(start).filter(|(encoding, _)| *encoding != UTF_8).map(|(encoding, _)| Self(encoding))
    }

    /// Its name in the standard.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// A decoder from the start of a text. A byte-order mark there is left out, and has the last word on the encoding.
    pub fn decoder(self) -> Utf8Decoder {
        Utf8Decoder { decoder: self.0.new_decoder(), taken: 0, unreadable: None }
    }

    /// Decodes a whole text.
    ///
    /// # Errors
    /// The offset of the first byte that cannot be decoded.
    pub fn decode(self, bytes: &[u8]) -> Result<String, u64> {
        let (mut decoder, mut text) = (self.decoder(), Vec::new());
        decoder.push(bytes, true, &mut text);
        match decoder.unreadable {
            Some(offset) => Err(offset),
            None => Ok(String::from_utf8(text).expect("a decoder gives UTF-8")),
        }
    }
}

/// Decodes a text that comes in pieces.
pub struct Utf8Decoder {
    decoder: Decoder,
    /// Bytes that have come.
    taken: u64,
    unreadable: Option<u64>,
}

impl Utf8Decoder {
    /// Takes a piece and gives what is whole of it, at the end of `text`: at most [`MOST_GROWTH`] bytes for each, and a
    /// few. The last piece, which may be empty, says so.
    pub fn push(&mut self, mut bytes: &[u8], is_last: bool, text: &mut Vec<u8>) {
        loop {
            let most = self.decoder.max_utf8_buffer_length_without_replacement(bytes.len());
            let start = text.len();
            text.resize(start + most.expect("a piece is far from the address space"), 0);
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(bytes, &mut text[start..], is_last);
            text.truncate(start + written);
            self.taken += read as u64;
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(bad, good_behind) => {
                    let offset = self.taken - u64::from(bad) - u64::from(good_behind);
                    self.unreadable.get_or_insert(offset);
                    text.push(UNREADABLE);
                }
            }
        }
    }
}

/// A text holds a character that no text has, so it is something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("U+0000 at byte {offset}: it looks binary or UTF-16; send text, and name its charset if it is not UTF-8")]
pub struct NulCharacter {
    /// Bytes before it.
    pub offset: usize,
}

/// Refuses what holds U+0000.
///
/// # Errors
/// [`NulCharacter`] with the offset of the first.
pub fn check_no_nul(text: &[u8]) -> Result<(), NulCharacter> {
    memchr::memchr(0, text).map_or(Ok(()), |offset| Err(NulCharacter { offset }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn charset(label: &str) -> Charset {
        Charset::of_label(label).expect("known").expect("not UTF-8")
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn labels_are_those_of_the_standard() {
        for label in ["utf-8", "UTF-8", "utf8", "us-ascii", " utf-8 "] {
            assert_eq!(Charset::of_label(label), Ok(None), "{label}");
        }
        for (label, name) in [
            ("iso-8859-1", "windows-1252"),
            ("Windows-1251", "windows-1251"),
            ("utf-16", "UTF-16LE"),
            ("utf-16be", "UTF-16BE"),
            ("shift_jis", "Shift_JIS"),
            ("gb18030", "gb18030"),
        ] {
            assert_eq!(charset(label).name(), name);
        }
        for label in ["", "utf-32", "ebcdic", "iso-2022-kr", "\u{fc}"] {
            assert!(Charset::of_label(label).is_err(), "{label}");
        }
    }

    #[test]
    fn texts_are_decoded_and_marks_have_the_last_word() {
        for (label, bytes, text) in [
            ("iso-8859-1", b"caf\xe9".to_vec(), "café"),
            ("windows-1251", b"\xcf\xf0\xe8\xe2\xe5\xf2".to_vec(), "Привет"),
            ("utf-16le", utf16("hé🎉", u16::to_le_bytes), "hé🎉"),
            ("utf-16be", utf16("hé🎉", u16::to_be_bytes), "hé🎉"),
            ("utf-16", utf16("\u{feff}hé", u16::to_be_bytes), "hé"),
            ("iso-8859-1", "\u{feff}é".as_bytes().to_vec(), "é"),
        ] {
            assert_eq!(charset(label).decode(&bytes).as_deref(), Ok(text), "{label}");
        }
        assert_eq!(Charset::of_mark(b"\xff\xfeh\0"), Some(charset("utf-16le")));
        assert_eq!(Charset::of_mark(b"\xfe\xff\0h"), Some(charset("utf-16be")));
        assert_eq!((Charset::of_mark("\u{feff}h".as_bytes()), Charset::of_mark(b"h")), (None, None));
    }

    #[test]
    fn a_byte_that_cannot_be_decoded_is_told_by_its_offset() {
        for (label, bytes, offset) in [
            ("utf-16le", &b"h\0\0\xd8e\0"[..], 2),
            ("utf-16le", b"h\0e", 2),
            ("windows-1253", b"ab\xd2", 2),
            ("shift_jis", b"a\x81", 1),
            ("iso-8859-1", b"\xef\xbb\xbfa\xff", 4),
        ] {
            assert_eq!(charset(label).decode(bytes), Err(offset), "{label} {bytes:?}");
        }
    }

    #[test]
    fn a_nul_is_told_by_its_offset() {
        assert_eq!(check_no_nul("é\0".as_bytes()), Err(NulCharacter { offset: 2 }));
        assert_eq!(check_no_nul(b"plain"), Ok(()));
    }

    proptest! {
        #[test]
        fn pieces_come_to_the_same_as_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            label in prop::sample::select(vec!["utf-16le", "utf-16be", "shift_jis", "gb18030", "windows-1253"]),
            step in 1usize..7,
        ) {
            let whole = |pieces: &[&[u8]]| {
                let (mut decoder, mut text) = (charset(label).decoder(), Vec::new());
                pieces.iter().for_each(|piece| decoder.push(piece, false, &mut text));
                decoder.push(&[], true, &mut text);
                (text, decoder.unreadable)
            };
            let one = whole(&[&bytes]);
            prop_assert_eq!(&whole(&bytes.chunks(step).collect::<Vec<_>>()), &one);
            prop_assert!(one.0.len() <= MOST_GROWTH * (bytes.len() + 1));
            prop_assert_eq!(std::str::from_utf8(&one.0).is_ok(), one.1.is_none());
        }
    }
}
