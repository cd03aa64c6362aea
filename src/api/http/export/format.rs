//! The formats of an export, line by line.

use super::super::{entries::ttl, headers};
use crate::{
    api::service::{ExportItem, ExportWalk},
    base::position::PositionToken,
    data::content_digest::{ContentDigest, EntryContent},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::io::Write;

/// The format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExportFormat {
    Ndjson,
    Csv,
    Tsv,
    Json,
}

impl ExportFormat {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "ndjson" => Some(ExportFormat::Ndjson),
            "csv" => Some(ExportFormat::Csv),
            "tsv" => Some(ExportFormat::Tsv),
            "json" => Some(ExportFormat::Json),
            _ => None,
        }
    }

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            ExportFormat::Ndjson => "application/x-ndjson",
            ExportFormat::Csv => "text/csv; charset=utf-8; header=present",
            ExportFormat::Tsv => "text/tab-separated-values; charset=utf-8",
            ExportFormat::Json => "application/json",
        }
    }
}

/// Writes what a walk gives.
pub(super) struct ExportWriter {
    format: ExportFormat,
    /// True if one namespace was named, which the lines of a table do not repeat.
    has_one: bool,
    has_begun: bool,
    /// The namespace of the JSON object that is open.
    open: Option<String>,
    counts: u64,
    counters: u64,
    entries: u64,
    digest: ContentDigest,
}

impl ExportWriter {
    pub(super) fn new(format: ExportFormat, has_one: bool) -> Self {
        let (has_begun, open, digest) = (false, None, ContentDigest::default());
        Self { format, has_one, has_begun, open, counts: 0, counters: 0, entries: 0, digest }
    }

    /// Writes what stands in front of the first item, once.
    pub(super) fn begin(&mut self, walk: &ExportWalk, position: PositionToken, into: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        match self.format {
            ExportFormat::Ndjson => {
                let analyzer = walk.analyzer();
                let line = writeln!(
                    into,
                    r#"{{"memdb":"export","version":1,"analyzer":"{analyzer}","position":"{position}"}}"#
                );
                line.expect("a Vec takes every byte");
            }
            ExportFormat::Csv if self.has_one => into.extend_from_slice(b"word,count\r\n"),
            ExportFormat::Csv => into.extend_from_slice(b"ns,word,count\r\n"),
            ExportFormat::Tsv if self.has_one => into.extend_from_slice(b"word\tcount\n"),
            ExportFormat::Tsv => into.extend_from_slice(b"ns\tword\tcount\n"),
            ExportFormat::Json => into.push(b'{'),
        }
    }

    pub(super) fn write(&mut self, item: &ExportItem<'_>, into: &mut Vec<u8>) {
        match *item {
            // No import can set them, so they are not in the digest that is compared behind one.
            ExportItem::Count { is_counter: true, word, count, .. } if self.format == ExportFormat::Ndjson => {
                self.counters += 1;
                into.extend_from_slice(br#"{"counter":"#);
                headers::write_json_string(into, word);
                writeln!(into, r#","value":{count}}}"#).expect("a Vec takes every byte");
            }
            // An import of a table would make words of them, and take the place that counters need.
            ExportItem::Count { is_counter: true, .. } if !self.has_one => {}
            ExportItem::Count { namespace, word, count, .. } => {
                self.counts += 1;
                self.digest.add_count(namespace, word, count);
                match self.format {
                    ExportFormat::Ndjson => count_line(namespace, word, count, into),
                    ExportFormat::Csv => self.row([namespace, word], count, b",", csv_field, b"\r\n", into),
                    ExportFormat::Tsv => self.row([namespace, word], count, b"\t", tsv_field, b"\n", into),
                    ExportFormat::Json => self.member(namespace, word, count, into),
                }
            }
            ExportItem::Entry { content, expires_in_ms } => {
                self.entries += 1;
                self.digest.add_entry(content);
                entry_line(content, expires_in_ms, into);
            }
        }
    }

    /// Writes what stands behind the last item.
    pub(super) fn end(&mut self, position: PositionToken, into: &mut Vec<u8>) {
        match self.format {
            ExportFormat::Ndjson => {
                let Self { counts, counters, entries, digest, .. } = self;
                let digest = digest.to_hex();
                let line = writeln!(
                    into,
                    r#"{{"end":true,"counts":{counts},"counters":{counters},"entries":{entries},"digest":"{digest}","position":"{position}"}}"#
                );
                line.expect("a Vec takes every byte");
            }
            ExportFormat::Csv | ExportFormat::Tsv => {}
            ExportFormat::Json => {
                into.extend_from_slice(if self.open.is_some() && !self.has_one { b"}}\n" } else { b"}\n" });
            }
        }
    }

    fn row(
        &self,
        [namespace, word]: [&str; 2],
        count: i64,
        between: &[u8],
        field: fn(&str, &mut Vec<u8>),
        end: &[u8],
        into: &mut Vec<u8>,
    ) {
        if !self.has_one {
            into.extend_from_slice(namespace.as_bytes());
            into.extend_from_slice(between);
        }
        field(word, into);
        into.extend_from_slice(between);
        into.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
        into.extend_from_slice(end);
    }

    /// A member of the object of a namespace; of several namespaces, each has an object.
    fn member(&mut self, namespace: &str, word: &str, count: i64, into: &mut Vec<u8>) {
        if self.open.as_deref() == Some(namespace) {
            into.push(b',');
        } else {
            let is_first = self.open.replace(namespace.to_owned()).is_none();
            if !self.has_one {
                into.extend_from_slice(if is_first { b"" } else { b"}," });
                headers::write_json_string(into, namespace);
                into.extend_from_slice(b":{");
            }
        }
        headers::write_json_string(into, word);
        into.push(b':');
        into.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    }
}

fn count_line(namespace: &str, word: &str, count: i64, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"ns":"#);
    headers::write_json_string(into, namespace);
    into.extend_from_slice(br#","word":"#);
    headers::write_json_string(into, word);
    writeln!(into, r#","count":{count}}}"#).expect("a Vec takes every byte");
}

fn entry_line(content: EntryContent<'_>, expires_in_ms: Option<u64>, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"ns":"#);
    headers::write_json_string(into, content.namespace);
    let kind = if content.kind == "posts" { "post" } else { content.kind };
    write!(into, r#","{kind}":"#).expect("a Vec takes every byte");
    headers::write_json_string(into, content.key);
    into.extend_from_slice(br#","content_type":"#);
    match content.content_type {
        "" => into.extend_from_slice(b"null"),
        given => headers::write_json_string(into, given),
    }
    ttl::write_member(expires_in_ms, into);
    if content.is_counted {
        into.extend_from_slice(br#","counted":true"#);
    }
    into.extend_from_slice(br#","base64":""#);
    into.extend_from_slice(BASE64.encode(content.value).as_bytes());
    into.extend_from_slice(b"\"}\n");
}

/// A field by RFC 4180: in quotes if it holds a comma, a quote or a line's end.
fn csv_field(text: &str, into: &mut Vec<u8>) {
    if !text.contains([',', '"', '\r', '\n']) {
        return into.extend_from_slice(text.as_bytes());
    }
    into.push(b'"');
    for part in text.split_inclusive('"') {
        into.extend_from_slice(part.as_bytes());
        if part.ends_with('"') {
            into.push(b'"');
        }
    }
    into.push(b'"');
}

/// A field without tabs and ends of lines: they, and the backslash, are written behind a backslash.
fn tsv_field(text: &str, into: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => into.extend_from_slice(br"\\"),
            b'\t' => into.extend_from_slice(br"\t"),
            b'\n' => into.extend_from_slice(br"\n"),
            b'\r' => into.extend_from_slice(br"\r"),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(write: fn(&str, &mut Vec<u8>), text: &str) -> String {
        let mut into = Vec::new();
        write(text, &mut into);
        String::from_utf8(into).expect("UTF-8")
    }

    #[test]
    fn fields_of_tables_keep_what_would_end_them() {
        for (text, csv, tsv) in [
            ("hello", "hello", "hello"),
            ("a,b", "\"a,b\"", "a,b"),
            ("\"a\"b", "\"\"\"a\"\"b\"", "\"a\"b"),
            ("a\tb\\", "a\tb\\", "a\\tb\\\\"),
            ("a\r\nb", "\"a\r\nb\"", "a\\r\\nb"),
            ("=1+1", "=1+1", "=1+1"),
        ] {
            assert_eq!((field(csv_field, text).as_str(), field(tsv_field, text).as_str()), (csv, tsv), "{text:?}");
        }
    }
}
