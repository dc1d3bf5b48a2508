//! The uniform assignor: as even as the subscriptions allow, moving little.
//!
//! When all members want the same topics, each keeps what it holds up to its share, those that hold most get the larger shares, and the rest
//! is handed out: no target that is as even moves fewer partitions. That is near-linear.
//!
//! Otherwise what nobody holds goes to the least loaded taker, topics with few takers first; then single partitions move along chains of
//! members, from one with more to one with at least two fewer, until there is no such chain. Without one the loads are the most even
//! that there are (optimal semi-matchings, Harvey et al. 2003). How little moves is then not proven, only aimed at: chains are the shortest,
//! and what a member did not hold before is moved first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::{Candidate, Target, TopicFacts, TopicPartition};

pub(super) fn assign(candidates: &[Candidate<'_>], facts: &TopicFacts) -> Target {
    let mut plan = Plan::new(candidates, facts);
    plan.keep();
    if plan.all_want_the_same() {
        plan.share_out();
    } else {
        plan.give_to_least_loaded();
        plan.even_out();
    }
    plan.target()
}

struct Topic<'a> {
    name: &'a Arc<str>,
    /// Members that want it.
    takers: Vec<usize>,
    /// Partitions that nobody has, in order.
    free: BTreeSet<i32>,
}

struct Plan<'a> {
    candidates: &'a [Candidate<'a>],
    topics: Vec<Topic<'a>>,
    numbers: BTreeMap<&'a Arc<str>, usize>,
    /// Of each member: partitions by topic.
    has: Vec<BTreeMap<usize, BTreeSet<i32>>>,
    loads: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn new(candidates: &'a [Candidate<'a>], facts: &'a TopicFacts) -> Self {
        let topic = |(name, fact): (&'a Arc<str>, &super::super::TopicFact)| Topic {
            name,
            takers: Vec::new(),
            free: (0..fact.partitions).collect(),
        };
        let mut topics: Vec<Topic<'a>> = facts.iter().map(topic).collect();
        let numbers: BTreeMap<&'a Arc<str>, usize> = facts.keys().zip(0..).collect();
        for (member, candidate) in candidates.iter().enumerate() {
            for number in candidate.topics.iter().filter_map(|name| numbers.get(name)) {
                topics[*number].takers.push(member);
            }
        }
        let (has, loads) = (vec![BTreeMap::new(); candidates.len()], vec![0; candidates.len()]);
        Self { candidates, topics, numbers, has, loads }
    }

    fn give(&mut self, member: usize, topic: usize, partition: i32) {
        self.has[member].entry(topic).or_default().insert(partition);
        self.loads[member] += 1;
    }

    /// Everybody keeps what it holds and wants.
    fn keep(&mut self) {
        let candidates = self.candidates;
        for (member, candidate) in candidates.iter().enumerate() {
            for TopicPartition { topic, partition } in candidate.holds {
                let Some(&number) = self.numbers.get(topic).filter(|_| candidate.topics.contains(topic))
                else {
                    continue;
                };
                if self.topics[number].free.remove(partition) {
                    self.give(member, number, *partition);
                }
            }
        }
    }

    fn all_want_the_same(&self) -> bool {
        self.topics.iter().all(|topic| topic.takers.is_empty() || topic.takers.len() == self.candidates.len())
    }

    /// Partitions that somebody wants and nobody has.
    fn wanted(&self) -> Vec<(usize, i32)> {
        let wanted = self.topics.iter().enumerate().filter(|(_, topic)| !topic.takers.is_empty());
        wanted
            .flat_map(|(number, topic)| topic.free.iter().map(move |partition| (number, *partition)))
            .collect()
    }

    fn share_out(&mut self) {
        let members = self.candidates.len();
        let mut rest = self.wanted();
        let total = rest.len() + self.loads.iter().sum::<usize>();
        let (Some(share), Some(larger)) = (total.checked_div(members), total.checked_rem(members)) else {
            return;
        };
        let mut order: Vec<usize> = (0..members).collect();
        order.sort_by_key(|&member| (Reverse(self.loads[member]), member));
        let quota = |place: usize| share + usize::from(place < larger);
        for (place, &member) in order.iter().enumerate() {
            while self.loads[member] > quota(place)
                && let Some(mut topic) = self.has[member].last_entry()
            {
                let number = *topic.key();
                match topic.get_mut().pop_last() {
                    Some(partition) => {
                        self.loads[member] -= 1;
                        rest.push((number, partition));
                    }
                    None => drop(topic.remove()),
                }
            }
        }
        let mut rest = rest.into_iter();
        for (place, &member) in order.iter().enumerate() {
            while self.loads[member] < quota(place)
                && let Some((topic, partition)) = rest.next()
            {
                self.give(member, topic, partition);
            }
        }
    }

    fn give_to_least_loaded(&mut self) {
        let mut order: Vec<usize> =
            (0..self.topics.len()).filter(|n| !self.topics[*n].takers.is_empty()).collect();
        order.sort_by_key(|&number| self.topics[number].takers.len());
        for number in order {
            let free = std::mem::take(&mut self.topics[number].free);
            let takers = &self.topics[number].takers;
            let mut by_load: BinaryHeap<_> =
                takers.iter().map(|&member| Reverse((self.loads[member], member))).collect();
            for partition in free {
                let Some(Reverse((load, member))) = by_load.pop() else { break };
                self.give(member, number, partition);
                by_load.push(Reverse((load + 1, member)));
            }
        }
    }

    /// From the most loaded down: a member from which no chain leads to one with two fewer is done, and with it everybody whom a chain
    /// from it reaches, because none of them has fewer than one less.
    fn even_out(&mut self) {
        let mut by_load: BTreeSet<(usize, usize)> = self.loads.iter().copied().zip(0..).collect();
        while let Some(&(load, giver)) = by_load.last() {
            match self.chain_from(giver) {
                Ok(chain) => {
                    let taker = chain.last().map_or(giver, |(_, member)| *member);
                    by_load.remove(&(load, giver));
                    by_load.remove(&(self.loads[taker], taker));
                    self.move_along(giver, &chain);
                    by_load.insert((self.loads[giver], giver));
                    by_load.insert((self.loads[taker], taker));
                }
                Err(reached) => {
                    for member in reached {
                        by_load.remove(&(self.loads[member], member));
                    }
                }
            }
        }
    }

    /// The shortest chain of (topic, next member) to somebody with at least two fewer; otherwise everybody who can be reached.
    fn chain_from(&self, giver: usize) -> Result<Vec<(usize, usize)>, Vec<usize>> {
        let mut came_from: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        let mut seen_topics = BTreeSet::new();
        let mut reached = vec![giver];
        let mut queue = VecDeque::from([giver]);
        while let Some(member) = queue.pop_front() {
            let topics = self.has[member].iter().filter(|(_, partitions)| !partitions.is_empty());
            for (&topic, _) in topics {
                if !seen_topics.insert(topic) {
                    continue;
                }
                for &taker in &self.topics[topic].takers {
                    if taker == giver || came_from.contains_key(&taker) {
                        continue;
                    }
                    came_from.insert(taker, (topic, member));
                    if self.loads[taker] + 2 <= self.loads[giver] {
                        return Ok(chain_to(taker, giver, &came_from));
                    }
                    reached.push(taker);
                    queue.push_back(taker);
                }
            }
        }
        Err(reached)
    }

    fn move_along(&mut self, giver: usize, chain: &[(usize, usize)]) {
        let mut from = giver;
        for &(topic, to) in chain {
            let name = self.topics[topic].name;
            let holds = self.candidates[from].holds;
            let Some(partitions) = self.has[from].get_mut(&topic) else { return };
            let fresh = |partition: &&i32| !holds.contains(&TopicPartition::new(name.clone(), **partition));
            let Some(moved) = partitions.iter().find(fresh).or(partitions.last()).copied() else { return };
            partitions.remove(&moved);
            self.has[to].entry(topic).or_default().insert(moved);
            from = to;
        }
        self.loads[giver] -= 1;
        self.loads[from] += 1;
    }

    fn target(self) -> Target {
        let topics = &self.topics;
        let partitions = |has: BTreeMap<usize, BTreeSet<i32>>| {
            let of_topic = |(topic, partitions): (usize, BTreeSet<i32>)| {
                let name = topics[topic].name;
                partitions.into_iter().map(|partition| TopicPartition::new(name.clone(), partition))
            };
            has.into_iter().flat_map(of_topic).collect::<BTreeSet<_>>()
        };
        self.candidates.iter().map(|c| c.id.to_owned()).zip(self.has.into_iter().map(partitions)).collect()
    }
}

fn chain_to(taker: usize, giver: usize, came_from: &BTreeMap<usize, (usize, usize)>) -> Vec<(usize, usize)> {
    let mut chain = Vec::new();
    let mut at = taker;
    while at != giver
        && let Some(&(topic, before)) = came_from.get(&at)
    {
        chain.push((topic, at));
        at = before;
    }
    chain.reverse();
    chain
}

#[cfg(test)]
#[path = "uniform_tests.rs"]
mod tests;
