//! The two lanes against each other. Tables of inputs and outputs are in `tests/tokenizer.rs`.

use super::fold::{MOST_SHRINKING, fold};
use super::standard::{Words, segment};
use super::traits::{Traits, is_letter_or_digit};
use super::{Analyzer, ascii};
use proptest::prelude::*;
use std::iter::once;
use std::sync::LazyLock;

/// The words by ICU over the whole text, without any lane or cut.
fn by_icu(text: &str) -> Vec<String> {
    collect(|words| segment(text, words))
}

fn by_lanes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    Analyzer::Standard.for_each_word(text, |word| found.push(word.to_owned()));
    found
}

fn collect(run: impl FnOnce(&mut Words<&mut dyn FnMut(&str)>)) -> Vec<String> {
    let mut found = Vec::new();
    let mut push = |word: &str| found.push(word.to_owned());
    run(&mut Words::new(usize::MAX, &mut push));
    found
}

/// Calls `check` with every string over `alphabet` of up to `longest` characters.
fn every_string(alphabet: &[char], longest: usize, check: &mut impl FnMut(&str)) {
    let mut digits = Vec::new();
    let mut text = String::new();
    loop {
        text.clear();
        text.extend(digits.iter().map(|&digit: &usize| alphabet[digit]));
        check(&text);
        // Count up in base `alphabet.len()`; a carry out of the last digit makes the string longer.
        let Some(at) = digits.iter().position(|&digit| digit + 1 < alphabet.len()) else {
            if digits.len() == longest {
                return;
            }
            digits = vec![0; digits.len() + 1];
            continue;
        };
        digits[at] += 1;
        digits[..at].fill(0);
    }
}

#[test]
fn every_string_is_every_string() {
    let mut seen = std::collections::BTreeSet::new();
    every_string(&['a', 'b', 'c'], 3, &mut |text| assert!(seen.insert(text.to_owned())));
    assert_eq!(seen.len(), 1 + 3 + 9 + 27);
}

#[test]
fn the_ascii_lane_is_icu_on_every_short_string() {
    let alphabet: Vec<char> = "a1_:,;.' -A\n".chars().collect();
    every_string(&alphabet, 6, &mut |text| {
        assert_eq!(collect(|words| ascii::words(text, words)), by_icu(text), "{text:?}");
    });
}

#[test]
fn the_ascii_lane_is_icu_for_every_byte_between_every_two() {
    for middle in 0..=127u8 {
        for (left, right) in
            [("a", "b"), ("1", "2"), ("a", "1"), ("1", "a"), ("_", "a"), ("1", "_"), ("", "a"), ("a", "")]
        {
            for times in 1..=2 {
                let text = format!("{left}{}{right}", char::from(middle).to_string().repeat(times));
                assert_eq!(collect(|words| ascii::words(&text, words)), by_icu(&text), "{text:?}");
            }
        }
    }
}

#[test]
fn the_lanes_together_are_icu_on_every_short_string() {
    let alphabet = ['a', '1', '.', ' ', '\r', '\n', 'é', '\u{301}', '\u{200d}', 'ℹ', 'ि', '北', 'น', '\u{a0}'];
    every_string(&alphabet, 4, &mut |text| assert_eq!(by_lanes(text), by_icu(text), "{text:?}"));
}

/// One of each kind that a rule of UAX #29, a normalisation form or a dictionary treats apart.
static ODD: LazyLock<Vec<char>> = LazyLock::new(|| {
    let ascii = "aZ7_:,;.'\"- \t\n\r\u{b}\0\u{1c}";
    let spaces_and_invisible = "\u{85}\u{a0}\u{ad}\u{2003}\u{200b}\u{200c}\u{200d}\u{2028}\u{2060}\u{feff}\u{3000}";
    let marks =
        "\u{301}\u{307}\u{323}\u{345}\u{5c1}\u{93c}\u{93f}\u{94d}\u{3099}\u{e49}\u{1039}\u{17d2}\u{20e3}\u{fe0f}";
    let letters = "éİıßẞΣςﬁ\u{212a}\u{2126}ϴﷺאשانａ𝐀𐐀";
    let signs = "¨·’״\u{37a}\u{37e}\u{387}．™①㎏٠１\u{e0100}\u{10ffff}";
    let dictionaries = "北京々か\u{30ac}ｶﾞーนกำລຳកမ𠀀한\u{1112}\u{1161}\u{11ab}";
    let emoji = "👩🏽🇩🇪ℹ";
    [ascii, spaces_and_invisible, marks, letters, signs, dictionaries, emoji].concat().chars().collect()
});

fn odd_text() -> impl Strategy<Value = String> {
    let odd = prop::collection::vec(prop::sample::select(ODD.clone()), 0..24).prop_map(String::from_iter);
    let arbitrary = prop::collection::vec(any::<char>(), 0..24).prop_map(String::from_iter);
    let spaced = prop::collection::vec(prop_oneof![any::<char>(), prop::sample::select(ODD.clone()), Just(' ')], 0..32)
        .prop_map(String::from_iter);
    prop_oneof![4 => odd, 1 => arbitrary, 2 => spaced, 1 => "\\PC*"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn the_ascii_lane_is_icu_on_ascii(text in "[ -~\\n\\t]{0,64}") {
        prop_assert_eq!(collect(|words| ascii::words(&text, words)), by_icu(&text));
    }

    #[test]
    fn the_lanes_together_are_icu_over_the_whole(text in odd_text()) {
        prop_assert_eq!(by_lanes(&text), by_icu(&text));
    }

    #[test]
    fn words_are_folded_and_hold_a_letter_or_digit(text in odd_text()) {
        for word in by_lanes(&text) {
            prop_assert!(word.chars().any(char::is_alphanumeric), "{word:?}");
            prop_assert_eq!(&*fold(&word), &*word);
        }
    }

    #[test]
    fn folding_twice_is_folding_once(name in odd_text()) {
        let folded = fold(&name);
        prop_assert_eq!(&*fold(&folded), &*folded);
    }

    #[test]
    fn folding_never_shrinks_a_name_below_the_bound(name in odd_text()) {
        prop_assert!(fold(&name).len() >= name.len() / MOST_SHRINKING);
    }

    #[test]
    fn canonically_equal_texts_have_equal_words(text in odd_text()) {
        use unicode_normalization::UnicodeNormalization;
        let words = by_lanes(&text);
        prop_assert_eq!(&by_lanes(&text.nfd().collect::<String>()), &words);
        prop_assert_eq!(&by_lanes(&text.nfc().collect::<String>()), &words);
    }

    #[test]
    fn the_limit_parts_the_words_into_given_and_left_out(text in odd_text(), max_bytes in 0usize..40) {
        let all = by_lanes(&text);
        let mut given = Vec::new();
        let left_out = Analyzer::Standard.words_within(&text, max_bytes, |word| given.push(word.to_owned()));
        let within: Vec<String> = all.iter().filter(|word| word.len() <= max_bytes).cloned().collect();
        prop_assert_eq!(left_out as usize, all.len() - within.len());
        prop_assert_eq!(given, within);
    }
}

#[test]
fn every_two_odd_characters_agree_around_white_space() {
    for &first in ODD.iter() {
        for &second in ODD.iter() {
            for text in [
                format!("{first}{second}"),
                format!("{first} {second}a"),
                format!("a{first}\n{second}"),
                format!("1 {first}{second} 1"),
                format!("a {first}{second}b c"),
            ] {
                assert_eq!(by_lanes(&text), by_icu(&text), "{text:?}");
            }
        }
    }
}

#[test]
fn every_character_folds_to_a_fixed_point() {
    for char in (0..=0x10_ffff).filter_map(char::from_u32) {
        let name = char.to_string();
        let folded = fold(&name);
        assert_eq!(fold(&folded), folded, "{char:?}");
        assert!(folded.len() * MOST_SHRINKING > name.len(), "{char:?}");
        if is_letter_or_digit(char) {
            assert!(folded.chars().any(char::is_alphanumeric), "{char:?} folds to {folded:?}");
        }
    }
}

/// Why folding ends after a few rounds: what composes out of lower case is lower case.
#[test]
fn composing_lower_case_gives_lower_case() {
    use unicode_normalization::UnicodeNormalization;
    let is_lower = |text: &str| text.to_lowercase() == text;
    for char in (0..=0x10_ffff).filter_map(char::from_u32) {
        let (apart, whole): (String, String) = (once(char).nfd().collect(), once(char).nfc().collect());
        assert!(is_lower(&whole) || !is_lower(&apart), "{char:?}");
        let compatible: String = once(char).nfkc().collect();
        assert_eq!(compatible.to_lowercase().nfkc().collect::<String>().to_lowercase(), fold(&compatible), "{char:?}");
    }
}

/// Why NFKC comes after segmentation: the dictionary knows "water" and "drink water" as they are written.
#[test]
fn compatible_forms_are_not_in_the_dictionaries() {
    use unicode_normalization::UnicodeNormalization;
    let written = "ดื่มน้ำ";
    assert_eq!(by_icu(written).len(), 2);
    assert_ne!(by_icu(&written.nfkc().collect::<String>()), by_icu(written));
}

#[test]
fn traits_promise_nothing_that_does_not_hold() {
    use unicode_normalization::UnicodeNormalization;
    for &first in ODD.iter() {
        for &second in ODD.iter() {
            for text in [format!("{first}{second}"), format!("a{first}{second}"), format!("{first}a{second}")] {
                let traits = Traits::of_all(&text);
                assert!(!traits.has(Traits::COMPOSED) || text.chars().nfc().eq(text.chars()), "{text:?}");
                assert!(!traits.has(Traits::COMPATIBLE) || text.chars().nfkc().eq(text.chars()), "{text:?}");
                assert!(!traits.has(Traits::LOWER) || text.to_lowercase() == text, "{text:?}");
            }
        }
    }
}

/// A change of this digest means that some text is counted differently: raise [`Analyzer::version`], and say in the
/// changelog that databases of the version before must be counted anew.
#[test]
fn the_rules_are_those_of_this_version() {
    let mut seen = Vec::new();
    for char in (0..=0x10_ffff).filter_map(char::from_u32) {
        seen.extend_from_slice(fold(char.encode_utf8(&mut [0; 4])).as_bytes());
        for word in by_icu(&format!("a{char}b 1{char}2 {char}{char}")) {
            seen.extend_from_slice(word.as_bytes());
            seen.push(0xff);
        }
    }
    for first in "一かกກကក".chars() {
        // Nonsense in each script that has a dictionary, enough of it to touch many of the dictionary's words.
        let mut state = 1u32;
        let nonsense = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from_u32(first as u32 + (state >> 16) % if first == '一' { 0x2000 } else { 0x40 })
        };
        for word in by_icu(&(0..50_000).filter_map(nonsense).collect::<String>()) {
            seen.extend_from_slice(word.as_bytes());
            seen.push(0xff);
        }
    }
    assert_eq!((Analyzer::Standard.version(), xxhash_rust::xxh3::xxh3_64(&seen)), (1, 7_542_394_980_361_703_797));
}
