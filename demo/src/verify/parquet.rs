//! The archive, read by a reader that shares no code with its writer: DuckDB, in Python.
//!
//! The reader gets the folder and prints one JSON object per row; what it sees is compared like any other summary.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::summaries::SummaryLedger;
use crate::topics::ARCHIVE_TABLE;

/// Times come back as microseconds of UTC, which is what the files hold; half a millisecond would show as a difference.
const SCRIPT: &str = r#"
import json, sys
import duckdb

connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
files = sys.argv[1]
columns = [c for c in connection.execute(
    "DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = true)", [files]).fetchall()]
select = []
for name, kind, *_ in columns:
    quoted = '"' + name + '"'
    select.append(f"epoch_us({quoted}) AS {quoted}" if kind.startswith("TIMESTAMP") else quoted)
rows = connection.execute(
    f"SELECT {', '.join(select)} FROM read_parquet(?, hive_partitioning = true)", [files])
names = [name for name, *_ in columns]
while batch := rows.fetchmany(10000):
    for row in batch:
        print(json.dumps(dict(zip(names, row)), default=str, ensure_ascii=False))
"#;

/// A row as it lies in the files.
#[derive(serde::Deserialize)]
struct Row {
    delivery_id: String,
    outcome: String,
    reason: Option<String>,
    shop_id: String,
    shop_district: String,
    customer_district: String,
    rider_id: Option<String>,
    created_at: i64,
    assigned_at: Option<i64>,
    picked_up_at: Option<i64>,
    ended_at: i64,
    price_krw: i64,
    fee_krw: i64,
    distance_m: f64,
    events: i64,
    /// Fields that no column took: there are none.
    #[serde(rename = "_extra")]
    extra: Option<String>,
    /// The folder; a date as DuckDB understands it.
    dt: String,
}

/// The definition of the archive table: every field of a summary has its column.
#[must_use]
pub fn definition() -> serde_json::Value {
    let column = |name: &str, kind: &str| serde_json::json!({"name": name, "type": kind});
    let optional = |name: &str, kind: &str| serde_json::json!({"name": name, "type": kind, "optional": true});
    let time = |name: &str, optional: bool| {
        let path = format!("{name}_ms");
        serde_json::json!({"name": name, "type": "timestamp_millis", "path": path, "optional": optional})
    };
    serde_json::json!({
        "table": ARCHIVE_TABLE,
        "topic": crate::topics::DELIVERY_SUMMARY,
        "key": "delivery_id",
        "time_column": "ended_at",
        "columns": [
            column("delivery_id", "string"),
            column("outcome", "string"),
            optional("reason", "string"),
            column("shop_id", "string"),
            column("shop_district", "string"),
            column("customer_district", "string"),
            optional("rider_id", "string"),
            time("created_at", false),
            time("assigned_at", true),
            time("picked_up_at", true),
            time("ended_at", false),
            column("price_krw", "int64"),
            column("fee_krw", "int64"),
            column("distance_m", "float64"),
            column("events", "int64"),
        ],
    })
}

/// What came out of the reader.
#[derive(Debug, Default)]
pub struct Archive {
    pub summaries: SummaryLedger,
    /// Rows in the folder of another day than the one they ended on (UTC).
    pub misplaced: u64,
}

/// Reads all files of the table.
///
/// # Errors
/// Why there is no independent reader, or what it says, with the remedy.
pub async fn read(python: &Path, object_store: &Path) -> Result<Archive, String> {
    let files = object_store.join("tab").join(ARCHIVE_TABLE).join("dt=*").join("*.parquet");
    let mut reader = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(&files)
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| {
            let python = python.display();
            format!("{python} does not start ({e}): set SUNSEO_PYTHON to a Python that has duckdb")
        })?;
    let (Some(stdout), Some(stderr)) = (reader.stdout.take(), reader.stderr.take()) else {
        return Err("the reader has no output".to_owned());
    };
    let said = tokio::spawn(last_line(stderr));
    let mut archive = Archive::default();
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) =
        lines.next_line().await.map_err(|e| format!("the reader's output breaks off: {e}"))?
    {
        archive.take(&line);
    }
    let status = reader.wait().await.map_err(|e| format!("the reader does not end: {e}"))?;
    if status.success() {
        return Ok(archive);
    }
    let said = said.await.unwrap_or_default();
    let remedy = if said.contains("No module named") { ": install it with `pip install duckdb`" } else { "" };
    Err(format!("DuckDB did not read {}: {said}{remedy}", files.display()))
}

async fn last_line(stderr: impl tokio::io::AsyncRead + Unpin) -> String {
    let (mut lines, mut last) = (BufReader::new(stderr).lines(), String::new());
    while let Ok(Some(line)) = lines.next_line().await {
        if !line.trim().is_empty() {
            last = line;
        }
    }
    last
}

impl Archive {
    fn take(&mut self, line: &str) {
        let Ok(row) = serde_json::from_str::<Row>(line) else {
            self.summaries.json(line.as_bytes());
            return;
        };
        if date_of(row.ended_at).as_deref() != Some(row.dt.as_str()) {
            self.misplaced += 1;
        }
        match summary(row) {
            Some(json) => self.summaries.json(json.to_string().as_bytes()),
            None => self.summaries.json(b"a time between two milliseconds"),
        }
    }
}

/// The row as the record it was made of; `None` when a time is no whole millisecond.
fn summary(row: Row) -> Option<serde_json::Value> {
    let millis = |micros: i64| (micros % 1_000 == 0).then_some(micros / 1_000);
    let optional = |micros: Option<i64>| micros.map_or(Some(None), |micros| millis(micros).map(Some));
    let json = serde_json::json!({
        "delivery_id": row.delivery_id,
        "outcome": row.outcome,
        "reason": row.reason,
        "shop_id": row.shop_id,
        "shop_district": row.shop_district,
        "customer_district": row.customer_district,
        "rider_id": row.rider_id,
        "created_at_ms": millis(row.created_at)?,
        "assigned_at_ms": optional(row.assigned_at)?,
        "picked_up_at_ms": optional(row.picked_up_at)?,
        "ended_at_ms": millis(row.ended_at)?,
        "price_krw": row.price_krw,
        "fee_krw": row.fee_krw,
        "distance_m": row.distance_m,
        "events": row.events,
    });
    row.extra.is_none().then_some(json)
}

/// `YYYY-MM-DD` of a time in microseconds, by the civil calendar (Hinnant's algorithm for days since 1970).
fn date_of(micros: i64) -> Option<String> {
    let days = micros.div_euclid(86_400_000_000);
    let shifted = days.checked_add(719_468)?;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

/// The Python to use: the one that is given, that of the environment, or any.
#[must_use]
pub fn python(configured: Option<PathBuf>) -> PathBuf {
    configured
        .or_else(|| std::env::var_os("SUNSEO_PYTHON").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("python3"))
}

#[cfg(test)]
mod tests;
