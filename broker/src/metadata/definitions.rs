//! Which definitions there are. The broker keeps them and does not look inside.

use sunseo_proto::error::{Error, ErrorCode, Result};

use super::names::check_name;

pub(crate) const OUTBOX: &str = "outbox";
pub(crate) const PIPELINE: &str = "pipeline";
pub(crate) const ARCHIVE: &str = "archive";

/// Kept as the others, and changed by requests of its own: its body is not JSON.
pub(crate) const QUOTA: &str = "quota";

const KINDS: [&str; 3] = [OUTBOX, PIPELINE, ARCHIVE];

/// Bytes of one definition.
pub(crate) const DEFINITION_BYTES_MAX: usize = 1 << 20;
/// Bytes of all definitions: they travel together in a snapshot.
pub(crate) const DEFINITIONS_BYTES_MAX: usize = 16 << 20;

pub(crate) fn check_kind(kind: &str) -> Result<()> {
    if KINDS.contains(&kind) {
        return Ok(());
    }
    let kind: String = kind.chars().take(64).collect();
    let message =
        format!("definitions of kind {kind:?} do not exist: use \"outbox\", \"pipeline\" or \"archive\"");
    Err(Error::invalid("kind", message))
}

/// Whether a definition can be stored beside others of `others_bytes`.
pub(crate) fn check_definition(kind: &str, name: &str, bytes: usize, others_bytes: usize) -> Result<()> {
    if kind != QUOTA {
        check_kind(kind)?;
    }
    check_name("name", "name of a definition", name)?;
    if bytes > DEFINITION_BYTES_MAX {
        let message = format!(
            "{kind} \"{name}\" has {bytes} bytes, at most {DEFINITION_BYTES_MAX} are allowed: shorten it"
        );
        return Err(Error::invalid("body", message));
    }
    if others_bytes + bytes > DEFINITIONS_BYTES_MAX {
        let message = format!(
            "{kind} \"{name}\" has {bytes} bytes, all definitions have {others_bytes}, together at most \
             {DEFINITIONS_BYTES_MAX} are allowed: delete some first"
        );
        return Err(Error::invalid("body", message));
    }
    Ok(())
}

/// The refusal for one that is not there.
pub(crate) fn unknown(kind: &str, name: &str) -> Error {
    let code = match kind {
        OUTBOX => ErrorCode::UnknownSource,
        PIPELINE => ErrorCode::UnknownPipeline,
        QUOTA => {
            let message =
                format!("there is no quota for {name:?}: `sunseo quota list` shows those there are");
            return Error::invalid("client", message);
        }
        // the closed list has no code of its own for tables
        _ => ErrorCode::InvalidArgument,
    };
    Error::new(code, format!("{kind} \"{name}\" does not exist: check the name")).at("name")
}
