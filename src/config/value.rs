//! From text to values. Errors say what would be a value.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn numbers_name_their_range() {
        assert_eq!(number("65_535", &(0..=u16::MAX)), Ok(u16::MAX));
        assert_eq!(number::<u16>("65536", &(0..=u16::MAX)), Err("give a whole number from 0 to 65535".to_owned()));
    }
}
