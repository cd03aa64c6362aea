//! What is a word: tables of inputs and outputs, as a client sees them, and the table of `docs/words.md`.
#![allow(clippy::disallowed_methods, reason = "reads the page")]

use memdb::text::tokenizer::{Analyzer, InvalidUtf8, decode_utf8};

fn words(analyzer: Analyzer, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    analyzer.for_each_word(text, |word| found.push(word.to_owned()));
    found
}

/// Holds each text to its words, and each word to the promise that it can be asked for by its own name.
#[track_caller]
fn hold(analyzer: Analyzer, table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(words(analyzer, text), *expected, "the words of {text:?}");
        for word in *expected {
            assert_eq!(analyzer.normalize(word), *word, "the name of a word of {text:?}");
        }
    }
}

#[track_caller]
fn standard(table: &[(&str, &[&str])]) {
    hold(Analyzer::Standard, table);
}

/// What both versions of `standard` say.
#[track_caller]
fn both(table: &[(&str, &[&str])]) {
    hold(Analyzer::StandardV1, table);
    hold(Analyzer::Standard, table);
}

#[test]
fn punctuation_parts_words() {
    both(&[
        ("", &[]),
        (" \t\r\n", &[]),
        ("Hello, HELLO!", &["hello", "hello"]),
        ("hello hello", &["hello", "hello"]),
        ("-- ... !? _ __ ' :;", &[]),
        ("well-known", &["well", "known"]),
        ("and/or (both) [x]{y}<z>", &["and", "or", "both", "x", "y", "z"]),
        ("\"quoted\" «cité» „zitiert“ —dash—", &["quoted", "cité", "zitiert", "dash"]),
        ("a@example.com https://example.com/a?b=c", &["a", "example.com", "https", "example.com", "a", "b", "c"]),
        ("snake_case x__y", &["snake_case", "x__y"]),
        ("U.S.A. e.g. end.", &["u.s.a", "e.g", "end"]),
        ("a..b a.-b .a a.", &["a", "b", "a", "b", "a", "a"]),
        ("a:b a::b 1:2 std::io", &["a:b", "a", "b", "1", "2", "std", "io"]),
        ("C++ C# #tag $x 100%", &["c", "c", "tag", "x", "100"]),
        ("¿Qué?¡Sí!", &["qué", "sí"]),
    ]);
}

#[test]
fn apostrophes_join_letters() {
    both(&[
        ("can't CAN'T", &["can't", "can't"]),
        ("'tis rock'n'roll dogs'", &["tis", "rock'n'roll", "dogs"]),
        ("a''b", &["a", "b"]),
        ("l'été d'accord", &["l'été", "d'accord"]),
    ]);
}

#[test]
fn numbers_are_words() {
    both(&[
        ("1 22 007", &["1", "22", "007"]),
        ("3.14 1,000,000 1;2 1'000", &["3.14", "1,000,000", "1;2", "1'000"]),
        ("1,a a,1 1.a a.1", &["1", "a", "a", "1", "1", "a", "a", "1"]),
        ("-5 +5 5% 12:30", &["5", "5", "5", "12", "30"]),
        ("2nd b2b 0xFF 1_000", &["2nd", "b2b", "0xff", "1_000"]),
        ("٣٤ १२", &["٣٤", "१२"]),
        // A small digit beside a letter is no digit to UAX #29, so it stands alone.
        ("① ½ x² H₂O Ⅳ", &["1", "1⁄2", "x", "2", "h", "2", "o", "iv"]),
    ]);
}

#[test]
fn dictionaries_part_what_has_no_spaces() {
    both(&[
        ("北京", &["北京"]),
        ("北京是中国的首都。", &["北京", "是", "中国", "的", "首都"]),
        ("東京に行きます", &["東京", "に", "行き", "ます"]),
        ("コンピューター", &["コンピューター"]),
        ("こんにちは世界", &["こんにちは", "世界"]),
        ("ภาษาไทย", &["ภาษา", "ไทย"]),
        ("한국어 단어", &["한국어", "단어"]),
    ]);
}

#[test]
fn dictionaries_see_words_as_they_are_written() {
    // NFKC takes ำ (U+0E33) and ຳ (U+0EB3) apart; the dictionaries hold them whole. The words keep the folded form.
    both(&[("น้ำ", &["น้\u{e4d}\u{e32}"]), ("ดื่มน้ำ", &["ดื่ม", "น้\u{e4d}\u{e32}"])]);
    assert_eq!(Analyzer::Standard.normalize("น้ำ"), "น้\u{e4d}\u{e32}");
}

#[test]
fn combining_marks_belong_to_their_letter() {
    both(&[
        ("हिन्दी में शब्द।", &["हिन्दी", "में", "शब्द"]),
        ("नमस्ते दुनिया", &["नमस्ते", "दुनिया"]),
        ("cafe\u{301} x", &["café", "x"]),
        ("\u{301} a", &["a"]),
        ("a \u{301}b", &["a", "b"]),
        ("שָׁלוֹם", &["ש\u{5b8}\u{5c1}לו\u{5b9}ם"]),
    ]);
}

#[test]
fn composed_and_decomposed_count_the_same() {
    both(&[
        ("café cafe\u{301} CAFÉ CAFE\u{301}", &["café"; 4]),
        ("がく か\u{3099}く", &["がく", "がく"]),
        ("한 \u{1112}\u{1161}\u{11ab}", &["한", "한"]),
        ("ự u\u{31b}\u{323} u\u{323}\u{31b}", &["ự"; 3]),
        ("Å \u{212b} A\u{30a}", &["å"; 3]),
    ]);
}

#[test]
fn symbols_and_emoji_are_no_words() {
    both(&[
        ("👍 🎉🎉 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ❤️ ☺", &[]),
        ("🈁 ㊗ ™ ℃ ♥ → ∑ √", &[]),
        ("ok👍ok", &["ok", "ok"]),
        ("Memdb™ 5㎏", &["memdb", "5"]),
        ("\u{fffd} \u{10ffff} \u{e000}", &[]),
    ]);
}

#[test]
fn case_is_folded() {
    both(&[
        ("İstanbul I ı İ", &["i\u{307}stanbul", "i", "ı", "i\u{307}"]),
        ("ΟΔΟΣ οδος ΣΑΣ Σ", &["οδος", "οδος", "σας", "σ"]),
        ("Straße STRASSE ẞ", &["straße", "strasse", "ß"]),
        ("ПРИВЕТ Привет", &["привет", "привет"]),
        ("Ǆ ǅ ǆ", &["dž"; 3]),
        ("ϴ K Ω", &["θ", "k", "ω"]),
        ("𐐀 Ꭰ", &["𐐨", "ꭰ"]),
    ]);
}

#[test]
fn compatible_spellings_are_folded() {
    both(&[
        ("ﬁne eﬃcient ﬅ", &["fine", "efficient", "st"]),
        ("Ｈｅｌｌｏ １２３", &["hello", "123"]),
        ("ｶﾞｷﾞ", &["ガギ"]),
        ("𝐁𝐨𝐥𝐝 ⓐ", &["bold", "a"]),
        ("ĳ ŉ ſ", &["ij", "ʼn", "s"]),
        ("\u{ff9e}", &[]),
    ]);
}

/// Version 1, frozen: what a database that was made with it counts, for as long as it lives.
#[test]
fn version_1_goes_on_as_it_was() {
    let four = "صلى الله عليه وسلم";
    hold(
        Analyzer::StandardV1,
        &[
            ("can’t can't", &["can’t", "can't"]),
            ("_x_ __init__", &["_x_", "__init__"]),
            ("Bonjour\u{202f}! 10:30\u{202f}PM", &["bonjour ", "10", "30 pm"]),
            ("قال ﷺ", &["قال", four]),
            ("co\u{ad}op می\u{200c}خواهم al\u{feff}ice", &["co\u{ad}op", "می\u{200c}خواهم", "al\u{feff}ice"]),
            ("⒈ ⑴ ŀ", &["1.", "(1)", "l·"]),
        ],
    );
    assert_eq!(Analyzer::StandardV1.normalize("ﷺ"), four);
    assert_eq!(Analyzer::StandardV1.normalize("_x’\u{ad}_"), "_x’\u{ad}_");
}

#[test]
fn characters_that_fold_to_a_space_or_a_sign_separate_words() {
    standard(&[
        ("Bonjour\u{202f}! «\u{202f}Bonjour\u{202f}»", &["bonjour", "bonjour"]),
        ("10:30\u{202f}PM 1\u{202f}000\u{202f}000", &["10", "30", "pm", "1", "000", "000"]),
        ("قال ﷺ", &["قال", "صلى", "الله", "عليه", "وسلم"]),
        ("aﷻb", &["aجل", "جلالهb"]),
        ("⒈ ⑴ ㈠ 🄁", &["1", "1", "一", "0"]),
        ("coŀlegi ŀ", &["col·legi", "l"]),
        ("½ 5½", &["1⁄2", "5", "1⁄2"]),
        ("a\u{2003}b a\u{205f}b a¨b", &["a", "b", "a", "b", "a", "b"]),
        // A vowel sign that stands on nothing has what is before it in its segment.
        ("-\u{93f} \u{202f}\u{93f}", &["\u{93f}", "\u{93f}"]),
    ]);
}

#[test]
fn invisible_characters_are_in_no_word() {
    // All of Default_Ignorable_Code_Point that text is known to hold, and what separates all the same.
    for unseen in [
        "\u{ad}",
        "\u{34f}",
        "\u{61c}",
        "\u{180e}",
        "\u{200c}",
        "\u{200d}",
        "\u{200e}",
        "\u{200f}",
        "\u{202a}",
        "\u{202e}",
        "\u{2060}",
        "\u{2064}",
        "\u{2066}",
        "\u{2069}",
        "\u{206f}",
        "\u{fe00}",
        "\u{fe0f}",
        "\u{feff}",
        "\u{fff0}",
        "\u{e0001}",
        "\u{e0041}",
        "\u{e0100}",
        "\u{115f}",
        "\u{3164}",
        "\u{ffa0}",
        "\u{17b4}",
        "\u{180b}",
    ] {
        for text in [format!("al{unseen}ice"), format!("{unseen}alice"), format!("alice{unseen}")] {
            assert_eq!(words(Analyzer::Standard, &text), ["alice"], "{text:?}");
            assert_eq!(Analyzer::Standard.normalize(&text), "alice", "{text:?}");
        }
        assert_eq!(words(Analyzer::Standard, unseen), [""; 0], "{unseen:?}");
        assert_eq!(Analyzer::Standard.normalize(unseen), "", "{unseen:?}");
        // What lies between joiners is still a joiner between a letter and a letter.
        assert_eq!(words(Analyzer::Standard, &format!("don{unseen}'{unseen}t 3{unseen}.14")), ["don't", "3.14"]);
    }
    standard(&[("al\u{200b}ice \u{200b}", &["al", "ice"]), ("نمی\u{200c}خواهم", &["نمیخواهم"])]);
    assert_eq!(Analyzer::Standard.normalize("\u{200b}alice\u{200b}"), "alice");
    assert_eq!(
        Analyzer::Standard.normalize("al\u{200b}ice"),
        "al ice",
        "a name is never segmented, nor are two words one"
    );
}

#[test]
fn apostrophes_of_print_are_straight() {
    standard(&[
        ("don’t don't don‘t don＇t", &["don't"; 4]),
        ("‘quoted’ dogs’ ’tis", &["quoted", "dogs", "tis"]),
        ("l’été", &["l'été"]),
        // A letter of its own, in Hawaiian and others.
        ("Hawaiʼi", &["hawaiʼi"]),
        // UAX #29 keeps an apostrophe behind a Hebrew letter: a geresh, written by hand.
        ("צ’ צ'", &["צ'", "צ'"]),
    ]);
    assert_eq!(Analyzer::Standard.normalize("DON’T"), "don't");
}

#[test]
fn underscores_go_at_the_edges_and_stay_inside() {
    standard(&[
        ("_very_ snake_case __init__ ___ _", &["very", "snake_case", "init"]),
        ("_été_ ＿x＿ é_é _é", &["été", "x", "é_é", "é"]),
        ("_\u{301}a a_\u{301} ‿a‿b⁀", &["a", "a", "a‿b"]),
        ("_北京_ _1_000_", &["北京", "1_000"]),
    ]);
    for (name, folded) in
        [("_Very_", "very"), ("___", ""), ("＿\u{301}", ""), ("_\u{ad}_x_\u{200b}", "x"), ("a_b", "a_b")]
    {
        assert_eq!(Analyzer::Standard.normalize(name), folded, "{name:?}");
    }
}

/// A cell of the page: what stands in back quotes, with `\\u{…}` for what cannot be seen.
fn spans(cell: &str) -> Vec<String> {
    let parts = cell.split('`').skip(1).step_by(2);
    parts
        .map(|span| {
            let mut text = String::new();
            let mut rest = span;
            while let Some((before, (code, after))) =
                rest.split_once("\\u{").and_then(|(before, behind)| Some((before, behind.split_once('}')?)))
            {
                text.push_str(before);
                text.push(u32::from_str_radix(code, 16).ok().and_then(char::from_u32).expect("a code point"));
                rest = after;
            }
            text + rest
        })
        .collect()
}

#[test]
fn the_page_says_what_is_a_word() {
    let page = std::fs::read_to_string("docs/words.md").expect("the page");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 40, "{} rows", rows.len());
    for row in rows {
        let text = spans(row[0]).concat();
        assert_eq!(words(Analyzer::Standard, &text), spans(row[1]), "the row {}", row[0]);
    }
}

#[test]
fn control_and_invisible_characters() {
    both(&[
        ("a\0b \0", &["a", "b"]),
        ("a\u{85}b a\u{2028}b", &["a", "b", "a", "b"]),
        ("a\u{a0}b a\u{3000}b", &["a", "b", "a", "b"]),
        ("a\u{200b}b", &["a", "b"]),
        ("\u{feff}hello", &["hello"]),
        ("\u{1b}[31mred\u{7f}", &["31mred"]),
    ]);
}

#[test]
fn names_are_folded_and_never_segmented() {
    for (name, folded) in [
        ("", ""),
        ("Hello", "hello"),
        ("Hello, World", "hello, world"),
        ("  A ", "  a "),
        ("CAFE\u{301}", "café"),
        ("¨", " \u{308}"),
        ("\u{37a}", " \u{345}"),
        ("™", "tm"),
        ("\u{37e}", ";"),
        ("\u{345}\u{301}", "\u{301}\u{345}"),
    ] {
        for analyzer in [Analyzer::StandardV1, Analyzer::Standard] {
            assert_eq!(analyzer.normalize(name), folded, "{name:?}");
            assert_eq!(analyzer.normalize(folded), folded, "{name:?} twice");
        }
        assert_eq!(Analyzer::Whitespace.normalize(name), name);
    }
}

#[test]
fn whitespace_is_go_strings_fields() {
    hold(
        Analyzer::Whitespace,
        &[
            ("", &[]),
            (" \t\n\u{b}\u{c}\r\u{85}\u{a0}", &[]),
            ("Hello, HELLO! hello", &["Hello,", "HELLO!", "hello"]),
            ("  a  b  ", &["a", "b"]),
            ("a\u{85}b\u{a0}c\u{1680}d\u{2000}e\u{200a}f", &["a", "b", "c", "d", "e", "f"]),
            ("a\u{2028}b\u{2029}c\u{202f}d\u{205f}e\u{3000}f", &["a", "b", "c", "d", "e", "f"]),
            ("a\u{200b}b \u{feff} a\u{180e}b", &["a\u{200b}b", "\u{feff}", "a\u{180e}b"]),
            ("a\u{1c}b\u{1d}c\u{1e}d\u{1f}e a\0b", &["a\u{1c}b\u{1d}c\u{1e}d\u{1f}e", "a\0b"]),
            ("cafe\u{301} café ﬁ", &["cafe\u{301}", "café", "ﬁ"]),
            ("👍 -- 北京是", &["👍", "--", "北京是"]),
        ],
    );
}

#[test]
fn whitespace_splits_at_white_space_and_nowhere_else() {
    // The property White_Space of Unicode 17, written out: Go's `unicode.White_Space`.
    let spaces = |char: char| {
        matches!(char, '\t'..='\r' | ' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}'
            | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
    };
    for char in ('\0'..=char::MAX).filter(|&char| char != 'a') {
        let expected = if spaces(char) { 2 } else { 1 };
        assert_eq!(words(Analyzer::Whitespace, &format!("a{char}a")).len(), expected, "{char:?}");
    }
}

#[test]
fn words_over_the_limit_are_left_out_and_counted() {
    let limit = 256;
    let at_limit = "A".repeat(limit);
    let over = "a".repeat(limit + 1);
    // What counts is the folded form: ﷺ has 3 bytes and folds to 33; 𝐀 has 4 and folds to 1.
    let grows = "ﷺ".repeat(8);
    let grows_too = "ŉ".repeat(limit / 2);
    let underscores = format!("{}é", "_".repeat(1 << 20));
    let shrinks = "𝐀".repeat(limit);
    let shrinks_too_little = "𝐀".repeat(limit + 1);
    let marks = format!("e{}", "\u{323}".repeat(1 << 20));
    for (analyzer, text, expected, expected_left_out) in [
        (Analyzer::Standard, &*at_limit, vec!["a".repeat(limit)], 0),
        (Analyzer::Standard, &*over, vec![], 1),
        (Analyzer::Standard, &*format!("x {over} y {over}"), vec!["x".into(), "y".into()], 2),
        (Analyzer::Standard, &*format!("é{over} y"), vec!["y".into()], 1),
        (Analyzer::StandardV1, &*grows, vec![], 1),
        (Analyzer::Standard, &*grows_too, vec![], 1),
        (Analyzer::Standard, &*underscores, vec!["é".into()], 0),
        (Analyzer::Standard, &*shrinks, vec!["a".repeat(limit)], 0),
        (Analyzer::Standard, &*shrinks_too_little, vec![], 1),
        (Analyzer::Standard, &*marks, vec![], 1),
        (Analyzer::Standard, &*"-".repeat(1_000), vec![], 0),
        (Analyzer::Whitespace, &*format!("{at_limit} {over}"), vec![at_limit.clone()], 1),
        (Analyzer::Whitespace, &*"é".repeat(129), vec![], 1),
    ] {
        let mut found: Vec<String> = Vec::new();
        let left_out = analyzer.words_within(text, limit, |word| found.push(word.to_owned()));
        let shown: String = text.chars().take(20).collect();
        assert_eq!((found, left_out), (expected, expected_left_out), "{analyzer} {shown:?}…");
    }
}

#[test]
fn a_word_may_be_as_long_as_the_text_without_a_limit() {
    let long = "x".repeat(1 << 20);
    assert_eq!(words(Analyzer::Standard, &long), [long]);
}

#[test]
fn bytes_that_are_not_utf8_are_refused_at_their_offset() {
    for (bytes, offset) in [
        (&b"\xff"[..], 0),
        (b"hello \x80", 6),
        (b"caf\xc3", 3),
        (b"caf\xc3x", 3),
        (b"\xc0\xaf", 0),
        (b"a\xed\xa0\x80", 1),
        (b"\xf0\x9f\x91", 0),
        (b"\xf4\x90\x80\x80", 0),
        (b"\xc3\xa9\xc3\xa9\xe9", 4),
    ] {
        assert_eq!(decode_utf8(bytes), Err(InvalidUtf8 { offset }), "{bytes:x?}");
    }
    for text in ["", "hello", "é\0北\u{10ffff}"] {
        assert_eq!(decode_utf8(text.as_bytes()), Ok(text));
    }
    let message = decode_utf8(b"hello \x80").expect_err("0x80 begins no character").to_string();
    assert!(message.contains("offset 6"), "{message}");
}

#[test]
fn an_analyzer_is_known_by_name_and_by_code() {
    // In the headers of files: these numbers never change.
    for (analyzer, name, code, version) in [
        (Analyzer::Standard, "standard", 1, 2),
        (Analyzer::StandardV1, "standard", 1, 1),
        (Analyzer::Whitespace, "whitespace", 2, 1),
    ] {
        assert_eq!((analyzer.to_string().as_str(), analyzer.code(), analyzer.version()), (name, code, version));
        assert_eq!(Analyzer::from_code(code, version), Some(analyzer));
    }
    for (code, version) in [(0, 1), (1, 0), (1, 3), (2, 2), (3, 1)] {
        assert_eq!(Analyzer::from_code(code, version), None, "{code} {version}");
    }
    // By name, the latest.
    for analyzer in [Analyzer::Standard, Analyzer::Whitespace] {
        assert_eq!(analyzer.to_string().parse(), Ok(analyzer));
    }
    assert_eq!(Analyzer::default(), Analyzer::Standard);
    let unknown = "Standard".parse::<Analyzer>().expect_err("names are lower case").to_string();
    assert!(unknown.contains("`Standard`") && unknown.contains("`whitespace`"), "{unknown}");
}
