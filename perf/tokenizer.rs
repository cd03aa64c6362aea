//! How fast text becomes words, on one core: `cargo run --release --example bench-tokenizer`.
//!
//! The first lines are ordinary text, the others what an attacker would send. All are 1 MiB, but for the second column:
//! 64 KiB must not be much faster, or the work is not linear. The third gives words of up to 256 bytes, as a server
//! does. Megabytes are 10^6 bytes; the best of several runs counts, because the machine may be shared.

#![allow(clippy::disallowed_methods, clippy::print_stdout)] // a bench reads the clock and prints

use memdb::text::tokenizer::Analyzer;
use std::hint::black_box;
use std::time::{Duration, Instant};

const TEXT_BYTES: usize = 1 << 20;
const MEASURE: Duration = Duration::from_millis(300);

const ENGLISH: &str = "It was the best of times, it was the worst of times; it wasn't the age of Wisdom (1859), was it? \
    The permission notice shall be included in all copies or substantial portions of the Software. ";
const MIXED: &str = "The café in Zürich opened in 1859 and served naïve travellers, señor; it was the best of times. ";
const RUSSIAN: &str = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. ";
const CHINESE: &str = "北京是中华人民共和国的首都，也是全国的政治中心和文化中心。";
const JAPANESE: &str = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。";
const THAI: &str = "ภาษาไทยเป็นภาษาที่ใช้ในประเทศไทย น้ำเป็นสิ่งสำคัญ ";
const HINDI: &str = "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। ";

fn main() {
    let started = Instant::now();
    Analyzer::Standard.for_each_word("é", |_| ());
    println!("tables made at the first use in {:?}", started.elapsed());
    let cases: &[(&str, &str)] = &[
        ("ASCII prose", ENGLISH),
        ("mixed Latin", MIXED),
        ("Russian", RUSSIAN),
        ("Chinese", CHINESE),
        ("Japanese", JAPANESE),
        ("Thai", THAI),
        ("Hindi", HINDI),
        ("decomposed Latin", "cafe\u{301} Zu\u{308}rich "),
        ("one ASCII letter", "a"),
        ("a.a.a.a", "a."),
        ("a é a é", "a é "),
        ("one é", "é"),
        ("combining marks", "\u{301}"),
        ("marks out of order", "\u{345}\u{301}\u{323}"),
        ("letter, dot, marks", "é.\u{301}\u{301}"),
        ("one Chinese character", "北"),
        ("one Thai character", "ก"),
        ("Thai tone marks", "ก\u{e49}\u{e49}\u{e49}"),
        ("U+FDFA, 11 times as long folded", "\u{fdfa}"),
        ("emoji joined", "👩\u{200d}"),
        ("flags", "🇩"),
        ("NUL", "\0"),
        ("white space", " \n"),
    ];
    println!("{:<32} {:>12} {:>12} {:>12} {:>12}", "MB/s", "standard", "64 KiB", "≤ 256 B", "whitespace");
    for (name, piece) in cases {
        let text = piece.repeat(TEXT_BYTES / piece.len());
        let small = piece.repeat(TEXT_BYTES / 16 / piece.len());
        let standard = megabytes_a_second(&text, |text, each| Analyzer::Standard.for_each_word(text, each));
        let linear = megabytes_a_second(&small, |text, each| Analyzer::Standard.for_each_word(text, each));
        let within = megabytes_a_second(&text, |text, each| {
            black_box(Analyzer::Standard.words_within(text, 256, each));
        });
        let whitespace = megabytes_a_second(&text, |text, each| Analyzer::Whitespace.for_each_word(text, each));
        println!("{name:<32} {standard:>12.0} {linear:>12.0} {within:>12.0} {whitespace:>12.0}");
    }
}

fn megabytes_a_second(text: &str, run: impl Fn(&str, fn(&str))) -> f64 {
    fn each(word: &str) {
        black_box(word);
    }
    let mut best = Duration::MAX;
    let started = Instant::now();
    while started.elapsed() < MEASURE {
        let before = Instant::now();
        run(black_box(text), each);
        best = best.min(before.elapsed());
    }
    text.len() as f64 / best.as_secs_f64() / 1e6
}
