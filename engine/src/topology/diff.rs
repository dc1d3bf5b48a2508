//! The difference between two versions of a topology: what changes, and which state can be used again.
//!
//! State survives when its store keeps its id, its types and its operator's kind, and stays in the same task logs: the same
//! sub-topology name and partition count. Everything else begins empty.

use serde::{Deserialize, Serialize};

use super::describe::{Description, OperatorDescription, StoreDescription};

/// What happened to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
    Unchanged,
}

impl ChangeKind {
    /// "added", "removed", "changed", "unchanged".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// One operator in both versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub id: String,
    pub change: ChangeKind,
    /// `false` exactly when the operator had state that the new version cannot use.
    pub state_survives: bool,
    /// What is different, one reason after another.
    pub detail: String,
}

/// Every operator of either version: those of the new one in its order, then the removed ones.
#[must_use]
pub fn diff(old: &Description, new: &Description) -> Vec<Change> {
    let of = |description: &Description, id: &str| {
        description.operators.iter().find(|operator| operator.id == id).cloned()
    };
    let mut changes: Vec<_> = new
        .operators
        .iter()
        .map(|operator| match of(old, &operator.id) {
            None => change(&operator.id, ChangeKind::Added, true, Vec::new()),
            Some(before) => compare(&before, operator, old, new),
        })
        .collect();
    for operator in old.operators.iter().filter(|operator| of(new, &operator.id).is_none()) {
        let lost: Vec<_> =
            stores_of(old, &operator.id).map(|store| format!("store {} is dropped", store.id)).collect();
        changes.push(change(&operator.id, ChangeKind::Removed, lost.is_empty(), lost));
    }
    changes
}

fn change(id: &str, change: ChangeKind, state_survives: bool, reasons: Vec<String>) -> Change {
    Change { id: id.to_owned(), change, state_survives, detail: reasons.join("; ") }
}

fn stores_of<'a>(
    description: &'a Description,
    operator: &'a str,
) -> impl Iterator<Item = &'a StoreDescription> {
    description.stores.iter().filter(move |store| store.operator == operator)
}

fn compare(
    before: &OperatorDescription,
    after: &OperatorDescription,
    old: &Description,
    new: &Description,
) -> Change {
    let mut reasons = Vec::new();
    let mut note = |what: &str, before: &str, after: &str| {
        if before != after {
            reasons.push(format!("{what} was {before}, is {after}"));
        }
    };
    note("kind", &before.kind, &after.kind);
    note("inputs", &before.inputs.join(", "), &after.inputs.join(", "));
    note("target", &before.target, &after.target);
    note("types", &before.types, &after.types);
    let lost: Vec<_> = stores_of(old, &before.id)
        .filter_map(|store| {
            let kept = new.stores.iter().find(|kept| kept.id == store.id);
            why_lost(store, kept, before.kind == after.kind)
        })
        .collect();
    let survives = lost.is_empty();
    reasons.extend(lost);
    let kind = if reasons.is_empty() { ChangeKind::Unchanged } else { ChangeKind::Changed };
    change(&after.id, kind, survives, reasons)
}

fn why_lost(before: &StoreDescription, after: Option<&StoreDescription>, same_kind: bool) -> Option<String> {
    let id = &before.id;
    let Some(after) = after else { return Some(format!("store {id} is dropped")) };
    let types = |store: &StoreDescription| format!("{} -> {}", store.key_type, store.value_type);
    if types(before) != types(after) {
        return Some(format!("store {id} held {}, would hold {}", types(before), types(after)));
    }
    if before.sub_topology != after.sub_topology {
        let (from, to) = (&before.sub_topology, &after.sub_topology);
        return Some(format!("store {id} moves from the task logs of {from:?} to those of {to:?}"));
    }
    if before.partitions != after.partitions {
        let (from, to) = (before.partitions, after.partitions);
        return Some(format!("store {id} had {from} partitions, would have {to}"));
    }
    if before.operator != after.operator || !same_kind {
        return Some(format!("store {id} is written by another kind of operator"));
    }
    None
}
