//! Events as they are sent: lines of `text/event-stream`.

use super::super::{
    entries::listing::{write_about, write_value},
    headers,
};
use crate::{
    api::service::watch::{WatchEvent, WatchState},
    base::clock::LoggedTime,
    base::limits::{WATCH_RETRY_MS, WATCHED_VALUE_BYTES, WATCHED_VALUES_BYTES},
    base::position::PositionToken,
    data::entries::Entry,
};
use std::io::Write;

const INTO_MEMORY: &str = "a Vec takes every byte";

/// Writes the begin of a stream: the pause after which a browser comes again.
pub(super) fn write_begin(into: &mut Vec<u8>) {
    write!(into, "retry: {WATCH_RETRY_MS}\n\n").expect(INTO_MEMORY);
}

/// Writes a sign of life. The client shows nothing of it, and comes again with this position.
pub(super) fn write_heartbeat(position: Option<PositionToken>, into: &mut Vec<u8>) {
    into.extend_from_slice(b": heartbeat\n");
    if let Some(position) = position {
        write_id(position, into);
    }
    into.push(b'\n');
}

/// Writes the values of an event. Several kinds of them are as many events, of which the last one alone has the
/// position: a client that has lost it has none of them.
pub(super) fn write(event: &WatchEvent, watched: &WatchState, now: LoggedTime, into: &mut Vec<u8>) {
    if let Some(reset) = event.reset {
        write!(into, "event: reset\ndata: {{\"reason\":\"{}\"}}\n\n", reset.name()).expect(INTO_MEMORY);
    }
    let mut id = Some(event.position);
    if !event.words.is_empty() {
        into.extend_from_slice(b"event: counts\n");
        if event.entries.is_empty() {
            id.take().into_iter().for_each(|position| write_id(position, into));
        }
        into.extend_from_slice(b"data: {");
        for (at, &number) in event.words.iter().enumerate() {
            let (name, count) = watched.word(number);
            into.extend_from_slice(if at == 0 { b"" } else { b"," });
            headers::write_json_string(into, name);
            write!(into, ":{count}").expect(INTO_MEMORY);
        }
        into.extend_from_slice(b"}\n\n");
    }
    if !event.entries.is_empty() {
        into.extend_from_slice(b"event: entries\n");
        id.take().into_iter().for_each(|position| write_id(position, into));
        write_entries(&event.entries, watched, now, into);
    }
    if let (Some(ranking), Some(n)) = (&event.top, watched.top()) {
        into.extend_from_slice(b"event: top\n");
        id.take().into_iter().for_each(|position| write_id(position, into));
        into.extend_from_slice(b"data: [");
        for (at, (word, count)) in ranking.largest(n).iter().enumerate() {
            into.extend_from_slice(if at == 0 { b"{\"word\":" } else { b",{\"word\":" });
            headers::write_json_string(into, word);
            write!(into, ",\"count\":{count}}}").expect(INTO_MEMORY);
        }
        into.extend_from_slice(b"]\n\n");
    }
}

fn write_entries(entries: &[(usize, Option<Entry>)], watched: &WatchState, now: LoggedTime, into: &mut Vec<u8>) {
    let mut room = WATCHED_VALUES_BYTES;
    into.extend_from_slice(b"data: [");
    for (at, (number, entry)) in entries.iter().enumerate() {
        into.extend_from_slice(if at == 0 { b"{\"key\":" } else { b",{\"key\":" });
        headers::write_json_string(into, watched.key(*number));
        write!(into, ",\"found\":{}", entry.is_some()).expect(INTO_MEMORY);
        if let Some(entry) = entry {
            let bytes = entry.raw_bytes();
            write!(into, ",\"bytes\":{bytes}").expect(INTO_MEMORY);
            write_about(entry, now, into);
            if bytes <= WATCHED_VALUE_BYTES.min(room) {
                room -= bytes;
                write_value(entry, into);
            }
        }
        into.push(b'}');
    }
    into.extend_from_slice(b"]\n\n");
}

fn write_id(position: PositionToken, into: &mut Vec<u8>) {
    into.extend_from_slice(b"id: ");
    position.write_to(into);
    into.push(b'\n');
}
