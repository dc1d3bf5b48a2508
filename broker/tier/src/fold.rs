//! The fold of what `__tier` holds: records, and summaries that stand for those before them. Pure.
//!
//! Rules: a summary counts when its last part is there and every part lies at its offset, one behind the other; until then, and if that
//! never comes, the records before it count. What follows it folds on top.

use crate::manifest::Manifest;
use crate::record::TierRecord;
use crate::summary::SummaryPart;

/// The manifest, and how far the topic was read for it.
#[derive(Debug)]
pub struct Fold {
    manifest: Manifest,
    next: i64,
    since: u64,
    summary: Option<Summary>,
    /// The summary whose last part has not come yet.
    begun: Option<Begun>,
}

/// The newest summary that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Offset of its first part: what lies below is not needed.
    pub base: i64,
    /// What it is made of.
    pub facts: u64,
}

#[derive(Debug)]
struct Begun {
    base: i64,
    of: u32,
    /// Parts that have come.
    parts: u32,
    facts: u64,
    manifest: Manifest,
}

impl Begun {
    fn at(part: &SummaryPart) -> Self {
        Self { base: part.base, of: part.of, parts: 0, facts: 0, manifest: Manifest::default() }
    }

    fn goes_on_with(&self, part: &SummaryPart) -> bool {
        (part.base, part.of, part.index) == (self.base, self.of, self.parts)
    }

    fn take_in(&mut self, part: SummaryPart) {
        self.parts += 1;
        self.facts += part.facts.len() as u64;
        for fact in part.facts {
            self.manifest.take_in(fact);
        }
    }
}

impl Fold {
    /// Of nothing; the topic begins at this offset.
    #[must_use]
    pub fn starting_at(offset: i64) -> Self {
        Self { manifest: Manifest::default(), next: offset, since: 0, summary: None, begun: None }
    }

    /// Takes in the record at an offset.
    pub fn apply(&mut self, offset: i64, record: TierRecord) {
        self.next = offset.saturating_add(1);
        self.since = self.since.saturating_add(1);
        // whatever comes between two parts is missing in their summary
        let begun = self.begun.take();
        match record {
            TierRecord::Summary(part) => self.take_part(begun, offset, part),
            record => self.manifest.apply(&record),
        }
    }

    fn take_part(&mut self, begun: Option<Begun>, offset: i64, part: SummaryPart) {
        if offset != part.offset() || part.index >= part.of {
            return;
        }
        let mut summary = match begun {
            _ if part.index == 0 => Begun::at(&part),
            Some(begun) if begun.goes_on_with(&part) => begun,
            _ => return,
        };
        summary.take_in(part);
        if summary.parts < summary.of {
            self.begun = Some(summary);
            return;
        }
        self.summary = Some(Summary { base: summary.base, facts: summary.facts });
        self.manifest = summary.manifest;
        self.since = 0;
    }

    /// What the records come to.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Offset of the next record.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Records after the newest summary that counts.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since
    }

    /// The newest summary that counts.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        self.summary
    }
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
