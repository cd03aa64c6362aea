//! Increments of counters: each that was accepted is in its counter once, on every node, however often whoever leads
//! dies while it waits.

use super::{
    Shared,
    entries::{EntryWriter, Request},
};
use memdb::data::counters::CounterQueue;
use reqwest::Method;
use serde_json::Value;
use testkit::{client::new_client, client::status, process::Node, wait_for};

impl EntryWriter {
    /// An increment of the client's counter. One that finds the queue full is not repeated.
    pub(super) fn increment(&mut self) {
        let counter = format!("hits{}", self.client);
        let target = format!("/counter/{counter}/increment?");
        let request = Request { method: Method::POST, target, condition: None, content_type: "", body: String::new() };
        if self.carry_out(&request, &[]) {
            *self.shared.increments.lock().entry(counter).or_default() += 1;
        }
    }
}

impl Shared {
    /// Waits until the workers have nothing left to do.
    pub(super) fn counters_settle(&self, leader: &Node) {
        if !self.rate.counters {
            return;
        }
        let waits = |status: &Value, queue: CounterQueue| {
            status["counter_queues"][queue.name()]["increments"].as_u64().expect("a leader has queues") > 0
        };
        wait_for("every increment is counted", || {
            let status = status(&leader.url)?;
            (!CounterQueue::QUEUES.into_iter().any(|queue| waits(&status, queue))).then_some(())
        });
    }

    /// All is quiet and equal: every counter is what was accepted.
    pub(super) fn check_counters(&self, nodes: &[&Node]) {
        for (counter, accepted) in &*self.increments.lock() {
            for node in nodes {
                let answer = new_client().get(format!("{}/counter/{counter}", node.url)).send().expect("it answers");
                let read: Value = answer.json().expect("JSON");
                assert_eq!(read["value"].as_i64(), Some(*accepted), "{counter} at {}", node.url);
            }
        }
    }
}
