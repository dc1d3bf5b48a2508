//! Times as databases and events write them. Pure.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// Milliseconds since 1970 of ISO 8601 text, UTC when it names no offset. SQLite's own `YYYY-MM-DD HH:MM:SS.SSS` is one.
pub fn parse_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)) {
        return Some(time.timestamp_millis());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_read_and_others_are_not() {
        let noon = 1_767_268_800_000;
        for text in [
            "2026-01-01T12:00:00Z",
            "2026-01-01T21:00:00+09:00",
            "2026-01-01 12:00:00",
            "2026-01-01 12:00:00.000",
            "2026-01-01T12:00",
        ] {
            assert_eq!(parse_ms(text), Some(noon), "{text}");
        }
        assert_eq!(parse_ms("2026-01-01 12:00:00.250"), Some(noon + 250));
        assert_eq!(parse_ms("2026-01-01"), Some(noon - 12 * 3_600_000));
        for text in ["", "noon", "2026-13-01 00:00:00", "12:00:00", "1767268800"] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }
}
