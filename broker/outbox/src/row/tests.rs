//! What each column does, and what each bad value says.

use super::*;

fn blob(text: &'static str) -> Value {
    Value::Blob(Bytes::from_static(text.as_bytes()))
}

fn string(text: &'static str) -> Value {
    Value::Text(Bytes::from_static(text.as_bytes()))
}

fn row() -> RawRow {
    let values = [
        string("e-1"),
        string("delivery"),
        string("d-7"),
        string("PLACED"),
        string("{}"),
        Value::Integer(5),
        Value::Null,
    ];
    RawRow { rowid: 3, values }
}

fn with(column: Column, value: Value) -> RawRow {
    let mut row = row();
    row.values[column as usize] = value;
    row
}

fn plain() -> Template {
    Template::parse("").unwrap()
}

fn convert_ok(row: &RawRow) -> Record {
    convert(&plain(), row, 99).unwrap().record
}

fn text_header(record: &Record, key: &str) -> Option<String> {
    record.header(key).map(|value| String::from_utf8_lossy(value).into_owned())
}

#[test]
fn a_row_becomes_a_record() {
    let Routed { topic, record } = convert(&plain(), &row(), 99).unwrap();
    assert_eq!(topic, "delivery");
    assert_eq!(record.key.as_deref(), Some(&b"d-7"[..]));
    assert_eq!(record.value.as_deref(), Some(&b"{}"[..]));
    assert_eq!(record.timestamp_ms, 5);
    assert_eq!(record.headers, [Header::new("id", "e-1"), Header::new("type", "PLACED")]);
}

#[test]
fn null_payload_is_a_tombstone_and_an_empty_one_is_not() {
    assert_eq!(convert_ok(&with(Column::Payload, Value::Null)).value, None);
    assert_eq!(convert_ok(&with(Column::Payload, blob(""))).value, Some(Bytes::new()));
}

#[test]
fn ids_and_keys_may_be_numbers_or_bytes() {
    assert_eq!(text_header(&convert_ok(&with(Column::Id, Value::Integer(8))), "id").unwrap(), "8");
    let uuid = Value::Blob(Bytes::from_static(&[0x11; 16]));
    let id = text_header(&convert_ok(&with(Column::Id, uuid)), "id").unwrap();
    assert_eq!(id, "11111111-1111-1111-1111-111111111111");
    assert_eq!(text_header(&convert_ok(&with(Column::Id, blob("\u{1}\u{2}"))), "id").unwrap(), "0102");
    assert_eq!(convert_ok(&with(Column::AggregateId, Value::Integer(8))).key.unwrap(), "8");
    assert_eq!(convert_ok(&with(Column::AggregateId, blob("\u{0}"))).key.unwrap(), "\u{0}");
}

#[test]
fn times_are_milliseconds_or_text_or_the_time_of_reading() {
    assert_eq!(convert_ok(&with(Column::Timestamp, string("1970-01-01 00:00:01"))).timestamp_ms, 1000);
    assert_eq!(convert_ok(&with(Column::Timestamp, Value::Null)).timestamp_ms, 99);
}

#[test]
fn headers_pass_through() {
    let json = string(r#"{"traceparent":"00-ab-cd-01","tenant":"서울"}"#);
    let record = convert_ok(&with(Column::Headers, json));
    assert_eq!(text_header(&record, "traceparent").unwrap(), "00-ab-cd-01");
    assert_eq!(text_header(&record, "tenant").unwrap(), "서울");
}

#[test]
fn each_bad_value_names_its_column_and_the_remedy() {
    let not_utf8 = Value::Text(Bytes::from_static(&[0xff]));
    let cases = [
        (Column::Id, Value::Null, "give every row a value"),
        (Column::Id, string(""), "give every row a value"),
        (Column::AggregateType, Value::Null, "give every row a value"),
        (Column::AggregateType, string("a b"), "topic template"),
        (Column::AggregateType, string("__outbox"), "belong to the server"),
        (Column::AggregateType, not_utf8.clone(), "UTF-8"),
        (Column::AggregateId, Value::Null, "give every row a value"),
        (Column::AggregateId, Value::Real(0.5), "store text"),
        (Column::Type, not_utf8, "UTF-8"),
        (Column::Timestamp, Value::Integer(-1), "milliseconds"),
        (Column::Timestamp, Value::Real(1.5), "milliseconds"),
        (Column::Timestamp, string("yesterday"), "yesterday"),
        (Column::Headers, string("[]"), "JSON object"),
        (Column::Headers, string("{"), "JSON object"),
        (Column::Headers, string(r#"{"n":1}"#), "\"n\""),
        (Column::Headers, string(r#"{"sunseo.position":"x"}"#), "belongs to the server"),
        (Column::Headers, Value::Integer(1), "JSON object"),
    ];
    for (column, value, said) in cases {
        let error = convert(&plain(), &with(column, value.clone()), 99).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(column.name()), "{value:?}");
        assert!(error.message.contains(column.name()) && error.message.contains(said), "{value:?}: {error}");
    }
}

#[test]
fn a_template_is_checked_when_it_is_given() {
    let template = Template::parse("outbox.event.{aggregatetype}").unwrap();
    assert_eq!(convert(&template, &row(), 0).unwrap().topic, "outbox.event.delivery");
    for bad in ["{topic}", "a b", "__{aggregatetype}", "{aggregatetype"] {
        let error = Template::parse(bad).unwrap_err();
        assert!(error.message.contains(bad) && error.message.contains("{aggregatetype}"), "{error}");
    }
}

#[test]
fn a_dead_letter_tells_where_and_why_and_keeps_what_can_be_read() {
    let row = with(Column::Headers, string("["));
    let why = convert(&plain(), &row, 0).unwrap_err();
    let letter = dead_letter("orders", "outbox_0", &row, &why, 0);
    let says = |key| text_header(&letter, key).unwrap_or_default();
    assert_eq!(
        [says("source"), says("table"), says("rowid"), says("id")],
        ["orders", "outbox_0", "3", "e-1"]
    );
    assert!(says("error").contains("JSON"));
    assert_eq!((letter.key.unwrap(), letter.value.unwrap()), ("d-7".into(), "{}".into()));
    let empty = RawRow::default();
    assert_eq!(dead_letter("orders", "outbox_0", &empty, &why, 7).timestamp_ms, 7);
}

#[test]
fn an_event_follows_the_same_rules() {
    let event = v1::OutboxEvent {
        sequence: 1,
        id: "e".to_owned(),
        aggregate_type: "delivery".to_owned(),
        aggregate_id: "d".to_owned(),
        headers: vec![v1::Header { key: "traceparent".to_owned(), value: Some("00".into()) }],
        ..Default::default()
    };
    let record = convert_event(&plain(), event.clone(), 42).unwrap().record;
    assert_eq!((record.timestamp_ms, record.value.clone()), (42, None));
    assert_eq!(text_header(&record, "traceparent").unwrap(), "00");
    let reserved = v1::OutboxEvent {
        headers: vec![v1::Header { key: "sunseo.x".to_owned(), value: None }],
        ..event.clone()
    };
    assert!(convert_event(&plain(), reserved, 0).is_err());
    assert!(convert_event(&plain(), v1::OutboxEvent { aggregate_id: String::new(), ..event }, 0).is_err());
}
