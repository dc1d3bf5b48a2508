//! The targets of all crates.

use crate::Target;

/// Every target.
#[must_use]
pub fn all() -> Vec<Target> {
    [
        sunseo_proto::fuzz::TARGETS,
        sunseo_log::fuzz::TARGETS,
        sunseo_broker::fuzz::TARGETS,
        sunseo_tier::fuzz::TARGETS,
        sunseo_client::fuzz::TARGETS,
        sunseo_outbox::fuzz::TARGETS,
        sunseo_engine::fuzz::TARGETS,
        sunseo::fuzz::TARGETS,
    ]
    .concat()
}

/// Where the examples are kept.
pub const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
