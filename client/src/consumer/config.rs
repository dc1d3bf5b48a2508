//! What a consumer can be told, and the limits of each value.

use std::time::Duration;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, v1};

use crate::retry::RetryPolicy;

/// Which partitions a consumer reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Exactly these.
    Partitions(Vec<(String, i32)>),
    /// Every partition of these topics, also of those to come. A name with `*` (any text) or `?` (any character) stands for every topic
    /// that fits, also of those to come; internal topics fit no pattern.
    Topics(Vec<String>),
    /// What the broker assigns to this member of the group.
    Group {
        group: String,
        /// Names and patterns, as in [`Subscription::Topics`].
        topics: Vec<String>,
        /// Name of a static member: on a restart it takes back what it owned. Empty for none.
        instance_id: String,
        /// "range" or "uniform"; empty takes the broker's default.
        assignor: String,
    },
}

/// Where a partition is read from when nothing is committed for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// The log start.
    #[default]
    Start,
    /// Only what is appended from now on.
    End,
    /// This offset, in every partition.
    Offset(i64),
    /// This many records before the end, in every partition.
    LastN(u64),
    /// The first record at or after this time, milliseconds since the Unix epoch.
    Timestamp(i64),
}

/// What happens when the position is no longer (or not yet) in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRangePolicy {
    /// `poll` fails with `OFFSET_OUT_OF_RANGE`.
    #[default]
    Error,
    /// Goes on at the log start.
    Start,
    /// Goes on at the end.
    End,
}

/// What a consumer sees of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Only records of committed transactions, and those that belong to none. Waits at the first record of a transaction that is
    /// not decided, so order is kept. The default, other than in Kafka: who never uses transactions pays nothing for it, and who
    /// does must not be able to forget it and act upon what was taken back.
    #[default]
    ReadCommitted,
    /// Everything that is in the log, also what is undecided or aborted.
    ReadUncommitted,
}

impl From<Isolation> for i32 {
    fn from(isolation: Isolation) -> Self {
        Self::from(v1::Isolation::from(isolation))
    }
}

impl From<Isolation> for v1::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::ReadCommitted => Self::ReadCommitted,
            Isolation::ReadUncommitted => Self::ReadUncommitted,
        }
    }
}

/// How a consumer reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    pub subscription: Subscription,
    pub from: StartFrom,
    pub on_out_of_range: OutOfRangePolicy,
    pub isolation: Isolation,
    /// In a group: commit what earlier polls handed out, at most this often and whenever a partition is given up. `None`: only
    /// [`commit`](super::Consumer::commit) does.
    pub auto_commit: Option<Duration>,
    /// Most records of one poll.
    pub max_poll_records: usize,
    /// Bytes of one fetch answer.
    pub fetch_bytes: u32,
    /// Bytes of one partition in a fetch answer.
    pub partition_fetch_bytes: u32,
    /// Bytes of records that are fetched ahead and not yet polled.
    pub prefetch_bytes: usize,
    /// Bytes that the broker waits for before it answers, at most `fetch_wait`.
    pub min_bytes: u32,
    /// Longest wait of the broker for `min_bytes`.
    pub fetch_wait: Duration,
    /// Time without a heartbeat after which the broker removes the member, and the member stops by itself; zero takes the
    /// broker's default, which the member does not know.
    pub session_timeout: Duration,
    /// Time without a poll after which the member leaves its group by itself, so that others go on.
    pub max_poll_interval: Duration,
    /// Time between two looks at the topics of the subscription: new partitions, and new topics of a pattern, are found within it. A
    /// group follows the partitions of topics that it names without looking.
    pub metadata_interval: Duration,
    /// Spacing of repeated attempts; a deadline bounds commits and the start, fetches are repeated for ever.
    pub retry: RetryPolicy,
}

impl ConsumerConfig {
    fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            from: StartFrom::default(),
            on_out_of_range: OutOfRangePolicy::default(),
            isolation: Isolation::default(),
            auto_commit: None,
            max_poll_records: 4096,
            fetch_bytes: 16 << 20,
            partition_fetch_bytes: 1 << 20,
            prefetch_bytes: 32 << 20,
            min_bytes: 1,
            fetch_wait: Duration::from_millis(500),
            session_timeout: Duration::from_secs(30),
            max_poll_interval: Duration::from_secs(300),
            metadata_interval: Duration::from_secs(5),
            retry: RetryPolicy::default().until(Duration::from_secs(60)),
        }
    }

    /// Reads exactly these partitions.
    pub fn partitions<T: Into<String>>(partitions: impl IntoIterator<Item = (T, i32)>) -> Self {
        let partitions = partitions.into_iter().map(|(topic, partition)| (topic.into(), partition)).collect();
        Self::new(Subscription::Partitions(partitions))
    }

    /// Reads every partition of these topics, without a group.
    pub fn topics<T: Into<String>>(topics: impl IntoIterator<Item = T>) -> Self {
        Self::new(Subscription::Topics(topics.into_iter().map(Into::into).collect()))
    }

    /// Reads as a member of a group, with automatic commits every 5 seconds.
    pub fn group<T: Into<String>>(group: impl Into<String>, topics: impl IntoIterator<Item = T>) -> Self {
        let (group, topics) = (group.into(), topics.into_iter().map(Into::into).collect());
        let (instance_id, assignor) = (String::new(), String::new());
        let mut config = Self::new(Subscription::Group { group, topics, instance_id, assignor });
        config.auto_commit = Some(Duration::from_secs(5));
        config
    }

    /// The same configuration with another start.
    #[must_use]
    pub fn from(mut self, from: StartFrom) -> Self {
        self.from = from;
        self
    }

    /// The same configuration with another view of transactions.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// The same configuration of a static member: a process that comes back under this name takes back what it had, and one that is still
    /// there is fenced.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        if let Subscription::Group { instance_id, .. } = &mut self.subscription {
            *instance_id = name.into();
        }
        self
    }

    /// The same configuration without automatic commits.
    #[must_use]
    pub fn manual_commit(mut self) -> Self {
        self.auto_commit = None;
        self
    }

    /// # Errors
    /// `INVALID_ARGUMENT` that names the field, its value and its range.
    pub fn validate(&self) -> Result<()> {
        let positive = |field: &str, value: usize| match value {
            0 => Err(Error::invalid(field, format!("{field} is 0: use at least 1"))),
            _ => Ok(()),
        };
        positive("max_poll_records", self.max_poll_records)?;
        positive("fetch_bytes", self.fetch_bytes as usize)?;
        positive("partition_fetch_bytes", self.partition_fetch_bytes as usize)?;
        positive("prefetch_bytes", self.prefetch_bytes)?;
        let (topics, what) = match &self.subscription {
            Subscription::Partitions(partitions) => (partitions.len(), "partition"),
            Subscription::Topics(topics) | Subscription::Group { topics, .. } => (topics.len(), "topic"),
        };
        if topics == 0 {
            return Err(Error::invalid(
                "subscription",
                format!("no {what} is named: name at least one {what}"),
            ));
        }
        match &self.subscription {
            Subscription::Group { group, .. } if group.is_empty() => {
                Err(Error::invalid("group", "the group has no name: give it one"))
            }
            _ => Ok(()),
        }
    }
}
