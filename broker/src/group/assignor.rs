//! Who should hold what. Pure and deterministic: the same members and topics give the same target.

mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sunseo_proto::error::{Error, Result};

use super::{TopicFacts, TopicPartition};

/// How partitions are spread over members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// Topic by topic, neighbouring partitions to the same member, so that equal partitions of two topics meet.
    #[default]
    Range,
    /// As even as can be over all topics, moving little.
    Uniform,
}

/// What an assignor looks at.
pub(crate) struct Candidate<'a> {
    pub(crate) id: &'a str,
    pub(crate) topics: &'a BTreeSet<Arc<str>>,
    /// What the member holds now.
    pub(crate) holds: &'a BTreeSet<TopicPartition>,
}

type Target = BTreeMap<String, BTreeSet<TopicPartition>>;

impl Assignor {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Uniform => "uniform",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "" | "range" => Ok(Self::Range),
            "uniform" => Ok(Self::Uniform),
            other => {
                let other: String = other.chars().take(64).collect();
                let message = format!("assignor {other:?} is unknown: use \"range\" or \"uniform\"");
                Err(Error::invalid("assignor", message))
            }
        }
    }

    /// The target of each candidate; candidates stand in the order in which ranges are given out.
    pub(crate) fn assign(self, candidates: &[Candidate<'_>], facts: &TopicFacts) -> Target {
        match self {
            Self::Range => range(candidates, facts),
            Self::Uniform => uniform::assign(candidates, facts),
        }
    }
}

fn partitions<'a>(topic: &'a Arc<str>, count: i32) -> impl Iterator<Item = TopicPartition> + 'a {
    (0..count).map(|partition| TopicPartition::new(topic.clone(), partition))
}

fn empty_target(candidates: &[Candidate<'_>]) -> Target {
    candidates.iter().map(|candidate| (candidate.id.to_owned(), BTreeSet::new())).collect()
}

fn range(candidates: &[Candidate<'_>], facts: &TopicFacts) -> Target {
    let mut target = empty_target(candidates);
    for (topic, fact) in facts {
        let takers: Vec<_> = candidates.iter().filter(|candidate| candidate.topics.contains(topic)).collect();
        let mut rest = partitions(topic, fact.partitions);
        for (index, taker) in takers.iter().enumerate() {
            let (total, takers) = (usize::try_from(fact.partitions).unwrap_or(0), takers.len());
            let share = total / takers + usize::from(index < total % takers);
            let share: Vec<_> = rest.by_ref().take(share).collect();
            target.entry(taker.id.to_owned()).or_default().extend(share);
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use sunseo_proto::TopicId;

    use super::*;
    use crate::group::TopicFact;

    fn fact(partitions: i32) -> TopicFact {
        TopicFact { id: TopicId(uuid::Uuid::nil()), partitions }
    }

    fn facts(topics: &[(&str, i32)]) -> TopicFacts {
        topics.iter().map(|(name, count)| (Arc::from(*name), fact(*count))).collect()
    }

    fn loads(target: &Target) -> Vec<usize> {
        target.values().map(BTreeSet::len).collect()
    }

    #[test]
    fn range_gives_equal_partitions_of_two_topics_to_the_same_member() {
        let topics = BTreeSet::from([Arc::from("a"), Arc::from("b")]);
        let holds = BTreeSet::new();
        let candidates = ["m1", "m2"].map(|id| Candidate { id, topics: &topics, holds: &holds });
        let target = Assignor::Range.assign(&candidates, &facts(&[("a", 5), ("b", 5)]));
        let first: Vec<_> = target["m1"].iter().map(|p| (&*p.topic, p.partition)).collect();
        assert_eq!(first, [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]);
        assert_eq!(loads(&target), [6, 4]);
    }

    proptest! {
        #[test]
        fn uniform_is_even_complete_and_moves_as_little_as_can_be(
            before in 1..6_usize, after in 1..6_usize, count in 1..40_i32,
        ) {
            let topics = BTreeSet::from([Arc::from("t")]);
            let facts = facts(&[("t", count)]);
            let ids: Vec<String> = (0..6).map(|n| format!("m{n}")).collect();
            let nothing = BTreeSet::new();
            let candidates: Vec<_> =
                ids[..before].iter().map(|id| Candidate { id, topics: &topics, holds: &nothing }).collect();
            let first = Assignor::Uniform.assign(&candidates, &facts);
            let candidates: Vec<_> = ids[..after]
                .iter()
                .map(|id| Candidate { id, topics: &topics, holds: first.get(id).unwrap_or(&nothing) })
                .collect();
            let second = Assignor::Uniform.assign(&candidates, &facts);
            let loads = loads(&second);
            prop_assert_eq!(loads.iter().sum::<usize>(), count as usize);
            let (least, most) = (loads.iter().min().expect("some"), loads.iter().max().expect("some"));
            prop_assert!(most - least <= 1, "{:?}", loads);
            let moved: usize = second.iter().map(|(id, now)| now.difference(first.get(id).unwrap_or(&nothing)).count()).sum();
            let newcomers = after.saturating_sub(before);
            let orphans: usize = first.iter().filter(|(id, _)| !second.contains_key(*id)).map(|(_, p)| p.len()).sum();
            let share = (count as usize).div_ceil(after);
            prop_assert!(moved <= newcomers * share + orphans, "moved {moved}");
        }

        #[test]
        fn every_partition_somebody_wants_is_given_once(
            wants in prop::collection::vec(prop::collection::btree_set(0..4_u8, 1..4), 1..6),
            uniform in any::<bool>(),
        ) {
            let names: Vec<Arc<str>> = (0..4).map(|n| Arc::from(format!("t{n}"))).collect();
            let facts: TopicFacts = names.iter().zip([1, 3, 8, 2]).map(|(name, count)| (name.clone(), fact(count))).collect();
            let ids: Vec<String> = (0..wants.len()).map(|n| format!("m{n}")).collect();
            let topics: Vec<BTreeSet<Arc<str>>> =
                wants.iter().map(|want| want.iter().map(|n| names[*n as usize].clone()).collect()).collect();
            let nothing = BTreeSet::new();
            let candidates: Vec<_> = ids
                .iter()
                .zip(&topics)
                .map(|(id, topics)| Candidate { id, topics, holds: &nothing })
                .collect();
            let assignor = if uniform { Assignor::Uniform } else { Assignor::Range };
            let target = assignor.assign(&candidates, &facts);
            let mut given = BTreeSet::new();
            for (id, partitions) in &target {
                let member = candidates.iter().find(|c| c.id == id).expect("a candidate");
                for partition in partitions {
                    prop_assert!(member.topics.contains(&partition.topic));
                    prop_assert!(given.insert(partition.clone()), "given twice: {partition:?}");
                }
            }
            let wanted: i32 =
                facts.iter().filter(|(name, _)| topics.iter().any(|t| t.contains(*name))).map(|(_, fact)| fact.partitions).sum();
            prop_assert_eq!(given.len(), wanted as usize);
        }
    }
}
