//! The text of a post, and its words.

use crate::{base::limits::MAX_WORD_BYTES, data::counts::word_counts::WordCounts, text::tokenizer::Analyzer};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The members of a JSON post that are counted, in this order.
const TEXT_MEMBERS: [&str; 3] = ["title", "content", "text"];

/// The reason why a document has no text to count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostTextError {
    /// Documents of this media type are not counted.
    #[error("documents of type {0:?} are not counted, only text/plain and application/json")]
    MediaType(String),
    /// It is not UTF-8 from this offset on.
    #[error("the text is not UTF-8 at byte {0}")]
    Utf8(usize),
    /// It is no JSON object, or one of the members that are counted is no text.
    #[error("{0}")]
    Json(String),
}

/// The text of a document: all of a plain text; of a JSON object its members `title`, `content` and `text`, a line
/// each.
///
/// # Errors
/// [`PostTextError`] if the media type is another, or the document is not what its media type says.
pub fn post_text<'a>(content_type: &str, document: &'a [u8]) -> Result<Cow<'a, str>, PostTextError> {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "text/plain" => utf8(document).map(Cow::Borrowed),
        "application/json" => json_text(utf8(document)?).map(Cow::Owned),
        _ => Err(PostTextError::MediaType(content_type.to_owned())),
    }
}

fn utf8(document: &[u8]) -> Result<&str, PostTextError> {
    str::from_utf8(document).map_err(|error| PostTextError::Utf8(error.valid_up_to()))
}

fn json_text(document: &str) -> Result<String, PostTextError> {
    let members: Map<String, Value> =
        serde_json::from_str(document).map_err(|error| PostTextError::Json(error.to_string()))?;
    let mut text = String::new();
    for name in TEXT_MEMBERS {
        match members.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(part)) => {
                text.push_str(part);
                text.push('\n');
            }
            Some(_) => return Err(PostTextError::Json(format!("the member {name} is not a text"))),
        }
    }
    Ok(text)
}

/// Counts the words of a text, and returns how many there were, repeats included, and how many tokens were too long.
pub fn count_words(analyzer: Analyzer, text: &str, counts: &mut WordCounts) -> (u64, u64) {
    let mut words = 0;
    // A byte-order mark in front is no part of a word, whatever the analyzer.
    let unmarked = text.strip_prefix('\u{feff}').unwrap_or(text);
    let left_out = analyzer.words_within(unmarked, MAX_WORD_BYTES, |word| {
        counts.add(word, 1).expect("a text has fewer words than an i64 counts");
        words += 1;
    });
    (words, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_post_is_counted_by_its_title_content_and_text() {
        fn text(document: &str) -> Result<Cow<'_, str>, PostTextError> {
            post_text("application/json; charset=utf-8", document.as_bytes())
        }
        let post = r#"{"id":"7","author":"Ann Author","title":"Big news","content":"it rains","n":1}"#;
        assert_eq!(text(post).expect("sound"), "Big news\nit rains\n");
        assert_eq!(text(r#"{"text":"only","title":null}"#).expect("sound"), "only\n");
        assert_eq!(text("{}").expect("sound"), "");
        for wrong in [r#"{"title":7}"#, "[]", r#""text""#, "{", "null"] {
            assert!(matches!(text(wrong), Err(PostTextError::Json(_))), "{wrong}");
        }
    }

    #[test]
    fn a_plain_post_is_counted_whole_and_other_types_are_refused() {
        assert_eq!(post_text("text/plain", b"a b").expect("sound"), "a b");
        assert_eq!(post_text("Text/Plain ; charset=utf-8", b"a b").expect("sound"), "a b");
        assert_eq!(post_text("text/plain", b"a\xff"), Err(PostTextError::Utf8(1)));
        assert_eq!(post_text("text/html", b"a"), Err(PostTextError::MediaType("text/html".into())));
        assert!(post_text("", b"a").is_err());
    }
}
