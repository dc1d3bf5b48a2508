//! Quotas as they are kept: definitions of kind `quota`, one per client, and one for everybody else.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use sunseo_proto::error::{Error, Result};
use sunseo_proto::v1;

use super::definitions::QUOTA;
use super::names::{RESERVED_PREFIX, check_name};
use super::{Metadata, State};
use crate::quota::Kind;

/// The name under which the quota of everybody without one of their own is kept; no client can have it.
const DEFAULT_NAME: &str = "__default";

/// Every bound there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QuotaTable {
    default: [Option<u64>; 3],
    clients: HashMap<Arc<str>, [Option<u64>; 3]>,
}

impl QuotaTable {
    pub(crate) fn new(quotas: impl IntoIterator<Item = v1::Quota>) -> Self {
        let mut table = Self::default();
        for quota in quotas {
            let rates =
                [quota.produce_bytes_per_second, quota.fetch_bytes_per_second, quota.requests_per_second];
            match quota.client.is_empty() {
                true => table.default = rates,
                false => drop(table.clients.insert(quota.client.into(), rates)),
            }
        }
        table
    }

    /// Amount per second; `None` is without a bound.
    pub(crate) fn rate(&self, client: &str, kind: Kind) -> Option<u64> {
        self.clients.get(client).unwrap_or(&self.default)[kind as usize]
    }
}

impl State {
    pub(crate) fn quotas(&self) -> impl Iterator<Item = v1::Quota> {
        // checked when it was put
        self.definitions(QUOTA).filter_map(|definition| v1::Quota::decode(definition.body.clone()).ok())
    }
}

impl Metadata {
    pub(crate) async fn set_quota(&self, request: v1::SetQuotaRequest) -> Result<v1::SetQuotaResponse> {
        let quota = request.quota.ok_or_else(|| Error::invalid("quota", "there is no quota: send one"))?;
        let name = name_of(&quota.client)?;
        let rates = [quota.produce_bytes_per_second, quota.fetch_bytes_per_second, quota.requests_per_second];
        if rates.iter().all(Option::is_none) {
            let message = "the quota bounds nothing: name at least one of produce_bytes_per_second, fetch_bytes_per_second, \
                           requests_per_second, or delete it";
            return Err(Error::invalid("quota", message));
        }
        if rates.contains(&Some(0)) {
            let message =
                "a rate of 0 would hold the client for ever: use at least 1, or leave it out for no bound";
            return Err(Error::invalid("quota", message));
        }
        let body = Bytes::from(quota.encode_to_vec());
        self.put(v1::PutDefinitionRequest { kind: QUOTA.to_owned(), name, body, expected_version: -1 })
            .await?;
        Ok(v1::SetQuotaResponse {})
    }

    pub(crate) fn list_quotas(&self, _request: v1::ListQuotasRequest) -> v1::ListQuotasResponse {
        v1::ListQuotasResponse { quotas: self.image().quotas().collect() }
    }

    pub(crate) async fn delete_quota(
        &self,
        request: v1::DeleteQuotaRequest,
    ) -> Result<v1::DeleteQuotaResponse> {
        let name = name_of(&request.client)?;
        self.remove(QUOTA.to_owned(), name).await?;
        Ok(v1::DeleteQuotaResponse {})
    }
}

/// Whether a client may call itself so.
pub(crate) fn check_client_id(client: &str) -> Result<()> {
    check_name("client", "client id", client)?;
    if client.starts_with(RESERVED_PREFIX) {
        let message = format!("client id {client:?} begins with \"{RESERVED_PREFIX}\": choose another one");
        return Err(Error::invalid("client", message));
    }
    Ok(())
}

fn name_of(client: &str) -> Result<String> {
    if client.is_empty() {
        return Ok(DEFAULT_NAME.to_owned());
    }
    check_client_id(client)?;
    Ok(client.to_owned())
}
