//! Every comparison of a run, in the order of the report.

use sunseo_client::Client;

use super::Figures;
use super::patience::insist;
use crate::app::Application;
use crate::config::DemoConfig;
use crate::error::{DemoError, Result};
use crate::node::Node;
use crate::report::Check;
use crate::topics::{
    DEAD_LETTER, DELIVERY, DELIVERY_SUMMARY, EVENTS_STORE, PIPELINE, RIDER_DISTRICT, RIDER_GPS,
    RIDER_SNAPSHOT,
};
use crate::truth::Truth;
use crate::verify::events::EventLedger;
use crate::verify::riders::RiderLedger;
use crate::verify::summaries::SummaryLedger;
use crate::verify::{cold, counts, events, node, parquet};

/// Topics whose segments go to the object store.
const TIERED: [&str; 3] = [DELIVERY, RIDER_GPS, DELIVERY_SUMMARY];

/// Compares everything with the truth.
///
/// # Errors
/// When the node or the database does not answer. Differences are failed checks.
pub async fn compare(
    config: &DemoConfig,
    (client, node): (&Client, &dyn Node),
    truth: &Truth,
    (application, kills): (&Application, u32),
    figures: &mut Figures,
) -> Result<Vec<Check>> {
    let mut checks =
        vec![Check::equal("steps of the day that contradict each other", 0, truth.contradictions())];
    if config.chaos_kills > 0 {
        checks.push(Check::equal("kills of the node", config.chaos_kills, kills));
    }
    database(application, truth, &mut checks)?;
    outbox(client, truth, &mut checks).await?;
    riders(client, truth, figures, &mut checks).await?;
    checks.extend(counts::checks(&truth.counts(), &node::counts(client).await?));
    let mut summaries = SummaryLedger::default();
    node::read(client, DELIVERY_SUMMARY, |record| {
        summaries.json(record.record.value.as_deref().unwrap_or_default());
    })
    .await?;
    checks.extend(summaries.checks("in the topic", truth));
    state(client, &mut checks).await?;
    // offloads and cuts the archive as well
    let cold = cold::compare(client, &TIERED).await?;
    checks.extend(cold.checks());
    figures.insert("offloaded_segments".to_owned(), cold.segments as f64);
    figures.insert("offloaded_bytes".to_owned(), cold.bytes() as f64);
    figures.insert("read_back_bytes".to_owned(), cold.bytes_read_back as f64);
    archive(config, (client, node), truth, figures, &mut checks).await?;
    Ok(checks)
}

fn database(application: &Application, truth: &Truth, checks: &mut Vec<Check>) -> Result<()> {
    let rows = application.rows()?;
    checks.push(Check::equal("orders committed (rows in the database)", truth.orders(), rows.orders));
    checks.push(Check::equal("outbox rows committed", truth.events(), rows.outbox));
    let rolled_back = application.orders_rolled_back();
    checks.push(Check::equal("orders rolled back", truth.orders_rolled_back(), rolled_back));
    Ok(())
}

async fn outbox(client: &Client, truth: &Truth, checks: &mut Vec<Check>) -> Result<()> {
    let (mut by_group, mut by_hand) = (EventLedger::default(), EventLedger::default());
    let take = |ledger: &mut EventLedger, record: &sunseo_client::ConsumedRecord| {
        let bytes = |field: &Option<bytes::Bytes>| field.clone().unwrap_or_default();
        ledger.record(record.partition, &bytes(&record.record.key), &bytes(&record.record.value));
    };
    node::read(client, DELIVERY, |record| take(&mut by_hand, record)).await?;
    let group = format!("{PIPELINE}-comparison");
    node::read_as_group(client, &group, DELIVERY, |record| take(&mut by_group, record)).await?;
    checks.extend(events::checks("read by hand", by_hand.finish(truth), truth));
    checks.extend(events::checks("read by a group", by_group.finish(truth), truth));
    Ok(())
}

async fn riders(
    client: &Client,
    truth: &Truth,
    figures: &mut Figures,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let positions = node::length(client, RIDER_GPS).await?;
    checks.push(Check::equal("rider positions in the log", truth.positions(), positions));
    let mut riders = RiderLedger::default();
    node::read(client, RIDER_DISTRICT, |record| {
        riders.entered(record.record.value.as_deref().unwrap_or_default());
    })
    .await?;
    node::read(client, RIDER_SNAPSHOT, |record| {
        riders.snapshot(record.record.value.as_deref().unwrap_or_default());
    })
    .await?;
    figures.insert("rider_snapshots".to_owned(), riders.snapshots() as f64);
    checks.extend(riders.checks(truth));
    Ok(())
}

async fn state(client: &Client, checks: &mut Vec<Check>) -> Result<()> {
    let pipelines = client.pipelines().map_err(DemoError::request("asking for the pipeline"))?;
    let described = insist("asking for the pipeline", || pipelines.describe(PIPELINE)).await?;
    let name = "deliveries whose events are still in state";
    checks.push(match described.stores.iter().find(|store| store.store == EVENTS_STORE) {
        Some(store) => Check::equal(name, 0, store.entries_estimate),
        None => Check::impossible(name, 0, format!("the pipeline has no store {EVENTS_STORE}")),
    });
    let dead = node::length(client, DEAD_LETTER).await?;
    checks.push(Check::equal("dead letters", 0, dead));
    Ok(())
}

async fn archive(
    config: &DemoConfig,
    (client, node): (&Client, &dyn Node),
    truth: &Truth,
    figures: &mut Figures,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let admin = client.admin();
    let status = insist("asking the tier", || admin.tier_status("")).await?;
    if let Some(table) = status.archives.iter().find(|table| table.table == crate::topics::ARCHIVE_TABLE) {
        figures.insert("archive_files".to_owned(), table.files as f64);
        figures.insert("archive_bytes".to_owned(), table.bytes as f64);
        checks.push(Check::equal("records the archive could not take", 0, table.bad_rows));
    }
    let place = "in Parquet, read by DuckDB";
    let Some(folder) = node.object_store_dir() else {
        let why = "the object store is no local folder: run the demo with one";
        checks.push(Check::impossible(format!("summaries {place}"), truth.ended(), why));
        return Ok(());
    };
    let python = parquet::python(config.python.clone());
    match parquet::read(&python, folder).await {
        Ok(archive) => {
            checks.extend(archive.summaries.checks(place, truth));
            checks.push(Check::equal("summaries in the folder of another day", 0, archive.misplaced));
        }
        Err(why) => checks.push(Check::impossible(format!("summaries {place}"), truth.ended(), why)),
    }
    Ok(())
}
