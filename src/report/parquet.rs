//! Tables as Parquet, with proper types, through the crate's low-level writer (no Arrow needed).

use super::table::{Cells, Table};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use std::sync::Arc;

pub fn encode(table: &Table) -> Result<Vec<u8>> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema(table)?), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for column in &table.columns {
        if let Some(mut sink) = group.next_column()? {
            put(&mut sink, &column.cells)?;
            sink.close()?;
        }
    }
    group.close()?;
    writer.into_inner()
}

fn schema(table: &Table) -> Result<Type> {
    let fields = table.columns.iter().map(|column| {
        let (physical, logical, repetition) = match &column.cells {
            Cells::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED),
            Cells::Count(_) => (Physical::INT64, None, Repetition::REQUIRED),
            Cells::MaybeCount(_) => (Physical::INT64, None, Repetition::OPTIONAL),
            Cells::Real(..) => (Physical::DOUBLE, None, Repetition::OPTIONAL),
            Cells::Flag(_) => (Physical::BOOLEAN, None, Repetition::REQUIRED),
            Cells::MaybeFlag(_) => (Physical::BOOLEAN, None, Repetition::OPTIONAL),
        };
        let field = Type::primitive_type_builder(&column.name, physical);
        Ok(Arc::new(field.with_logical_type(logical).with_repetition(repetition).build()?))
    });
    Type::group_type_builder(table.name).with_fields(fields.collect::<Result<_>>()?).build()
}

fn put(sink: &mut SerializedColumnWriter<'_>, cells: &Cells) -> Result<()> {
    match cells {
        Cells::Text(v) => {
            let bytes: Vec<ByteArray> = v.iter().map(|text| text.as_str().into()).collect();
            required::<ByteArrayType>(sink, &bytes)
        }
        Cells::Count(v) => required::<Int64Type>(sink, &v.iter().map(|&x| x as i64).collect::<Vec<_>>()),
        Cells::MaybeCount(v) => optional::<Int64Type>(sink, v.iter().map(|x| x.map(|x| x as i64))),
        Cells::Real(v, _) => optional::<DoubleType>(sink, v.iter().copied()),
        Cells::Flag(v) => required::<BoolType>(sink, v),
        Cells::MaybeFlag(v) => optional::<BoolType>(sink, v.iter().copied()),
    }
}

fn required<T: DataType>(sink: &mut SerializedColumnWriter<'_>, values: &[T::T]) -> Result<()> {
    sink.typed::<T>().write_batch(values, None, None).map(drop)
}

/// Definition level 1 marks a value, 0 a null.
fn optional<T: DataType>(
    sink: &mut SerializedColumnWriter<'_>,
    values: impl Iterator<Item = Option<T::T>> + Clone,
) -> Result<()> {
    let levels: Vec<i16> = values.clone().map(|v| i16::from(v.is_some())).collect();
    let present: Vec<T::T> = values.flatten().collect();
    sink.typed::<T>().write_batch(&present, Some(&levels), None).map(drop)
}
