//! The numbers of replication in `/metrics`, written at each scrape from what is known then: the label of a replica that
//! was forgotten is gone with it, which the exporter's own registry would keep for ever.

use super::{Api, Role};
use crate::replication::SenderStatus;
use std::fmt::{self, Display, Write};

/// Adds the leader's numbers of each replica, or the lag of a follower.
pub(super) fn of_replication(api: &Api, text: &mut String) {
    if let Role::Leader { registry, .. } = &api.role {
        of_replicas(&registry.statuses(), text);
    }
    if let Some(lag_ms) = api.view.lag_ms() {
        let name = "memdb_lag_seconds";
        let help = "Seconds since the node last had all that its leader had.";
        family(text, name, "gauge", help, [(String::new(), lag_ms as f64 / 1e3)]);
    }
}

fn of_replicas(replicas: &[SenderStatus], text: &mut String) {
    let labelled = |value: fn(&SenderStatus) -> Option<u64>| {
        replicas
            .iter()
            .filter_map(move |one| Some((format!("{{replica=\"{}\"}}", Escaped(&one.url)), value(one)?)))
            .collect::<Vec<_>>()
    };
    for (name, kind, help, value) in REPLICA_NUMBERS {
        family(text, name, kind, help, labelled(*value));
    }
}

type Number = (&'static str, &'static str, &'static str, fn(&SenderStatus) -> Option<u64>);

const REPLICA_NUMBERS: &[Number] = &[
    ("memdb_replica_connected", "gauge", "1 while the replica is on this history and answers in time.", |one| {
        Some(u64::from(one.state == "streaming"))
    }),
    ("memdb_replica_lag_records", "gauge", "Records the replica is behind.", |one| Some(one.lag_records)),
    ("memdb_replica_position", "gauge", "The sequence the replica has applied.", |one| Some(one.applied)),
    ("memdb_replica_synced_position", "gauge", "The sequence the replica has synced, if it keeps files.", |one| {
        one.synced
    }),
    ("memdb_replica_failed_exchanges_total", "counter", "Exchanges with the replica that failed.", |one| {
        Some(one.failed_exchanges)
    }),
];

/// One number with its description, once for each set of labels; nothing without any.
fn family(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, impl Display)>,
) {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return;
    }
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes everything");
    for (labels, value) in values {
        writeln!(text, "{name}{labels} {value}").expect("a String takes everything");
    }
    text.push('\n');
}

/// A label's value, as Prometheus reads it.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(url: &str, synced: Option<u64>) -> SenderStatus {
        SenderStatus {
            url: url.to_owned(),
            state: "streaming",
            position: None,
            applied: 7,
            synced,
            lag_records: 3,
            silent_ms: None,
            failures: 0,
            failed_exchanges: 2,
        }
    }

    #[test]
    fn each_number_is_described_once_and_labels_are_escaped() {
        let mut text = String::new();
        of_replicas(&[status("http://a:1", Some(5)), status("odd\"\\\n", None)], &mut text);
        assert_eq!(text.matches("# TYPE memdb_replica_position gauge\n").count(), 1);
        for line in [
            "memdb_replica_connected{replica=\"http://a:1\"} 1\n",
            "memdb_replica_lag_records{replica=\"odd\\\"\\\\\\n\"} 3\n",
            "memdb_replica_failed_exchanges_total{replica=\"http://a:1\"} 2\n",
            "# TYPE memdb_replica_synced_position gauge\nmemdb_replica_synced_position{replica=\"http://a:1\"} 5\n\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        let mut none = String::new();
        of_replicas(&[], &mut none);
        assert_eq!(none, "");
    }
}
