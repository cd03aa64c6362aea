//! Increments of counters: `POST /counter/{key}/increment`.

use crate::{
    api::{
        http::{
            counters,
            headers::DedupHeaders,
            query::{QueryString, RouteParameters},
            request_log,
            state::AppState,
        },
        service::{Command, Operation},
    },
    data::command::WriteBatch,
    engine::leader::AckLevel,
    engine::view::ServedDatabase,
};

/// The counter that a request increments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CounterTarget<'a> {
    /// The key as it was sent in the path.
    pub(super) name: &'a str,
}

/// What an answer says beside the receipt of the Writer: the key.
#[derive(Debug)]
pub(super) struct CounterReceipt {
    pub(super) key: Box<str>,
}

impl<'a> CounterTarget<'a> {
    /// The target of a method and a plain path; none if it is for the routes.
    pub(super) fn of(method: &str, path: &'a str) -> Option<Self> {
        let name = path.strip_prefix("/counter/")?.strip_suffix("/increment")?;
        (method == "POST" && !name.is_empty()).then_some(Self { name })
    }

    /// The batch of the increment; none if anything about it is for the routes to refuse.
    pub(super) fn batch(
        self,
        (query, naming): (&str, &DedupHeaders),
        body: &[u8],
        (current, state): (&ServedDatabase, &AppState),
    ) -> Option<(WriteBatch, Option<AckLevel>, CounterReceipt)> {
        // A line of the log has the path of its request, which nobody has kept by the time of the answer.
        if !body.is_empty() || request_log::is_on() {
            return None;
        }
        let QueryString { namespace, ack: level, .. } = QueryString::parse(query, RouteParameters::ACK).ok()?;
        let (key, once) = (counters::key_of(self.name).ok()?, naming.once(None).ok()?);
        let receipt = CounterReceipt { key: (*key).into() };
        let command = Command { namespace, operation: Operation::Increment(key), once, level };
        Some((command.into_batch(current, &state.service.tallies).ok()?, level, receipt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_increments_name_a_counter_and_other_requests_are_left_to_the_routes() {
        let of = |method, path| CounterTarget::of(method, path).map(|target| target.name);
        for (path, name) in
            [("/counter/a/increment", "a"), ("/counter/a/b%2F/increment", "a/b%2F"), ("/counter//increment", "")]
        {
            assert_eq!(of("POST", path), Some(name).filter(|name| !name.is_empty()), "{path}");
        }
        for (method, path) in [
            ("PUT", "/counter/a/increment"),
            ("POST", "/counter/a"),
            ("POST", "/counter/increment"),
            ("POST", "/store/a/increment"),
        ] {
            assert_eq!(of(method, path), None, "{method} {path}");
        }
    }
}
