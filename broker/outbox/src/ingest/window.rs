//! Checksums of the last events of a pushed shard, to tell a repeat from other content under the same sequence. Pure.

use std::collections::VecDeque;

/// Events that are remembered. A repeat of an older one is taken for what it says it is.
pub const WINDOW_EVENTS_MAX: usize = 1_024;

/// A run of checksums by sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    first: i64,
    checksums: VecDeque<u32>,
}

impl Window {
    /// The checksum of a sequence, `None` when it is not remembered.
    #[must_use]
    pub fn get(&self, sequence: i64) -> Option<u32> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.checksums.get(index).copied()
    }

    /// Everything that is remembered: the first sequence and the checksums from it on.
    #[must_use]
    pub fn all(&self) -> (i64, Vec<u32>) {
        (self.first, self.checksums.iter().copied().collect())
    }

    /// The last sequence that is remembered, 0 when none is.
    #[must_use]
    pub fn last(&self) -> i64 {
        if self.checksums.is_empty() { 0 } else { self.first + self.checksums.len() as i64 - 1 }
    }

    /// Remembers a checksum. What does not follow the others begins anew.
    pub fn set(&mut self, sequence: i64, checksum: u32) {
        let next = self.first + self.checksums.len() as i64;
        if let Some(known) =
            usize::try_from(sequence - self.first).ok().and_then(|at| self.checksums.get_mut(at))
        {
            *known = checksum;
            return;
        }
        if sequence != next || self.checksums.is_empty() {
            self.checksums.clear();
            self.first = sequence;
        }
        self.checksums.push_back(checksum);
        if self.checksums.len() > WINDOW_EVENTS_MAX {
            self.checksums.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_can_be_replaced() {
        let mut window = Window::default();
        let last = WINDOW_EVENTS_MAX as i64 + 5;
        for sequence in 1..=last {
            window.set(sequence, sequence as u32);
        }
        assert_eq!(
            [0, 5, 6, last, last + 1].map(|s| window.get(s)),
            [None, None, Some(6), Some(last as u32), None]
        );
        window.set(6, 60);
        assert_eq!(window.get(6), Some(60));
        window.set(5_000_000, 1);
        assert_eq!([window.get(last), window.get(5_000_000)], [None, Some(1)]);
    }
}
