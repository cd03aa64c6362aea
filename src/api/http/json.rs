//! JSON from clients: one object, read member by member.
//!
//! A derived `Deserialize` takes an array for a struct, each value by its place, and its messages name Rust types. Here
//! a body is an object or is refused, and what is wrong is said in the terms of JSON.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// Characters of a member's name that a message shows: a name may be as long as the body, and its start is enough.
const NAME_SHOWN: usize = 64;

/// The type that a member is expected to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    /// Not at all: it only has to be JSON.
    Nothing,
    /// As a [`MemberValue`] whose arrays and objects are not kept.
    Scalar,
    /// The same, but the strings of an array are kept, up to one more than this number.
    Strings(usize),
}

/// A member's value, as far as it was wanted.
#[derive(Debug, PartialEq)]
pub(super) enum MemberValue<'a> {
    Null,
    Boolean,
    Integer(i64),
    /// A number that is no 64-bit integer, and why not.
    OtherNumber(&'static str),
    String(Cow<'a, str>),
    Strings(Vec<Cow<'a, str>>),
    Array,
    Object,
}

impl MemberValue<'_> {
    /// Names the expected type in messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            MemberValue::Null => "null",
            MemberValue::Boolean => "a boolean",
            MemberValue::Integer(_) => "a number",
            MemberValue::OtherNumber(what) => what,
            MemberValue::String(_) => "a string",
            MemberValue::Strings(_) | MemberValue::Array => "an array",
            MemberValue::Object => "an object",
        }
    }
}

/// Reads a text that must be one object. `wanted` says for a name how its value is read, `take` is given each value
/// that was wanted, with its name.
///
/// # Errors
/// The first thing that is wrong: the text is no JSON, or no object, or `take` has refused a member.
pub(super) fn read_object<'a>(
    text: &'a str,
    wanted: impl Fn(&str) -> MemberKind,
    take: impl FnMut(Cow<'a, str>, MemberValue<'a>) -> Result<(), String>,
) -> Result<(), String> {
    // A byte-order mark in front is no part of it, as in front of any text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_is_object(text)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_map(MemberVisitor { wanted, take });
    read.and_then(|()| reader.end()).map_err(|error| message(&error, text))
}

/// Refuses a text that is another JSON value than an object; what is no JSON at all is left to the parser.
///
/// # Errors
/// If the text is not a JSON object: names the type that it has instead.
pub(super) fn check_is_object(text: &str) -> Result<(), String> {
    let what = match text.trim_ascii() {
        "true" | "false" => "a boolean",
        "null" => "null",
        text => match text.as_bytes().first() {
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b'-' | b'0'..=b'9') => "a number",
            _ => return Ok(()),
        },
    };
    Err(format!("it is {what}, not an object"))
}

/// Translates a parser's error for a client. The parser's own words fit, except for half a surrogate pair.
fn message(error: &serde_json::Error, text: &str) -> String {
    let said = error.to_string();
    let is_in_escape =
        ["unexpected end of hex escape", "lone leading surrogate"].iter().any(|one| said.starts_with(one));
    match lone_surrogate(text).filter(|_| is_in_escape) {
        Some((at, escape)) => format!(
            "the {escape} at byte {at} is half a surrogate pair: a character beyond U+FFFF is two escapes, such as \
             \\ud83d\\ude00, or the character itself"
        ),
        None => said,
    }
}

/// The first escape of half a surrogate pair, and where it is.
fn lone_surrogate(text: &str) -> Option<(usize, &str)> {
    let unit = |at: usize| {
        let escape = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(escape, 16).ok().filter(|_| !escape.starts_with('+'))
    };
    let mut at = 0;
    while let Some(next) = memchr::memchr(b'\\', &text.as_bytes()[at..]) {
        at += next;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => return Some((at, &text[at..at + 6])),
            (Some(_), _) => 6,
            (None, _) => 2,
        };
        if at >= text.len() {
            break;
        }
    }
    None
}

/// An error about one member.
pub(super) fn member_error(name: &str, what: impl fmt::Display) -> String {
    let shown: String = name.chars().take(NAME_SHOWN).collect();
    format!("member {shown:?}: {what}")
}

struct MemberVisitor<W, T> {
    wanted: W,
    take: T,
}

impl<'de, W, T> Visitor<'de> for MemberVisitor<W, T>
where
    W: Fn(&str) -> MemberKind,
    T: FnMut(Cow<'de, str>, MemberValue<'de>) -> Result<(), String>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some(MemberName(name)) = map.next_key::<MemberName<'de>>()? {
            match (self.wanted)(&name) {
                MemberKind::Nothing => drop(map.next_value::<IgnoredAny>()?),
                wanted => {
                    let value = map.next_value_seed(ValueReader(wanted))?;
                    (self.take)(name, value).map_err(de::Error::custom)?;
                }
            }
        }
        Ok(())
    }
}

/// A string, borrowed from the text where it holds no escape.
struct MemberName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(ValueReader(MemberKind::Scalar))? {
            MemberValue::String(name) => Ok(MemberName(name)),
            other => Err(de::Error::custom(format_args!("a name is {}, and a string is wanted", other.kind()))),
        }
    }
}

/// Reads one value.
struct ValueReader(MemberKind);

impl<'de> DeserializeSeed<'de> for ValueReader {
    type Value = MemberValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<MemberValue<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueReader {
    type Value = MemberValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::Null)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::Boolean)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::Integer(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<MemberValue<'de>, E> {
        Ok(i64::try_from(number).map_or(MemberValue::OtherNumber("out of range"), MemberValue::Integer))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<MemberValue<'de>, E> {
        // The one whole number that the parser gives as a float is -0.
        let is_zero = number == 0.0 && number.is_sign_negative();
        Ok(if is_zero { MemberValue::Integer(0) } else { MemberValue::OtherNumber("a fraction, or out of range") })
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::String(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MemberValue<'de>, E> {
        Ok(MemberValue::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<MemberValue<'de>, A::Error> {
        let mut kept = Vec::new();
        if let ValueReader(MemberKind::Strings(most)) = self {
            while kept.len() <= most {
                match array.next_element_seed(ValueReader(MemberKind::Scalar))? {
                    Some(MemberValue::String(text)) => kept.push(text),
                    Some(other) => {
                        let what = other.kind();
                        return Err(de::Error::custom(format_args!(
                            "element {} of the array is {what}, and a string is wanted",
                            kept.len() + 1
                        )));
                    }
                    None => return Ok(MemberValue::Strings(kept)),
                }
            }
        }
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(if kept.is_empty() { MemberValue::Array } else { MemberValue::Strings(kept) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<MemberValue<'de>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(MemberValue::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, wanted: MemberKind) -> Result<Vec<(String, MemberValue<'_>)>, String> {
        let mut members = Vec::new();
        let wanted = |name: &str| if name.starts_with("skip") { MemberKind::Nothing } else { wanted };
        read_object(text, wanted, |name, value| {
            members.push((name.into_owned(), value));
            Ok(())
        })?;
        Ok(members)
    }

    #[test]
    fn members_are_read_as_far_as_they_are_wanted() {
        let text = r#" {"a":"x","b":-5,"c":-0,"d":1.5,"e":null,"f":[1,[2]],"g":{"h":"\ud800"},"skip":["\udc00",{}],"i":"\ud83d\ude00"} "#;
        let values: Vec<MemberValue<'_>> =
            read(text, MemberKind::Scalar).expect("sound").into_iter().map(|(_, value)| value).collect();
        let expected = [
            MemberValue::String("x".into()),
            MemberValue::Integer(-5),
            MemberValue::Integer(0),
            MemberValue::OtherNumber("a fraction, or out of range"),
            MemberValue::Null,
            MemberValue::Array,
            MemberValue::Object,
            MemberValue::String("\u{1f600}".into()),
        ];
        assert_eq!(values, expected);
        let strings = |text| read(text, MemberKind::Strings(2)).map(|mut members| members.remove(0).1);
        assert_eq!(strings(r#"{"a":["x","y"]}"#), Ok(MemberValue::Strings(vec!["x".into(), "y".into()])));
        assert_eq!(strings(r#"{"a":[]}"#), Ok(MemberValue::Strings(vec![])));
        let four = strings(r#"{"a":["x","y","z",5]}"#).expect("what is beyond the bound is not read");
        assert!(matches!(four, MemberValue::Strings(kept) if kept.len() == 3));
        assert!(strings(r#"{"a":["x",["y"]]}"#).expect_err("nested").contains("element 2 of the array is an array"));
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_in_the_words_of_json() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        for (text, said) in [
            (r#"["text","id"]"#, "it is an array, not an object"),
            ("  [1]", "it is an array"),
            (r#""text""#, "it is a string"),
            ("-1e5", "it is a number"),
            ("true", "it is a boolean"),
            ("null", "it is null"),
            ("", "EOF"),
            ("text", "expected"),
            ("x", "expected value"),
            (r#"{"a":1"#, "EOF"),
            (r#"{"a":1} {}"#, "trailing characters"),
            ("{1:2}", "key must be a string"),
            (r#"{"a":1e999}"#, "number out of range"),
            (r#"{"a":"\ud800"}"#, "the \\ud800 at byte 6 is half a surrogate pair"),
            (r#"{"a":"\\ud800\udc00"}"#, "the \\udc00 at byte 13 is half a surrogate pair"),
            (r#"{"a":"\ud83d\ude00\ud83dx"}"#, "the \\ud83d at byte 18 is half a surrogate pair"),
            (r#"{"\uDFFF":1}"#, "the \\uDFFF at byte 2 is half a surrogate pair"),
            (r#"{"a":"\u12"}"#, "escape"),
            (&deep, "E"),
        ] {
            let refused = read(text, MemberKind::Scalar).expect_err(text);
            assert!(refused.contains(said), "{text}: {refused}");
            assert!(!refused.contains("struct") && !refused.contains("sequence"), "{refused}");
        }
    }
}
