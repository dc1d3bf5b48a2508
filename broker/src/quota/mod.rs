//! What one client may do in a second: bytes produced, bytes fetched, requests.
//!
//! A client is whoever gives one id in the [`CLIENT_ID_HEADER`], on any number of connections; without one, an address. Over its
//! quota it is not refused: its answer comes at once and says for how long its stream is not read on (KIP-219). The bounds are
//! definitions in the metadata ([`QuotaTable`]) and in force with the next request.
//!
//! Not here: waiting (the streams), and the parts of the server itself, which have no quota.

pub(crate) mod bucket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::time::Instant;

use crate::metadata::quotas::QuotaTable;
use crate::metadata::{DefinitionsStamp, State};
use bucket::Bucket;

/// The gRPC metadata in which a client says who it is.
pub const CLIENT_ID_HEADER: &str = "sunseo-client-id";

/// Longest time for which a client is held at once; what it owes beyond that is held against its next request.
pub(crate) const THROTTLE_MS_MAX: u64 = 10_000;

/// Clients whose use is remembered. Beyond it those go who have used nothing for a second, and then the longest silent.
pub(crate) const CLIENTS_MAX: usize = 10_000;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ProduceBytes,
    FetchBytes,
    Requests,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ProduceBytes => "produce_bytes",
            Self::FetchBytes => "fetch_bytes",
            Self::Requests => "requests",
        }
    }
}

#[derive(Debug)]
struct Used {
    buckets: [Option<Bucket>; 3],
    seen_ms: i64,
}

/// The use of all clients of a node.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// The bounds, and the definitions they were read from.
    table: RwLock<(Option<DefinitionsStamp>, Arc<QuotaTable>)>,
    clients: Mutex<HashMap<Arc<str>, Used>>,
    begun: Instant,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { table: RwLock::default(), clients: Mutex::default(), begun: Instant::now() }
    }
}

impl Quotas {
    /// Counts an amount against a client by the bounds of the metadata; how long it is to wait, in milliseconds.
    pub(crate) fn charge(&self, image: &State, client: &Arc<str>, kind: Kind, amount: u64) -> u32 {
        self.charge_by(&self.table(image), client, kind, amount)
    }

    fn table(&self, image: &State) -> Arc<QuotaTable> {
        let stamp = Some(image.definitions_stamp());
        {
            let known = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if known.0 == stamp {
                return Arc::clone(&known.1);
            }
        }
        let table = Arc::new(QuotaTable::new(image.quotas()));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = (stamp, Arc::clone(&table));
        table
    }

    fn charge_by(&self, table: &QuotaTable, client: &Arc<str>, kind: Kind, amount: u64) -> u32 {
        let Some(rate) = table.rate(client, kind) else { return 0 };
        let now_ms = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        let mut clients = self.clients();
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(client) {
            forget(&mut clients, now_ms);
        }
        let used = clients
            .entry(Arc::clone(client))
            .or_insert_with(|| Used { buckets: [None, None, None], seen_ms: now_ms });
        used.seen_ms = now_ms;
        let bucket = used.buckets[kind as usize].get_or_insert_with(|| Bucket::new(rate, now_ms));
        if bucket.rate() != rate {
            bucket.set_rate(rate, now_ms);
        }
        let wait_ms = bucket.take(amount, now_ms).min(THROTTLE_MS_MAX);
        drop(clients);
        if wait_ms > 0 {
            metrics::counter!("sunseo_throttled_total", "quota" => kind.name()).increment(1);
            metrics::counter!("sunseo_throttle_ms_total", "quota" => kind.name()).increment(wait_ms);
        }
        u32::try_from(wait_ms).unwrap_or(u32::MAX)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Arc<str>, Used>> {
        // counters; each statement leaves them whole
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room: the idle ones cost nothing to forget; of the busy ones the longest silent eighth.
fn forget(clients: &mut HashMap<Arc<str>, Used>, now_ms: i64) {
    clients.retain(|_, used| !used.buckets.iter().flatten().all(|bucket| bucket.is_full(now_ms)));
    if clients.len() < CLIENTS_MAX {
        return;
    }
    let mut seen: Vec<i64> = clients.values().map(|used| used.seen_ms).collect();
    seen.sort_unstable();
    let limit = seen[CLIENTS_MAX / 8];
    clients.retain(|_, used| used.seen_ms > limit);
}

#[cfg(test)]
mod tests {
    use sunseo_proto::v1;

    use super::*;

    fn table(quotas: &[(&str, u64)]) -> QuotaTable {
        let quota = |(client, rate): &(&str, u64)| v1::Quota {
            client: (*client).to_owned(),
            produce_bytes_per_second: Some(*rate),
            ..Default::default()
        };
        QuotaTable::new(quotas.iter().map(quota))
    }

    #[tokio::test(start_paused = true)]
    async fn each_client_has_its_own_and_the_others_each_the_default() {
        let quotas = Quotas::default();
        let table = table(&[("", 100), ("big", 10_000)]);
        let charge =
            |client: &str, amount| quotas.charge_by(&table, &client.into(), Kind::ProduceBytes, amount);
        assert_eq!((charge("a", 200), charge("b", 150), charge("big", 10_000)), (1_000, 500, 0));
        assert_eq!(charge("a", 100_000), 10_000, "never longer than the bound at once");
        assert_eq!(quotas.charge_by(&table, &"a".into(), Kind::FetchBytes, 1 << 40), 0, "no bound, no wait");
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert_eq!(charge("b", 100), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_clients_that_are_remembered_is_bounded() {
        let quotas = Quotas::default();
        let table = table(&[("", 1)]);
        for n in 0..CLIENTS_MAX + 10 {
            quotas.charge_by(&table, &format!("c{n}").into(), Kind::ProduceBytes, 1_000);
            tokio::time::advance(std::time::Duration::from_micros(100)).await;
        }
        assert!(quotas.clients().len() <= CLIENTS_MAX);
        let last: Arc<str> = format!("c{}", CLIENTS_MAX + 9).into();
        assert!(quotas.clients().contains_key(&last));
    }
}
