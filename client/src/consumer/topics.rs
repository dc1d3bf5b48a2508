//! Which topics a subscription means now: names, and patterns with `*` and `?`. Follows topics that come, grow and go.
//!
//! A partition that is found later than its consumer began is read from its start, whatever `from` says: it is younger than the consumer, so
//! nothing in it is old.

use std::collections::BTreeSet;
use std::sync::Arc;

use sunseo_proto::error::Result;
use sunseo_proto::v1;

use super::book::Key;
use super::config::{ConsumerConfig, Subscription};
use super::listener::Change;
use super::{Isolation, Shared, StartFrom, offsets};
use crate::metadata::SharedMetadata;
use crate::retry;
use crate::transport::SharedTransport;

/// Whether an entry of a subscription stands for many topics. No topic's name has these characters.
pub(super) fn is_pattern(entry: &str) -> bool {
    entry.contains(['*', '?'])
}

/// Whether a name fits a pattern: `*` is any text, `?` one character. At the worst the product of their lengths.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut seen) = (0, 0);
    // where to go on when what follows the last star does not fit: the star takes one character more
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[seen] => (at, seen) = (at + 1, seen + 1),
            _ => match &mut star {
                Some((star, taken)) => {
                    *taken += 1;
                    (at, seen) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// The topics that a subscription names, and those its patterns fit now.
pub(crate) async fn resolve(transport: &SharedTransport, entries: &[String]) -> Result<Vec<String>> {
    let mut topics: BTreeSet<String> = entries.iter().filter(|entry| !is_pattern(entry)).cloned().collect();
    if entries.iter().any(|entry| is_pattern(entry)) {
        let request = v1::ListTopicsRequest { include_internal: false };
        let names = transport.list_topics(request).await?.topics.into_iter().map(|topic| topic.name);
        topics.extend(
            names.filter(|name| entries.iter().any(|entry| is_pattern(entry) && matches(entry, name))),
        );
    }
    Ok(topics.into_iter().collect())
}

/// Every partition of these topics.
pub(super) async fn partitions(metadata: &SharedMetadata, topics: &[String]) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    for topic in topics {
        let name: Arc<str> = Arc::from(topic.as_str());
        let count = metadata.refresh(topic).await?;
        keys.extend((0..count).map(|partition| (Arc::clone(&name), partition)));
    }
    Ok(keys)
}

/// Whether there is anything to follow: a group follows the growth of topics it names by itself.
pub(super) fn changes(config: &ConsumerConfig) -> bool {
    match &config.subscription {
        Subscription::Partitions(_) => false,
        Subscription::Topics(_) => true,
        Subscription::Group { topics, .. } => topics.iter().any(|entry| is_pattern(entry)),
    }
}

/// Looks again and again, until the consumer ends.
pub(super) async fn follow(shared: Arc<Shared>) {
    loop {
        let pause = shared.config.metadata_interval.mul_f64(1.0 - retry::draw() / 4.0);
        tokio::time::sleep(pause).await;
        let looked = match &shared.config.subscription {
            Subscription::Partitions(_) => return,
            Subscription::Topics(entries) => look(&shared, &shared.metadata, entries).await,
            Subscription::Group { topics, .. } => subscribe(&shared, topics).await,
        };
        if let Err(error) = looked {
            tracing::debug!(%error, "the topics of the subscription are not known now, looking again");
        }
    }
}

/// Begins partitions that are new, and ends those of topics that a pattern found and that are gone.
async fn look(shared: &Shared, metadata: &SharedMetadata, entries: &[String]) -> Result<()> {
    let topics = resolve(&shared.transport, entries).await?;
    let mut keys = Vec::new();
    for topic in &topics {
        // a topic that is named and gone is told by its partitions, not here
        keys.extend(partitions(metadata, std::slice::from_ref(topic)).await.unwrap_or_default());
    }
    let (fresh, gone) = {
        let core = shared.lock();
        let fresh: Vec<Key> = keys.into_iter().filter(|key| !core.book.contains(key)).collect();
        let is_gone = |key: &&Key| !topics.iter().any(|topic| **topic == *key.0);
        (fresh, core.book.keys().filter(is_gone).cloned().collect::<Vec<Key>>())
    };
    let isolation = Isolation::ReadUncommitted;
    let starts = offsets::begin(&shared.transport, &fresh, StartFrom::Start, isolation).await?;
    let mut core = shared.lock();
    for (key, start) in fresh.iter().zip(starts) {
        core.book.assign_of(key.clone(), start, metadata.id(&key.0));
    }
    gone.iter().for_each(|key| core.book.revoke(key));
    let changes = [
        (!fresh.is_empty()).then_some(Change::Assigned(fresh)),
        (!gone.is_empty()).then_some(Change::Lost(gone)),
    ];
    core.changes.extend(changes.into_iter().flatten());
    drop(core);
    shared.room.notify_one();
    shared.news.notify_one();
    Ok(())
}

/// Tells the group which topics the patterns fit now.
async fn subscribe(shared: &Shared, entries: &[String]) -> Result<()> {
    let topics = resolve(&shared.transport, entries).await?;
    let changed = shared.lock().member.as_mut().is_some_and(|member| member.subscribe(topics));
    if changed {
        shared.beat.notify_one();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_fit_as_a_shell_reads_them() {
        let fits = [
            ("*", ""),
            ("*", "orders"),
            ("orders", "orders"),
            ("orders-*", "orders-"),
            ("orders-*", "orders-eu"),
            ("*-eu", "orders-eu-eu"),
            ("o*r*s", "orders"),
            ("or?ers", "orders"),
            ("*a*b*c*", "xaxxbxcx"),
            ("**", "x"),
        ];
        fits.iter().for_each(|(pattern, name)| assert!(matches(pattern, name), "{pattern} {name}"));
        let others = [
            ("", "x"),
            ("orders", "orders2"),
            ("orders-*", "orders"),
            ("?", ""),
            ("?", "ab"),
            ("*a*b", "ba"),
        ];
        others.iter().for_each(|(pattern, name)| assert!(!matches(pattern, name), "{pattern} {name}"));
    }

    #[test]
    fn a_pattern_made_to_take_long_does_not() {
        assert!(matches(&"a*".repeat(200), &format!("{}b", "a".repeat(20_000))));
        assert!(!matches(&format!("{}b", "a*".repeat(200)), &"a".repeat(20_000)));
    }
}
