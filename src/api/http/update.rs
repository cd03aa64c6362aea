//! The body of `POST /update`: one JSON object, word to integer.
//!
//! Members go straight into the tally; a member that cannot be used is refused by name, and then nothing of
//! the body counts.

use super::problem::{Kind, Problem};
use crate::{hash::WordHasher, limits::MAX_WORD_BYTES, tally::Tally, tokenizer::Analyzer};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use std::{borrow::Cow, collections::HashSet, fmt};

/// The amounts of an update, and how many words they count or take back.
#[derive(Debug)]
pub(super) struct Amounts {
    pub(super) tally: Tally,
    /// The sum of the amounts, each without its sign.
    pub(super) words: u64,
}

/// Reads the body.
pub(super) fn parse(json: &str, analyzer: Analyzer, hasher: WordHasher) -> Result<Amounts, Problem> {
    let mut amounts = Amounts { tally: Tally::new(hasher), words: 0 };
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = Members { amounts: &mut amounts, analyzer }.deserialize(&mut reader).and_then(|()| reader.end());
    match read {
        Ok(()) => Ok(amounts),
        Err(error) => Err(Problem::new(Kind::InvalidBody, format!("{error}; nothing was applied"))),
    }
}

struct Members<'a> {
    amounts: &'a mut Amounts,
    analyzer: Analyzer,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of words with integers, such as {\"hello\":5}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut seen = HashSet::new();
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            let amount = map.next_value_seed(Amount { name: &name })?;
            let word = self.analyzer.fold(&name);
            if word.is_empty() || word.len() > MAX_WORD_BYTES {
                return Err(member(&name, format_args!("a word has 1 to {MAX_WORD_BYTES} bytes")));
            }
            if self.amounts.tally.add(&word, amount).is_err() {
                return Err(member(&name, "with the members that fold to the same word it leaves the 64-bit range"));
            }
            self.amounts.words = self.amounts.words.saturating_add(amount.unsigned_abs());
            drop(word);
            if let Some(twice) = seen.replace(name) {
                return Err(member(&twice, "is given twice"));
            }
        }
        Ok(())
    }
}

/// A member's name, borrowed from the body where it holds no escape.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Amount<'a> {
    name: &'a str,
}

impl Amount<'_> {
    fn refused<E: de::Error>(&self, what: &str) -> E {
        member(self.name, format_args!("is {what}; a 64-bit integer is wanted"))
    }
}

impl<'de> DeserializeSeed<'de> for Amount<'_> {
    type Value = i64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<i64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Amount<'_> {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a 64-bit integer for {:?}", self.name)
    }

    fn visit_i64<E: de::Error>(self, amount: i64) -> Result<i64, E> {
        Ok(amount)
    }

    fn visit_u64<E: de::Error>(self, amount: u64) -> Result<i64, E> {
        i64::try_from(amount).map_err(|_| self.refused("out of range"))
    }

    fn visit_f64<E: de::Error>(self, amount: f64) -> Result<i64, E> {
        // The one whole number that the parser gives as a float is -0.
        if amount == 0.0 && amount.is_sign_negative() {
            Ok(0)
        } else {
            Err(self.refused("a fraction, or out of range"))
        }
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<i64, E> {
        Err(self.refused("a string"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<i64, E> {
        Err(self.refused("a boolean"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<i64, E> {
        Err(self.refused("null"))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<i64, A::Error> {
        Err(self.refused("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<i64, A::Error> {
        Err(self.refused("an object"))
    }
}

fn member<E: de::Error>(name: &str, what: impl fmt::Display) -> E {
    // A name may be as long as the body; the start of it is enough to find it.
    let shown: String = name.chars().take(64).collect();
    E::custom(format_args!("member {shown:?}: {what}"))
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
        let counted = parse(r#"{"a":5,"b":-3}"#, Analyzer::Standard, WordHasher::new(1)).expect("sound");
        assert_eq!(counted.words, 8);
    }

    #[test]
    fn what_is_no_integer_is_refused_by_name() {
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
