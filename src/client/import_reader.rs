//! What `memdb import` reads: counts and entries, item by item, in one of four formats, never whole in memory.

mod object;

use crate::{
    base::limits::{DEFAULT_NAMESPACE, LARGEST_MAX_VALUE_BYTES, MAX_GIVEN_COUNT, MAX_WORD_BYTES},
    base::names::{check_can_be_named, check_key, check_media_type, check_namespace},
    data::content_digest::{ContentDigest, EntryContent},
    data::counters::COUNTERS,
    data::entries::{CollectionKind, Expiry},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use object::CountsSeed;
use serde::{Deserialize, de::DeserializeSeed};
use std::{
    cell::Cell,
    io::{self, BufRead, Read},
    rc::Rc,
};

/// The format of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFormat {
    /// Lines as `GET /export` gives them.
    Ndjson,
    /// Word and amount, or namespace, word and amount; with a line of names or without.
    Csv,
    /// The same with tabs.
    Tsv,
    /// An object of words with counts, or one such object for each namespace.
    Json,
}

impl ImportFormat {
    /// The format that a file's name says, without the ending of its compression.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
        match name.rsplit_once('.')?.1 {
            "ndjson" | "jsonl" => Some(ImportFormat::Ndjson),
            "csv" => Some(ImportFormat::Csv),
            "tsv" => Some(ImportFormat::Tsv),
            "json" | "db" => Some(ImportFormat::Json),
            _ => None,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            ImportFormat::Ndjson => "ndjson",
            ImportFormat::Csv => "csv",
            ImportFormat::Tsv => "tsv",
            ImportFormat::Json => "json",
        }
    }
}

/// Something that is to be imported.
#[derive(Debug, PartialEq, Eq)]
pub enum ImportItem {
    /// An amount that is added to a count.
    Count {
        /// The namespace.
        namespace: String,
        /// The word.
        word: String,
        /// The amount.
        amount: i64,
    },
    /// A value of a cache, or a post.
    Entry(ImportedEntry),
}

/// An entry as an export states it.
#[derive(Debug, PartialEq, Eq)]
pub struct ImportedEntry {
    /// [`CollectionKind::Cache`] or [`CollectionKind::Posts`].
    pub kind: CollectionKind,
    /// The namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// The media type; empty if it has none.
    pub content_type: String,
    /// The time that it had left, in seconds.
    pub ttl: Option<String>,
    /// True if its words are in the counts.
    pub is_counted: bool,
    /// The value.
    pub value: Vec<u8>,
}

impl ImportedEntry {
    /// The entry as `POST /cache` takes it.
    pub fn json(&self) -> String {
        let value = BASE64.encode(&self.value);
        let [key, content_type] = [&self.key, &self.content_type].map(|text| serde_json::json!(text));
        let ttl = self.ttl.as_deref().unwrap_or("0");
        format!(r#"{{"key":{key},"content_type":{content_type},"ttl":{ttl},"base64":"{value}"}}"#)
    }
}

/// An item with its place in the input.
#[derive(Debug)]
pub struct ReadItem {
    /// The line that it begins in; of JSON, which has one line, always 1.
    pub line: u64,
    /// Bytes of the input since the item before.
    pub bytes: u64,
    /// The item.
    pub item: ImportItem,
}

/// The reason why an input cannot be imported.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ImportFault {
    /// The line.
    pub line: u64,
    /// The reason, for a person.
    pub reason: String,
}

/// What an input held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportSums {
    /// Counts.
    pub counts: u64,
    /// Entries.
    pub entries: u64,
    /// Counters, which cannot be imported.
    pub counters: u64,
    /// The digest of counts and entries.
    pub digest: ContentDigest,
    /// Bytes of the input, decompressed.
    pub bytes: u64,
    /// Lines of the input; of JSON, which has one, 1.
    pub lines: u64,
}

/// Reads an input to its end, and gives each item to `take`.
///
/// # Errors
/// The first thing that is wrong with the input, or that `take` says.
pub fn read_items(
    format: ImportFormat,
    input: impl BufRead,
    namespace: Option<&str>,
    take: &mut dyn FnMut(ReadItem) -> Result<(), ImportFault>,
) -> Result<ImportSums, ImportFault> {
    let passed = Rc::new(Cell::new(0));
    let input = CountedInput { input, passed: Rc::clone(&passed) };
    let default = namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned();
    let mut reader =
        ItemReader { format, default, sound: String::new(), passed, seen: 0, sums: ImportSums::default(), take };
    match format {
        ImportFormat::Ndjson => reader.lines(input)?,
        ImportFormat::Csv => {
            reader.table(csv::ReaderBuilder::new().delimiter(b','), input, |field| Ok(field.to_owned()))?;
        }
        ImportFormat::Tsv => {
            reader.table(csv::ReaderBuilder::new().delimiter(b'\t').quoting(false), input, unescaped)?;
        }
        ImportFormat::Json => reader.object(input)?,
    }
    reader.sums.bytes = reader.passed.get();
    Ok(reader.sums)
}

/// Names of the column of amounts, by which a first line of names is known. Any other is a mistake in the first line.
const COLUMN_NAMES: [&str; 5] = ["count", "amount", "value", "total", "n"];

/// An input that counts its bytes.
struct CountedInput<R> {
    input: R,
    passed: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for CountedInput<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.passed.set(self.passed.get() + read as u64);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for CountedInput<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.passed.set(self.passed.get() + bytes as u64);
        self.input.consume(bytes);
    }
}

struct ItemReader<'a> {
    format: ImportFormat,
    default: String,
    /// The namespace that was looked at last: most items have the one of the item before.
    sound: String,
    passed: Rc<Cell<u64>>,
    /// Bytes that the items so far have told of.
    seen: u64,
    sums: ImportSums,
    take: &'a mut dyn FnMut(ReadItem) -> Result<(), ImportFault>,
}

/// A line of NDJSON; which members it has says what it is.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ExportLine {
    ns: Option<String>,
    word: Option<String>,
    count: Option<i64>,
    cache: Option<String>,
    post: Option<String>,
    content_type: Option<String>,
    expires_in: Option<f64>,
    counted: bool,
    base64: Option<String>,
    counter: Option<String>,
    value: Option<i64>,
    memdb: Option<String>,
    version: Option<u64>,
    #[serde(rename = "analyzer")]
    _analyzer: Option<String>,
    #[serde(rename = "position")]
    _position: Option<String>,
    end: bool,
    counts: u64,
    #[serde(rename = "counters")]
    _counters: u64,
    entries: u64,
    digest: Option<String>,
}

impl ItemReader<'_> {
    /// Refuses what the node would refuse, in the middle of an import.
    fn check(&mut self, item: &ImportItem) -> Result<(), String> {
        let (ImportItem::Count { namespace, .. } | ImportItem::Entry(ImportedEntry { namespace, .. })) = item;
        if *namespace != self.sound {
            check_namespace(namespace)?;
            check_can_be_named(namespace)?;
            self.sound.clone_from(namespace);
        }
        match item {
            ImportItem::Count { namespace, word, amount } => {
                if namespace == COUNTERS && self.format != ImportFormat::Ndjson {
                    return Err(format!("`{COUNTERS}` is for counters, which no import sets: leave its lines out"));
                }
                if word.is_empty() || word.len() > MAX_WORD_BYTES {
                    return Err(format!("a word has 1 to {MAX_WORD_BYTES} bytes, not {}", word.len()));
                }
                if amount.unsigned_abs() > MAX_GIVEN_COUNT as u64 {
                    return Err(format!(
                        "an amount is at most {MAX_GIVEN_COUNT} (2^62) either side of zero, not {amount}"
                    ));
                }
            }
            ImportItem::Entry(entry) => {
                check_key(&entry.key)?;
                check_media_type(&entry.content_type)?;
                if entry.value.len() > LARGEST_MAX_VALUE_BYTES {
                    let bytes = entry.value.len();
                    return Err(format!(
                        "no node takes a value of {bytes} bytes: {LARGEST_MAX_VALUE_BYTES} is the most"
                    ));
                }
            }
        }
        Ok(())
    }

    fn give(&mut self, line: u64, item: ImportItem) -> Result<(), ImportFault> {
        self.check(&item).map_err(|reason| ImportFault { line, reason })?;
        match &item {
            ImportItem::Count { namespace, word, amount } => {
                self.sums.counts += 1;
                self.sums.digest.add_count(namespace, word, *amount);
            }
            ImportItem::Entry(entry) => {
                self.sums.entries += 1;
                self.sums.digest.add_entry(EntryContent {
                    kind: entry.kind.name(),
                    namespace: &entry.namespace,
                    key: &entry.key,
                    content_type: &entry.content_type,
                    is_counted: entry.is_counted,
                    expires: entry.ttl.is_some(),
                    value: &entry.value,
                });
            }
        }
        self.sums.lines = line;
        let passed = self.passed.get();
        let bytes = passed - std::mem::replace(&mut self.seen, passed);
        (self.take)(ReadItem { line, bytes, item })
    }

    fn lines(&mut self, mut input: impl BufRead) -> Result<(), ImportFault> {
        let (mut text, mut number, mut is_export, mut has_ended) = (Vec::new(), 0, false, false);
        loop {
            number += 1;
            text.clear();
            let fault = |reason: String| ImportFault { line: number, reason };
            if input.read_until(b'\n', &mut text).map_err(|error| fault(error.to_string()))? == 0 {
                break;
            }
            self.sums.lines = number;
            if text.trim_ascii().is_empty() {
                continue;
            }
            if has_ended {
                return Err(fault("it comes behind the last line of an export".to_owned()));
            }
            let line: ExportLine = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
            if line.memdb.is_some() {
                is_export = true;
                if line.version != Some(1) {
                    return Err(fault("it is an export of a later version".to_owned()));
                }
            } else if line.end {
                has_ended = true;
                self.check_end(&line).map_err(fault)?;
            } else if line.counter.is_some() && line.value.is_some() {
                self.sums.counters += 1;
            } else {
                let item = self.item(line).map_err(fault)?;
                self.give(number, item)?;
            }
        }
        match is_export && !has_ended {
            true => {
                Err(ImportFault { line: number, reason: "the export broke off: its last line is missing".to_owned() })
            }
            false => Ok(()),
        }
    }

    /// Checks that an export has come whole.
    fn check_end(&self, line: &ExportLine) -> Result<(), String> {
        let ImportSums { counts, entries, digest, .. } = &self.sums;
        if (line.counts, line.entries) != (*counts, *entries) {
            return Err(format!(
                "the export had {} counts and {} entries, not {counts} and {entries}",
                line.counts, line.entries
            ));
        }
        match &line.digest {
            Some(stated) if *stated != digest.to_hex() => {
                Err("the digest is another: the export was changed".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn item(&self, line: ExportLine) -> Result<ImportItem, String> {
        let namespace = line.ns.unwrap_or_else(|| self.default.clone());
        let (kind, key) = match (line.word, line.count, line.cache, line.post) {
            (Some(word), Some(amount), None, None) => return Ok(ImportItem::Count { namespace, word, amount }),
            (None, None, Some(key), None) => (CollectionKind::Cache, key),
            (None, None, None, Some(id)) => (CollectionKind::Posts, id),
            _ => return Err("it is neither a count (word, count) nor an entry (cache or post, and base64)".to_owned()),
        };
        let value = line.base64.ok_or("the entry has no value (base64)")?;
        let value = BASE64.decode(value).map_err(|error| format!("base64: {error}"))?;
        let ttl = line.expires_in.map(expiry_text).transpose()?;
        let (content_type, is_counted) = (line.content_type.unwrap_or_default(), line.counted);
        Ok(ImportItem::Entry(ImportedEntry { kind, namespace, key, content_type, ttl, is_counted, value }))
    }

    fn table(
        &mut self,
        builder: &mut csv::ReaderBuilder,
        input: impl Read,
        field: fn(&str) -> Result<String, String>,
    ) -> Result<(), ImportFault> {
        let mut table = builder.has_headers(false).flexible(true).from_reader(input);
        let (mut record, mut is_first) = (csv::StringRecord::new(), true);
        loop {
            let before = table.position().line();
            let read = table.read_record(&mut record);
            let line = record.position().map_or(before, csv::Position::line);
            let fault = |reason: String| ImportFault { line, reason };
            if !read.map_err(|error| fault(error.to_string()))? {
                return Ok(());
            }
            let row = of_row(&record, field);
            let last = record.iter().next_back().unwrap_or_default().to_ascii_lowercase();
            if std::mem::take(&mut is_first) && row.is_err() && COLUMN_NAMES.contains(&last.as_str()) {
                continue; // names of the columns
            }
            let (namespace, word, amount) = row.map_err(fault)?;
            let namespace = namespace.unwrap_or_else(|| self.default.clone());
            self.give(line, ImportItem::Count { namespace, word, amount })?;
        }
    }

    fn object(&mut self, input: impl Read) -> Result<(), ImportFault> {
        let mut failed = None;
        let mut json = serde_json::Deserializer::from_reader(input);
        let (namespace, mut give) = (self.default.clone(), |namespace: &str, word: String, amount: i64| {
            let item = ImportItem::Count { namespace: namespace.to_owned(), word, amount };
            self.give(1, item).map_err(|fault| failed = Some(fault)).is_ok()
        });
        let seed = CountsSeed { namespace: &namespace, give: &mut give, is_top: true };
        let read = seed.deserialize(&mut json).and_then(|()| json.end());
        match (read, failed) {
            (_, Some(fault)) => Err(fault),
            (Err(error), None) => Err(ImportFault { line: error.line() as u64, reason: error.to_string() }),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// The time to live of an entry that has so many seconds left. One that is about to expire does not stay for ever.
fn expiry_text(left: f64) -> Result<String, String> {
    match Expiry::of_seconds(left) {
        Some(Expiry::AfterMs(_)) => Ok(format!("{left}")),
        Some(Expiry::Never) => Ok("0.001".to_owned()),
        None => Err(format!("expires_in is a number of seconds up to a hundred years, or null, not {left}")),
    }
}

fn of_row(
    record: &csv::StringRecord,
    field: fn(&str) -> Result<String, String>,
) -> Result<(Option<String>, String, i64), String> {
    let fields: Vec<&str> = record.iter().collect();
    let (namespace, word, amount) = match fields[..] {
        [word, amount] => (None, word, amount),
        [namespace, word, amount] => (Some(namespace.to_owned()), word, amount),
        _ => return Err(format!("{} fields; word and amount are wanted, or ns, word and amount", record.len())),
    };
    let amount = amount.trim().parse().map_err(|_| format!("{amount:?} is no whole number of 64 bits"))?;
    Ok((namespace, field(word)?, amount))
}

/// A field of a table with tabs, whose escapes are those of an export.
fn unescaped(field: &str) -> Result<String, String> {
    let (mut plain, mut letters) = (String::with_capacity(field.len()), field.chars());
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('\\') => '\\',
                _ => return Err("a backslash stands before t, n, r or another backslash".to_owned()),
            },
            other => other,
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: ImportFormat, text: &str) -> Result<(Vec<String>, ImportSums), String> {
        let mut all = Vec::new();
        let mut take = |read: ReadItem| {
            all.push(match read.item {
                ImportItem::Count { namespace, word, amount } => format!("{namespace} {word:?} {amount}"),
                ImportItem::Entry(entry) => format!("{} {} {:?}", entry.namespace, entry.key, entry.value),
            });
            Ok(())
        };
        let sums = read_items(format, text.as_bytes(), None, &mut take).map_err(|fault| fault.to_string())?;
        Ok((all, sums))
    }

    #[test]
    fn counts_are_read_from_every_format() {
        let expected = ["words \"a,\\\"b\" 5", "b \"c\\td\" -1"];
        for (format, text) in [
            (ImportFormat::Csv, "ns,word,count\r\nwords,\"a,\"\"b\",5\r\nb,c\td,-1\r\n"),
            (ImportFormat::Csv, "words,\"a,\"\"b\",5\nb,c\td,-1"),
            (ImportFormat::Tsv, "ns\tword\tcount\nwords\ta,\"b\t5\nb\tc\\td\t-1\n"),
            (ImportFormat::Json, r#"{"words":{"a,\"b":5},"b":{"c\td":-1}}"#),
            (
                ImportFormat::Ndjson,
                "{\"word\":\"a,\\\"b\",\"count\":5}\n\n{\"ns\":\"b\",\"word\":\"c\\td\",\"count\":-1}",
            ),
        ] {
            let (all, sums) = read(format, text).expect(text);
            assert_eq!(
                (all.as_slice(), sums.counts, sums.bytes),
                (&expected.map(str::to_owned)[..], 2, text.len() as u64)
            );
        }
        let (old, _) = read(ImportFormat::Json, " {\"hello\": 2, \"world\": 1}\n").expect("the old system's");
        assert_eq!(old, ["words \"hello\" 2", "words \"world\" 1"]);
    }

    /// Only NDJSON says which are counters; words in their place would keep them away.
    #[test]
    fn a_table_with_lines_of_counters_is_refused() {
        for (format, text) in [
            (ImportFormat::Csv, "ns,word,count\nwords,a,1\ncounters,b,1\n"),
            (ImportFormat::Tsv, "words\ta\t1\n\ncounters\tb\t1\n"),
            (ImportFormat::Json, r#"{"words":{"a":1},"counters":{"b":1}}"#),
        ] {
            let refused = read(format, text).expect_err("refused");
            assert!(refused.contains("`counters` is for counters"), "{text}: {refused}");
        }
        let refused = read_items(ImportFormat::Csv, "a,1".as_bytes(), Some(COUNTERS), &mut |_| Ok(()));
        assert!(refused.is_err());
        let lines = "{\"ns\":\"counters\",\"word\":\"a\",\"count\":1}\n{\"counter\":\"b\",\"value\":5}\n";
        let (words, sums) = read(ImportFormat::Ndjson, lines).expect("sound");
        assert_eq!((words, sums.counters), (vec!["counters \"a\" 1".to_owned()], 1));
    }

    fn cached(key: &str, expires_in: &str, content_type: &str) -> String {
        format!(r#"{{"cache":"{key}","expires_in":{expires_in},"content_type":{content_type},"base64":""}}"#)
    }

    #[test]
    fn the_bounds_of_what_a_node_takes_are_taken() {
        let edge = "a,4611686018427387904\nb,-4611686018427387904\n";
        assert_eq!(read(ImportFormat::Csv, edge).expect("sound").1.counts, 2);
        for (left, ttl) in [("0.5", "0.5"), ("3162240000", "3162240000"), ("0", "0.001"), ("1e-7", "0.0000001")] {
            let mut all = Vec::new();
            let mut take = |read: ReadItem| match read.item {
                ImportItem::Entry(entry) => {
                    all.extend(entry.ttl);
                    Ok(())
                }
                other => panic!("{other:?}"),
            };
            let line = cached(&"k".repeat(512), left, "null");
            read_items(ImportFormat::Ndjson, line.as_bytes(), None, &mut take).expect("sound");
            assert_eq!(all, [ttl]);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (format, text, said) in [
            (ImportFormat::Csv, "a,1\nb,2\nc,x\n", "line 3: \"x\" is no whole number"),
            (ImportFormat::Csv, "a,1\nb\n", "line 2: 1 fields"),
            (ImportFormat::Csv, "a,x\nb,2\n", "line 1: "),
            (ImportFormat::Tsv, "a\t1\nb\\x\t2\n", "line 2: a backslash"),
            (ImportFormat::Ndjson, "{\"word\":\"a\",\"count\":1}\n{\"word\":\"a\"}\n", "line 2: it is neither"),
            (ImportFormat::Ndjson, "{\"word\":\"a\",\"count\":1.5}\n", "line 1: invalid type"),
            (ImportFormat::Ndjson, "{\"memdb\":\"export\",\"version\":1}\n", "broke off"),
            (
                ImportFormat::Ndjson,
                "{\"memdb\":\"export\",\"version\":1}\n{\"end\":true,\"counts\":1}\n",
                "line 2: the export had 1 counts",
            ),
            (ImportFormat::Json, "{\"a\":1,\n\"b\":1.5}", "line 2: "),
            (ImportFormat::Json, "{\"a\":{\"b\":{}}}", "is an object"),
            (ImportFormat::Json, "{\"a\":1", "EOF"),
            (ImportFormat::Json, "{\"\":1}", "a word has 1 to 256 bytes"),
            (ImportFormat::Csv, "a,b,1\nTitles,a,1\n", "line 2: a namespace is 1 to 64 characters"),
            (ImportFormat::Csv, "..,a,1\n", "line 1: `..` cannot be a namespace"),
            (ImportFormat::Csv, "a,1\nb,4611686018427387905\n", "line 2: an amount is at most 4611686018427387904"),
            (ImportFormat::Csv, "a,-9223372036854775808\n", "line 1: an amount is at most"),
            (ImportFormat::Ndjson, r#"{"cache":"..","base64":""}"#, "line 1: `..` is no key"),
            (ImportFormat::Ndjson, &cached(&"k".repeat(513), "null", "null"), "a key has 1 to 512 bytes"),
            (ImportFormat::Ndjson, &cached("k", "-1", "null"), "line 1: expires_in is a number of seconds"),
            (ImportFormat::Ndjson, &cached("k", "4e9", "null"), "up to a hundred years"),
            (ImportFormat::Ndjson, &cached("k", "1", r#""a\nb""#), "a media type has up to 127 visible ASCII"),
        ] {
            let wrong = read(format, text).expect_err(text);
            assert!(wrong.contains(said), "{text}: {wrong}");
        }
    }
}
