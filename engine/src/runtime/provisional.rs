//! Description of a pipeline as far as its stores go, until the topology describes itself.

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub stores: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Removed,
    Changed,
    Unchanged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub id: String,
    pub kind: ChangeKind,
    pub state_survives: bool,
    pub detail: String,
}

pub(crate) fn describe(plan: &Plan) -> Description {
    let store = |store: &crate::plan::StoreSpec| {
        let sub = &plan.sub_topologies[store.sub_topology as usize].name;
        let signature = format!(
            "{} {} {} {:?} {}",
            store.operator,
            store.key.type_name(),
            store.value.type_name(),
            store.format,
            sub
        );
        (store.id.clone(), signature)
    };
    Description { stores: plan.stores.iter().map(store).collect() }
}

pub(crate) fn diff(old: &Description, new: &Description) -> Vec<Change> {
    let find = |of: &Description, id: &str| of.stores.iter().find(|s| s.0 == id).map(|s| s.1.clone());
    let mut changes = Vec::new();
    for (id, signature) in &new.stores {
        let (kind, detail) = match find(old, id) {
            None => (ChangeKind::Added, String::new()),
            Some(before) if before == *signature => (ChangeKind::Unchanged, String::new()),
            Some(before) => (ChangeKind::Changed, format!("was {before}, is {signature}")),
        };
        let state_survives = kind == ChangeKind::Unchanged;
        changes.push(Change { id: id.clone(), kind, state_survives, detail });
    }
    for (id, _) in old.stores.iter().filter(|s| find(new, &s.0).is_none()) {
        changes.push(Change {
            id: id.clone(),
            kind: ChangeKind::Removed,
            state_survives: false,
            detail: String::new(),
        });
    }
    changes
}

pub(crate) fn operators(plan: &Plan) -> Vec<sunseo_proto::v1::Operator> {
    let mut all = Vec::new();
    for sub in &plan.sub_topologies {
        let one = |id: &str, kind: &str, target: &str| sunseo_proto::v1::Operator {
            id: id.to_owned(),
            kind: kind.to_owned(),
            inputs: Vec::new(),
            target: target.to_owned(),
            sub_topology: sub.index,
        };
        all.extend(sub.sources.iter().map(|s| one(&s.operator, "source", &s.topic)));
        all.extend(sub.stores.iter().map(|s| {
            let s = &plan.stores[s.0 as usize];
            one(&s.operator, "stateful", &s.id)
        }));
        all.extend(sub.sinks.iter().map(|s| one(&s.operator, "sink", &s.topic)));
    }
    all
}
