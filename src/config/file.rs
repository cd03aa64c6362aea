//! Settings in a TOML file: `port = 8080`, one key per setting, named as the flag.
//!
//! One file may serve a whole cluster, so it may hold the settings of every role; a node takes those of its own.

use super::{ConfigError, table::SETTINGS};
use std::{collections::BTreeMap, io, path::Path};
use toml::{Spanned, Value};

/// The file's values as text, by the name of the setting.
pub(super) fn read(
    path: &Path,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let text = read_file(path)
        .map_err(|error| ConfigError::UnreadableFile { path: path.to_owned(), reason: error.to_string() })?;
    let bad_at = |offset: usize, reason| {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        ConfigError::BadFile { path: path.to_owned(), line, reason }
    };
    let table: BTreeMap<Spanned<String>, Value> = toml::from_str(&text)
        .map_err(|error| bad_at(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let (at, key) = (key.span().start, key.into_inner());
        let setting = SETTINGS.iter().find(|setting| setting.name == key);
        let setting = setting.ok_or_else(|| bad_at(at, unknown(&key)))?;
        let value = if setting.repeats { joined(&value) } else { plain(&value) };
        values.insert(setting.name, value.map_err(|reason| bad_at(at, format!("{key}: {reason}")))?);
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
    let nearest = SETTINGS.iter().map(|setting| setting.name).min_by_key(|name| strsim::levenshtein(name, key));
    match nearest {
        Some(name) if strsim::levenshtein(name, key) <= 1 + name.len() / 3 => {
            format!("there is no setting {key}; did you mean {name}?")
        }
        _ => format!("there is no setting {key}; `memdb config --help` lists them"),
    }
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
    fn a_line_is_that_of_the_key_and_not_of_a_text_like_it() {
        let error = |text| read_text(text).expect_err("data_dir is no setting");
        assert!(error("log = \"\"\"\ndata_dir = 1\n\"\"\"\n\"data_dir\" = 1\n").starts_with("memdb.toml:4: "));
        assert!(error("port = 1\n\n[data_dir]\nx = 1\n").starts_with("memdb.toml:3: "));
        assert!(error("port = 1\ndata_dir.x = 1\n").starts_with("memdb.toml:2: "));
    }
}
