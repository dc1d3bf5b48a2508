//! Names of sources, shards and topics: what is allowed, and how a pair becomes one string. Pure.

use sunseo_proto::Error;
use sunseo_proto::error::Result;

/// Longest name of a source or shard.
pub const NAME_CHARS_MAX: usize = 100;
/// Longest name of a topic, as in Kafka.
pub const TOPIC_CHARS_MAX: usize = 249;

fn allowed(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Refuses a name that could not stand in a producer's name or a topic's.
pub fn check_name(field: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !allowed(name) {
        let message = format!(
            "{name:?} is no name for a {field}: use 1 to {NAME_CHARS_MAX} letters, digits, '.', '_' or '-'"
        );
        return Err(Error::invalid(field, message));
    }
    Ok(())
}

/// Why a topic's name is not acceptable, `None` when it is.
pub fn topic_problem(topic: &str) -> Option<&'static str> {
    match topic {
        "" => Some("it is empty"),
        "." | ".." => Some("it is a path"),
        _ if topic.len() > TOPIC_CHARS_MAX => Some("it has more than 249 characters"),
        _ if topic.starts_with("__") => Some("names that begin with __ belong to the server"),
        _ if !allowed(topic) => Some("a topic has letters, digits, '.', '_' and '-' only"),
        _ => None,
    }
}

/// The positioned producer of a shard.
pub fn producer_name(source: &str, shard: &str) -> String {
    format!("outbox/{source}/{shard}")
}

/// The key of a shard's checkpoints.
pub fn shard_key(source: &str, shard: &str) -> String {
    format!("{source}/{shard}")
}

/// The pair of a [`shard_key`].
pub fn parse_shard_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('/')
}

/// Where a source's bad rows go.
pub fn dead_letter_topic(source: &str) -> String {
    format!("{source}.dead-letter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_ambiguous_are_refused() {
        for good in ["orders", "outbox_order_0", "a.b-c"] {
            assert!(check_name("source", good).is_ok(), "{good}");
            assert_eq!(topic_problem(good), None);
        }
        for bad in ["", "a/b", "주문", "a b", &"x".repeat(101)] {
            assert!(check_name("source", bad).is_err(), "{bad}");
        }
        for bad in ["", ".", "..", "__outbox", "a/b", &"x".repeat(250)] {
            assert!(topic_problem(bad).is_some(), "{bad}");
        }
        assert_eq!(parse_shard_key(&shard_key("orders", "outbox_0")), Some(("orders", "outbox_0")));
    }
}
