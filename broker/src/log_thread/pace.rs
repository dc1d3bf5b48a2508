//! How long a group commit waits for company. Pure.
//!
//! Clients that wait for their answers come again together, right after a sync. Without a pause the first of them would have the next
//! sync for itself, and the others the one after it: half the syncs for nobody. So a group waits until as many are there as were in
//! the last one, and no longer than a part of what that one took. When they do not come, the next group expects only those who did, so
//! a load that changes pays once. A client alone never waits.

use std::time::Duration;

use crate::queue::Company;

/// Groups that are larger wait for nobody: their sync is shared by enough.
const COMMANDS_MAX: usize = 64;

/// Longest pause.
const WAIT_MAX: Duration = Duration::from_millis(1);

/// A commit that is shorter than this costs less than a pause.
const WORTHWHILE: Duration = Duration::from_micros(50);

/// What the last commit was like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    commands: usize,
    took: Duration,
}

impl Pace {
    /// Whom the next group waits for.
    pub(crate) fn company(&self) -> Company {
        if self.took < WORTHWHILE || !(2..=COMMANDS_MAX).contains(&self.commands) {
            return Company::default();
        }
        Company { commands: self.commands, wait: self.took.min(WAIT_MAX) }
    }

    /// A group of so many commands was committed.
    pub(crate) fn took(&mut self, commands: usize, took: Duration) {
        *self = Self { commands, took };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_micros(200);

    fn after(commands: usize, took: Duration) -> Company {
        let mut pace = Pace::default();
        pace.took(commands, took);
        pace.company()
    }

    #[test]
    fn a_group_expects_as_many_as_the_last_one_for_as_long_as_that_took() {
        assert_eq!(after(16, SYNC), Company { commands: 16, wait: SYNC });
        assert_eq!(after(16, Duration::from_secs(1)).wait, WAIT_MAX);
    }

    #[test]
    fn nobody_waits_when_it_would_not_pay() {
        assert_eq!(Pace::default().company(), Company::default());
        assert_eq!(after(1, SYNC), Company::default(), "alone");
        assert_eq!(after(COMMANDS_MAX + 1, SYNC), Company::default(), "a sync that is well used");
        assert_eq!(after(16, Duration::from_micros(10)), Company::default(), "nothing was synced");
    }
}
