//! Deliveries by district and status: expected against queried live.

use std::collections::BTreeMap;

use crate::event::Status;
use crate::report::Check;
use crate::truth::Counts;

/// The comparisons. A count of 0 is the same as none.
pub fn checks(expected: &Counts, queried: &Counts) -> Vec<Check> {
    let present = |counts: &Counts| -> Counts {
        counts.iter().filter(|(_, count)| **count > 0).map(|(key, count)| (key.clone(), *count)).collect()
    };
    let (expected, queried) = (present(expected), present(queried));
    let same = expected.iter().filter(|(key, count)| queried.get(*key) == Some(*count)).count();
    let strange = queried.keys().filter(|key| !expected.contains_key(*key)).count();
    let mut checks: Vec<Check> = Status::ALL
        .iter()
        .map(|&status| {
            let name = format!("deliveries {}, counted live", status.as_str().replace('_', " "));
            let sum = |counts: &Counts| by_status(counts).get(&status).copied().unwrap_or(0);
            Check::equal(name, sum(&expected), sum(&queried))
        })
        .collect();
    checks.push(Check::equal("counts by district and status that agree", expected.len(), same));
    checks.push(Check::equal("counts by district and status that should not be there", 0, strange));
    checks
}

fn by_status(counts: &Counts) -> BTreeMap<Status, u64> {
    let mut sums = BTreeMap::new();
    for ((_, status), count) in counts {
        *sums.entry(*status).or_default() += count;
    }
    sums
}
