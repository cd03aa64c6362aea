//! Parameters of a watcher, and when it looks.

use super::*;

#[test]
fn an_interval_has_a_unit_and_is_clamped() {
    let read =
        |text| interval(Some(text)).map(|interval| interval.as_millis()).map_err(|error| error.status().as_u16());
    for (text, ms) in [("100ms", 100), ("1s", 1_000), ("1.5s", 1_500), ("0s", 10), ("1ms", 10), ("3600s", 60_000)] {
        assert_eq!(read(text), Ok(ms), "{text}");
    }
    for bad in ["", "100", "s", "ms", "-1s", "+1s", "1e3s", "infs", "nans", "1 s", "1m", "one"] {
        assert_eq!(read(bad), Err(400), "{bad}");
    }
    assert_eq!(interval(None).expect("a default").as_millis(), 100);
}

#[test]
fn a_client_that_takes_no_events_is_refused() {
    for taken in [None, Some(""), Some("text/event-stream"), Some("*/*"), Some("text/html, TEXT/*;q=0.1")] {
        assert!(check_accept(taken).is_ok(), "{taken:?}");
    }
    for refused in ["application/json", "text/event-stream;q=0", "text/html,application/xml;q=0.9"] {
        assert_eq!(check_accept(Some(refused)).expect_err(refused).status().as_u16(), 406);
    }
}
