//! The answers to writes, as the routes give them: the head of each, and the rest for what a path names.

use super::{
    counter_write::CounterReceipt, entry_write::EntryReceipt, named_write::NamedReceipt, responder::FastPathResponder,
};
use crate::api::{
    http::{
        counters::{self, CounterChange},
        headers,
    },
    service::AcceptedWrite,
};
use http::StatusCode;

impl FastPathResponder {
    /// As `writes::accepted_with`.
    pub(super) fn acceptance(&mut self, status: &[u8], acceptance: &AcceptedWrite) {
        self.answers.extend_from_slice(b"HTTP/1.1 ");
        self.answers.extend_from_slice(status);
        self.answers.extend_from_slice(b"\r\ncontent-type: application/json\r\nmemdb-position: ");
        acceptance.position().write_to(&mut self.answers);
        self.answers.extend_from_slice(b"\r\nmemdb-acks: ");
        self.number(acceptance.receipt.acks.into());
        if acceptance.receipt.replayed {
            self.answers.extend_from_slice(b"\r\nmemdb-replayed: true");
        }
        if let Some(quota) = acceptance.receipt.quota {
            let [policy, left] = headers::rate_limit(quota);
            for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
                for part in ["\r\n", name, ": ", &value] {
                    self.answers.extend_from_slice(part.as_bytes());
                }
            }
        }
    }

    /// Writes the answer to a write that was taken, and gives its status.
    pub(super) fn written(&mut self, answer: &NamedReceipt, accepted: &AcceptedWrite) -> u16 {
        match answer {
            NamedReceipt::Entry(entry) => self.written_entry(entry, accepted),
            NamedReceipt::Counter(counter) => self.queued_increment(counter, accepted),
        }
    }

    /// Writes the answer to a write of an entry that was taken, as `entries::write::answer`.
    fn written_entry(&mut self, answer: &EntryReceipt, accepted: &AcceptedWrite) -> u16 {
        let tag = answer.write_body(accepted, &mut self.body);
        self.acceptance(b"200 OK", accepted);
        if let Some(tag) = tag {
            self.answers.extend_from_slice(b"\r\netag: \"");
            self.answers.extend_from_slice(tag.as_bytes());
            self.answers.push(b'"');
        }
        self.end_with_body();
        StatusCode::OK.as_u16()
    }

    /// Writes the answer to an increment that waits, as `counters::change`.
    fn queued_increment(&mut self, answer: &CounterReceipt, accepted: &AcceptedWrite) -> u16 {
        counters::write_answer(CounterChange::Increment, &answer.key, &accepted.receipt, &mut self.body);
        self.acceptance(b"202 Accepted", accepted);
        self.end_with_body();
        StatusCode::ACCEPTED.as_u16()
    }
}
