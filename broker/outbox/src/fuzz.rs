//! Fuzz targets of notes, pushes, definitions and rows. For tests only (feature `testing`).

use bytes::Bytes;
use sunseo_proto::envelope;
use sunseo_proto::fuzz::{SMALL, Seal, Target};
use sunseo_proto::v1;

use crate::definition::{self, Definition};
use crate::http::{self, Push};
use crate::ingest::core::{Core, Verdict, checksum};
use crate::position::{Checkpoint, Events, Ledger, Rows};
use crate::row::{RawRow, Template, Value, convert, convert_event, time};

const NOW_MS: i64 = 1_700_000_000_000;

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    Target { seal: Seal::Envelopes, ..plain("outbox_notes", notes, note_samples) },
    plain("outbox_push_json", push_json, push_samples),
    plain("outbox_push_ndjson", push_lines, push_samples),
    plain("outbox_source", source, source_samples),
    plain("outbox_row", row, row_samples),
    plain("outbox_time", timestamp, time_samples),
];

const fn plain(name: &'static str, run: fn(&[u8]), samples: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, samples, seal: Seal::None, memory_bytes_max: SMALL }
}

/// Notes of one shard, in their order; then a few pushes.
fn notes(bytes: &[u8]) {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut ledger = Ledger::default();
    while let Ok(opened) = envelope::open(&rest) {
        if let Ok(note) = Checkpoint::open(&rest) {
            assert_eq!(Checkpoint::open(&note.seal()).as_ref(), Ok(&note));
            ledger.apply("orders/a", note);
        }
        rest = rest.slice(opened.frame_bytes..);
    }
    let mut again = Ledger::default();
    ledger.snapshot().into_iter().for_each(|(key, note)| again.apply(&key, note));
    assert_eq!(again.snapshot(), ledger.snapshot());
    for stored in ledger.shards.values() {
        let mut core = Core::restore(stored);
        let last = stored.window.last();
        for n in 0..3 {
            let next = core.accepted_through.saturating_add(1 + n);
            for sequence in [next, last, i64::MAX, i64::MIN] {
                if stored.checkpoint.events.is_some() && core.judge(sequence, 1) == Verdict::Next {
                    core.take(1);
                    assert!(core.note().first <= sequence);
                }
            }
        }
    }
}

fn note_samples() -> Vec<Vec<u8>> {
    let note = |position: i64, first: i64, checksums: &[u32]| {
        let partitions = [("orders".to_owned(), 8)].into();
        let events = Some(Events { first, checksums: checksums.to_vec() });
        Checkpoint { producer_id: 7, epoch: 1, position, partitions, events, ..Checkpoint::default() }
    };
    let pushed = [note(0, 1, &[11, 12]), note(2, 3, &[13]), note(3, 4, &[])];
    let rows = Rows { published: 9, last_timestamp_ms: NOW_MS, id_checksum: 5, ..Rows::default() };
    let table = Checkpoint { position: 9, rows: Some(rows), ..Checkpoint::default() };
    vec![pushed.iter().flat_map(Checkpoint::seal).collect(), table.seal().to_vec()]
}

fn push_json(body: &[u8]) {
    push("application/json", body);
}

fn push_lines(body: &[u8]) {
    push("application/x-ndjson", body);
}

fn push(content_type: &str, body: &[u8]) {
    let push = Push { content_type, epoch: None, traceparent: Some("00-1"), body };
    let Ok(events) = http::parse(&push) else { return };
    let template = Template::parse("").expect("the default");
    for event in events {
        let (again, mut untraced) = (checksum(&event), event.clone());
        untraced.headers.retain(|header| !matches!(header.key.as_str(), "traceparent" | "tracestate"));
        assert_eq!(again, checksum(&untraced), "a repeat may carry another trace");
        let key = event.aggregate_id.clone();
        if let Ok(routed) = convert_event(&template, event, NOW_MS) {
            assert_eq!(routed.record.key.as_deref(), Some(key.as_bytes()));
        }
    }
}

fn push_samples() -> Vec<Vec<u8>> {
    let own = r#"{"sequence":1,"id":"e1","aggregate_type":"orders","aggregate_id":"o-1","type":"PLACED","payload":{"n":1.50},"timestamp_ms":1700000000000,"headers":{"a":"b","c":null}}"#;
    let cloud = r#"{"specversion":"1.0","sequence":"2","id":"e2","source":"orders","subject":"o-2","type":"PAID","time":"2023-11-14T22:13:20.5+09:00","data_base64":"Zm9v"}"#;
    let text = r#"{"sequence":3,"id":"e3","aggregateType":"orders","aggregateId":"o-1","type":"GONE","payload":null,"timestamp":"2023-11-14"}"#;
    vec![format!("[{own},{cloud},{text}]").into(), format!("{own}\n\n{cloud}\n{text}\n").into(), own.into()]
}

fn source(body: &[u8]) {
    let Ok(raw) = definition::from_json(body) else { return };
    let written = definition::to_json(&raw).to_string();
    assert_eq!(definition::from_json(written.as_bytes()).as_ref(), Ok(&raw));
    if let Ok(definition) = Definition::parse(raw) {
        for pattern in &definition.raw.tables {
            let table = pattern.replace('*', "x");
            assert!(definition.matches(&table), "{pattern:?} and {table:?}");
        }
    }
}

fn source_samples() -> Vec<Vec<u8>> {
    let columns = [("payload".to_owned(), "body".to_owned())].into();
    let definition = v1::SourceDefinition {
        name: "orders".into(),
        kind: "sqlite".into(),
        url: "sqlite:///var/lib/app.db".into(),
        tables: vec!["outbox_order_*".into(), "outbox".into()],
        topic_template: "app.{aggregatetype}".into(),
        columns,
        on_bad_row: "quarantine".into(),
        partitions: 4,
    };
    vec![definition::to_json(&definition).to_string().into()]
}

/// A row as an application may write it: each column with any type.
fn row(bytes: &[u8]) {
    let mut rest = bytes;
    let mut take = || {
        let (tag, tail) = rest.split_first()?;
        let (length, tail) = tail.split_first()?;
        let (content, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let mut number = [0; 8];
        let used = content.len().min(8);
        number[..used].copy_from_slice(&content[..used]);
        Some(match tag % 5 {
            0 => Value::Null,
            1 => Value::Integer(i64::from_be_bytes(number)),
            2 => Value::Real(f64::from_be_bytes(number)),
            3 => Value::Text(Bytes::copy_from_slice(content)),
            _ => Value::Blob(Bytes::copy_from_slice(content)),
        })
    };
    let values = std::array::from_fn(|_| take().unwrap_or_default());
    let row = RawRow { rowid: 1, values };
    let template = Template::parse("").expect("the default");
    match convert(&template, &row, NOW_MS) {
        Ok(routed) => assert!(routed.record.key.is_some()),
        Err(error) => {
            assert!(!error.message.is_empty());
            let letter = crate::row::dead_letter("orders", "outbox", &row, &error, NOW_MS);
            assert!(!letter.headers.is_empty());
        }
    }
}

fn row_samples() -> Vec<Vec<u8>> {
    let columns: [(u8, &[u8]); 7] = [
        (3, b"e1"),
        (3, b"orders"),
        (3, b"o-1"),
        (3, b"PLACED"),
        (4, b"\x00\x01"),
        (1, &NOW_MS.to_be_bytes()),
        (3, br#"{"traceparent":"00-1","n":2}"#),
    ];
    let write = |columns: &[(u8, &[u8])]| {
        let column = |(tag, content): &(u8, &[u8])| [&[*tag, content.len() as u8], *content].concat();
        columns.iter().flat_map(column).collect::<Vec<u8>>()
    };
    let mut odd = columns;
    odd[0] = (4, &[7; 16]);
    odd[4] = (0, b"");
    odd[5] = (3, b"2023-11-14 22:13:20");
    vec![write(&columns), write(&odd)]
}

fn timestamp(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = time::parse_ms(text);
    }
}

fn time_samples() -> Vec<Vec<u8>> {
    let texts = [
        "2023-11-14T22:13:20.123456Z",
        "2023-11-14 22:13:20+09:00",
        "2023-11-14",
        "0000-01-01T00:00:00-23:59",
    ];
    texts.map(|text| text.into()).into()
}
