//! The fast lane: the words of ASCII text by one table and one loop.
//!
//! UAX #29 restricted to ASCII is small enough to write down: letters, digits and `_` join each other; one
//! `:` joins a letter to a letter, one `,` or `;` a digit to a digit, one `.` or `'` either; all else parts. The tests
//! hold it equal to ICU on every string of up to six characters over an alphabet of all the classes.

use super::standard::Words;

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const UNDERSCORE: u8 = 4;
const UPPER: u8 = 8;
const IN_WORD: u8 = LETTER | DIGIT | UNDERSCORE;
/// What joins two neighbours of a class has that class's bit here, so that one AND of three classes decides.
const JOINS: u32 = 4;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        class[byte] = match byte as u8 {
            b'a'..=b'z' => LETTER,
            b'A'..=b'Z' => LETTER | UPPER,
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

/// Gives the words of `text`, which is ASCII.
pub(super) fn words(text: &str, words: &mut Words<impl FnMut(&str)>) {
    debug_assert!(text.is_ascii());
    let bytes = text.as_bytes();
    let class = |at: usize| bytes.get(at).map_or(0, |&byte| CLASS[byte as usize]);
    let mut at = 0;
    while at < bytes.len() {
        if class(at) & IN_WORD == 0 {
            at += 1;
            continue;
        }
        let start = at;
        let mut seen = 0;
        let mut last = 0;
        loop {
            let here = class(at);
            if here & IN_WORD != 0 {
                seen |= here;
                last = here;
            } else if last & (here >> JOINS) & class(at + 1) == 0 {
                break;
            }
            at += 1;
        }
        if seen & (LETTER | DIGIT) != 0 {
            words.give_ascii(&text[start..at], seen & UPPER != 0);
        }
    }
}
