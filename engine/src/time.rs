//! Stream time: which buffered record is next, and how time moves on when no record comes.

/// The first buffered record of an input partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub timestamp_ms: i64,
    /// Decides between equal timestamps; the smaller goes first. The place of the input in the task's list of inputs.
    pub input: usize,
}

/// The input whose record is processed next: the smallest timestamp among those that have one buffered, as Kafka Streams
/// does at best effort. `None` when nothing is buffered.
///
/// Inputs without a buffered record do not hold the others back; a caller that wants to wait for them does so before.
#[must_use]
pub fn choose_next(heads: impl IntoIterator<Item = Head>) -> Option<usize> {
    heads.into_iter().min_by_key(|head| (head.timestamp_ms, head.input)).map(|head| head.input)
}

/// Lets the stream time of an idle task follow the wall clock, so that time-outs fire when the last record has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleClock {
    idle_after_ms: i64,
    last_record_at_ms: i64,
}

impl IdleClock {
    /// A task counts as idle when no record came for `idle_after_ms` of wall clock.
    #[must_use]
    pub fn new(idle_after_ms: i64, now_ms: i64) -> Self {
        Self { idle_after_ms: idle_after_ms.max(0), last_record_at_ms: now_ms }
    }

    /// Records came.
    pub fn active(&mut self, now_ms: i64) {
        self.last_record_at_ms = now_ms;
    }

    /// The stream time an idle task should have, `None` while it is not idle. `at_last_record_ms` is the stream time when
    /// the last record came: from there it moves as the wall clock did.
    #[must_use]
    pub fn stream_time_ms(&self, at_last_record_ms: Option<i64>, now_ms: i64) -> Option<i64> {
        let idle_ms = now_ms.saturating_sub(self.last_record_at_ms);
        (idle_ms >= self.idle_after_ms).then_some(at_last_record_ms?.saturating_add(idle_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_is_next_and_ties_go_by_input() {
        let head = |input, timestamp_ms| Head { timestamp_ms, input };
        assert_eq!(choose_next([head(0, 7), head(1, 3), head(2, 3)]), Some(1));
        assert_eq!(choose_next([head(2, 3), head(1, 3)]), Some(1));
        assert_eq!(choose_next([]), None);
    }

    #[test]
    fn an_idle_task_follows_the_wall_clock() {
        let mut clock = IdleClock::new(100, 1_000);
        assert_eq!(clock.stream_time_ms(Some(5), 1_099), None);
        assert_eq!(clock.stream_time_ms(Some(5), 1_100), Some(105));
        assert_eq!(clock.stream_time_ms(None, 9_000), None);
        clock.active(1_050);
        assert_eq!(clock.stream_time_ms(Some(5), 1_149), None);
    }
}
