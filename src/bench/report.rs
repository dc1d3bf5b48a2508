//! What a measurement found: facts about how it was made, and figures whose unit is the last part of their name.

use serde_json::{Map, Value, json};
use sunseo_client::Client;

use super::histogram::Histogram;
use crate::cli::failure::Outcome;

#[derive(Debug)]
pub struct Report {
    facts: Vec<(String, Value)>,
    figures: Vec<(String, f64)>,
}

impl Report {
    /// About this server.
    pub fn new(server: &str) -> Self {
        let mut report = Self { facts: Vec::new(), figures: Vec::new() };
        report.fact("server", server);
        report
    }

    pub fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    pub fn figure(&mut self, name: &str, value: f64) {
        self.figures.push((name.to_owned(), value));
    }

    /// Records and payload bytes over a time.
    pub fn throughput(&mut self, records: u64, record_bytes: usize, seconds: f64) {
        self.figure("duration_s", seconds);
        self.figure("records", records as f64);
        self.figure("throughput_records_per_s", records as f64 / seconds);
        self.figure("throughput_mb_per_s", records as f64 * record_bytes as f64 / seconds / 1e6);
    }

    /// Quantiles of times.
    pub fn latency(&mut self, name: &str, times: &Histogram) {
        let ms = |micros: u64| micros as f64 / 1e3;
        for (quantile, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            self.figure(&format!("{name}_{quantile}_ms"), ms(times.quantile(share)));
        }
        self.figure(&format!("{name}_max_ms"), ms(times.max()));
    }

    /// What the topic says about itself, not what was asked for.
    pub async fn durability(&mut self, client: &Client, topic: &str) -> Outcome {
        let config = client.admin().describe_topic(topic).await?.topic.and_then(|topic| topic.config);
        self.fact("durability", config.unwrap_or_default().durability);
        Ok(())
    }

    pub fn to_json(&self, bench: &str) -> Value {
        let mut object = Map::new();
        object.insert("bench".to_owned(), bench.into());
        object.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        object.insert("commit".to_owned(), env!("SUNSEO_COMMIT").into());
        object.extend(self.facts.iter().cloned());
        object
            .insert("figures".to_owned(), self.figures.iter().map(|(n, v)| (n.clone(), json!(v))).collect());
        Value::Object(object)
    }

    pub fn facts(&self) -> &[(String, Value)] {
        &self.facts
    }

    pub fn figures(&self) -> &[(String, f64)] {
        &self.figures
    }
}
