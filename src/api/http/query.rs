//! The parameters after the `?`, checked.
//!
//! Parameters no route knows are ignored, as HTTP servers do; known ones must make sense.

use super::{
    form,
    problem::{Kind, Problem},
};
use crate::{leader::AckLevel, limits};
use std::borrow::Cow;

/// What a request asks for after the `?`.
#[derive(Debug)]
pub(super) struct Query<'a> {
    /// `ns=`, or the default namespace.
    pub(super) namespace: Cow<'a, str>,
    /// Every `word=`, as sent, in order, each once.
    pub(super) words: Vec<Cow<'a, str>>,
    /// `ack=`.
    pub(super) ack: Option<AckLevel>,
    /// `n=`.
    pub(super) n: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    /// Reads the text after the `?`.
    pub(super) fn parse(text: &'a str) -> Result<Self, Problem> {
        let (mut namespace, mut ack, mut n) = (None, None, None);
        let mut words = Vec::new();
        for (name, value) in form::pairs(text.as_bytes()) {
            let name = form::decode(name, Kind::InvalidParameter)?;
            let slot = match &*name {
                "word" => {
                    words.push(form::decode(value, Kind::InvalidParameter)?);
                    if words.len() > limits::MAX_WORDS_PER_READ {
                        return Err(too_many_words());
                    }
                    continue;
                }
                "ns" => &mut namespace,
                "ack" => &mut ack,
                "n" => &mut n,
                _ => continue,
            };
            if slot.replace(form::decode(value, Kind::InvalidParameter)?).is_some() {
                return Err(invalid(format!("{name} is given twice")));
            }
        }
        let namespace = namespace.unwrap_or(Cow::Borrowed(limits::DEFAULT_NAMESPACE));
        check_namespace(&namespace)?;
        Ok(Self { namespace, words, ack: ack.as_deref().map(ack_level).transpose()?, n })
    }

    /// The words, of which there must be at least one and no empty one.
    pub(super) fn named_words(&self) -> Result<&[Cow<'a, str>], Problem> {
        if self.words.is_empty() || self.words.iter().any(|word| word.is_empty()) {
            return Err(invalid("name at least one word, and no empty one: ?word=hello"));
        }
        Ok(&self.words)
    }

    /// How many words `/top` gives.
    pub(super) fn top(&self) -> Result<usize, Problem> {
        match self.n.as_deref().map(str::parse::<usize>) {
            None => Ok(10),
            Some(Ok(n)) if (1..=limits::MAX_TOP).contains(&n) => Ok(n),
            Some(_) => Err(invalid(format!("n is a whole number from 1 to {}", limits::MAX_TOP))),
        }
    }
}

/// Whether the name may be one of a namespace.
pub(super) fn check_namespace(name: &str) -> Result<(), Problem> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=limits::MAX_NAMESPACE_BYTES).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(invalid("a namespace is 1 to 64 characters of a-z, 0-9, dot, underscore and dash"))
}

fn ack_level(name: &str) -> Result<AckLevel, Problem> {
    name.parse().map_err(|error| invalid(format!("ack: {error}")))
}

fn too_many_words() -> Problem {
    invalid(format!("at most {} words in one request; send several requests", limits::MAX_WORDS_PER_READ))
}

fn invalid(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Kind::InvalidParameter, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_parameters_are_read_and_unknown_ones_ignored() {
        let query = Query::parse("word=a+b&word=%E5%8C%97&ns=my-ns&ack=disk&n=5&verbose").expect("sound");
        assert_eq!(query.named_words().expect("two words"), ["a b", "北"]);
        assert_eq!((&*query.namespace, query.ack, query.top().expect("in range")), ("my-ns", Some(AckLevel::Disk), 5));
        for levels in ["ack=replica+disk", "ack=replica%2Bdisk"] {
            assert_eq!(Query::parse(levels).expect("sound").ack, Some(AckLevel::ReplicaDisk));
        }
        let query = Query::parse("").expect("sound");
        assert_eq!((&*query.namespace, query.ack, query.top().expect("default")), ("words", None, 10));
        assert!(query.named_words().is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let many = "word=a&".repeat(limits::MAX_WORDS_PER_READ + 1);
        let long = format!("ns={}", "a".repeat(65));
        for bad in [
            "ns=",
            "ns=A",
            "ns=a/b",
            "ns=%00",
            "ns=a&ns=a",
            &long,
            "ack=all",
            "ack=",
            "ack=leader&ack=disk",
            "word=%zz",
            "word=%ff",
            "n=1&n=2",
            &many,
        ] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        for bad in ["n=0", "n=1001", "n=-1", "n=ten", "n=", "n=18446744073709551616"] {
            assert!(Query::parse(bad).expect("not wrong yet").top().is_err(), "{bad}");
        }
        assert!(Query::parse("word=a&word=").expect("not wrong yet").named_words().is_err());
        assert!(Query::parse(&many["word=a&".len()..]).is_ok());
    }
}
