//! Settings in a TOML file: `port = 8080`, one key per setting, named as the flag.
//!
//! One file may serve a whole cluster, so it may hold the settings of every role; a node takes those of its own.

use super::{ConfigError, table::SETTINGS};
use std::{collections::BTreeMap, io, path::Path};
use toml::{Table, Value};

/// The file's values as text, by the name of the setting.
pub(super) fn read(
    path: &Path,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let text = read_file(path)
        .map_err(|error| ConfigError::UnreadableFile { path: path.to_owned(), reason: error.to_string() })?;
    let bad = |line, reason| ConfigError::BadFile { path: path.to_owned(), line, reason };
    let table = text.parse::<Table>().map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let line = 1 + text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count();
        bad(line, error.message().to_owned())
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let line = line_of(&text, &key);
        let setting = SETTINGS.iter().find(|setting| setting.name == key);
        let setting = setting.ok_or_else(|| bad(line, unknown(&key)))?;
        let text = if setting.repeats { joined(&value) } else { plain(&value) };
        values.insert(setting.name, text.map_err(|reason| bad(line, format!("{key}: {reason}")))?);
    }
    Ok(values)
}

/// A list of values, or a single one, with commas between them.
fn joined(value: &Value) -> Result<String, String> {
    let Value::Array(list) = value else { return plain(value) };
    let list: Result<Vec<_>, _> = list.iter().map(plain).collect();
    list.map(|list| list.join(","))
}

/// A value as it would be given on the command line.
fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(yes) => Ok(yes.to_string()),
        other => Err(format!("a setting is a string, a whole number or true or false, not a {}", other.type_str())),
    }
}

fn unknown(key: &str) -> String {
    let nearest = SETTINGS.iter().map(|setting| setting.name).min_by_key(|name| edits(name, key));
    match nearest {
        Some(name) if edits(name, key) <= 1 + name.len() / 3 => {
            format!("there is no setting {key}; did you mean {name}?")
        }
        _ => format!("there is no setting {key}; `memdb config --help` lists them"),
    }
}

/// The line a key of the top table stands on.
fn line_of(text: &str, key: &str) -> usize {
    let starts = |line: &str| {
        let rest = line.trim_start().trim_start_matches(['[', '"', '\'']).strip_prefix(key);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || "-_".contains(next)))
    };
    1 + text.lines().position(starts).unwrap_or(0)
}

/// Counts the letters that have to be inserted, removed or changed to turn `left` into `right` (Levenshtein).
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in right.iter().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<BTreeMap<&'static str, String>, String> {
        read(Path::new("memdb.toml"), &|_| Ok(text.to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_typing_error_is_named_with_its_line_and_the_nearest_setting() {
        assert_eq!(
            read_text("# a\nport = 1\ndata_dir = \"x\"\n"),
            Err("memdb.toml:3: there is no setting data_dir; did you mean data-dir?".to_owned())
        );
        assert_eq!(
            read_text("[replication]\nx = 1\n"),
            Err("memdb.toml:1: there is no setting replication; `memdb config --help` lists them".to_owned())
        );
    }

    #[test]
    fn a_line_that_is_no_toml_is_named() {
        let error = read_text("port = 1\nbind = 127.0.0.1\n").expect_err("an address needs quotes");
        assert!(error.starts_with("memdb.toml:2: "), "{error}");
    }

    #[test]
    fn odd_types_are_refused() {
        let error = read_text("port = 8.5\n").expect_err("half a port");
        assert_eq!(error, "memdb.toml:1: port: a setting is a string, a whole number or true or false, not a float");
    }

    #[test]
    fn edits_are_counted() {
        for (left, right, expected) in [("", "abc", 3), ("port", "port", 0), ("port", "prot", 2), ("ack", "back", 1)] {
            assert_eq!(edits(left, right), expected, "{left} {right}");
        }
    }
}
