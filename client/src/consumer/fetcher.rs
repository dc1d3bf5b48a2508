//! The task that keeps the book filled: asks for what has room, decodes what comes, finds lost positions again.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use sunseo_proto::error::Result;
use sunseo_proto::v1;
use tokio::time::Instant;

use super::book::{Asked, Taken, Ticket, decode};
use super::{OutOfRangePolicy, Shared, offsets};
use crate::admin::OffsetQuery;
use crate::retry::draw;

enum Event {
    Fetched(Asked, Result<v1::FetchResponse>),
    /// The offset at which a partition whose position is lost goes on.
    Found(Ticket, Result<i64>),
}

pub(super) async fn run(shared: Arc<Shared>) {
    let mut running: FuturesUnordered<BoxFuture<'static, Event>> = FuturesUnordered::new();
    loop {
        let wake = {
            let mut core = shared.lock();
            let now = Instant::now();
            while let Some(asked) = core.book.ask(&shared.config, now) {
                running.push(fetch(&shared, asked));
            }
            core.book.wake_at()
        };
        let event = tokio::select! {
            () = shared.room.notified() => None,
            event = running.next(), if !running.is_empty() => event,
            () = sleep_until(wake) => None,
        };
        match event {
            Some(Event::Fetched(asked, answer)) => running.extend(take(&shared, asked, answer)),
            Some(Event::Found(ticket, offset)) => found(&shared, &ticket, offset),
            None => {}
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn fetch(shared: &Shared, asked: Asked) -> BoxFuture<'static, Event> {
    let answer = shared.transport.fetch(asked.request.clone());
    async move { Event::Fetched(asked, answer.await) }.boxed()
}

/// Takes an answer; what has to be found out before some partitions go on.
fn take(shared: &Shared, asked: Asked, answer: Result<v1::FetchResponse>) -> Vec<BoxFuture<'static, Event>> {
    let mut results = by_partition(answer);
    let decoded: Vec<_> = asked
        .tickets
        .into_iter()
        .map(|ticket| {
            let result = match &mut results {
                Ok(results) => {
                    // left out: there is nothing behind the offset
                    let found = results.remove(&(ticket.key.0.to_string(), ticket.key.1));
                    Ok(found.unwrap_or_else(|| nothing_new(&ticket)))
                }
                Err(error) => Err(error.clone()),
            };
            let isolation = shared.config.isolation;
            let fetched = result.map(|result| decode(&ticket.key, ticket.fetch_offset, result, isolation));
            (ticket, fetched)
        })
        .collect();
    let (mut resets, mut news, mut trouble) = (Vec::new(), false, None);
    let mut core = shared.lock();
    core.book.release(asked.reserved);
    for (ticket, fetched) in decoded {
        let again = |failures| Instant::now() + shared.config.retry.backoff(failures, draw());
        match core.book.take(&ticket, fetched, shared.config.on_out_of_range, again) {
            Taken::Nothing => {}
            Taken::Records => news = true,
            Taken::Refused(error) => trouble = Some(error),
            Taken::Reset => resets.push(find(shared, ticket)),
        }
    }
    if core.trouble.is_none()
        && let Some(error) = &trouble
    {
        tracing::warn!(%error, "fetch refused for now, trying again");
    }
    core.trouble = trouble;
    drop(core);
    if news {
        shared.news.notify_one();
    }
    resets
}

fn by_partition(answer: Result<v1::FetchResponse>) -> Result<HashMap<(String, i32), v1::FetchResult>> {
    match answer? {
        v1::FetchResponse { error: Some(error), .. } => Err(error.into()),
        v1::FetchResponse { results, .. } => {
            Ok(results.into_iter().map(|result| ((result.topic.clone(), result.partition), result)).collect())
        }
    }
}

fn nothing_new(ticket: &Ticket) -> v1::FetchResult {
    let offset = ticket.fetch_offset;
    v1::FetchResult {
        high_watermark: offset,
        last_stable_offset: offset,
        next_offset: offset,
        ..Default::default()
    }
}

fn find(shared: &Shared, ticket: Ticket) -> BoxFuture<'static, Event> {
    let (transport, isolation) = (Arc::clone(&shared.transport), shared.config.isolation);
    let at = match shared.config.on_out_of_range {
        OutOfRangePolicy::Start => OffsetQuery::Start,
        OutOfRangePolicy::End | OutOfRangePolicy::Error => OffsetQuery::End,
    };
    async move {
        let found = offsets::list(&transport, std::slice::from_ref(&ticket.key), at, isolation).await;
        let offset = found.map(|offsets| offsets.first().copied().flatten().unwrap_or_default());
        Event::Found(ticket, offset)
    }
    .boxed()
}

fn found(shared: &Shared, ticket: &Ticket, offset: Result<i64>) {
    let mut core = shared.lock();
    let (topic, partition) = &ticket.key;
    match offset {
        Ok(offset) => {
            let lost = ticket.fetch_offset;
            tracing::warn!(%topic, partition, lost, offset, "position is not in the log, going on elsewhere");
            core.book.reset(ticket, offset);
        }
        Err(error) => {
            tracing::warn!(%topic, partition, %error, "offset for a lost position not found, trying again");
            core.book.later(ticket, Instant::now() + shared.config.retry.max);
        }
    }
}
