//! Times to live: seconds with decimals, kept in milliseconds.

use super::super::query;
use crate::{
    api::error::ApiError,
    base::clock::LoggedTime,
    data::entries::{Entry, Expiry},
};
use std::io::Write;

const WANTED: &str = "a time to live is a number of seconds, such as 60 or 0.5, up to a hundred years; 0 is for ever";

/// Reads `ttl=`; without it, for ever.
pub(in crate::api::http) fn of_query(given: Option<&str>) -> Result<Expiry, ApiError> {
    let Some(text) = given else { return Ok(Expiry::Never) };
    of_text(text).ok_or_else(|| query::invalid(format!("ttl: {WANTED}")))
}

/// Reads a member `ttl` of JSON.
pub(super) fn of_number(seconds: f64) -> Result<Expiry, &'static str> {
    Expiry::of_seconds(seconds).ok_or(WANTED)
}

fn of_text(text: &str) -> Option<Expiry> {
    // Only digits, and a point between them: no sign, no exponent, no `inf`.
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) {
        return None;
    }
    Expiry::of_seconds(text.parse().ok()?)
}

/// The milliseconds that an entry has left; `None`: it does not expire.
pub(in crate::api::http) fn left_ms(entry: &Entry, now: LoggedTime) -> Option<u64> {
    entry.expires().map(|expires| expires.since_ms(now))
}

/// Gives the milliseconds that a new entry has.
pub(super) fn given_ms(expiry: Expiry) -> Option<u64> {
    match expiry {
        Expiry::Never => None,
        Expiry::AfterMs(ms) => Some(ms),
    }
}

/// Writes `,"expires_in":` with seconds, or null for ever.
pub(in crate::api::http) fn write_member(left_ms: Option<u64>, body: &mut Vec<u8>) {
    match left_ms {
        None => body.extend_from_slice(br#","expires_in":null"#),
        Some(ms) if ms.is_multiple_of(1_000) => {
            write!(body, r#","expires_in":{}"#, ms / 1_000).expect("a Vec takes every byte");
        }
        Some(ms) => {
            write!(body, r#","expires_in":{}.{:03}"#, ms / 1_000, ms % 1_000).expect("a Vec takes every byte");
            while body.last() == Some(&b'0') {
                body.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::MAX_TTL_MS;

    #[test]
    fn a_time_to_live_is_seconds_kept_in_milliseconds() {
        let read = |text| of_query(Some(text)).map_err(|error| error.status().as_u16());
        for (text, ms) in [
            ("1", 1_000),
            ("0.5", 500),
            ("1.1", 1_100),
            ("4.35", 4_350),
            ("0.0004", 1),
            ("0.0015", 2),
            ("3162240000", MAX_TTL_MS),
            ("007", 7_000),
        ] {
            assert_eq!(read(text), Ok(Expiry::AfterMs(ms)), "{text}");
        }
        assert_eq!(
            (of_query(None).ok(), read("0"), read("0.000")),
            (Some(Expiry::Never), Ok(Expiry::Never), Ok(Expiry::Never))
        );
        let long = "9".repeat(400);
        for bad in [
            "",
            "-1",
            "+1",
            "-0",
            "NaN",
            "nan",
            "inf",
            "1e999",
            "1e3",
            ".5",
            "5.",
            "1.2.3",
            "1,5",
            " 1",
            "0x10",
            "one",
            "3162240001",
            &long,
        ] {
            assert_eq!(read(bad), Err(400), "{bad}");
        }
        for bad in [-1.0, -0.001, f64::NAN, f64::INFINITY, 1e300] {
            assert!(of_number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_time_that_is_left_is_written_in_seconds() {
        let written = |left| {
            let mut body = Vec::new();
            write_member(left, &mut body);
            String::from_utf8(body).expect("ASCII")
        };
        for (left, text) in
            [(None, "null"), (Some(0), "0"), (Some(1), "0.001"), (Some(1_500), "1.5"), (Some(60_000), "60")]
        {
            assert_eq!(written(left), format!(r#","expires_in":{text}"#));
        }
    }
}
