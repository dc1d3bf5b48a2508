//! The format of `consume -f`: text with `%` fields, as kcat has it. Bytes of keys, values and headers come out as they are.

use std::str::FromStr;

use sunseo_client::ConsumedRecord;

use super::place::unescape;

/// A checked format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Timestamp,
    KeyBytes,
    ValueBytes,
}

/// For `--help`.
pub const FIELDS: &str = "%t topic, %p partition, %o offset, %k key, %v value, %h headers as name=value, %T timestamp in ms, %K and %V bytes of key and value (-1: none), %% a percent sign; \\n \\t \\r \\0 \\\\ \\xHH";

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                literal.push(char);
                // an escaped backslash or percent sign must not be taken apart here
                if char == '\\' {
                    literal.extend(chars.next());
                }
                continue;
            }
            let part = match chars.next() {
                Some('%') => {
                    literal.push('%');
                    continue;
                }
                Some('t') => Part::Topic,
                Some('p') => Part::Partition,
                Some('o') => Part::Offset,
                Some('k') => Part::Key,
                Some('v' | 's') => Part::Value,
                Some('h') => Part::Headers,
                Some('T') => Part::Timestamp,
                Some('K') => Part::KeyBytes,
                Some('V' | 'S') => Part::ValueBytes,
                other => {
                    let field = other.map_or_else(|| "%".to_owned(), |c| format!("%{c}"));
                    return Err(format!("{field} is no field: use {FIELDS}"));
                }
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(unescape(&std::mem::take(&mut literal))?));
            }
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(unescape(&literal)?));
        }
        Ok(Self(parts))
    }
}

impl Format {
    /// Appends one record.
    pub fn write(&self, consumed: &ConsumedRecord, out: &mut Vec<u8>) {
        let record = &consumed.record;
        let number = |out: &mut Vec<u8>, value: i64| out.extend_from_slice(value.to_string().as_bytes());
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(-1, |bytes| bytes.len() as i64);
        for part in &self.0 {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Topic => out.extend_from_slice(consumed.topic.as_bytes()),
                Part::Partition => number(out, consumed.partition.into()),
                Part::Offset => number(out, record.offset),
                Part::Timestamp => number(out, record.timestamp_ms),
                Part::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Part::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Part::KeyBytes => number(out, length(&record.key)),
                Part::ValueBytes => number(out, length(&record.value)),
                Part::Headers => {
                    for (index, header) in record.headers.iter().enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        out.extend_from_slice(header.key.as_bytes());
                        out.push(b'=');
                        out.extend_from_slice(header.value.as_deref().unwrap_or_default());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sunseo_proto::{Header, Record};

    use super::*;

    fn show(format: &str, record: Record) -> Vec<u8> {
        let mut out = Vec::new();
        let consumed = ConsumedRecord { topic: "orders".into(), partition: 3, record };
        format.parse::<Format>().unwrap().write(&consumed, &mut out);
        out
    }

    fn record() -> Record {
        let mut record = Record::new("k", &b"\x00\xff"[..], 12);
        record.offset = 7;
        record.headers = vec![Header::new("a", "1"), Header { key: "b".to_owned(), value: None }];
        record
    }

    #[test]
    fn every_field_comes_out_as_it_is() {
        assert_eq!(show(r"%t %p %o %k %v %h\n", record()), b"orders 3 7 k \x00\xff a=1,b=\n");
        assert_eq!(show(r"%T %K %V\t100%%\x01\\", record()), b"12 1 2\t100%\x01\\");
        assert_eq!(show("%K%k%V", Record::default()), b"-1-1");
    }

    #[test]
    fn an_unknown_field_is_refused_with_those_there_are() {
        for format in ["%z", "100%", r"\q"] {
            let error = format.parse::<Format>().unwrap_err();
            assert!(error.contains(r"\xHH"), "{error}");
        }
    }
}
