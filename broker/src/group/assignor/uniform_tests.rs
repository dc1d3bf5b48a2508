//! Against a model that tries everything, and at the size of a large group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use sunseo_proto::TopicId;

use super::super::{Assignor, Candidate, Target, TopicFacts, TopicPartition};
use crate::group::TopicFact;

fn topic(number: usize) -> Arc<str> {
    Arc::from(format!("t{number}"))
}

fn facts(partitions: &[i32]) -> TopicFacts {
    let fact = |partitions: i32| TopicFact { id: TopicId(uuid::Uuid::nil()), partitions };
    partitions.iter().enumerate().map(|(number, count)| (topic(number), fact(*count))).collect()
}

/// Members with what each wants, and who holds which partition now.
#[derive(Clone, Debug)]
struct World {
    partitions: Vec<i32>,
    wants: Vec<BTreeSet<Arc<str>>>,
    holds: Vec<BTreeSet<TopicPartition>>,
}

impl World {
    fn new(partitions: Vec<i32>, wants: Vec<BTreeSet<usize>>, owners: &[Option<usize>]) -> Self {
        let mut holds = vec![BTreeSet::new(); wants.len()];
        for (partition, owner) in Self::all(&partitions).into_iter().zip(owners) {
            if let Some(owner) = owner.filter(|owner| *owner < wants.len()) {
                holds[owner].insert(partition);
            }
        }
        let wants = wants.into_iter().map(|want| want.into_iter().map(topic).collect()).collect();
        Self { partitions, wants, holds }
    }

    fn all(partitions: &[i32]) -> Vec<TopicPartition> {
        let of_topic =
            |(number, count): (usize, &i32)| (0..*count).map(move |n| TopicPartition::new(topic(number), n));
        partitions.iter().enumerate().flat_map(of_topic).collect()
    }

    /// Zero-padded, so that the order of names is that of members.
    fn names(&self) -> Vec<String> {
        (0..self.wants.len()).map(|n| format!("m{n:05}")).collect()
    }

    fn assign(&self) -> Target {
        let names = self.names();
        let members = self.wants.iter().zip(&self.holds).zip(&names);
        let candidates: Vec<_> =
            members.map(|((topics, holds), id)| Candidate { id, topics, holds }).collect();
        Assignor::Uniform.assign(&candidates, &facts(&self.partitions))
    }

    /// Partitions that a member held, could keep, and does not have any more.
    fn moved(&self, owner_of: impl Fn(&TopicPartition) -> Option<usize>) -> usize {
        let kept = |member: usize| {
            let wanted = self.holds[member].iter().filter(move |p| self.wants[member].contains(&p.topic));
            wanted.filter(|p| owner_of(p) != Some(member)).count()
        };
        (0..self.wants.len()).map(kept).sum()
    }
}

fn loads(target: &Target) -> Vec<usize> {
    let mut loads: Vec<usize> = target.values().map(BTreeSet::len).collect();
    loads.sort_unstable_by(|a, b| b.cmp(a));
    loads
}

fn owners(target: &Target) -> BTreeMap<TopicPartition, usize> {
    let of_member = |(member, partitions): (usize, &BTreeSet<TopicPartition>)| {
        partitions.iter().map(move |p| (p.clone(), member)).collect::<Vec<_>>()
    };
    target.values().enumerate().flat_map(of_member).collect()
}

/// The most even loads there are, and the fewest partitions that move for them, by trying every assignment.
fn best(world: &World) -> (Vec<usize>, usize) {
    let all = World::all(&world.partitions);
    let takers: Vec<Vec<usize>> = all
        .iter()
        .map(|p| (0..world.wants.len()).filter(|m| world.wants[*m].contains(&p.topic)).collect())
        .collect();
    let wanted: Vec<usize> = (0..all.len()).filter(|n| !takers[*n].is_empty()).collect();
    let mut choice = vec![0; wanted.len()];
    let mut best: Option<(Vec<usize>, usize)> = None;
    loop {
        let owner: BTreeMap<&TopicPartition, usize> =
            wanted.iter().zip(&choice).map(|(n, c)| (&all[*n], takers[*n][*c])).collect();
        let mut loads = vec![0; world.wants.len()];
        owner.values().for_each(|member| loads[*member] += 1);
        loads.sort_unstable_by(|a, b| b.cmp(a));
        let found = (loads, world.moved(|p| owner.get(p).copied()));
        best = Some(best.map_or(found.clone(), |best| best.min(found)));
        // counts up, each digit in its own base
        let Some(digit) = (0..choice.len()).find(|d| choice[*d] + 1 < takers[wanted[*d]].len()) else {
            return best.expect("there is one assignment at least");
        };
        choice[digit] += 1;
        choice[..digit].fill(0);
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let wants = prop::collection::vec(prop::collection::btree_set(0..3_usize, 1..4), 1..5);
    let holds = prop::collection::vec(prop::option::of(0..5_usize), 6);
    (prop::collection::vec(1..3_i32, 3), wants, holds, any::<bool>()).prop_map(
        |(partitions, wants, holds, same)| {
            let first = wants[0].clone();
            let wants = wants.into_iter().map(|want| if same { first.clone() } else { want }).collect();
            World::new(partitions, wants, &holds)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_more_even_and_with_equal_wishes_nothing_as_even_moves_less(world in any_world()) {
        let target = world.assign();
        let (best_loads, fewest_moves) = best(&world);
        prop_assert_eq!(loads(&target), best_loads);
        let owners = owners(&target);
        let moved = world.moved(|p| owners.get(p).copied());
        prop_assert!(moved >= fewest_moves);
        if world.wants.windows(2).all(|pair| pair[0] == pair[1]) {
            prop_assert_eq!(moved, fewest_moves);
        }
        for (member, wanted) in target.values().zip(&world.wants) {
            prop_assert!(member.iter().all(|p| wanted.contains(&p.topic)));
        }
    }

    #[test]
    fn an_even_target_stays_as_it_is(world in any_world()) {
        let first = world.assign();
        let settled = World { holds: first.values().cloned().collect(), ..world };
        prop_assert_eq!(settled.assign(), first);
    }
}

#[test]
fn a_chain_of_members_evens_out_what_no_single_move_can() {
    // m0 and m1 share t0, m1 and m2 share t1: m0 can only reach m2 through m1
    let wants = vec![BTreeSet::from([0]), BTreeSet::from([0, 1]), BTreeSet::from([1])];
    let holds = [Some(0), Some(0), Some(0), Some(1), Some(1), Some(2)];
    let world = World::new(vec![3, 3], wants, &holds);
    assert_eq!(loads(&world.assign()), [2, 2, 2]);
}

#[test]
fn a_large_group_is_even_and_a_member_that_joins_or_leaves_moves_one_share() {
    const MEMBERS: usize = 1_000;
    let everything: BTreeSet<usize> = (0..20).collect();
    let mut world = World::new(vec![500; 20], vec![everything; MEMBERS], &[]);
    let first = world.assign();
    assert_eq!(loads(&first), vec![10; MEMBERS]);
    // the last leaves
    world.wants.pop();
    world.holds = first.values().take(MEMBERS - 1).cloned().collect();
    let second = world.assign();
    let seen = owners(&second);
    assert_eq!((world.moved(|p| seen.get(p).copied()), seen.len()), (0, 10_000), "only what it had moves");
    assert_eq!((loads(&second)[0], loads(&second)[MEMBERS - 2]), (11, 10));
    // and comes back
    world.wants.push((0..20).map(topic).collect());
    world.holds = second.values().cloned().chain([BTreeSet::new()]).collect();
    let third = world.assign();
    let seen = owners(&third);
    assert_eq!((world.moved(|p| seen.get(p).copied()), loads(&third)), (10, vec![10; MEMBERS]));
}

#[test]
fn a_large_group_with_different_wishes_is_as_even_as_they_allow() {
    const MEMBERS: usize = 1_000;
    // five neighbouring topics each, so that every topic has a quarter of the members
    let wants = (0..MEMBERS).map(|m| (0..5).map(|n| (m + n) % 20).collect()).collect();
    let world = World::new(vec![500; 20], wants, &[]);
    assert_eq!(loads(&world.assign()), vec![10; MEMBERS]);
}
