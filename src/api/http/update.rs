//! The body of `POST /update`: one JSON object, word to integer.
//!
//! Members go straight into the tally; a member that cannot be used is refused by name, and then nothing of
//! the body counts.

use super::json::{self, MemberKind, MemberValue};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::hash::WordHasher,
    base::limits::{MAX_WORD_BYTES, MAX_WORDS_TOLD},
    data::counts::word_counts::WordCounts,
    text::tokenizer::Analyzer,
};
use std::{collections::HashSet, fmt};

/// The amounts of an update, and how many words they count or take back.
#[derive(Debug)]
pub(super) struct UpdateAmounts {
    pub(super) tally: WordCounts,
    /// The sum of the amounts, each without its sign; [`MAX_WORDS_TOLD`] if it is more.
    pub(super) words: u64,
}

/// Reads the body.
pub(super) fn parse(json: &str, analyzer: Analyzer, hasher: WordHasher) -> Result<UpdateAmounts, ApiError> {
    let mut amounts = UpdateAmounts { tally: WordCounts::new(hasher), words: 0 };
    let mut seen = HashSet::new();
    let read = json::read_object(
        json,
        |_| MemberKind::Scalar,
        |name, value| {
            amounts.add(&name, &value, analyzer)?;
            match seen.replace(name) {
                Some(twice) => Err(json::member_error(&twice, "is given twice")),
                None => Ok(()),
            }
        },
    );
    match read {
        Ok(()) => Ok(amounts),
        Err(wrong) => Err(ApiError::new(
            ErrorKind::InvalidBody,
            format!(
                "{wrong}; an object of words with integers is wanted, such as {{\"hello\":5}}; nothing was applied"
            ),
        )),
    }
}

impl UpdateAmounts {
    fn add(&mut self, name: &str, value: &MemberValue<'_>, analyzer: Analyzer) -> Result<(), String> {
        let refused = |what: fmt::Arguments<'_>| Err(json::member_error(name, what));
        let MemberValue::Integer(amount) = *value else {
            return refused(format_args!("is {}; a 64-bit integer is wanted", value.kind()));
        };
        let word = analyzer.normalize(name);
        if word.is_empty() || word.len() > MAX_WORD_BYTES {
            return refused(format_args!("a word has 1 to {MAX_WORD_BYTES} bytes"));
        }
        if self.tally.add(&word, amount).is_err() {
            return refused(format_args!("with the members that fold to the same word it leaves the 64-bit range"));
        }
        self.words = self.words.saturating_add(amount.unsigned_abs()).min(MAX_WORDS_TOLD);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Result<Vec<(String, i64)>, String> {
        parse(json, Analyzer::Standard, WordHasher::new(1))
            .map(|amounts| amounts.tally.iter().map(|one| (one.word.to_owned(), one.amount)).collect())
            .map_err(|problem| String::from_utf8(problem.body()).expect("JSON is UTF-8"))
    }

    #[test]
    fn words_are_folded_and_their_amounts_added() {
        let amounts = parsed(r#"{"Hello":5,"hello":-2,"world":0,"caf\u00e9":1}"#).expect("sound");
        let expected = [("hello", 3), ("world", 0), ("café", 1)].map(|(word, amount)| (word.to_owned(), amount));
        assert_eq!(amounts, expected);
        assert_eq!(parsed("{}"), Ok(vec![]));
        let extremes = parsed(r#"{"a":-9223372036854775808,"b":9223372036854775807}"#).expect("in range");
        assert_eq!((extremes[0].1, extremes[1].1), (i64::MIN, i64::MAX));
        let most =
            parse(r#"{"a":-9223372036854775808,"b":9223372036854775807}"#, Analyzer::Standard, WordHasher::new(1));
        assert_eq!(most.expect("in range").words, MAX_WORDS_TOLD);
        let counted = parse(r#"{"a":5,"b":-3}"#, Analyzer::Standard, WordHasher::new(1)).expect("sound");
        assert_eq!(counted.words, 8);
    }

    #[test]
    fn an_amount_that_is_no_integer_is_refused_by_name() {
        let long = format!(r#"{{"{}":1}}"#, "a".repeat(MAX_WORD_BYTES + 1));
        for (json, said) in [
            (r#"{"a":1.0}"#, "fraction"),
            (r#"{"a":1e3}"#, "fraction"),
            (r#"{"a":9223372036854775808}"#, "out of range"),
            (r#"{"a":18446744073709551616}"#, "out of range"),
            (r#"{"a":"1"}"#, "a string"),
            (r#"{"a":true}"#, "a boolean"),
            (r#"{"a":null}"#, "null"),
            (r#"{"a":[1]}"#, "an array"),
            (r#"{"a":{"b":1}}"#, "an object"),
            (r#"{"a":1,"b":2,"a":3}"#, "given twice"),
            (r#"{"a":1,"\u0061":3}"#, "given twice"),
            (r#"{"A":9223372036854775807,"a":1}"#, "64-bit range"),
            (r#"{"":1}"#, "1 to 256 bytes"),
            (&long, "1 to 256 bytes"),
            (r#"{"a":1"#, "EOF"),
            (r#"{"a":1} x"#, "trailing"),
            ("[]", "an object of words"),
            ("", "EOF"),
        ] {
            let refused = parsed(json).expect_err(json);
            assert!(refused.contains(said), "{json}: {refused}");
        }
        assert!(parsed(r#"{"wrong one":null}"#).expect_err("null").contains("wrong one"));
    }

    #[test]
    fn deep_nesting_is_refused_without_descending() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(parsed(&deep).is_err());
    }
}
