//! The tokenizer: the fast path gives what ICU gives, words are folded and stay so, and the bound on words leaves out
//! exactly the longer ones.

use memdb::{base::limits::MAX_WORD_BYTES, text::tokenizer::Analyzer};

pub fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for analyzer in [Analyzer::StandardV1, Analyzer::Standard] {
        let words = words_of(analyzer, &text);
        let mut by_icu = Vec::new();
        memdb::text::tokenizer::untrusted::words_by_icu(analyzer, &text, |word| by_icu.push(word.to_owned()));
        if !words.is_empty() {
            super::accepted();
        }
        assert_eq!(words, by_icu, "{text:?}");
        for word in &words {
            assert!(!word.is_empty(), "{text:?}");
            assert_eq!(analyzer.normalize(word), word.as_str(), "a word is folded already");
        }
        let folded = analyzer.normalize(&text);
        assert_eq!(analyzer.normalize(&folded), folded, "folding ends");
    }
    for analyzer in [Analyzer::StandardV1, Analyzer::Standard, Analyzer::Whitespace] {
        for most in [1, 5, MAX_WORD_BYTES] {
            within(analyzer, &text, most);
        }
    }
    let fields: Vec<_> = text.split(char::is_whitespace).filter(|field| !field.is_empty()).collect();
    assert_eq!(words_of(Analyzer::Whitespace, &text), fields);
}

fn words_of(analyzer: Analyzer, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    analyzer.for_each_word(text, |word| words.push(word.to_owned()));
    words
}

fn within(analyzer: Analyzer, text: &str, most: usize) {
    let all = words_of(analyzer, text);
    let mut kept = Vec::new();
    let left_out = analyzer.words_within(text, most, |word| kept.push(word.to_owned()));
    assert!(kept.iter().eq(all.iter().filter(|word| word.len() <= most)), "{text:?} within {most}");
    assert_eq!(left_out, (all.len() - kept.len()) as u64, "{text:?} within {most}");
}
