//! What must be there before the day: topics, the outbox source, the archive table.

use std::path::Path;

use sunseo_client::Client;
use sunseo_proto::v1;

use super::patience::insist;
use crate::app::Application;
use crate::config::DemoConfig;
use crate::error::{DemoError, Result};
use crate::topics::{ARCHIVE_TABLE, OUTBOX_TABLE_PREFIX, SOURCE, topics};
use crate::verify::parquet;

/// Name of the application's database in the working directory.
pub const DATABASE: &str = "orders.sqlite";

/// Sets everything up.
///
/// # Errors
/// What the node refuses, or the database.
pub async fn set_up(client: &Client, config: &DemoConfig) -> Result<Application> {
    let database = config.work_dir.join(DATABASE);
    let (path, shards) = (database.clone(), config.shards);
    let create = tokio::task::spawn_blocking(move || Application::create(&path, shards));
    let application =
        create.await.map_err(|e| DemoError::Internal(format!("making the database: {e}")))??;
    let admin = client.admin();
    for topic in topics(config.partitions) {
        insist("creating topics", || admin.create_topic(topic.clone())).await?;
    }
    let archive = parquet::definition().to_string();
    let put = || admin.put_definition("archive", ARCHIVE_TABLE, archive.clone(), -1);
    insist("defining the archive table", put).await?;
    let outbox = client.outbox().map_err(DemoError::request("reaching the outbox"))?;
    let source = source(&database, config)?;
    insist("adding the outbox source", || outbox.add_source(source.clone())).await?;
    Ok(application)
}

fn source(database: &Path, config: &DemoConfig) -> Result<v1::SourceDefinition> {
    let path = std::path::absolute(database)
        .map_err(|source| DemoError::Io { doing: "finding the database".to_owned(), source })?;
    let Some(url) = path.to_str() else {
        let remedy = "choose a folder whose path is UTF-8";
        return Err(DemoError::config("working directory", path.display(), remedy));
    };
    Ok(v1::SourceDefinition {
        name: SOURCE.to_owned(),
        kind: "sqlite".to_owned(),
        url: url.to_owned(),
        tables: vec![format!("{OUTBOX_TABLE_PREFIX}*")],
        partitions: config.partitions,
        ..v1::SourceDefinition::default()
    })
}
