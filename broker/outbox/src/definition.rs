//! A source's definition: the form people write, the checked form, and the JSON in the broker's registry. Pure.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

use crate::names::{check_name, dead_letter_topic};
use crate::row::{Column, Template};

/// Kind of the definitions in the broker's registry.
pub const KIND: &str = "outbox";
/// Table patterns of one source.
pub const TABLES_MAX: usize = 1_000;

/// What a row that cannot be turned into a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadRow {
    /// Stops its shard.
    Stop,
    /// Goes to the dead-letter topic.
    Quarantine,
}

/// A definition that was checked.
#[derive(Clone, Debug)]
pub struct Definition {
    pub raw: v1::SourceDefinition,
    pub path: PathBuf,
    pub template: Template,
    pub on_bad_row: OnBadRow,
    pub dead_letter_topic: String,
}

impl Definition {
    /// Checks every field; the database is not looked at.
    pub fn parse(raw: v1::SourceDefinition) -> Result<Self> {
        check_name("name", &raw.name)?;
        if raw.kind != "sqlite" {
            let message = format!("kind {:?} is not read by this version: use \"sqlite\"", raw.kind);
            return Err(Error::new(ErrorCode::Unsupported, message).at("kind"));
        }
        if raw.tables.is_empty() || raw.tables.len() > TABLES_MAX {
            let message = format!(
                "{} tables are named: name 1 to {TABLES_MAX}, a trailing * matches every shard, as in outbox_order_*",
                raw.tables.len()
            );
            return Err(Error::invalid("tables", message));
        }
        if let Some(bad) = raw.tables.iter().find(|pattern| !pattern_is_valid(pattern)) {
            let message = format!("table pattern {bad:?}: a * may stand at the end only, after a prefix");
            return Err(Error::invalid("tables", message));
        }
        if raw.partitions < 0 {
            let message = format!("partitions is {}: use 0 (the node's default) or more", raw.partitions);
            return Err(Error::invalid("partitions", message));
        }
        let known: Vec<_> = Column::ALL.iter().map(|column| column.name()).collect();
        if let Some(bad) = raw.columns.keys().find(|key| !known.contains(&key.as_str())) {
            let message = format!("columns names {bad:?}: it can rename {}", known.join(", "));
            return Err(Error::invalid("columns", message));
        }
        let on_bad_row = match raw.on_bad_row.as_str() {
            "" | "stop" => OnBadRow::Stop,
            "quarantine" => OnBadRow::Quarantine,
            other => {
                let message = format!("on_bad_row is {other:?}: use \"stop\" or \"quarantine\"");
                return Err(Error::invalid("on_bad_row", message));
            }
        };
        let (path, template) = (path_of(&raw.url)?, Template::parse(&raw.topic_template)?);
        let dead_letter_topic = dead_letter_topic(&raw.name);
        Ok(Self { raw, path, template, on_bad_row, dead_letter_topic })
    }

    pub fn name(&self) -> &str {
        &self.raw.name
    }

    /// Whether a table is one of this source's.
    pub fn matches(&self, table: &str) -> bool {
        self.raw.tables.iter().any(|pattern| pattern_matches(pattern, table))
    }

    /// The table's name of a column.
    pub fn column(&self, column: Column) -> &str {
        self.raw.columns.get(column.name()).map_or(column.name(), String::as_str)
    }
}

fn pattern_is_valid(pattern: &str) -> bool {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    !name.is_empty() && !name.contains('*')
}

/// A trailing `*` matches any rest.
pub fn pattern_matches(pattern: &str, table: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => table.starts_with(prefix),
        None => table == pattern,
    }
}

fn path_of(url: &str) -> Result<PathBuf> {
    let path =
        ["sqlite://", "sqlite:", "file://", "file:"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let path = path.unwrap_or(url);
    if path.is_empty() || path == ":memory:" || path.contains("://") {
        let message = format!("url {url:?} is no SQLite database: give the path of its file");
        return Err(Error::invalid("url", message));
    }
    Ok(PathBuf::from(path))
}

/// The definition as JSON.
pub fn to_json(definition: &v1::SourceDefinition) -> Value {
    let columns: std::collections::BTreeMap<_, _> = definition.columns.iter().collect();
    json!({
        "name": definition.name,
        "kind": definition.kind,
        "url": definition.url,
        "tables": definition.tables,
        "topic_template": definition.topic_template,
        "partitions": definition.partitions,
        "on_bad_row": definition.on_bad_row,
        "columns": columns,
    })
}

/// What the registry holds of a source.
pub fn to_body(definition: &v1::SourceDefinition, paused: bool) -> Vec<u8> {
    let mut body = to_json(definition);
    body["paused"] = json!(paused);
    body.to_string().into_bytes()
}

/// The definition and whether it is paused.
pub fn from_body(body: &[u8]) -> Result<(v1::SourceDefinition, bool)> {
    let mut object = object(body)?;
    let paused = matches!(object.remove("paused"), Some(Value::Bool(true)));
    Ok((from_object(object)?, paused))
}

/// Reads the JSON form. Field names may also be written as the protobuf JSON mapping does.
pub fn from_json(body: &[u8]) -> Result<v1::SourceDefinition> {
    from_object(object(body)?)
}

fn object(body: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::invalid("definition", "a definition is a JSON object")),
        Err(error) => Err(Error::invalid("definition", format!("the definition is no JSON: {error}"))),
    }
}

fn from_object(object: Map<String, Value>) -> Result<v1::SourceDefinition> {
    let mut definition = v1::SourceDefinition::default();
    for (key, value) in object {
        match key.as_str() {
            "name" => definition.name = string(&key, &value)?,
            "kind" => definition.kind = string(&key, &value)?,
            "url" => definition.url = string(&key, &value)?,
            "tables" => definition.tables = strings(&key, &value)?,
            "topic_template" | "topicTemplate" => definition.topic_template = string(&key, &value)?,
            "partitions" => definition.partitions = number(&key, &value)?,
            "on_bad_row" | "onBadRow" => definition.on_bad_row = string(&key, &value)?,
            "columns" => definition.columns = map(&key, &value)?,
            _ => {
                let known = "name, kind, url, tables, topic_template, partitions, on_bad_row, columns";
                return Err(Error::invalid(
                    key.clone(),
                    format!("a definition has no field {key:?}: it has {known}"),
                ));
            }
        }
    }
    Ok(definition)
}

fn expected(key: &str, what: &str) -> Error {
    Error::invalid(key, format!("{key} must be {what}"))
}

fn string(key: &str, value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| expected(key, "a string"))
}

fn strings(key: &str, value: &Value) -> Result<Vec<String>> {
    let values = value.as_array().ok_or_else(|| expected(key, "an array of strings"))?;
    values.iter().map(|value| string(key, value)).collect()
}

fn number(key: &str, value: &Value) -> Result<i32> {
    value.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| expected(key, "a whole number"))
}

fn map(key: &str, value: &Value) -> Result<HashMap<String, String>> {
    let object = value.as_object().ok_or_else(|| expected(key, "an object of strings"))?;
    object.iter().map(|(name, value)| Ok((name.clone(), string(key, value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> v1::SourceDefinition {
        v1::SourceDefinition {
            name: "orders".to_owned(),
            kind: "sqlite".to_owned(),
            url: "/data/app.db".to_owned(),
            tables: vec!["outbox_order_*".to_owned()],
            partitions: 8,
            columns: HashMap::from([("id".to_owned(), "event_id".to_owned())]),
            ..Default::default()
        }
    }

    #[test]
    fn a_definition_survives_the_registry() {
        for paused in [false, true] {
            assert_eq!(from_body(&to_body(&definition(), paused)), Ok((definition(), paused)));
        }
        let camel = br#"{"name":"a","topicTemplate":"x","onBadRow":"quarantine"}"#;
        assert_eq!(from_json(camel).unwrap().on_bad_row, "quarantine");
        let unknown = from_json(br#"{"nmae":"a"}"#).unwrap_err();
        assert!(unknown.message.contains("nmae") && unknown.message.contains("topic_template"), "{unknown}");
        for bad in ["", "[]", r#"{"tables":"x"}"#, r#"{"partitions":1.5}"#, r#"{"columns":{"id":1}}"#] {
            assert!(from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_bad_field_is_named_with_its_remedy() {
        type Change = fn(&mut v1::SourceDefinition);
        let cases: [(&str, Change, &str); 9] = [
            ("name", |d| d.name = "a/b".to_owned(), "letters"),
            ("kind", |d| d.kind = "mysql".to_owned(), "sqlite"),
            ("tables", |d| d.tables.clear(), "outbox_order_*"),
            ("tables", |d| d.tables = vec!["a*b".to_owned()], "at the end"),
            ("partitions", |d| d.partitions = -1, "0"),
            ("columns", |d| drop(d.columns.insert("key".to_owned(), String::new())), "aggregateid"),
            ("on_bad_row", |d| d.on_bad_row = "skip".to_owned(), "quarantine"),
            ("url", |d| d.url = "mysql://host/db".to_owned(), "path"),
            ("topic_template", |d| d.topic_template = "{x}".to_owned(), "{aggregatetype}"),
        ];
        for (field, change, said) in cases {
            let mut raw = definition();
            change(&mut raw);
            let error = Definition::parse(raw).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field));
            assert!(error.message.contains(said), "{error}");
        }
    }

    #[test]
    fn patterns_and_paths() {
        let definition = Definition::parse(definition()).unwrap();
        assert!(definition.matches("outbox_order_12") && !definition.matches("outbox_orders"));
        assert_eq!(definition.column(Column::Id), "event_id");
        assert_eq!(definition.column(Column::Type), "type");
        for url in ["sqlite:///data/app.db", "file:/data/app.db", "/data/app.db"] {
            assert_eq!(path_of(url).unwrap(), PathBuf::from("/data/app.db"));
        }
    }
}
