//! The result of a run, in the shape that `sunseo demo --json` prints.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// One comparison with the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub name: String,
    /// A number or a text.
    pub expected: Value,
    pub actual: Value,
    pub ok: bool,
}

impl Check {
    /// Holds when both are equal.
    pub fn equal(name: impl Into<String>, expected: impl Into<Value>, actual: impl Into<Value>) -> Self {
        let (expected, actual) = (expected.into(), actual.into());
        let ok = expected == actual;
        Self { name: name.into(), expected, actual, ok }
    }

    /// Holds when the number is above zero.
    pub fn positive(name: impl Into<String>, actual: u64) -> Self {
        Self { name: name.into(), expected: Value::from("> 0"), actual: Value::from(actual), ok: actual > 0 }
    }

    /// A comparison that could not be made counts as a difference; `why` says what to do.
    pub fn impossible(name: impl Into<String>, expected: impl Into<Value>, why: impl Into<String>) -> Self {
        Self { name: name.into(), expected: expected.into(), actual: Value::from(why.into()), ok: false }
    }
}

/// What a run found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Every check holds.
    pub ok: bool,
    pub seed: u64,
    pub checks: Vec<Check>,
    /// Measurements; the unit is the last part of the name, as in `latency_p99_ms`.
    pub figures: BTreeMap<String, f64>,
}

impl Report {
    /// A report over these checks.
    #[must_use]
    pub fn new(seed: u64, checks: Vec<Check>, figures: BTreeMap<String, f64>) -> Self {
        Self { ok: checks.iter().all(|check| check.ok), seed, checks, figures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_promised_shape() {
        let checks = vec![Check::equal("lost", 0, 0), Check::equal("duplicated", 0, 2)];
        let report = Report::new(7, checks, BTreeMap::from([("latency_p99_ms".to_owned(), 12.5)]));
        let json: Value = serde_json::to_value(&report).unwrap();
        let expected = serde_json::json!({
            "ok": false,
            "seed": 7,
            "checks": [
                {"name": "lost", "expected": 0, "actual": 0, "ok": true},
                {"name": "duplicated", "expected": 0, "actual": 2, "ok": false},
            ],
            "figures": {"latency_p99_ms": 12.5},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_could_not_be_compared_is_not_ok() {
        assert!(!Report::new(1, vec![Check::impossible("rows", 3, "no reader")], BTreeMap::new()).ok);
    }
}
