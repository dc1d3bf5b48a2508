//! Rows to the bytes of one Parquet file, in memory.
//!
//! Zstandard level 3, statistics and page index on every column, a bloom filter on the key, row groups of at most 1 M rows or 128 MiB.
//! Besides the declared columns: `_partition` INT32, `_offset` INT64, which together name the record, and `_extra`, the fields
//! that no column takes, as JSON.
//!
//! Invariant: the same rows in the same order give the same bytes; nothing here depends on time, chance or the order of a hash map.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};
use sunseo_proto::error::{Error, Result};

use super::WRITER_VERSION;
use super::definition::{ColumnType, Definition};
use super::row::{Cell, Row};

/// Rows in a row group, at most.
pub const ROW_GROUP_ROWS: usize = 1_000_000;

/// Bytes of values in a row group before encoding, about, at most.
pub const ROW_GROUP_BYTES: usize = 128 << 20;

const ZSTD_LEVEL: i32 = 3;

/// Memory of a text value besides its bytes.
const TEXT_OVERHEAD_BYTES: usize = size_of::<ByteArray>();

enum Values {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Bool(Vec<bool>),
    Text(Vec<ByteArray>),
}

struct ColumnBuffer {
    values: Values,
    /// 1 for a value, 0 for none; only used for an optional column.
    levels: Option<Vec<i16>>,
}

/// A file that is being written.
pub struct FileBuilder {
    writer: SerializedFileWriter<Vec<u8>>,
    columns: Vec<ColumnBuffer>,
    buffered_rows: usize,
    buffered_bytes: usize,
    rows: u64,
}

impl std::fmt::Debug for FileBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileBuilder").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedFile {
    pub bytes: Bytes,
    pub rows: u64,
}

fn failed(error: &ParquetError) -> Error {
    Error::internal(format!("a Parquet file cannot be written: {error}"))
}

impl ColumnBuffer {
    fn new(kind: ColumnType, optional: bool) -> Self {
        let values = match kind {
            ColumnType::String | ColumnType::Json => Values::Text(Vec::new()),
            ColumnType::Int64 | ColumnType::TimestampMicros | ColumnType::TimestampMillis => {
                Values::Int64(Vec::new())
            }
            ColumnType::Float64 => Values::Float64(Vec::new()),
            ColumnType::Bool => Values::Bool(Vec::new()),
        };
        Self { values, levels: optional.then(Vec::new) }
    }

    /// Adds a value and returns the memory it takes.
    fn push(&mut self, cell: Option<Cell>) -> usize {
        if let Some(levels) = &mut self.levels {
            levels.push(i16::from(cell.is_some()));
        }
        match (&mut self.values, cell) {
            (_, None) => {}
            (Values::Int32(values), Some(Cell::Int64(value))) => values.push(value as i32),
            (Values::Int64(values), Some(Cell::Int64(value))) => values.push(value),
            (Values::Float64(values), Some(Cell::Float64(value))) => values.push(value),
            (Values::Bool(values), Some(Cell::Bool(value))) => values.push(value),
            (Values::Text(values), Some(Cell::Text(value))) => {
                let bytes = value.len() + TEXT_OVERHEAD_BYTES;
                values.push(ByteArray::from(value.into_bytes()));
                return bytes;
            }
            (_, Some(cell)) => unreachable!("the row reader made {cell:?} for another type"),
        }
        size_of::<i64>() + size_of::<i16>()
    }

    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = self.levels.as_deref();
        match &mut self.values {
            Values::Int32(values) => write::<Int32Type>(writer, values, levels)?,
            Values::Int64(values) => write::<Int64Type>(writer, values, levels)?,
            Values::Float64(values) => write::<DoubleType>(writer, values, levels)?,
            Values::Bool(values) => write::<BoolType>(writer, values, levels)?,
            Values::Text(values) => write::<ByteArrayType>(writer, values, levels)?,
        }
        if let Some(levels) = &mut self.levels {
            levels.clear();
        }
        Ok(())
    }
}

fn write<T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    values: &mut Vec<T::T>,
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    writer.typed::<T>().write_batch(values, levels, None)?;
    values.clear();
    Ok(())
}

fn schema(definition: &Definition) -> Result<TypePtr> {
    let mut message = format!("message {} {{\n", definition.table);
    for column in &definition.columns {
        let repetition = if column.optional { "optional" } else { "required" };
        let (physical, logical) = match column.kind {
            ColumnType::String => ("binary", " (STRING)"),
            ColumnType::Json => ("binary", " (JSON)"),
            ColumnType::Int64 => ("int64", ""),
            ColumnType::TimestampMicros | ColumnType::TimestampMillis => {
                ("int64", " (TIMESTAMP(MICROS,true))")
            }
            ColumnType::Float64 => ("double", ""),
            ColumnType::Bool => ("boolean", ""),
        };
        message.push_str(&format!("  {repetition} {physical} {}{logical};\n", column.name));
    }
    message.push_str(
        "  required int32 _partition;\n  required int64 _offset;\n  optional binary _extra (JSON);\n}",
    );
    parse_message_type(&message).map(Arc::new).map_err(|e| failed(&e))
}

fn properties(definition: &Definition) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| failed(&e))?;
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("sunseo version {WRITER_VERSION}.0.0 (build archive)"))
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(None);
    if let Some(key) = definition.key {
        let path = ColumnPath::from(definition.columns[key].name.as_str());
        properties = properties.set_column_bloom_filter_max_ndv(path, ROW_GROUP_ROWS as u64);
    }
    Ok(properties.build())
}

impl FileBuilder {
    /// An empty file of the definition's schema.
    ///
    /// # Errors
    /// `INTERNAL` when the schema is refused, which a checked definition's is not.
    pub fn new(definition: &Definition) -> Result<Self> {
        let writer =
            SerializedFileWriter::new(Vec::new(), schema(definition)?, Arc::new(properties(definition)?))
                .map_err(|e| failed(&e))?;
        let mut columns: Vec<ColumnBuffer> =
            definition.columns.iter().map(|column| ColumnBuffer::new(column.kind, column.optional)).collect();
        columns.push(ColumnBuffer { values: Values::Int32(Vec::new()), levels: None });
        columns.push(ColumnBuffer::new(ColumnType::Int64, false));
        columns.push(ColumnBuffer::new(ColumnType::Json, true));
        Ok(Self { writer, columns, buffered_rows: 0, buffered_bytes: 0, rows: 0 })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// `INTERNAL` when a full row group cannot be encoded.
    pub fn push(&mut self, row: Row, partition: i32, offset: i64) -> Result<()> {
        let provenance =
            [Some(Cell::Int64(i64::from(partition))), Some(Cell::Int64(offset)), row.extra.map(Cell::Text)];
        for (column, cell) in self.columns.iter_mut().zip(row.cells.into_iter().chain(provenance)) {
            self.buffered_bytes += column.push(cell);
        }
        self.buffered_rows += 1;
        self.rows += 1;
        if self.buffered_rows >= ROW_GROUP_ROWS || self.buffered_bytes >= ROW_GROUP_BYTES {
            self.flush().map_err(|e| failed(&e))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let writer = group.next_column()?;
            let mut writer =
                writer.ok_or_else(|| ParquetError::General("the schema has fewer columns".to_owned()))?;
            debug_assert!(!matches!(writer.untyped(), ColumnWriter::Int96ColumnWriter(_)));
            column.write(&mut writer)?;
            writer.close()?;
        }
        group.close()?;
        (self.buffered_rows, self.buffered_bytes) = (0, 0);
        Ok(())
    }

    /// The file's bytes; `about` are names and values that are kept in its footer.
    ///
    /// # Errors
    /// `INTERNAL` when the last row group cannot be encoded.
    pub fn finish(mut self, about: &[(&str, String)]) -> Result<FinishedFile> {
        if self.buffered_rows > 0 {
            self.flush().map_err(|e| failed(&e))?;
        }
        for (key, value) in about {
            self.writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
        }
        let rows = self.rows;
        let bytes = self.writer.into_inner().map_err(|e| failed(&e))?;
        Ok(FinishedFile { bytes: Bytes::from(bytes), rows })
    }
}
