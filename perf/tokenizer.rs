//! Measures text becoming words, on one core: `cargo bench --bench tokenizer`, with part of a name for a part of it.
//!
//! The first texts are ordinary, the others are what an attacker would send. All are 1 MiB, except in
//! `standard_64_kib`: that must not be much faster, or the work is not linear. `standard_within_256_bytes` gives words
//! of up to 256 bytes, as a server does. On a shared machine, look at the column `fastest`.

use divan::{Bencher, black_box, counter::BytesCount};
use memdb::text::tokenizer::Analyzer;
use std::fmt;

const TEXT_BYTES: usize = 1 << 20;

const ENGLISH: &str = "It was the best of times, it was the worst of times; it wasn't the age of Wisdom (1859), was it? \
    The permission notice shall be included in all copies or substantial portions of the Software. ";
const MIXED: &str = "The café in Zürich opened in 1859 and served naïve travellers, señor; it was the best of times. ";
const RUSSIAN: &str = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. ";
const CHINESE: &str = "北京是中华人民共和国的首都，也是全国的政治中心和文化中心。";
const JAPANESE: &str = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。";
const THAI: &str = "ภาษาไทยเป็นภาษาที่ใช้ในประเทศไทย น้ำเป็นสิ่งสำคัญ ";
const HINDI: &str = "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। ";

/// A name, and what the text repeats.
struct Case(&'static str, &'static str);

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

const CASES: &[Case] = &[
    Case("ASCII prose", ENGLISH),
    Case("mixed Latin", MIXED),
    Case("Russian", RUSSIAN),
    Case("Chinese", CHINESE),
    Case("Japanese", JAPANESE),
    Case("Thai", THAI),
    Case("Hindi", HINDI),
    Case("decomposed Latin", "cafe\u{301} Zu\u{308}rich "),
    Case("one ASCII letter", "a"),
    Case("a.a.a.a", "a."),
    Case("a é a é", "a é "),
    Case("one é", "é"),
    Case("combining marks", "\u{301}"),
    Case("marks out of order", "\u{345}\u{301}\u{323}"),
    Case("letter, dot, marks", "é.\u{301}\u{301}"),
    Case("one Chinese character", "北"),
    Case("one Thai character", "ก"),
    Case("Thai tone marks", "ก\u{e49}\u{e49}\u{e49}"),
    Case("U+FDFA, 11 times as long folded", "\u{fdfa}"),
    Case("emoji joined", "👩\u{200d}"),
    Case("flags", "🇩"),
    Case("NUL", "\0"),
    Case("white space", " \n"),
];

fn main() {
    // The tables are made at the first use, which is no part of any case.
    Analyzer::Standard.for_each_word("é", |_| ());
    divan::main();
}

/// Measures one way to take a text of so many bytes apart.
fn measure(bencher: Bencher<'_, '_>, case: &Case, bytes: usize, run: impl Fn(&str, fn(&str)) + Sync) {
    fn each(word: &str) {
        black_box(word);
    }
    let text = case.1.repeat(bytes / case.1.len());
    bencher.counter(BytesCount::new(text.len())).bench(|| run(black_box(&text), each));
}

#[divan::bench(args = CASES)]
fn standard(bencher: Bencher<'_, '_>, case: &Case) {
    measure(bencher, case, TEXT_BYTES, |text, each| Analyzer::Standard.for_each_word(text, each));
}

#[divan::bench(args = CASES)]
fn standard_64_kib(bencher: Bencher<'_, '_>, case: &Case) {
    measure(bencher, case, TEXT_BYTES / 16, |text, each| Analyzer::Standard.for_each_word(text, each));
}

#[divan::bench(args = CASES)]
fn standard_within_256_bytes(bencher: Bencher<'_, '_>, case: &Case) {
    measure(bencher, case, TEXT_BYTES, |text, each| {
        black_box(Analyzer::Standard.words_within(text, 256, each));
    });
}

#[divan::bench(args = CASES)]
fn whitespace(bencher: Bencher<'_, '_>, case: &Case) {
    measure(bencher, case, TEXT_BYTES, |text, each| Analyzer::Whitespace.for_each_word(text, each));
}
