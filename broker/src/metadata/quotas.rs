//! Bounds of clients, kept as definitions of kind `quota`: the settings of a node that change while it runs.

use sunseo_proto::error::{Error, Result};
use sunseo_proto::v1;

use super::Metadata;

impl Metadata {
    pub(crate) async fn set_quota(&self, _request: v1::SetQuotaRequest) -> Result<v1::SetQuotaResponse> {
        Err(not_yet())
    }

    pub(crate) fn list_quotas(&self, _request: v1::ListQuotasRequest) -> Result<v1::ListQuotasResponse> {
        Err(not_yet())
    }

    pub(crate) async fn delete_quota(
        &self,
        _request: v1::DeleteQuotaRequest,
    ) -> Result<v1::DeleteQuotaResponse> {
        Err(not_yet())
    }
}

fn not_yet() -> Error {
    Error::new(sunseo_proto::ErrorCode::Unsupported, "this version has no quotas yet")
}
