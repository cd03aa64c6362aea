//! The two paths against each other. Tables of inputs and outputs are in `tests/engine/tokenizer.rs`.

use super::normalize::{MOST_SHRINKING, normalize as fold_v1};
use super::standard::{segment, words_within};
use super::traits::{CharTraits, has, is_letter_or_digit};
use super::word_sink::{StandardVersion, WordSink};
use super::{Analyzer, ascii, version2};
use proptest::prelude::*;
use std::iter::once;
use std::sync::LazyLock;

/// Both versions of the rules, with what they fold by.
const VERSIONS: [(StandardVersion, Analyzer); 2] =
    [(StandardVersion::One, Analyzer::StandardV1), (StandardVersion::Two, Analyzer::Standard)];

/// The words by ICU over the whole text, without any path or cut.
fn by_icu(version: StandardVersion, text: &str) -> Vec<String> {
    collect(version, |words| segment(text, words))
}

fn by_paths(version: StandardVersion, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    words_within(version, text, usize::MAX, |word| found.push(word.to_owned()));
    found
}

fn by_ascii_path(version: StandardVersion, text: &str) -> Vec<String> {
    collect(version, |words| ascii::words(text, words))
}

/// The words of an ASCII text as `/bulk` finds them.
fn in_bulk(analyzer: Analyzer, text: &str) -> Vec<String> {
    let mut text = text.to_owned();
    assert!(analyzer.normalize_ascii(&mut text));
    let mut found = Vec::new();
    analyzer.ascii_words_within(&text, usize::MAX, |word| found.push(word.to_owned()));
    found
}

fn collect(version: StandardVersion, run: impl FnOnce(&mut WordSink<&mut dyn FnMut(&str)>)) -> Vec<String> {
    let mut found = Vec::new();
    let mut push = |word: &str| found.push(word.to_owned());
    run(&mut WordSink::new(version, usize::MAX, &mut push));
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
fn the_ascii_path_is_icu_on_every_short_string() {
    let alphabet: Vec<char> = "a1_:,;.' -A\n".chars().collect();
    // The version that new databases have, a character longer.
    for ((version, analyzer), longest) in VERSIONS.into_iter().zip([5, 6]) {
        every_string(&alphabet, longest, &mut |text| {
            let expected = by_icu(version, text);
            assert_eq!(by_ascii_path(version, text), expected, "{text:?}");
            assert_eq!(in_bulk(analyzer, text), expected, "{text:?}");
        });
    }
}

#[test]
fn the_ascii_path_is_icu_for_every_byte_between_every_two() {
    for middle in 0..=127u8 {
        for (left, right) in
            [("a", "b"), ("1", "2"), ("a", "1"), ("1", "a"), ("_", "a"), ("1", "_"), ("", "a"), ("a", "")]
        {
            for (times, (version, _)) in (1..=2).flat_map(|times| VERSIONS.map(|version| (times, version))) {
                let text = format!("{left}{}{right}", char::from(middle).to_string().repeat(times));
                assert_eq!(by_ascii_path(version, &text), by_icu(version, &text), "{text:?}");
            }
        }
    }
}

#[test]
fn the_paths_together_are_icu_on_every_short_string() {
    let alphabet = [
        'a', '1', '.', '_', ' ', '\r', '\n', 'é', '\u{301}', '\u{200d}', '\u{202f}', '’', 'ℹ', 'ि', '北', 'น', '\u{a0}',
    ];
    every_string(&alphabet, 4, &mut |text| {
        for (version, _) in VERSIONS {
            assert_eq!(by_paths(version, text), by_icu(version, text), "{version:?} {text:?}");
        }
    });
}

/// One of each kind that a rule of UAX #29, a normalisation form or a dictionary treats apart.
static ODD: LazyLock<Vec<char>> = LazyLock::new(|| {
    let ascii = "aZ7_:,;.'\"- \t\n\r\u{b}\0\u{1c}";
    let spaces_and_invisible =
        "\u{85}\u{a0}\u{ad}\u{2003}\u{200b}\u{200c}\u{200d}\u{200e}\u{2028}\u{202f}\u{2060}\u{feff}\u{3000}";
    let marks = "\u{301}\u{307}\u{323}\u{345}\u{5c1}\u{93c}\u{93f}\u{94d}\u{3099}\u{e49}\u{1039}\u{17d2}\u{20e3}\u{fe0f}\u{34f}\u{180b}\u{115f}\u{ffa0}";
    let letters = "éİıßẞΣςﬁŀ\u{212a}\u{2126}ϴﷺﱞאשانａ𝐀𐐀";
    let signs = "¨˘·’‘＇״＿‿\u{37a}\u{37e}\u{387}．™①⒈⑴½㎏٠１\u{e0100}\u{10ffff}";
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
    fn the_ascii_path_is_icu_on_ascii(text in "[ -~\\n\\t]{0,64}") {
        for (version, analyzer) in VERSIONS {
            let expected = by_icu(version, &text);
            prop_assert_eq!(&by_ascii_path(version, &text), &expected);
            prop_assert_eq!(&in_bulk(analyzer, &text), &expected);
        }
    }

    #[test]
    fn the_paths_together_are_icu_over_the_whole(text in odd_text()) {
        for (version, _) in VERSIONS {
            prop_assert_eq!(by_paths(version, &text), by_icu(version, &text));
        }
    }

    #[test]
    fn words_are_folded_and_hold_a_letter_or_digit(text in odd_text()) {
        for (version, analyzer) in VERSIONS {
            for word in by_paths(version, &text) {
                prop_assert!(word.chars().any(char::is_alphanumeric), "{word:?}");
                prop_assert_eq!(&*analyzer.normalize(&word), &*word);
            }
        }
    }

    #[test]
    fn a_word_of_version_2_has_clean_edges_and_nothing_unseen_inside(text in odd_text()) {
        for word in by_paths(StandardVersion::Two, &text) {
            let mut ends = word.chars();
            prop_assert!(ends.next().is_some_and(is_letter_or_digit), "{word:?}");
            prop_assert!(ends.next_back().is_none_or(|char| !has(char, CharTraits::CONNECTOR)), "{word:?}");
            let parts = |char: char| char.is_whitespace() || !has(char, CharTraits::KEPT);
            prop_assert!(!word.contains(parts), "{word:?}");
        }
    }

    #[test]
    fn a_word_of_version_2_is_one_word_again_unless_a_dictionary_says_otherwise(text in odd_text()) {
        // A mark that stood behind what was trimmed has nothing to stand on: alone, it is a segment of its own.
        let begins_with_a_mark = |word: &str| word.starts_with(unicode_normalization::char::is_combining_mark);
        let words = by_paths(StandardVersion::Two, &text);
        for word in words.iter().filter(|word| !needs_a_dictionary(word) && !begins_with_a_mark(word)) {
            prop_assert_eq!(&by_paths(StandardVersion::Two, word), std::slice::from_ref(word));
        }
    }

    #[test]
    fn invisible_characters_change_no_word_of_version_2(text in odd_text(), at in any::<prop::sample::Index>()) {
        let plain: String = text.chars().filter(|&char| char == '\u{200b}' || has(char, CharTraits::KEPT)
            || super::invisible::prepared(char).next().is_some()).collect();
        prop_assert_eq!(by_paths(StandardVersion::Two, &text), by_paths(StandardVersion::Two, &plain));
        let at = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).nth(at.index(text.chars().count() + 1));
        let (before, after) = text.split_at(at.expect("a boundary"));
        for unseen in ["\u{ad}", "\u{200d}", "\u{2060}", "\u{feff}", "\u{202e}", "\u{fe0e}", "\u{e0041}", "\u{3164}"] {
            prop_assert_eq!(by_paths(StandardVersion::Two, &[before, unseen, after].concat()), by_paths(StandardVersion::Two, &text));
        }
    }

    #[test]
    fn curly_apostrophes_are_straight_in_version_2(text in odd_text()) {
        let straight = text.replace(['‘', '’', '＇'], "'");
        prop_assert_eq!(by_paths(StandardVersion::Two, &text), by_paths(StandardVersion::Two, &straight));
        prop_assert_eq!(version2::normalize(&text), version2::normalize(&straight));
    }

    #[test]
    fn folding_twice_is_folding_once(name in odd_text()) {
        for (_, analyzer) in VERSIONS {
            let folded = analyzer.normalize(&name);
            prop_assert_eq!(&*analyzer.normalize(&folded), &*folded);
        }
    }

    #[test]
    fn folding_never_shrinks_a_name_below_the_bound(name in odd_text()) {
        prop_assert!(fold_v1(&name).len() >= name.len() / MOST_SHRINKING);
        let prepared = version2::prepare(version2::trim(&name)).into_owned();
        let prepared = version2::trim(&prepared);
        prop_assert!(version2::normalize(prepared).len() >= prepared.len() / MOST_SHRINKING);
    }

    #[test]
    fn canonically_equal_texts_have_equal_words(text in odd_text()) {
        use unicode_normalization::UnicodeNormalization;
        for (version, _) in VERSIONS {
            let words = by_paths(version, &text);
            prop_assert_eq!(&by_paths(version, &text.nfd().collect::<String>()), &words);
            prop_assert_eq!(&by_paths(version, &text.nfc().collect::<String>()), &words);
        }
    }

    #[test]
    fn the_limit_parts_the_words_into_given_and_left_out(text in odd_text(), max_bytes in 0usize..40) {
        for (version, analyzer) in VERSIONS {
            let all = by_paths(version, &text);
            let mut given = Vec::new();
            let left_out = analyzer.words_within(&text, max_bytes, |word| given.push(word.to_owned()));
            let within: Vec<String> = all.iter().filter(|word| word.len() <= max_bytes).cloned().collect();
            prop_assert_eq!(left_out as usize, all.len() - within.len());
            prop_assert_eq!(given, within);
        }
    }
}

/// Whether ICU looks parts of the word up: Chinese and Japanese, and the scripts of South-East Asia.
fn needs_a_dictionary(word: &str) -> bool {
    word.contains(|char| {
        matches!(char, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{1950}'..='\u{19df}' | '\u{1a20}'..='\u{1aaf}' | '\u{2e80}'..='\u{9fff}' | '\u{a9e0}'..='\u{a9ff}'
        | '\u{aa60}'..='\u{aadf}' | '\u{f900}'..='\u{faff}' | '\u{11700}'..='\u{1174f}' | '\u{16fe0}'..='\u{3ffff}')
    })
}

#[test]
fn every_two_odd_characters_agree_around_white_space() {
    for (&first, &second) in ODD.iter().flat_map(|first| ODD.iter().map(move |second| (first, second))) {
        for text in [
            format!("{first}{second}"),
            format!("{first} {second}a"),
            format!("a{first}\n{second}"),
            format!("1 {first}{second} 1"),
            format!("a {first}{second}b c"),
        ] {
            for (version, _) in VERSIONS {
                assert_eq!(by_paths(version, &text), by_icu(version, &text), "{version:?} {text:?}");
            }
        }
    }
}

#[test]
fn every_character_folds_to_a_fixed_point() {
    for char in (0..=0x10_ffff).filter_map(char::from_u32) {
        let name = char.to_string();
        for (version, analyzer) in VERSIONS {
            let folded = analyzer.normalize(&name);
            assert_eq!(analyzer.normalize(&folded), folded, "{char:?}");
            // Version 2 takes away what nobody sees before it asks how long a word is.
            if version == StandardVersion::One || !folded.is_empty() {
                assert!(folded.len() * MOST_SHRINKING > name.len(), "{char:?}");
                let is_word = is_letter_or_digit(char);
                assert!(!is_word || folded.chars().any(char::is_alphanumeric), "{char:?} folds to {folded:?}");
            }
        }
    }
}

#[test]
fn every_character_makes_words_that_are_words_again_in_version_2() {
    // Beyond are the characters of dictionaries, and nothing; but for what nobody sees.
    for char in (0..0x2_0000).chain(0xe_0000..0xe_1000).filter_map(char::from_u32) {
        for text in [format!("{char}"), format!("a{char}b"), format!("1{char}2"), format!("א{char}_")] {
            for word in by_icu(StandardVersion::Two, &text) {
                assert_eq!(Analyzer::Standard.normalize(&word), word, "{char:?} in {text:?}");
                if !needs_a_dictionary(&word) {
                    assert_eq!(by_icu(StandardVersion::Two, &word), [&*word], "{char:?} in {text:?}");
                }
            }
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
        assert_eq!(
            compatible.to_lowercase().nfkc().collect::<String>().to_lowercase(),
            fold_v1(&compatible),
            "{char:?}"
        );
    }
}

/// Why NFKC comes after segmentation: the dictionary knows "water" and "drink water" as they are written.
#[test]
fn compatible_forms_are_not_in_the_dictionaries() {
    use unicode_normalization::UnicodeNormalization;
    let written = "ดื่มน้ำ";
    for (version, _) in VERSIONS {
        assert_eq!(by_icu(version, written).len(), 2);
        assert_ne!(by_icu(version, &written.nfkc().collect::<String>()), by_icu(version, written));
    }
}

#[test]
fn traits_promise_nothing_that_does_not_hold() {
    use unicode_normalization::UnicodeNormalization;
    for &first in ODD.iter() {
        for &second in ODD.iter() {
            for text in [format!("{first}{second}"), format!("a{first}{second}"), format!("{first}a{second}")] {
                let traits = CharTraits::of_all(&text);
                assert!(!traits.has(CharTraits::COMPOSED) || text.chars().nfc().eq(text.chars()), "{text:?}");
                assert!(!traits.has(CharTraits::COMPATIBLE) || text.chars().nfkc().eq(text.chars()), "{text:?}");
                assert!(!traits.has(CharTraits::LOWER) || text.to_lowercase() == text, "{text:?}");
            }
        }
    }
}

/// A change of a digest means that some text is counted differently. Version 1 is frozen; for the latest, raise
/// [`Analyzer::version`], keep the rules as they were for the databases that have them, and say so in the changelog.
#[test]
fn the_rules_are_those_of_their_versions() {
    let digests = VERSIONS.map(|(version, analyzer)| (analyzer.version(), digest(version, analyzer)));
    assert_eq!(digests, [(1, 7_542_394_980_361_703_797), (2, 5_209_241_388_118_671_836)]);
}

/// A digest of the words and names of every character and of much nonsense.
fn digest(version: StandardVersion, analyzer: Analyzer) -> u64 {
    let mut seen = Vec::new();
    for char in (0..=0x10_ffff).filter_map(char::from_u32) {
        seen.extend_from_slice(analyzer.normalize(char.encode_utf8(&mut [0; 4])).as_bytes());
        for word in by_icu(version, &format!("a{char}b 1{char}2 {char}{char}")) {
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
        for word in by_icu(version, &(0..50_000).filter_map(nonsense).collect::<String>()) {
            seen.extend_from_slice(word.as_bytes());
            seen.push(0xff);
        }
    }
    xxhash_rust::xxh3::xxh3_64(&seen)
}
