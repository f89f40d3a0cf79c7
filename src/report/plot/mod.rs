//! The plots: markup that the page embeds and that, with a style of its own, makes SVG files.
//!
//! Marks carry classes (`k0` to `k7` for a configuration's colour, `kx` for none) and never a
//! colour, so that one drawing serves light, dark and paper. All layout happens here; the page's
//! script only moves marks between the positions found in `data-frames`.

mod band;
mod curves;
mod frontier;
mod label;
mod paper;
mod plane;
mod regions;
mod scale;
pub mod scatter;
mod tradeoff;
pub mod trajectory;
pub mod volume;

pub use band::bands;
pub use curves::{DASHES, attacks, curves};
pub use frontier::frontier;
pub use paper::{FIGURE_CSS, files, regions_sheet};
pub use regions::maps;
pub use scale::{Size, clean};
pub use tradeoff::tradeoff;

/// The class that gives a configuration its colour.
pub fn colour_class(colour: Option<usize>) -> String {
    colour.map_or("kx".into(), |k| format!("k{k}"))
}
