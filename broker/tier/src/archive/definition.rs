//! What an archive table is: the JSON of a definition of kind "archive", checked.
//!
//! ```json
//! {"table": "delivery_summary", "topic": "delivery-summaries",
//!  "columns": [{"name": "delivery_id", "type": "string"},
//!              {"name": "completed_at", "type": "timestamp_millis", "path": "/times/completed"},
//!              {"name": "distance_m", "type": "float64", "optional": true}],
//!  "time_column": "completed_at", "key": "delivery_id", "from": "start"}
//! ```
//!
//! `path` is a field of the record's JSON object, or a JSON pointer when it begins with `/`; left out, it is the column's name.
//! `time_column` decides the `dt` of a row (UTC); left out or null in a row, the record's timestamp does. `key` names the column with a
//! bloom filter. `from` is `start` (default) or `end` of the topic as it is when the table is first seen.

use serde::Deserialize;
use sunseo_proto::error::{Error, Result};

/// Columns of one table, at most.
pub const COLUMNS_MAX: usize = 500;

/// Length of a table's or column's name, at most.
pub const NAME_BYTES_MAX: usize = 128;

/// The type of a column, as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    String,
    Int64,
    Float64,
    Bool,
    /// A number of microseconds, or RFC 3339 text; stored as microseconds UTC.
    TimestampMicros,
    /// A number of milliseconds, or RFC 3339 text; stored as microseconds UTC.
    TimestampMillis,
    /// Any JSON value, stored as its text.
    Json,
}

/// Where the table begins when it is first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    #[default]
    Start,
    End,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnType,
    /// The field of the record's object.
    pub field: String,
    /// A JSON pointer into that field, empty for the field itself.
    pub pointer: String,
    pub optional: bool,
}

/// A checked definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub table: String,
    pub topic: String,
    pub columns: Vec<Column>,
    /// Index of the column that decides the `dt`.
    pub time_column: Option<usize>,
    /// Index of the column with a bloom filter.
    pub key: Option<usize>,
    pub from: Begin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefinition {
    table: String,
    topic: String,
    columns: Vec<RawColumn>,
    #[serde(alias = "date_column")]
    time_column: Option<String>,
    #[serde(alias = "bloom", alias = "id")]
    key: Option<String>,
    #[serde(default)]
    from: Begin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawColumn {
    name: String,
    #[serde(rename = "type")]
    kind: ColumnType,
    #[serde(alias = "json_path")]
    path: Option<String>,
    #[serde(default)]
    optional: bool,
}

impl Definition {
    /// Reads and checks a definition's JSON.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field at fault.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let raw: RawDefinition = serde_json::from_slice(body)
            .map_err(|e| Error::invalid("body", format!("archive definition does not parse: {e}")))?;
        check_name("table", &raw.table)?;
        if raw.topic.is_empty() {
            return Err(Error::invalid("topic", "archive definition names no topic: set \"topic\""));
        }
        if raw.columns.is_empty() || raw.columns.len() > COLUMNS_MAX {
            let message = format!(
                "archive table {} has {} columns: give 1 to {COLUMNS_MAX}",
                raw.table,
                raw.columns.len()
            );
            return Err(Error::invalid("columns", message));
        }
        let mut columns: Vec<Column> = Vec::with_capacity(raw.columns.len());
        for column in raw.columns {
            if columns.iter().any(|known| known.name == column.name) {
                return Err(Error::invalid(
                    "columns",
                    format!("column {} is there twice: remove one", column.name),
                ));
            }
            columns.push(check_column(column)?);
        }
        let index_of = |field: &str, name: Option<String>| match name {
            None => Ok(None),
            Some(name) => match columns.iter().position(|c| c.name == name) {
                Some(at) => Ok(Some(at)),
                None => Err(Error::invalid(
                    field,
                    format!("{field} {name} is not among the columns: add it or correct the name"),
                )),
            },
        };
        let (time_column, key) = (index_of("time_column", raw.time_column)?, index_of("key", raw.key)?);
        if let Some(at) = time_column
            && !matches!(columns[at].kind, ColumnType::TimestampMicros | ColumnType::TimestampMillis)
        {
            let message =
                format!("time_column {} must be timestamp_micros or timestamp_millis", columns[at].name);
            return Err(Error::invalid("time_column", message));
        }
        Ok(Self { table: raw.table, topic: raw.topic, columns, time_column, key, from: raw.from })
    }

    /// The topic of a definition that may be wrong otherwise.
    #[must_use]
    pub fn topic_of(body: &[u8]) -> Option<String> {
        let json: serde_json::Value = serde_json::from_slice(body).ok()?;
        json.get("topic")?.as_str().map(str::to_owned)
    }
}

fn check_column(raw: RawColumn) -> Result<Column> {
    check_name("columns", &raw.name)?;
    let path = raw.path.unwrap_or_else(|| raw.name.clone());
    let (field, pointer) = match path.strip_prefix('/') {
        None => (path, String::new()),
        Some(rest) => {
            let (field, below) =
                rest.split_once('/').map_or((rest, None), |(field, below)| (field, Some(below)));
            (
                field.replace("~1", "/").replace("~0", "~"),
                below.map_or_else(String::new, |below| format!("/{below}")),
            )
        }
    };
    if field.is_empty() {
        return Err(Error::invalid(
            "columns",
            format!("column {} has an empty path: name a field of the record", raw.name),
        ));
    }
    Ok(Column { name: raw.name, kind: raw.kind, field, pointer, optional: raw.optional })
}

fn check_name(field: &str, name: &str) -> Result<()> {
    let well_formed = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.len() <= NAME_BYTES_MAX;
    if well_formed {
        return Ok(());
    }
    let message = format!(
        "name {name:?} is not usable: begin with a to z, go on with a to z, 0 to 9 and _, at most {NAME_BYTES_MAX} bytes"
    );
    Err(Error::invalid(field, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str, field: &str) {
        let error = Definition::parse(body.as_bytes()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
    }

    #[test]
    fn a_definition_is_read_with_its_defaults() {
        let definition = Definition::parse(
            br#"{"table": "t", "topic": "T", "time_column": "at", "key": "id", "columns": [
                {"name": "id", "type": "string"},
                {"name": "at", "type": "timestamp_millis", "path": "/times/done/at"},
                {"name": "odd", "type": "json", "path": "/a~1b", "optional": true}]}"#,
        )
        .unwrap();
        assert_eq!((definition.time_column, definition.key), (Some(1), Some(0)));
        let paths: Vec<_> =
            definition.columns.iter().map(|c| (c.field.as_str(), c.pointer.as_str())).collect();
        assert_eq!(paths, [("id", ""), ("times", "/done/at"), ("a/b", "")]);
        assert_eq!(definition.from, Begin::Start);
    }

    #[test]
    fn what_cannot_be_a_table_is_refused_with_its_field() {
        refused("{", "body");
        refused(r#"{"table": "t", "topic": "T", "columns": [], "colums": 1}"#, "body");
        refused(r#"{"table": "T", "topic": "T", "columns": [{"name": "a", "type": "bool"}]}"#, "table");
        refused(r#"{"table": "t", "topic": "", "columns": [{"name": "a", "type": "bool"}]}"#, "topic");
        refused(r#"{"table": "t", "topic": "T", "columns": []}"#, "columns");
        refused(
            r#"{"table": "t", "topic": "T", "columns": [{"name": "_offset", "type": "bool"}]}"#,
            "columns",
        );
        let twice = r#"{"name": "a", "type": "bool"}, {"name": "a", "type": "int64"}"#;
        refused(&format!(r#"{{"table": "t", "topic": "T", "columns": [{twice}]}}"#), "columns");
        let column = r#"[{"name": "a", "type": "bool"}]"#;
        refused(&format!(r#"{{"table": "t", "topic": "T", "columns": {column}, "key": "b"}}"#), "key");
        refused(
            &format!(r#"{{"table": "t", "topic": "T", "columns": {column}, "time_column": "a"}}"#),
            "time_column",
        );
    }
}
