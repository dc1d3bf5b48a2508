use proptest::prelude::*;

use super::*;
use crate::summary::{SummaryRule, parts};
use crate::testing::records::{any_record, committed, fold as plain_fold, key};

/// The topic beside its fold, and what its records come to without summaries.
struct Topic {
    stored: Vec<(i64, TierRecord)>,
    fold: Fold,
    plain: Manifest,
    /// Every part that was ever written.
    parts: Vec<SummaryPart>,
}

impl Topic {
    fn new() -> Self {
        let (stored, parts) = (Vec::new(), Vec::new());
        Self { stored, fold: Fold::starting_at(0), plain: Manifest::default(), parts }
    }

    fn append(&mut self, record: &TierRecord) {
        let record = TierRecord::decode(&record.encode()).unwrap();
        self.stored.push((self.fold.next(), record.clone()));
        self.fold.apply(self.fold.next(), record);
    }

    fn record(&mut self, record: &TierRecord) {
        self.plain.apply(record);
        self.append(record);
    }

    /// Writes a summary, or as many of its parts as come before the end of the world; deletes what a whole one stands for.
    fn sum_up(&mut self, part_bytes: usize, written: usize) {
        let base = self.fold.next();
        let parts = parts(self.fold.manifest(), base, part_bytes);
        for part in parts.iter().take(written) {
            self.append(&TierRecord::Summary(part.clone()));
        }
        let is_whole = written >= parts.len();
        assert_eq!(self.fold.summary().is_some_and(|s| s.base == base), is_whole);
        self.parts.extend(parts);
        if is_whole {
            self.stored.retain(|(offset, _)| *offset >= base);
            assert_eq!(self.fold.since(), 0);
        }
    }

    fn read_again(&self) -> Fold {
        let mut again = Fold::starting_at(self.stored.first().map_or(0, |(offset, _)| *offset));
        self.stored.iter().for_each(|(offset, record)| again.apply(*offset, record.clone()));
        again
    }
}

#[derive(Clone, Debug)]
enum Step {
    Record(TierRecord),
    Summary {
        part_bytes: usize,
        written: usize,
    },
    /// A part that was written before, or should have been, comes once more.
    Late(prop::sample::Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    let pieces = prop_oneof![Just(1_usize), Just(400), Just(4_000)];
    let written = prop_oneof![1 => 0_usize..6, 2 => Just(usize::MAX)];
    prop_oneof![
        12 => any_record().prop_map(Step::Record),
        2 => (pieces, written).prop_map(|(part_bytes, written)| Step::Summary { part_bytes, written }),
        1 => any::<prop::sample::Index>().prop_map(Step::Late),
    ]
}

proptest! {
    /// Wherever summaries are written, cut off or come late: the manifest is the one of the records alone, at every moment and when
    /// the topic is read again.
    #[test]
    fn a_summary_changes_nothing(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut topic = Topic::new();
        for step in steps {
            match step {
                Step::Record(record) => topic.record(&record),
                Step::Summary { part_bytes, written } => topic.sum_up(part_bytes, written),
                Step::Late(which) if !topic.parts.is_empty() => {
                    let part = which.get(&topic.parts).clone();
                    topic.append(&TierRecord::Summary(part));
                }
                Step::Late(_) => {}
            }
            prop_assert_eq!(topic.fold.manifest(), &topic.plain);
            let again = topic.read_again();
            prop_assert_eq!(again.manifest(), &topic.plain);
            prop_assert_eq!((again.next(), again.since()), (topic.fold.next(), topic.fold.since()));
        }
    }
}

fn three_uploads() -> Topic {
    let mut topic = Topic::new();
    for base in [0, 10, 20] {
        let key = key(base, base + 10, &format!("object {base}"));
        topic.record(&TierRecord::Intent(key.clone()));
        topic.record(&committed(key));
    }
    topic
}

#[test]
fn a_record_between_two_parts_makes_the_summary_void() {
    let mut topic = three_uploads();
    let parts = parts(topic.fold.manifest(), topic.fold.next(), 1);
    assert!(parts.len() > 2);
    topic.append(&TierRecord::Summary(parts[0].clone()));
    topic.record(&TierRecord::Intent(key(30, 40, "between")));
    for part in &parts[1..] {
        topic.append(&TierRecord::Summary(part.clone()));
    }
    assert_eq!(topic.fold.summary(), None);
    assert_eq!(topic.fold.manifest(), &topic.plain);
    assert_eq!(topic.fold.since(), 7 + parts.len() as u64, "void parts count as records that can go");
}

#[test]
fn a_summary_that_does_not_lie_where_it_should_is_void() {
    let mut topic = three_uploads();
    let late = parts(topic.fold.manifest(), topic.fold.next(), usize::MAX);
    assert_eq!(late.len(), 1);
    topic.record(&TierRecord::Removed {
        partition: crate::testing::partition(1, 0).into(),
        through: 10,
        at_ms: 1,
    });
    topic.append(&TierRecord::Summary(late[0].clone()));
    assert_eq!(topic.fold.summary(), None);
    assert_eq!(topic.fold.manifest(), &topic.plain, "the removal holds");
}

#[test]
fn a_summary_is_bounded_pieces_and_of_nothing_it_is_one() {
    let topic = three_uploads();
    let pieces = parts(topic.fold.manifest(), 6, 600);
    assert!(pieces.len() > 1);
    for (at, piece) in pieces.iter().enumerate() {
        assert_eq!((piece.offset(), piece.of as usize), (6 + at as i64, pieces.len()));
        let bytes = TierRecord::Summary(piece.clone()).encode().len();
        assert!(bytes < 800, "{bytes} bytes: the facts and what is around them");
    }
    let nothing = parts(&Manifest::default(), 3, 600);
    assert_eq!(nothing, [SummaryPart { base: 3, index: 0, of: 1, facts: Vec::new() }]);
}

#[test]
fn a_summary_is_due_after_many_records_and_as_many_as_its_facts() {
    let rule = SummaryRule { records_min: 10, part_bytes: 1 };
    assert!(!rule.is_due(10, 0) && rule.is_due(11, 0));
    assert!(!rule.is_due(500, 500) && rule.is_due(501, 500));
}

#[test]
fn an_older_binary_refuses_a_summary_and_reads_the_rest() {
    let version = |record: &TierRecord| sunseo_proto::envelope::open(&record.encode()).unwrap().version;
    let part = parts(&Manifest::default(), 0, 1).remove(0);
    assert_eq!(version(&TierRecord::Summary(part)), 2);
    assert_eq!(version(&TierRecord::Deleted { objects: Vec::new() }), 1);
    assert_eq!(plain_fold(&[TierRecord::Deleted { objects: Vec::new() }]), Manifest::default());
}
