//! One record to typed cells, pure. What does not fit gives a reason, never a guess.

use std::collections::HashMap;
use std::fmt;

use chrono::DateTime;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use sunseo_proto::Record;

use super::definition::{ColumnType, Definition};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Years that a `dt` can name.
const DATE_MICROS: std::ops::RangeInclusive<i64> =
    -62_135_596_800 * MICROS_PER_SECOND..=253_402_300_799 * MICROS_PER_SECOND + 999_999;

/// One value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    /// A number, or microseconds UTC.
    Int64(i64),
    Float64(f64),
    Bool(bool),
}

/// A record that fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// One per column of the definition.
    pub cells: Vec<Option<Cell>>,
    /// The fields that no column takes, as a JSON object.
    pub extra: Option<String>,
    /// `YYYY-MM-DD`, UTC.
    pub date: String,
}

/// Reads records by one definition.
#[derive(Debug)]
pub struct RowReader<'a> {
    definition: &'a Definition,
    columns_of_field: HashMap<&'a str, Vec<usize>>,
}

impl<'a> RowReader<'a> {
    pub fn new(definition: &'a Definition) -> Self {
        let mut columns_of_field: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, column) in definition.columns.iter().enumerate() {
            columns_of_field.entry(column.field.as_str()).or_default().push(at);
        }
        Self { definition, columns_of_field }
    }

    /// The row of a record.
    ///
    /// # Errors
    /// Why the record does not fit, for people.
    pub fn read(&self, record: &Record) -> Result<Row, String> {
        let value = record.value.as_ref().ok_or("the record is a tombstone")?;
        let mut cells = vec![None; self.definition.columns.len()];
        let visitor = Fields { reader: self, cells: &mut cells };
        let mut json = serde_json::Deserializer::from_slice(value);
        let outcome = json.deserialize_map(visitor).and_then(|extra| json.end().map(|()| extra));
        let extra = outcome.map_err(|e| e.to_string())?;
        for (cell, column) in cells.iter().zip(&self.definition.columns) {
            if cell.is_none() && !column.optional {
                return Err(format!("column {} is missing or null and not optional", column.name));
            }
        }
        let time = self.definition.time_column.and_then(|at| match cells[at] {
            Some(Cell::Int64(micros)) => Some(micros),
            _ => None,
        });
        let micros = time.unwrap_or_else(|| record.timestamp_ms.saturating_mul(1_000));
        let date =
            date_of(micros).ok_or_else(|| format!("time of {micros} us is not in the years 1 to 9999"))?;
        Ok(Row { cells, extra, date })
    }

    /// Puts a field where it belongs; `false` when no column takes the whole of it.
    fn take(&self, field: &str, raw: &RawValue, cells: &mut [Option<Cell>]) -> Result<bool, String> {
        let mut whole = false;
        for &at in self.columns_of_field.get(field).into_iter().flatten() {
            let column = &self.definition.columns[at];
            whole |= column.pointer.is_empty();
            let cell = if column.pointer.is_empty() {
                cell_of(column.kind, raw.get())
            } else {
                cell_below(column.kind, raw.get(), &column.pointer)
            };
            let cell = cell.map_err(|what| format!("column {}: {what}", column.name))?;
            if cells[at].is_some() {
                return Err(format!("column {}: field {field} is there twice", column.name));
            }
            cells[at] = cell;
        }
        Ok(whole)
    }
}

struct Fields<'a, 'b> {
    reader: &'a RowReader<'a>,
    cells: &'b mut [Option<Cell>],
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut extra = String::new();
        while let Some((field, raw)) = map.next_entry::<String, &'de RawValue>()? {
            let taken = self.reader.take(&field, raw, self.cells).map_err(serde::de::Error::custom)?;
            if !taken {
                extra.push(if extra.is_empty() { '{' } else { ',' });
                extra.push_str(&serde_json::to_string(&field).map_err(serde::de::Error::custom)?);
                extra.push(':');
                extra.push_str(raw.get());
            }
        }
        if extra.is_empty() {
            return Ok(None);
        }
        extra.push('}');
        Ok(Some(extra))
    }
}

fn cell_below(kind: ColumnType, raw: &str, pointer: &str) -> Result<Option<Cell>, String> {
    let value: serde_json::Value = serde_json::from_str(raw).map_err(|e| e.to_string())?;
    match value.pointer(pointer) {
        None => Ok(None),
        // maps come out in the order of their keys, so the text is a function of the value
        Some(below) => cell_of(kind, &below.to_string()),
    }
}

fn cell_of(kind: ColumnType, raw: &str) -> Result<Option<Cell>, String> {
    if raw == "null" {
        return Ok(None);
    }
    let wrong = |wanted: &str| format!("{wanted} was expected, not {}", shortened(raw));
    let cell = match kind {
        ColumnType::String => Cell::Text(serde_json::from_str(raw).map_err(|_| wrong("text"))?),
        ColumnType::Int64 => {
            Cell::Int64(serde_json::from_str(raw).map_err(|_| wrong("a whole number of 64 bits"))?)
        }
        ColumnType::Float64 => {
            let number: f64 = serde_json::from_str(raw).map_err(|_| wrong("a number"))?;
            Cell::Float64(number)
        }
        ColumnType::Bool => Cell::Bool(serde_json::from_str(raw).map_err(|_| wrong("true or false"))?),
        ColumnType::TimestampMicros => {
            Cell::Int64(micros_of(raw, 1).ok_or_else(|| wrong("microseconds or RFC 3339 text"))?)
        }
        ColumnType::TimestampMillis => {
            Cell::Int64(micros_of(raw, 1_000).ok_or_else(|| wrong("milliseconds or RFC 3339 text"))?)
        }
        ColumnType::Json => Cell::Text(raw.to_owned()),
    };
    Ok(Some(cell))
}

fn micros_of(raw: &str, micros_per_unit: i64) -> Option<i64> {
    if raw.starts_with('"') {
        let text: String = serde_json::from_str(raw).ok()?;
        return DateTime::parse_from_rfc3339(&text).ok().map(|time| time.timestamp_micros());
    }
    serde_json::from_str::<i64>(raw).ok()?.checked_mul(micros_per_unit)
}

fn date_of(micros: i64) -> Option<String> {
    if !DATE_MICROS.contains(&micros) {
        return None;
    }
    DateTime::from_timestamp_micros(micros).map(|time| time.format("%Y-%m-%d").to_string())
}

fn shortened(raw: &str) -> String {
    const SHOWN: usize = 60;
    match raw.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &raw[..end]),
        None => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(columns: &str) -> Definition {
        let body = format!(r#"{{"table": "t", "topic": "T", "columns": {columns}}}"#);
        Definition::parse(body.as_bytes()).unwrap()
    }

    fn read(columns: &str, value: &str) -> Result<Row, String> {
        let record = Record::new("k", value.to_owned(), 1_700_000_000_000);
        RowReader::new(&definition(columns)).read(&record)
    }

    fn one(kind: &str, value: &str) -> Result<Option<Cell>, String> {
        let columns = format!(r#"[{{"name": "a", "type": "{kind}", "optional": true}}]"#);
        read(&columns, &format!(r#"{{"a": {value}}}"#)).map(|row| row.cells[0].clone())
    }

    #[test]
    fn each_type_takes_its_values_and_no_others() {
        assert_eq!(one("string", r#""a\n서울""#), Ok(Some(Cell::Text("a\n서울".into()))));
        assert_eq!(one("int64", "-9223372036854775808"), Ok(Some(Cell::Int64(i64::MIN))));
        assert_eq!(one("float64", "37.56655"), Ok(Some(Cell::Float64(37.56655))));
        assert_eq!(one("float64", "3"), Ok(Some(Cell::Float64(3.0))));
        assert_eq!(one("bool", "true"), Ok(Some(Cell::Bool(true))));
        assert_eq!(one("timestamp_micros", "5"), Ok(Some(Cell::Int64(5))));
        assert_eq!(one("timestamp_millis", "5"), Ok(Some(Cell::Int64(5_000))));
        let text = r#""2024-02-29T09:00:00.000001+09:00""#;
        assert_eq!(one("timestamp_micros", text), Ok(Some(Cell::Int64(1_709_164_800_000_001))));
        assert_eq!(one("json", r#"[1,{"b":2}]"#), Ok(Some(Cell::Text(r#"[1,{"b":2}]"#.into()))));
        assert_eq!(one("int64", "null"), Ok(None));
        let wrong = [
            ("string", "5"),
            ("int64", "5.5"),
            ("int64", "9223372036854775808"),
            ("float64", r#""5""#),
            ("float64", "1e999"),
            ("bool", "0"),
            ("timestamp_micros", r#""yesterday""#),
            ("timestamp_millis", "9223372036854775807"),
        ];
        for (kind, value) in wrong {
            assert!(one(kind, value).unwrap_err().contains("column a"), "{kind} {value}");
        }
    }

    #[test]
    fn unknown_fields_are_kept_and_nested_ones_stay_whole() {
        let columns = r#"[{"name": "a", "type": "int64"}, {"name": "b", "type": "int64", "path": "/n/x/0"}]"#;
        let row =
            read(columns, r#"{"n": {"x": [7], "y": 1.50}, "a": 1, "big": 123456789012345678901234567890}"#)
                .unwrap();
        assert_eq!(row.cells, [Some(Cell::Int64(1)), Some(Cell::Int64(7))]);
        let extra = r#"{"n":{"x": [7], "y": 1.50},"big":123456789012345678901234567890}"#;
        assert_eq!(row.extra.as_deref(), Some(extra));
        assert_eq!(row.date, "2023-11-14");
    }

    #[test]
    fn what_is_no_row_says_why() {
        let columns = r#"[{"name": "a", "type": "int64"}]"#;
        for (value, why) in [
            ("", "EOF"),
            ("[1]", "JSON object"),
            ("{\"a\": 1", "EOF"),
            ("{\"a\": 1} x", "trailing"),
            ("{}", "missing"),
            ("{\"a\": null}", "missing"),
            ("{\"a\": 1, \"a\": 2}", "twice"),
        ] {
            let reason = read(columns, value).unwrap_err();
            assert!(reason.contains(why), "{value}: {reason}");
        }
        let tombstone = Record { value: None, ..Record::new("k", "", 0) };
        assert!(RowReader::new(&definition(columns)).read(&tombstone).unwrap_err().contains("tombstone"));
        let never = Record::new("k", r#"{"a": 1}"#, i64::MAX);
        assert!(RowReader::new(&definition(columns)).read(&never).unwrap_err().contains("years"));
    }
}
