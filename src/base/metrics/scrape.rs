//! Families of what is known only at a scrape, with labels that come and go: the series of a replica that was forgotten
//! is gone with it, which the registry of a node would keep for ever.

use prometheus::{CounterVec, GaugeVec, Opts, Registry, proto::MetricFamily};

/// Families that live for one scrape.
#[derive(Default)]
pub struct ScrapeFamilies {
    registry: Registry,
}

impl ScrapeFamilies {
    /// Adds a gauge with a value for each set of labels; nothing where there are no values.
    ///
    /// # Panics
    /// If the name is no metric's name or was added before, or if a value has not as many labels as there are names.
    pub fn gauge<'a>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = (Vec<&'a str>, f64)>,
    ) {
        let gauge = GaugeVec::new(Opts::new(name, help), labels).expect("names are constants");
        for (labels, value) in values {
            gauge.with_label_values(&labels).set(value);
        }
        self.registry.register(Box::new(gauge)).expect("each name is added once");
    }

    /// Adds a counter likewise, each with the value that it has come to.
    ///
    /// # Panics
    /// As [`ScrapeFamilies::gauge`], and if a value is negative.
    pub fn counter<'a>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = (Vec<&'a str>, f64)>,
    ) {
        let counter = CounterVec::new(Opts::new(name, help), labels).expect("names are constants");
        for (labels, value) in values {
            counter.with_label_values(&labels).inc_by(value);
        }
        self.registry.register(Box::new(counter)).expect("each name is added once");
    }

    /// The families that have a value.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
