//! From text to values. Errors say what would be a value.

use crate::{
    base::address::NodeAddress,
    base::secret::Secret,
    base::web_origin::{self, CorsOrigins, WebOrigin},
    base::{limits, names},
    data::counts::quotas::{NamespaceQuota, QuotaTable},
    storage::manifest::is_node_name,
};
use std::{
    fmt::Display,
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A whole number within `range`.
pub(super) fn number<T>(text: &str, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let value = text.replace('_', "").parse().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| format!("give a whole number from {} to {}", range.start(), range.end()))
}

/// A number of bytes within `range`: `1048576`, `1024KiB`, `1MiB`.
pub(super) fn bytes(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = UNITS.iter().find(|(name, _)| text.ends_with(name));
    let (digits, shift) = unit.map_or((text, 0), |(name, shift)| (text[..text.len() - name.len()].trim_end(), *shift));
    let value = digits.replace('_', "").parse::<u64>().ok().and_then(|value| value.checked_mul(1 << shift));
    value.filter(|value| range.contains(value)).ok_or_else(|| {
        format!("give bytes from {} to {}, such as 1048576, 512KiB, 64MiB or 2GiB", range.start(), range.end())
    })
}

/// A time within `range`, in milliseconds: `60s`, `250ms`, `1.5s`, `5m`; a number alone is of seconds.
pub(super) fn time_ms(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    // `ms` before `s` and `m`: it ends with one and begins with the other.
    const UNITS: [(&str, f64); 5] = [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3_600e3), ("", 1e3)];
    let (unit, ms) = UNITS.iter().find(|(unit, _)| text.ends_with(unit)).expect("the last ends every text");
    let number = text[..text.len() - unit.len()].trim_end();
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value = number.parse::<f64>().ok().filter(|_| is_plain).map(|number| (number * ms).round() as u64);
    value.filter(|value| range.contains(value)).ok_or_else(|| {
        format!("give a time from {} to {} ms, such as 250ms, 60s, 1.5s or 5m", range.start(), range.end())
    })
}

/// One of `choices`, by name.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("give one of {}", names.join(", "))
    })
}

/// Yes or no, in the ways people write it.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("give true or false".to_owned()),
    }
}

/// A file.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("give the path of a file, or none".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// The address of a node, spelled as `http://host:port`.
pub(super) fn url(text: &str) -> Result<String, String> {
    text.parse::<NodeAddress>().map(|address| address.to_string())
}

/// The name of a node.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    let message = || format!("give 1 to {} of a-z, 0-9, '.', '_' and '-', or auto", limits::MAX_NODE_NAME_BYTES);
    if is_node_name(text) { Ok(text.to_owned()) } else { Err(message()) }
}

/// Addresses with commas between them, each at most once, at most `most`.
pub(super) fn urls(text: &str, most: usize) -> Result<Vec<String>, String> {
    let mut list = Vec::new();
    for text in text.split(',') {
        let url = url(text.trim()).map_err(|reason| format!("{:?}: {reason}", text.trim()))?;
        if list.contains(&url) {
            return Err(format!("{url} is given twice"));
        }
        list.push(url);
    }
    if list.len() > most { Err(format!("give at most {most}, not {}", list.len())) } else { Ok(list) }
}

/// Names of hosts with commas between them, in lower case; `*` stands for every name, `none` or nothing for no name.
pub(super) fn hosts(text: &str) -> Result<Vec<String>, String> {
    list(text, limits::MAX_ALLOWED_HOSTS, |name| match web_origin::split(name) {
        _ if name == "*" => Ok(name.to_owned()),
        Some((host, None)) if host == name => Ok(name.to_ascii_lowercase()),
        _ => Err("give a name without a port, such as memdb.example".to_owned()),
    })
}

/// Origins with commas between them; `*` stands for every origin, `none` or nothing for no origin.
pub(super) fn cors_origins(text: &str) -> Result<CorsOrigins, String> {
    let all = list(text, limits::MAX_CORS_ORIGINS, |origin| match origin {
        "*" => Ok(None),
        origin => origin.parse::<WebOrigin>().map(Some),
    })?;
    Ok(all.into_iter().collect::<Option<_>>().map_or(CorsOrigins::Every, CorsOrigins::These))
}

/// Quotas of namespaces, `NAME=LIMIT,LIMIT,NAME=LIMIT` with limits `words:NUMBER` and `bytes:SIZE`; the name `*` is
/// each namespace that is not named, `none` or nothing for no quota.
pub(super) fn quotas(text: &str) -> Result<QuotaTable, String> {
    let (mut table, mut name) = (QuotaTable::default(), None);
    for limit in text.split(',').map(str::trim).filter(|_| !text.is_empty() && text != "none") {
        let wrong = |reason: &str| format!("{limit:?}: {reason}, such as tickets=words:1000000,bytes:64MiB");
        let limit = match limit.split_once('=') {
            Some((named, limit)) => {
                if named != "*" && names::check_namespace(named).is_err() {
                    return Err(wrong("give a namespace of 1 to 64 of a-z, 0-9, '.', '_' and '-', or *"));
                }
                name = Some(named);
                limit
            }
            None => limit,
        };
        let name = name.ok_or_else(|| wrong("give a namespace with = and its limits"))?;
        let quota = match name {
            "*" => table.others.get_or_insert_default(),
            name => table.named.entry(name.into()).or_default(),
        };
        let NamespaceQuota { words, bytes } = quota;
        let (value, of) = match limit.split_once(':') {
            Some(("words", most)) => (number(most, &(0..=u64::MAX >> 1)), words),
            Some(("bytes", most)) => (self::bytes(most, &(0..=1 << 50)), bytes),
            _ => return Err(wrong("give words:NUMBER or bytes:SIZE")),
        };
        if of.replace(value.map_err(|reason| wrong(&reason))?).is_some() {
            return Err(wrong("the limit is given twice"));
        }
    }
    if table.named.len() > limits::MAX_NAMESPACES {
        return Err(format!("give at most {} namespaces", limits::MAX_NAMESPACES));
    }
    Ok(table)
}

fn list<T>(text: &str, most: usize, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    if text.is_empty() || text == "none" {
        return Ok(Vec::new());
    }
    let parsed = text.split(',').map(str::trim).map(|one| parse(one).map_err(|reason| format!("{one:?}: {reason}")));
    let list: Vec<T> = parsed.collect::<Result<_, _>>()?;
    if list.len() > most { Err(format!("give at most {most}, not {}", list.len())) } else { Ok(list) }
}

/// A directory, which need not be there.
pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("give a directory".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// The secret in a file.
pub(super) fn secret(path: &Path, read_file: &dyn Fn(&Path) -> io::Result<String>) -> Result<Secret, String> {
    let text = read_file(path).map_err(|error| format!("the file cannot be read: {error}"));
    text.and_then(|text| text.parse()).map_err(|reason| format!("{reason}; {MAKE_A_SECRET}"))
}

/// Tells how to make a secret.
pub(super) const MAKE_A_SECRET: &str =
    "make one with `head -c 32 /dev/urandom | base64 > FILE` and give every node a copy";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_addresses_are_bounded_and_hold_each_once() {
        let both = Ok(vec!["http://a:1".to_owned(), "http://b:1".to_owned()]);
        assert_eq!(urls("http://a:1, http://b:1/", 2), both);
        assert_eq!(urls("http://a:1,http://A:1", 2), Err("http://a:1 is given twice".to_owned()));
        assert_eq!(urls("http://a:1,http://b:1", 1), Err("give at most 1, not 2".to_owned()));
        assert!(urls("http://a:1,", 2).is_err_and(|error| error.starts_with("\"\": it names no host")));
    }

    #[test]
    fn hosts_and_origins_are_lists_of_names_or_a_star() {
        assert_eq!(hosts("Memdb.Example, [::1],*"), Ok(["memdb.example", "[::1]", "*"].map(str::to_owned).to_vec()));
        assert_eq!((hosts("none"), hosts("")), (Ok(vec![]), Ok(vec![])));
        for bad in ["a:1", "http://a", "a b", "a,", ".*", &"a,".repeat(limits::MAX_ALLOWED_HOSTS + 1)] {
            assert!(hosts(bad).is_err(), "{bad}");
        }
        let origins = |list: &[&str]| CorsOrigins::These(list.iter().map(|one| one.parse().expect("sound")).collect());
        assert_eq!(cors_origins("none"), Ok(origins(&[])));
        assert_eq!(cors_origins("HTTP://A:80, https://b:1"), Ok(origins(&["http://a", "https://b:1"])));
        assert_eq!(cors_origins("http://a,*"), Ok(CorsOrigins::Every));
        for bad in ["a", "null", "http://a/", "http://a,", "http://*.a"] {
            assert!(cors_origins(bad).is_err_and(|why| why.contains("SCHEME://HOST")), "{bad}");
        }
    }

    #[test]
    fn bytes_take_units_and_keep_their_range() {
        let range = 1..=1 << 40;
        for (text, expected) in [("1", 1), ("2KiB", 2048), ("1_000", 1000), ("1 MiB", 1 << 20), ("1TiB", 1 << 40)] {
            assert_eq!(bytes(text, &range), Ok(expected), "{text}");
        }
        for bad in ["", "0", "-1", "1MB", "MiB", "2TiB", "99999999999TiB", "1.5GiB", "é"] {
            assert!(bytes(bad, &range).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_take_units_and_keep_their_range() {
        let range = 0..=3_600_000;
        for (text, expected) in [
            ("0", 0),
            ("60", 60_000),
            ("60s", 60_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("5 m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(time_ms(text, &range), Ok(expected), "{text}");
        }
        for bad in ["", "s", "-1s", "1d", "2h", "inf", "NaN", "1e3", "+1s", "1.2.3s", "1 s s", "é"] {
            assert!(time_ms(bad, &range).is_err_and(|why| why.contains("0 to 3600000 ms")), "{bad}");
        }
    }

    #[test]
    fn numbers_name_their_range() {
        assert_eq!(number("65_535", &(0..=u16::MAX)), Ok(u16::MAX));
        assert_eq!(number::<u16>("65536", &(0..=u16::MAX)), Err("give a whole number from 0 to 65535".to_owned()));
    }

    #[test]
    fn quotas_are_lists_of_limits_behind_names() {
        let quota = |words, bytes| NamespaceQuota { words, bytes };
        let read = quotas("tickets=words:1_000,bytes:64MiB,a.b=bytes:1KiB, *=words:5").expect("they are right");
        let named = [("a.b", quota(None, Some(1024))), ("tickets", quota(Some(1000), Some(64 << 20)))];
        assert_eq!(read.named, named.map(|(name, quota)| (name.into(), quota)).into());
        assert_eq!((read.others, read.of("other")), (Some(quota(Some(5), None)), Some(quota(Some(5), None))));
        for none in ["", "none"] {
            assert_eq!(quotas(none), Ok(QuotaTable::default()));
        }
        for bad in [
            "words:5",
            "a",
            "a=",
            "a=5",
            "A=words:5",
            "=words:5",
            "a=words:-1",
            "a=bytes:x",
            "a=words:1,words:2",
            "a=words:1,",
            "a=entries:5",
            "a=words:1,a=words:2",
        ] {
            assert!(quotas(bad).is_err(), "{bad}");
        }
    }
}
