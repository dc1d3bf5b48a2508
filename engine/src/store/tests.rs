//! The overlay and the database below it, against a plain map.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::db::{Budget, StateDb, TaskPlace};
use super::overlay::TaskState;
use super::position::StorePosition;
use crate::runtime::commit::{Commit, CommitHead};
use crate::state::StateAccess as _;
use crate::task::StoreIndex;

const STORE: StoreIndex = StoreIndex(1);
/// Little enough that values are forgotten all the time.
const RECENT_BYTES: usize = 600;
const NAME: &str = "counts";

fn place(partition: u32) -> TaskPlace {
    let (pipeline, sub_topology) = ("day".to_owned(), "orders".to_owned());
    TaskPlace { pipeline, generation: 0, sub_topology, partition }
}

fn open(dir: &TempDir) -> Arc<StateDb> {
    let budget = Budget { block_cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20 };
    let db = StateDb::open(dir.path(), budget).expect("opens");
    db.ensure(&place(0).family(NAME)).expect("a family");
    Arc::new(db)
}

fn state(db: &Arc<StateDb>, partition: u32) -> TaskState {
    TaskState::new(Arc::clone(db), place(partition), &[(STORE, NAME.to_owned())], RECENT_BYTES)
}

fn head(number: i64) -> CommitHead {
    CommitHead {
        number,
        inputs: Vec::new(),
        meta: Bytes::new(),
        stream_time_ms: 0,
        processed: 0,
        dead_letters: 0,
        first_output: 0,
        forwarded: 0,
    }
}

fn at(number: i64) -> StorePosition {
    let log_id = Bytes::from_static(b"log");
    StorePosition {
        log_id,
        next_offset: number + 1,
        replay_from: number + 1,
        next_output: 0,
        head: head(number),
    }
}

fn key(n: u8) -> Bytes {
    Bytes::copy_from_slice(&[n / 3, n % 3])
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Option<u8>),
    Get(u8),
    Scan(u8, u8, usize),
    Seal,
    Apply,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u8..12, prop::option::weighted(0.7, any::<u8>())).prop_map(|(k, v)| Step::Put(k, v)),
        4 => (0_u8..12).prop_map(Step::Get),
        2 => (0_u8..12, 0_u8..13, 0_usize..14).prop_map(|(from, to, limit)| Step::Scan(from, to, limit)),
        1 => Just(Step::Seal),
        1 => Just(Step::Apply),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_overlay_reads_like_a_map_and_the_database_holds_what_is_applied(steps in steps()) {
        let dir = TempDir::new().expect("a folder");
        let db = open(&dir);
        let mut state = state(&db, 0);
        let (mut model, mut sealed, mut applied) = (BTreeMap::new(), None, BTreeMap::new());
        let mut number = 0;
        for step in steps {
            match step {
                Step::Put(k, v) => {
                    let v = v.map(|v| Bytes::copy_from_slice(&[v]));
                    state.put(STORE, key(k), v.clone());
                    match v { Some(v) => model.insert(key(k), v), None => model.remove(&key(k)) };
                }
                Step::Get(k) => prop_assert_eq!(state.get(STORE, &key(k)).expect("reads"), model.get(&key(k)).cloned()),
                Step::Scan(from, to, limit) => {
                    let (from, to) = (key(from), key(to));
                    let found = state.scan(STORE, Bound::Excluded(&from), Bound::Included(&to), limit).expect("reads");
                    let expected: Vec<_> = model.iter().filter(|(k, _)| **k > from && **k <= to).take(limit)
                        .map(|(k, v): (&Bytes, &Bytes)| (k.clone(), v.clone())).collect();
                    prop_assert_eq!(found, expected);
                }
                Step::Seal if sealed.is_none() => {
                    let commit = Commit::decode(state.seal(&head(number), &[]).into()).expect("decodes");
                    let mut keys: Vec<_> = commit.deltas.iter().flat_map(|d| &d.changes).map(|(k, _)| k).collect();
                    keys.sort();
                    let all = keys.len();
                    keys.dedup();
                    prop_assert_eq!(keys.len(), all, "each key once");
                    sealed = Some(model.clone());
                }
                Step::Apply => if let Some(model) = sealed.take() {
                    state.applied(&at(number)).expect("writes");
                    number += 1;
                    applied = model;
                }
                Step::Seal => {}
            }
            let mut stored = BTreeMap::new();
            db.range(&place(0).family(NAME), &[], &[255; 8], |k, v| {
                stored.insert(Bytes::copy_from_slice(&k[4..]), Bytes::copy_from_slice(v));
                true
            }).expect("reads");
            prop_assert_eq!(&stored, &applied, "queries see exactly what is committed");
        }
    }
}

#[test]
fn tasks_of_one_store_do_not_see_each_other() {
    let dir = TempDir::new().expect("a folder");
    let db = open(&dir);
    for partition in 0..3 {
        let mut state = state(&db, partition);
        state.put(STORE, key(1), Some(Bytes::from(vec![partition as u8])));
        state.seal(&head(0), &[]);
        state.applied(&at(0)).expect("writes");
    }
    for partition in 0..3 {
        let mut state = state(&db, partition);
        let all = state.scan(STORE, Bound::Unbounded, Bound::Unbounded, 9).expect("reads");
        assert_eq!(all, [(key(1), Bytes::from(vec![partition as u8]))]);
    }
    db.clear(&place(1), &[NAME.to_owned()]).expect("clears");
    let left = |partition| state(&db, partition).get(STORE, &key(1)).expect("reads").is_some();
    assert_eq!([left(0), left(1), left(2)], [true, false, true]);
    assert_eq!(db.position(&place(1)), Ok(None));
    assert_eq!(db.position(&place(2)), Ok(Some(at(0))));
}

#[test]
fn after_a_kill_data_stands_exactly_at_its_position() {
    let dir = TempDir::new().expect("a folder");
    let db = open(&dir);
    let mut state = state(&db, 0);
    for number in 0..40_i64 {
        // commit n writes n to every key, so a store at commit n holds nothing else
        for k in 0..5 {
            state.put(STORE, key(k), Some(Bytes::copy_from_slice(&number.to_be_bytes())));
        }
        state.seal(&head(number), &[]);
        state.applied(&at(number)).expect("writes");
        if number % 7 == 3 {
            db.flush().expect("flushes");
        }
        let left = TempDir::new().expect("a folder");
        db.copy_files(left.path());
        let again = open(&left);
        let position = again.position(&place(0)).expect("reads");
        let flushed = (number >= 3).then(|| number - (number - 3) % 7);
        assert_eq!(position.as_ref().map(|p| p.head.number), flushed, "killed after commit {number}");
        let mut reopened = self::state(&again, 0);
        for k in 0..5 {
            let value = reopened.get(STORE, &key(k)).expect("reads");
            assert_eq!(value.as_deref(), flushed.map(i64::to_be_bytes).as_ref().map(|b| &b[..]));
        }
    }
}

#[test]
fn a_reset_leaves_nothing_of_the_former_generation_and_all_of_other_pipelines() {
    let dir = TempDir::new().expect("a folder");
    let db = open(&dir);
    let places = [
        place(0),
        TaskPlace { generation: 1, ..place(0) },
        TaskPlace { pipeline: "day2".to_owned(), ..place(0) },
    ];
    for place in &places {
        db.ensure(&place.family(NAME)).expect("a family");
        let changes = [(place.family(NAME), Bytes::from_static(b"k"))];
        let changes = changes.iter().map(|(family, key)| (family.as_str(), key.as_ref(), Some(&b"v"[..])));
        db.apply(place, changes, &at(0)).expect("writes");
    }
    db.drop_generations("day", Some(1)).expect("drops");
    let positions = places.each_ref().map(|place| db.position(place).expect("reads").is_some());
    assert_eq!(positions, [false, true, true]);
    assert!(db.get(&places[0].family(NAME), b"\0\0\0\0k").is_err(), "the family is gone");
    assert!(db.get(&places[1].family(NAME), b"\0\0\0\0k").expect("reads").is_some());
}
