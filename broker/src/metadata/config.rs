//! A topic's settings: text to values, each with its range. Pure.
//!
//! Settings are complete from the day a topic is made: what its creation does not name is taken from the node's defaults then, so that a later
//! change of the defaults changes no topic.

use std::collections::HashMap;

use sunseo_proto::error::{Error, Result};
use sunseo_proto::v1;

/// Acknowledged means on disk.
pub(crate) const FSYNC: &str = "fsync";
/// Acknowledged means in the page cache of every in-sync replica.
pub(crate) const REPLICATED: &str = "replicated";

/// Largest record batch a topic may allow; a request that carries it must fit in one gRPC message.
pub(crate) const BATCH_BYTES_MAX: i64 = 64 << 20;
/// Largest segment; positions in an index are 32 bits.
pub(crate) const SEGMENT_BYTES_MAX: i64 = 1 << 30;

/// A number with its range.
struct Number {
    name: &'static str,
    min: i64,
    max: i64,
    /// Whether -1, "without limit", is allowed too.
    unlimited: bool,
    field: fn(&mut v1::TopicConfig) -> &mut i64,
}

const fn number(
    name: &'static str,
    range: (i64, i64),
    unlimited: bool,
    field: fn(&mut v1::TopicConfig) -> &mut i64,
) -> Number {
    Number { name, min: range.0, max: range.1, unlimited, field }
}

const NUMBERS: [Number; 9] = [
    number("retention_ms", (1, i64::MAX), true, |c| &mut c.retention_ms),
    number("retention_bytes", (1, i64::MAX), true, |c| &mut c.retention_bytes),
    number("segment_bytes", (1 << 10, SEGMENT_BYTES_MAX), false, |c| &mut c.segment_bytes),
    number("segment_ms", (100, i64::MAX), true, |c| &mut c.segment_ms),
    number("max_batch_bytes", (1 << 10, BATCH_BYTES_MAX), false, |c| &mut c.max_batch_bytes),
    number("local_retention_bytes", (0, i64::MAX), true, |c| &mut c.local_retention_bytes),
    number("local_retention_ms", (0, i64::MAX), true, |c| &mut c.local_retention_ms),
    number("delete_retention_ms", (0, i64::MAX), false, |c| &mut c.delete_retention_ms),
    number("min_compaction_lag_ms", (0, i64::MAX), false, |c| &mut c.min_compaction_lag_ms),
];

/// Old segments go by age and size.
pub(crate) const DELETE: &str = "delete";
/// Of each key the newest record stays.
pub(crate) const COMPACT: &str = "compact";
/// Both.
pub(crate) const COMPACT_DELETE: &str = "compact,delete";

const CLEANUP: &str = "cleanup";
const MIN_DIRTY_RATIO: &str = "min_dirty_ratio";
const DURABILITY: &str = "durability";
const TIERED: &str = "tiered";

/// What a topic gets when neither its creation nor the node's configuration says otherwise.
#[must_use]
pub fn default_topic_config() -> v1::TopicConfig {
    v1::TopicConfig {
        retention_ms: 7 * 24 * 3_600_000,
        retention_bytes: -1,
        segment_bytes: 128 << 20,
        segment_ms: 24 * 3_600_000,
        max_batch_bytes: 8 << 20,
        durability: FSYNC.to_owned(),
        tiered: false,
        local_retention_bytes: -1,
        local_retention_ms: -1,
        cleanup: DELETE.to_owned(),
        delete_retention_ms: 24 * 3_600_000,
        min_compaction_lag_ms: 0,
        min_dirty_ratio: "0.5".to_owned(),
    }
}

/// What an earlier version stored, with what it did not know.
pub(crate) fn completed(mut config: v1::TopicConfig) -> v1::TopicConfig {
    if config.cleanup.is_empty() {
        let defaults = default_topic_config();
        config.cleanup = defaults.cleanup;
        config.delete_retention_ms = defaults.delete_retention_ms;
        config.min_dirty_ratio = defaults.min_dirty_ratio;
    }
    config
}

/// The settings `base` with `changes` on top.
pub(crate) fn with_changes(
    base: &v1::TopicConfig,
    changes: &HashMap<String, String>,
) -> Result<v1::TopicConfig> {
    let mut config = base.clone();
    let mut changes: Vec<_> = changes.iter().collect();
    // of several wrong ones always the same is named
    changes.sort_unstable();
    for (key, value) in changes {
        set(&mut config, key, value)?;
    }
    check_together(&config)?;
    Ok(config)
}

/// Whether complete settings are within their ranges, those of the node's configuration for instance.
pub(crate) fn check(config: &v1::TopicConfig) -> Result<()> {
    let mut copy = config.clone();
    for number in &NUMBERS {
        let value = *(number.field)(&mut copy);
        number.check(value, &value.to_string())?;
    }
    durability(&config.durability)?;
    cleanup(&config.cleanup)?;
    dirty_permille(&config.min_dirty_ratio)?;
    check_together(config)
}

/// What cannot be together.
fn check_together(config: &v1::TopicConfig) -> Result<()> {
    if config.tiered && config.cleanup != DELETE {
        let remedy = "a tiered topic is not compacted, because what was offloaded stays as it is: set tiered to false, or cleanup to \"delete\"";
        return Err(refused(CLEANUP, &config.cleanup, remedy));
    }
    Ok(())
}

fn cleanup(value: &str) -> Result<&'static str> {
    match value {
        DELETE => Ok(DELETE),
        COMPACT => Ok(COMPACT),
        COMPACT_DELETE | "delete,compact" => Ok(COMPACT_DELETE),
        _ => Err(refused(CLEANUP, value, "use \"delete\", \"compact\" or \"compact,delete\"")),
    }
}

/// A decimal from 0 to 1 in thousandths.
pub(crate) fn dirty_permille(value: &str) -> Result<u32> {
    match value.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok((ratio * 1_000.0).round() as u32),
        _ => Err(refused(MIN_DIRTY_RATIO, value, "use a decimal from 0 to 1, such as 0.5")),
    }
}

fn set(config: &mut v1::TopicConfig, key: &str, value: &str) -> Result<()> {
    if let Some(number) = NUMBERS.iter().find(|number| number.name == key) {
        *(number.field)(config) = number.parse(value)?;
        return Ok(());
    }
    match key {
        CLEANUP => config.cleanup = cleanup(value)?.to_owned(),
        MIN_DIRTY_RATIO => {
            dirty_permille(value)?;
            config.min_dirty_ratio = value.to_owned();
        }
        DURABILITY => config.durability = durability(value)?.to_owned(),
        TIERED => {
            config.tiered = match value {
                "true" => true,
                "false" => false,
                _ => return Err(refused(TIERED, value, "use \"true\" or \"false\"")),
            }
        }
        _ => return Err(unknown(key)),
    }
    Ok(())
}

fn durability(value: &str) -> Result<&str> {
    match value {
        FSYNC | REPLICATED => Ok(value),
        _ => Err(refused(DURABILITY, value, "use \"fsync\" or \"replicated\"")),
    }
}

impl Number {
    fn parse(&self, text: &str) -> Result<i64> {
        match text.parse() {
            Ok(value) => self.check(value, text),
            Err(_) => Err(refused(self.name, text, &self.remedy())),
        }
    }

    fn check(&self, value: i64, text: &str) -> Result<i64> {
        if (self.min..=self.max).contains(&value) || (self.unlimited && value == -1) {
            return Ok(value);
        }
        Err(refused(self.name, text, &self.remedy()))
    }

    fn remedy(&self) -> String {
        let unlimited = if self.unlimited { ", or -1 for no limit" } else { "" };
        match self.max {
            i64::MAX => format!("use a whole number from {}{unlimited}", self.min),
            max => format!("use a whole number from {} to {max}{unlimited}", self.min),
        }
    }
}

fn refused(key: &str, value: &str, remedy: &str) -> Error {
    let value: String = value.chars().take(64).collect();
    Error::invalid(format!("config.{key}"), format!("{key} cannot be {value:?}: {remedy}"))
}

fn unknown(key: &str) -> Error {
    let known =
        NUMBERS.iter().map(|number| number.name).chain([DURABILITY, TIERED, CLEANUP, MIN_DIRTY_RATIO]);
    let nearest = known.min_by_key(|name| edits(key, name)).unwrap_or_default();
    let key: String = key.chars().take(64).collect();
    Error::invalid(
        format!("config.{key}"),
        format!("topics have no setting {key:?}: did you mean \"{nearest}\"?"),
    )
}

/// Least number of inserted, deleted or replaced bytes that turn one text into the other.
fn edits(from: &str, to: &str) -> usize {
    let from = &from.as_bytes()[..from.len().min(64)];
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(*a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[(&str, &str)]) -> Result<v1::TopicConfig> {
        let changes = changes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        with_changes(&default_topic_config(), &changes)
    }

    #[test]
    fn what_is_not_named_stays() {
        let config = changed(&[
            ("retention_ms", "-1"),
            ("tiered", "true"),
            ("durability", "replicated"),
            ("segment_bytes", "1048576"),
            ("local_retention_bytes", "0"),
        ])
        .expect("accepted");
        let expected = v1::TopicConfig {
            retention_ms: -1,
            tiered: true,
            durability: REPLICATED.to_owned(),
            segment_bytes: 1 << 20,
            local_retention_bytes: 0,
            ..default_topic_config()
        };
        assert_eq!(config, expected);
        assert_eq!(changed(&[]), Ok(default_topic_config()));
        assert_eq!(check(&config), Ok(()));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_range() {
        for (key, value, part) in [
            ("retention_ms", "0", "from 1, or -1"),
            ("retention_ms", "-2", "or -1 for no limit"),
            ("retention_ms", "7d", "whole number"),
            ("segment_bytes", "-1", "from 1024 to 1073741824"),
            ("segment_bytes", "1023", "from 1024"),
            ("max_batch_bytes", "67108865", "to 67108864"),
            ("segment_ms", "99", "from 100"),
            ("tiered", "yes", "\"true\" or \"false\""),
            ("cleanup", "compact,compact", "\"compact,delete\""),
            ("min_dirty_ratio", "1.01", "from 0 to 1"),
            ("min_dirty_ratio", "NaN", "from 0 to 1"),
            ("delete_retention_ms", "-1", "from 0"),
            ("durability", "none", "\"fsync\" or \"replicated\""),
        ] {
            let refused = changed(&[(key, value)]).expect_err(key);
            assert!(refused.message.contains(part), "{refused}");
            assert_eq!(refused.field, Some(format!("config.{key}")));
        }
        let wrong = v1::TopicConfig { segment_bytes: 0, ..default_topic_config() };
        assert!(check(&wrong).is_err());
        let wrong = v1::TopicConfig { durability: String::new(), ..default_topic_config() };
        assert!(check(&wrong).is_err());
    }

    #[test]
    fn a_topic_is_tiered_or_compacted() {
        let both = [("tiered", "true"), ("cleanup", "compact")];
        let refused = changed(&both).expect_err("not together");
        assert_eq!(refused.field.as_deref(), Some("config.cleanup"));
        assert!(refused.message.contains("tiered"), "{refused}");
        let config =
            changed(&[("cleanup", "delete,compact"), ("min_dirty_ratio", "0.05")]).expect("accepted");
        assert_eq!(
            (config.cleanup.as_str(), dirty_permille(&config.min_dirty_ratio)),
            (COMPACT_DELETE, Ok(50))
        );
        let wrong = v1::TopicConfig { tiered: true, ..config };
        assert!(check(&wrong).is_err());
        let old = v1::TopicConfig {
            cleanup: String::new(),
            min_dirty_ratio: String::new(),
            delete_retention_ms: 0,
            ..default_topic_config()
        };
        assert_eq!(completed(old), default_topic_config());
    }

    #[test]
    fn an_unknown_setting_is_refused_with_the_nearest_known_one() {
        for (key, nearest) in [
            ("retention.ms", "retention_ms"),
            ("segmentbytes", "segment_bytes"),
            ("Tiered", "tiered"),
            ("local_retention", "local_retention_ms"),
            ("", "tiered"),
        ] {
            let refused = changed(&[(key, "1")]).expect_err(key);
            assert!(refused.message.contains(&format!("\"{nearest}\"")), "{refused}");
        }
    }
}
