//! Sources of outbox events.

use serde_json::{Value, json};
use sunseo_proto::v1;

use super::error;

pub fn verification(answer: &v1::VerifySourceResponse) -> Value {
    json!({
        "rows": answer.rows,
        "published": answer.published,
        "missing": answer.missing,
        "duplicated": answer.duplicated,
        "out_of_order": answer.out_of_order,
        "problems": answer.problems.iter().map(|e| error(Some(e))).collect::<Value>(),
    })
}
