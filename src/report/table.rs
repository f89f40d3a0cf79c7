//! A table before it is written: the same columns go to CSV and to Parquet.

use super::format::{epsilon, exact, probability, seconds};

pub struct Table {
    /// File name without its ending.
    pub name: &'static str,
    pub columns: Vec<Column>,
}

pub struct Column {
    pub name: String,
    pub cells: Cells,
}

/// One value per row. What may be missing is an empty cell in CSV and a null in Parquet.
pub enum Cells {
    Text(Vec<String>),
    Count(Vec<u64>),
    MaybeCount(Vec<Option<u64>>),
    Real(Vec<Option<f64>>, Format),
    Flag(Vec<bool>),
    MaybeFlag(Vec<Option<bool>>),
}

/// How a real number is spelled in CSV.
#[derive(Clone, Copy)]
pub enum Format {
    /// Shortest text that reads back as the same number.
    Epsilon,
    /// Six decimals.
    Probability,
    /// Three decimals.
    Seconds,
    /// Six significant digits, however small.
    Significant,
}

impl Column {
    pub fn new(name: impl Into<String>, cells: Cells) -> Column {
        Column { name: name.into(), cells }
    }
}

impl Cells {
    pub fn len(&self) -> usize {
        match self {
            Cells::Text(v) => v.len(),
            Cells::Count(v) => v.len(),
            Cells::MaybeCount(v) => v.len(),
            Cells::Real(v, _) => v.len(),
            Cells::Flag(v) => v.len(),
            Cells::MaybeFlag(v) => v.len(),
        }
    }

    fn spell(&self, row: usize) -> String {
        match self {
            Cells::Text(v) => v[row].clone(),
            Cells::Count(v) => v[row].to_string(),
            Cells::MaybeCount(v) => v[row].map(|x| x.to_string()).unwrap_or_default(),
            Cells::Real(v, Format::Epsilon) => v[row].map(epsilon).unwrap_or_default(),
            Cells::Real(v, Format::Probability) => v[row].map(probability).unwrap_or_default(),
            Cells::Real(v, Format::Seconds) => v[row].map(seconds).unwrap_or_default(),
            Cells::Real(v, Format::Significant) => v[row].map(exact).unwrap_or_default(),
            Cells::Flag(v) => v[row].to_string(),
            Cells::MaybeFlag(v) => v[row].map(|yes| yes.to_string()).unwrap_or_default(),
        }
    }
}

impl Table {
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |c| c.cells.len())
    }

    /// RFC 4180 with `\n`; quotes only where they are needed.
    pub fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.columns.iter().map(|c| c.name.as_str()))?;
        for row in 0..self.rows() {
            writer.write_record(self.columns.iter().map(|c| c.cells.spell(row)))?;
        }
        writer.flush()?;
        writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))
    }
}
