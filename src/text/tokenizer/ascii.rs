//! The fast path: the words of ASCII text, 64 bytes at a time.
//!
//! UAX #29 restricted to ASCII is small enough to write down: letters, digits and `_` join each other; one
//! `:` joins a letter to a letter, one `,` or `;` a digit to a digit, one `.` or `'` either; all else parts. The tests
//! hold it equal to ICU on every string of up to six characters over an alphabet of all the classes.
//!
//! A block of 64 bytes becomes two masks, a bit a byte: what is in a word, and what may join. Where a bit differs from
//! the one before it, a word begins or ends. Only what may join and stands between two bytes of words is looked at by
//! itself.

use super::word_sink::{StandardVersion, WordSink};

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const UNDERSCORE: u8 = 4;
/// Shift of the bits by which a character joins two neighbours of a class, so that one AND of three classes decides.
const JOINS: u32 = 4;
/// Bytes of a block: bits of a mask.
const BLOCK: usize = 64;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        class[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'_' => UNDERSCORE,
            b':' => LETTER << JOINS,
            b',' | b';' => DIGIT << JOINS,
            b'.' | b'\'' => (LETTER | DIGIT) << JOINS,
            _ => 0,
        };
        byte += 1;
    }
    class
}

/// Bytes of text that are put in lower case at once: they stay in the fastest cache.
const PIECE: usize = 16 << 10;

/// Gives the words of `text`, which is ASCII.
pub(super) fn words(text: &str, words: &mut WordSink<impl FnMut(&str)>) {
    debug_assert!(text.is_ascii());
    let mut lower = std::mem::take(&mut words.lower);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_bytes(rest.as_bytes()));
        lower.clear();
        lower.push_str(piece);
        lower.make_ascii_lowercase();
        match words.version {
            StandardVersion::One => slices_v1(&lower, |word| words.push_normalized(word)),
            StandardVersion::Two => slices(&lower, |word| words.push_normalized(word)),
        }
        rest = after;
    }
    words.lower = lower;
}

/// Finds the end of a piece: behind white space, unless there is none for long.
fn piece_bytes(text: &[u8]) -> usize {
    let Some((piece, after)) = text.split_at_checked(PIECE) else { return text.len() };
    let is_space = u8::is_ascii_whitespace;
    match piece.iter().rposition(is_space) {
        Some(space) => space + 1,
        None => PIECE + after.iter().position(is_space).unwrap_or(after.len()),
    }
}

/// Gives the words of `text`, which is ASCII, as they stand, without the underscores at their edges.
#[inline]
pub(super) fn slices<'t>(text: &'t str, mut each: impl FnMut(&'t str)) {
    let bytes = text.as_bytes();
    spans(bytes, standard_masks, |start, end| {
        let mut word = &text[start..end];
        if bytes[start] == b'_' || bytes[end - 1] == b'_' {
            word = word.trim_matches('_');
        }
        if !word.is_empty() {
            each(word);
        }
    });
}

/// The same under version 1, where underscores stay.
#[inline]
pub(super) fn slices_v1<'t>(text: &'t str, mut each: impl FnMut(&'t str)) {
    spans(text.as_bytes(), standard_masks, |start, end| {
        let word = &text[start..end];
        // Joiners join letters and digits, so what begins with `_` and has neither is all of `_`.
        if !word.starts_with('_') || word.bytes().any(|byte| byte != b'_') {
            each(word);
        }
    });
}

/// Gives what lies between white space in `text`, which is ASCII.
#[inline]
pub(super) fn fields<'t>(text: &'t str, mut each: impl FnMut(&'t str)) {
    spans(text.as_bytes(), field_masks, |start, end| each(&text[start..end]));
}

/// Bits of a block: characters in words, and characters that may join two.
#[derive(Clone, Copy, Default)]
struct ByteMasks {
    inside: u64,
    joiners: u64,
}

#[inline]
fn standard_masks(block: &[u8; BLOCK]) -> ByteMasks {
    let inside = |byte: u8| (byte | 0x20).wrapping_sub(b'a') < 26 || byte.wrapping_sub(b'0') < 10 || byte == b'_';
    let joins = |byte: u8| byte.wrapping_sub(b':') < 2 || byte == b'.' || byte == b',' || byte == b'\'';
    ByteMasks { inside: mask(block, inside), joiners: mask(block, joins) }
}

#[inline]
fn field_masks(block: &[u8; BLOCK]) -> ByteMasks {
    ByteMasks { inside: mask(block, |byte| byte != b' ' && byte.wrapping_sub(b'\t') >= 5), joiners: 0 }
}

/// A bit for each byte. Both loops are such that the compiler does many bytes at once.
#[inline]
fn mask(block: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> u64 {
    let flags: [u8; BLOCK] = std::array::from_fn(|at| u8::from(is(block[at])));
    let mut mask = 0;
    for (at, eight) in flags.chunks_exact(8).enumerate() {
        let eight = u64::from_le_bytes(*eight.first_chunk().expect("eight of them"));
        // The lowest bit of each byte is moved to a place of its own in the top byte.
        mask |= (eight.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (at * 8);
    }
    mask
}

/// Calls `each` with the start and end of every run inside.
#[inline]
fn spans(bytes: &[u8], masks: impl Fn(&[u8; BLOCK]) -> ByteMasks, mut each: impl FnMut(usize, usize)) {
    let block_at = |at: usize| match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(block) => masks(block),
        None if at >= bytes.len() => ByteMasks::default(),
        None => {
            let mut block = [b' '; BLOCK];
            block[..bytes.len() - at].copy_from_slice(&bytes[at..]);
            masks(&block)
        }
    };
    let (mut base, mut start) = (0, None);
    // The last bit of the block before, as it was and once joined.
    let (mut plain_before, mut joined_before) = (0, 0);
    let mut next = block_at(0);
    while base < bytes.len() {
        let ByteMasks { inside, joiners } = next;
        next = block_at(base + BLOCK);
        let mut joined = inside;
        let mut between = joiners & (inside << 1 | plain_before) & (inside >> 1 | next.inside << 63);
        while between != 0 {
            let at = base + between.trailing_zeros() as usize;
            let class = |at: usize| CLASS[bytes[at] as usize];
            if class(at - 1) & (class(at) >> JOINS) & class(at + 1) != 0 {
                joined |= between & between.wrapping_neg();
            }
            between &= between - 1;
        }
        let mut borders = joined ^ (joined << 1 | joined_before);
        while borders != 0 {
            let at = base + borders.trailing_zeros() as usize;
            match start.take() {
                Some(start) => each(start, at),
                None => start = Some(at),
            }
            borders &= borders - 1;
        }
        (plain_before, joined_before) = (inside >> 63, joined >> 63);
        base += BLOCK;
    }
    if let Some(start) = start {
        each(start, bytes.len());
    }
}
