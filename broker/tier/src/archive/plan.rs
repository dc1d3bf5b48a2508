//! When a table's partition is cut, pure.

use std::ops::Range;

use super::ledger::TableProgress;

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct CutFacts {
    pub log_start: i64,
    pub high_watermark: i64,
    pub now_ms: i64,
    /// Cut whatever is there.
    pub flush: bool,
    /// Records after which a cut is made.
    pub rows: i64,
    /// Age after which a cut is made: since the last one, so no record waits longer.
    pub age_ms: i64,
}

/// The offsets that a cut may take now; it may end earlier, at a limit of size.
#[must_use]
pub fn decide(progress: &TableProgress, facts: CutFacts) -> Option<Range<i64>> {
    let from = progress.through.max(facts.log_start);
    let waiting = facts.high_watermark.saturating_sub(from);
    if waiting <= 0 || progress.open_cut.is_some() {
        return None;
    }
    let old = facts.now_ms.saturating_sub(progress.last_cut_ms) >= facts.age_ms;
    (waiting >= facts.rows || old || facts.flush).then_some(from..facts.high_watermark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(through: i64) -> TableProgress {
        TableProgress { through, open_cut: None, last_cut_ms: 1_000, incarnation: 1 }
    }

    fn facts(high_watermark: i64) -> CutFacts {
        CutFacts { log_start: 0, high_watermark, now_ms: 1_500, flush: false, rows: 100, age_ms: 900 }
    }

    #[test]
    fn rows_age_and_a_flush_each_cut() {
        assert_eq!(decide(&progress(10), facts(109)), None, "99 rows, 500 ms");
        assert_eq!(decide(&progress(10), facts(110)), Some(10..110));
        assert_eq!(decide(&progress(10), CutFacts { now_ms: 1_900, ..facts(11) }), Some(10..11));
        assert_eq!(decide(&progress(10), CutFacts { flush: true, ..facts(11) }), Some(10..11));
        assert_eq!(decide(&progress(11), CutFacts { flush: true, ..facts(11) }), None, "nothing is there");
    }

    #[test]
    fn records_that_were_deleted_are_passed_over() {
        assert_eq!(decide(&progress(10), CutFacts { log_start: 50, ..facts(200) }), Some(50..200));
        assert_eq!(decide(&progress(10), CutFacts { log_start: 200, flush: true, ..facts(200) }), None);
    }
}
