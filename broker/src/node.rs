//! What the requests of a node work with. Everything in it is shared; the state is in the parts.

use std::fmt;
use std::sync::Arc;

use sunseo_proto::PartitionId;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, ErrorCode, Result};

use crate::Limits;
use crate::api::produce::Origin;
use crate::budget::Budget;
use crate::coordinator::Coordinator;
use crate::gate::Gate;
use crate::log_thread::LogThread;
use crate::metadata::Metadata;
use crate::partition::Partition;
use crate::quota::Quotas;
use crate::reads::Reads;
use crate::txn::Transactions;

/// A running node's parts.
pub(crate) struct Node {
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: LogThread,
    pub(crate) reads: Reads,
    pub(crate) metadata: Metadata,
    pub(crate) coordinator: Coordinator,
    pub(crate) transactions: Transactions,
    pub(crate) budget: Arc<Budget>,
    pub(crate) quotas: Quotas,
    network: Arc<Gate>,
    internal: Arc<Gate>,
}

/// What is folded out of internal partitions.
#[derive(Debug)]
pub(crate) struct Folds {
    pub(crate) metadata: Metadata,
    pub(crate) coordinator: Coordinator,
    pub(crate) transactions: Transactions,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("node_id", &self.metadata.node_id()).finish_non_exhaustive()
    }
}

impl Node {
    pub(crate) fn new(
        limits: Limits,
        clock: Arc<dyn Clock>,
        log: LogThread,
        reads: Reads,
        folds: Folds,
    ) -> Self {
        let Folds { metadata, coordinator, transactions } = folds;
        let network = Gate::new(limits.produce_bytes_in_flight_max);
        let internal = Gate::new(limits.internal_produce_bytes_in_flight_max);
        let budget = Budget::new(limits.memory_bytes_max);
        let quotas = Quotas::default();
        Self {
            limits,
            clock,
            log,
            reads,
            metadata,
            coordinator,
            transactions,
            budget,
            quotas,
            network,
            internal,
        }
    }

    pub(crate) fn gate(&self, origin: Origin) -> &Arc<Gate> {
        match origin {
            Origin::Network => &self.network,
            Origin::Internal => &self.internal,
        }
    }

    /// A partition that the metadata knows.
    pub(crate) fn partition(&self, id: PartitionId) -> Result<Arc<Partition>> {
        self.log.partitions().get(id).ok_or_else(|| {
            let message =
                format!("partition {id} is not open on this node: refresh the metadata and try again");
            Error::new(ErrorCode::NotLeader, message)
        })
    }
}
