//! What a table of a SQLite outbox must be, and what to do about one that is not. Pure.

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode};

use crate::definition::Definition;
use crate::names::check_name;
use crate::row::Column;

/// A column as `PRAGMA table_info` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    pub name: String,
    pub kind: String,
    /// Place in the primary key from 1, 0 for none.
    pub key: i64,
}

/// A table as the database describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub name: String,
    /// The statement that made it.
    pub sql: String,
    pub is_view: bool,
    pub columns: Vec<ColumnInfo>,
}

/// A table that can be read, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Rows after a key, the key first, then the columns in their order.
    pub select: String,
}

/// Checks a table against its source's definition.
pub fn check(info: &TableInfo, definition: &Definition) -> Result<Table> {
    let name = &info.name;
    if check_name("table", name).is_err() {
        return Err(refuse(
            name,
            "its name has other characters than letters, digits, '.', '_' and '-'",
            "rename it",
        ));
    }
    if info.is_view {
        return Err(refuse(name, "it is a view, which has no commit order", "name the table behind it"));
    }
    let key = rowid_column(info).ok_or_else(|| not_autoincrement(info))?;
    let mut select = format!("SELECT {}", quoted(&key.name));
    for column in Column::ALL {
        let wanted = definition.column(column);
        match info.columns.iter().find(|found| found.name.eq_ignore_ascii_case(wanted)) {
            Some(found) => select += &format!(", {}", quoted(&found.name)),
            // a column that the definition names is meant to be there
            None if column.required() || definition.raw.columns.contains_key(column.name()) => {
                return Err(no_column(name, column, wanted));
            }
            None => select += ", NULL",
        }
    }
    let (table, key) = (quoted(name), quoted(&key.name));
    select += &format!(" FROM {table} WHERE {key} > ?1 ORDER BY {key} LIMIT ?2");
    Ok(Table { name: name.clone(), select })
}

fn refuse(table: &str, what: &str, remedy: &str) -> Error {
    Error::new(ErrorCode::SourceUnreadable, format!("table {table}: {what}; {remedy}")).at("tables")
}

fn no_column(table: &str, column: Column, wanted: &str) -> Error {
    let what = format!("it has no column {wanted:?} for {}", column.name());
    let statement = format!("ALTER TABLE {} ADD COLUMN {} TEXT;", quoted(table), quoted(wanted));
    let remedy = format!("add it ({statement}) or name the right one in the definition's columns");
    refuse(table, &what, &remedy)
}

/// The column that is the table's AUTOINCREMENT key.
fn rowid_column(info: &TableInfo) -> Option<&ColumnInfo> {
    let mut keys = info.columns.iter().filter(|column| column.key > 0);
    let key = keys.next().filter(|key| key.kind.eq_ignore_ascii_case("INTEGER"))?;
    (keys.next().is_none() && has_word(&info.sql, "AUTOINCREMENT")).then_some(key)
}

fn not_autoincrement(info: &TableInfo) -> Error {
    let what = "it has no INTEGER PRIMARY KEY AUTOINCREMENT, so the key of a deleted row may be given again and rows would be missed";
    refuse(&info.name, what, &format!("rebuild it: {}", mending(info)))
}

/// Statements that give a table an AUTOINCREMENT key and keep its rows in order.
fn mending(info: &TableInfo) -> String {
    let (old, new) = (quoted(&info.name), quoted(&format!("{}_new", info.name)));
    let key = ["position", "outbox_position"]
        .into_iter()
        .find(|key| !info.columns.iter().any(|column| column.name.eq_ignore_ascii_case(key)));
    let key = quoted(key.unwrap_or("outbox_position_2"));
    let declared: Vec<_> =
        info.columns.iter().map(|column| format!("{} {}", quoted(&column.name), column.kind)).collect();
    let names: Vec<_> = info.columns.iter().map(|column| quoted(&column.name)).collect();
    let names = names.join(", ");
    // a table WITHOUT ROWID has no other order than its key's
    let order = if has_word(&info.sql, "WITHOUT") { String::new() } else { " ORDER BY rowid".to_owned() };
    format!(
        "BEGIN; CREATE TABLE {new} ({key} INTEGER PRIMARY KEY AUTOINCREMENT, {}); \
         INSERT INTO {new} ({names}) SELECT {names} FROM {old}{order}; \
         DROP TABLE {old}; ALTER TABLE {new} RENAME TO {old}; COMMIT;",
        declared.join(", ")
    )
}

/// An identifier as SQL writes it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether a word stands in a statement outside of comments, strings and quoted names.
fn has_word(sql: &str, word: &str) -> bool {
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let token = match first {
            '\'' | '"' | '`' => quoted_bytes(rest, first),
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        if rest[..token].eq_ignore_ascii_case(word) {
            return true;
        }
        rest = &rest[token..];
    }
    false
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes of the quoted text at the start, in which a doubled quote stands for one.
fn quoted_bytes(text: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(end) = text[at..].find(quote) {
        at += end + 1;
        if !text[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_only_where_it_is_code() {
        for yes in ["a AUTOINCREMENT", "a autoincrement,", "'it''s' AUTOINCREMENT", "/* x */AutoIncrement--"]
        {
            assert!(has_word(yes, "AUTOINCREMENT"), "{yes}");
        }
        for no in [
            "",
            "'AUTOINCREMENT'",
            "\"AUTOINCREMENT\"",
            "[AUTOINCREMENT]",
            "-- AUTOINCREMENT",
            "/* AUTOINCREMENT",
            "'it''s AUTOINCREMENT'",
            "MY_AUTOINCREMENT",
            "'AUTOINCREMENT",
            "주문",
        ] {
            assert!(!has_word(no, "AUTOINCREMENT"), "{no}");
        }
    }
}
