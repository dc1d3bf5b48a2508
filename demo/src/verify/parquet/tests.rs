use std::io::Write as _;
use std::sync::Arc;

use super::*;
use crate::regions::{RegionSource, Regions};
use crate::simulator::{Day, Simulator};
use crate::truth::Truth;

#[test]
fn dates_are_those_of_the_calendar() {
    for (micros, date) in [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (1_772_377_200_000_000 - 1, "2026-03-01"),
        (1_772_409_600_000_000, "2026-03-02"),
        (951_782_400_000_000, "2000-02-29"),
    ] {
        assert_eq!(date_of(micros).as_deref(), Some(date), "{micros}");
    }
}

#[tokio::test]
async fn without_a_reader_the_remedy_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let said = read(Path::new("/no/such/python"), folder.path()).await.unwrap_err();
    assert!(said.contains("SUNSEO_PYTHON"), "{said}");
}

/// Writes the rows of `rows.json` as an archive would: times as UTC timestamps of microseconds, a folder per day.
const WRITER: &str = r#"
import sys
import duckdb
folder = sys.argv[1]
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
times = ["created_at", "assigned_at", "picked_up_at", "ended_at"]
replaced = ", ".join(f"make_timestamp({t}_ms * 1000)::TIMESTAMPTZ AS {t}" for t in times)
connection.execute(f"""
    COPY (SELECT * EXCLUDE ({', '.join(t + '_ms' for t in times)}), {replaced}, NULL::VARCHAR AS _extra,
          strftime(make_timestamp(ended_at_ms * 1000), '%Y-%m-%d') AS dt
          FROM read_json('{folder}/rows.json', format = 'newline_delimited', columns = {{
              delivery_id: 'VARCHAR', outcome: 'VARCHAR', reason: 'VARCHAR', shop_id: 'VARCHAR',
              shop_district: 'VARCHAR', customer_district: 'VARCHAR', rider_id: 'VARCHAR',
              created_at_ms: 'BIGINT', assigned_at_ms: 'BIGINT', picked_up_at_ms: 'BIGINT', ended_at_ms: 'BIGINT',
              price_krw: 'BIGINT', fee_krw: 'BIGINT', distance_m: 'DOUBLE', events: 'BIGINT'}}))
    TO '{folder}/tab/delivery_summary' (FORMAT parquet, PARTITION_BY (dt))
""")
"#;

#[tokio::test]
async fn an_independent_reader_sees_every_field() {
    let python = python(None);
    let has_duckdb = Command::new(&python).args(["-c", "import duckdb"]).stderr(Stdio::null()).status().await;
    if !has_duckdb.is_ok_and(|status| status.success()) {
        // not eprintln: the test runner would keep it to itself
        let _ = writeln!(std::io::stderr(), "skipped: no Python with duckdb; SUNSEO_PYTHON names one");
        return;
    }
    let regions = Arc::new(Regions::open(&RegionSource::Generated { seed: 51 }).unwrap());
    let mut truth = Truth::new(Arc::clone(&regions));
    let day = Day { deliveries: 200, riders: 20, gps_points_per_rider: 5, seed: 51 };
    Simulator::new(day, regions).for_each(|step| truth.apply(&step));

    for fault in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut rows: Vec<_> = truth.summaries().collect();
        rows[7].picked_up_at_ms = rows[7].picked_up_at_ms.map(|ms| ms + i64::from(fault));
        assert!(rows[7].picked_up_at_ms.is_some());
        let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        std::fs::write(folder.path().join("rows.json"), lines.join("\n")).unwrap();
        std::fs::create_dir(folder.path().join("tab")).unwrap();
        let wrote = Command::new(&python).args(["-c", WRITER]).arg(folder.path()).status().await;
        assert!(wrote.unwrap().success());

        let archive = read(&python, folder.path()).await.unwrap();
        assert_eq!(archive.misplaced, 0);
        let failed: Vec<String> = archive
            .summaries
            .checks("in Parquet", &truth)
            .into_iter()
            .filter(|check| !check.ok)
            .map(|check| format!("{}: {} of {}", check.name, check.actual, check.expected))
            .collect();
        let expected: &[&str] =
            if fault { &["summaries in Parquet, every field equal: 199 of 200"] } else { &[] };
        assert_eq!(failed, expected);
    }
}

#[tokio::test]
async fn no_files_are_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let said = read(&python(None), folder.path()).await.unwrap_err();
    assert!(said.contains("tab") || said.contains("SUNSEO_PYTHON"), "{said}");
}
