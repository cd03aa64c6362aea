//! The body of `POST /cache`: one JSON object with a list of entries, each an object.

use super::{super::json, key, ttl};
use crate::{
    api::error::{ApiError, ErrorKind},
    base::limits::{MAX_ENTRIES_BYTES, MAX_ENTRIES_PER_REQUEST},
    base::names::check_media_type,
    data::entries::{CollectionKind, EntryOp, EntryWrite, Expiry, NewValue, WriteCondition},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{collections::HashSet, fmt};

const WANTED: &str =
    r#"an object is wanted, such as {"entries":[{"key":"a","value":"text","ttl":60}]}; nothing was stored"#;

/// Reads the entries, each of at most `max_value_bytes`.
pub(super) fn read(body: &str, max_value_bytes: usize) -> Result<Vec<EntryWrite>, ApiError> {
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let invalid = |wrong: String| ApiError::new(ErrorKind::InvalidBody, format!("{wrong}; {WANTED}"));
    json::check_is_object(body).map_err(invalid)?;
    let mut reader = serde_json::Deserializer::from_str(body);
    let entries = reader.deserialize_map(BodyVisitor).and_then(|entries| reader.end().map(|()| entries));
    let entries = entries.map_err(|error| invalid(error.to_string()))?;
    let (mut keys, mut all_bytes) = (HashSet::with_capacity(entries.len()), 0);
    for NewEntry { key, value, .. } in &entries {
        let at = |detail: String| invalid(format!("entry {}: {detail}", keys.len() + 1));
        key::check(key).map_err(at)?;
        if value.len() > max_value_bytes {
            let detail =
                format!("entry {}: a value has at most {max_value_bytes} bytes; nothing was stored", keys.len() + 1);
            return Err(ApiError::new(ErrorKind::BodyTooLarge, detail));
        }
        all_bytes += value.len();
        if !keys.insert(&**key) {
            return Err(invalid(json::member_error(key, "is the key of two entries")));
        }
    }
    if all_bytes > MAX_ENTRIES_BYTES {
        let detail = format!(
            "all values have {all_bytes} bytes, and {MAX_ENTRIES_BYTES} are taken at once; send several requests"
        );
        return Err(ApiError::new(ErrorKind::BodyTooLarge, detail));
    }
    Ok(entries.into_iter().map(NewEntry::into_write).collect())
}

/// One entry as the body gives it.
struct NewEntry {
    key: String,
    value: Bytes,
    content_type: String,
    expiry: Expiry,
}

impl NewEntry {
    fn into_write(self) -> EntryWrite {
        let Self { key, value, content_type, expiry } = self;
        let op = EntryOp::Put(NewValue::new(value, &content_type), expiry);
        EntryWrite { kind: CollectionKind::Cache, key: key.into(), op, condition: WriteCondition::Always }
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Vec<NewEntry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list entries")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Vec<NewEntry>, M::Error> {
        let mut entries = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "entries" {
                return Err(de::Error::custom(json::member_error(&name, "is not known here; did you mean `entries`?")));
            }
            if entries.replace(map.next_value_seed(EntryList)?).is_some() {
                return Err(de::Error::custom(json::member_error(&name, "is given twice")));
            }
        }
        match entries {
            Some(entries) if !entries.is_empty() => Ok(entries),
            _ => Err(de::Error::custom("it names no entries")),
        }
    }
}

struct EntryList;

impl<'de> DeserializeSeed<'de> for EntryList {
    type Value = Vec<NewEntry>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<NewEntry>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntryList {
    type Value = Vec<NewEntry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<NewEntry>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element::<NewEntry>()? {
            if entries.len() == MAX_ENTRIES_PER_REQUEST {
                return Err(de::Error::custom(format_args!(
                    "at most {MAX_ENTRIES_PER_REQUEST} entries are taken at once"
                )));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl<'de> Deserialize<'de> for NewEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = NewEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with key and value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<NewEntry, M::Error> {
        let (mut key, mut value, mut content_type, mut expiry) = (None, None, None, None);
        while let Some(name) = map.next_key::<String>()? {
            let wrong = |what: &str| de::Error::custom(json::member_error(&name, what));
            let is_twice = match &*name {
                "key" => key.replace(map.next_value::<String>()?).is_some(),
                "value" => value.replace(Bytes::from(map.next_value::<String>()?)).is_some(),
                "base64" => {
                    let decoded = BASE64.decode(map.next_value::<String>()?).map_err(|_| wrong("is not Base64"))?;
                    value.replace(decoded.into()).is_some()
                }
                "content_type" => {
                    let given = map.next_value::<Option<String>>()?.unwrap_or_default();
                    check_media_type(&given).map_err(|what| wrong(&what))?;
                    content_type.replace(given).is_some()
                }
                "ttl" => {
                    let seconds = map.next_value::<Option<f64>>()?.unwrap_or_default();
                    expiry.replace(ttl::of_number(seconds).map_err(wrong)?).is_some()
                }
                _ => return Err(wrong("is not known here: an entry has key, value or base64, ttl and content_type")),
            };
            if is_twice {
                return Err(wrong("is given twice, or value and base64 both are"));
            }
        }
        let missing = |what| de::Error::custom(format_args!("an entry has no {what}"));
        Ok(NewEntry {
            key: key.ok_or_else(|| missing("key"))?,
            value: value.ok_or_else(|| missing("value or base64"))?,
            content_type: content_type.unwrap_or_default(),
            expiry: expiry.unwrap_or(Expiry::Never),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::entries::hash_of;

    #[test]
    fn entries_are_read_with_text_or_bytes() {
        let body = r#"{"entries":[{"key":"a","value":"","ttl":0.5},{"base64":"/wA=","key":"b/c","content_type":"image/x"},
                      {"key":"d","value":"v","ttl":null,"content_type":null}]}"#;
        let read = read(body, 10).expect("sound");
        let shown: Vec<_> = read
            .iter()
            .map(|write| match &write.op {
                EntryOp::Put(value, expiry) => (&*write.key, value.hash(), value.content_type(), *expiry),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            ("a", hash_of(b""), "", Expiry::AfterMs(500)),
            ("b/c", hash_of(b"\xff\0"), "image/x", Expiry::Never),
            ("d", hash_of(b"v"), "", Expiry::Never),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_list_that_cannot_be_stored_whole_is_refused() {
        let many = format!(r#"{{"entries":[{}]}}"#, vec![r#"{"key":"a","value":""}"#; 1_001].join(","));
        let long = format!(r#"{{"entries":[{{"key":"{}","value":""}}]}}"#, "k".repeat(513));
        for (body, status, said) in [
            ("", 400, "EOF"),
            ("[]", 400, "an array, not an object"),
            ("{}", 400, "names no entries"),
            (r#"{"entries":[]}"#, 400, "names no entries"),
            (r#"{"entries":{}}"#, 400, "a list of entries"),
            (r#"{"entries":[["a","b"]]}"#, 400, "an object with key"),
            (r#"{"entries":[{"key":"a","value":"x"},{"key":"a","value":"y"}]}"#, 400, "two entries"),
            (r#"{"entries":[{"key":"","value":"x"}]}"#, 400, "1 to 512"),
            (r#"{"entries":[{"value":"x"}]}"#, 400, "no key"),
            (r#"{"entries":[{"key":"a"}]}"#, 400, "no value"),
            (r#"{"entries":[{"key":"a","value":"x","base64":""}]}"#, 400, "both"),
            (r#"{"entries":[{"key":"a","base64":"?"}]}"#, 400, "not Base64"),
            (r#"{"entries":[{"key":"a","value":5}]}"#, 400, "invalid type"),
            (r#"{"entries":[{"key":"a","value":"x","ttl":-1}]}"#, 400, "a number of seconds"),
            (r#"{"entries":[{"key":"a","value":"x","ttl":1e999}]}"#, 400, "out of range"),
            (r#"{"entries":[{"key":"a","value":"x","ttl":"1"}]}"#, 400, "invalid type"),
            (r#"{"entries":[{"key":"a","value":"x","tll":1}]}"#, 400, "not known"),
            (r#"{"entries":[{"key":"a","value":"x","content_type":"a\nb"}]}"#, 400, "visible"),
            (r#"{"entries":[{"key":"a","value":"x"}]} {}"#, 400, "trailing"),
            (r#"{"entries":[{"key":"a","value":"01234567890"}]}"#, 413, "at most 10 bytes"),
            (&many, 400, "at most 1000"),
            (&long, 400, "1 to 512"),
        ] {
            let refused = read(body, 10).err().unwrap_or_else(|| panic!("{body} is taken"));
            assert_eq!(refused.status().as_u16(), status, "{body}: {refused:?}");
            assert!(format!("{refused:?}").contains(said), "{body}: {refused:?}");
        }
    }
}
