//! What commands print: tables for people, JSON for programs, raw bytes for pipes.
//!
//! Nothing here panics when the reader of a pipe goes away: that surfaces as [`Failure::ReaderGone`](super::failure::Failure).

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

/// Standard output, buffered.
pub struct Output {
    pub json: bool,
    stdout: BufWriter<StdoutLock<'static>>,
}

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 64 << 10;

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json, stdout: BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()) }
    }

    /// A value as JSON: indented for a terminal, one line otherwise.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        if io::stdout().is_terminal() {
            serde_json::to_writer_pretty(&mut self.stdout, value)?;
        } else {
            serde_json::to_writer(&mut self.stdout, value)?;
        }
        self.stdout.write_all(b"\n")?;
        self.stdout.flush()
    }

    /// A value as one line of JSON; call [`flush`](Self::flush) when it has to be seen.
    pub fn json_line(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, value)?;
        self.stdout.write_all(b"\n")
    }

    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.stdout.write_all(text.as_ref().as_bytes())?;
        self.stdout.write_all(b"\n")?;
        self.stdout.flush()
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// Columns without borders, so that `awk` and people can read them. A heading that begins with `>` is aligned right.
    pub fn table(&mut self, headings: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        draw(&mut table, headings, rows);
        let text = table.trim_fmt();
        // the first column begins at the margin
        let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()
    }

    /// Names and values, one pair a line.
    pub fn pairs(&mut self, pairs: Vec<(&str, String)>) -> io::Result<()> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in pairs {
            writeln!(self.stdout, "{name:<width$}  {value}")?;
        }
        self.stdout.flush()
    }

    /// A table with borders, for a report.
    pub fn report(&mut self, headings: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        draw(&mut table, headings, rows);
        writeln!(self.stdout, "{table}")?;
        self.stdout.flush()
    }
}

fn draw(table: &mut Table, headings: &[&str], rows: Vec<Vec<String>>) {
    table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
    for row in rows {
        table.add_row(row);
    }
    for (index, heading) in headings.iter().enumerate() {
        if let Some(column) = table.column_mut(index).filter(|_| heading.starts_with('>')) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Bytes as people read them.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// No more digits than mean something.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// An error inside an answer, empty when there is none.
pub fn error_text(error: Option<&sunseo_proto::v1::Error>) -> String {
    error.map_or_else(String::new, |error| format!("{} ({})", error.message, error.code))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 40), "5.0 TiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }
}
