//! todo
use super::input::{CostRow, Provenance};
use super::study::Study;
pub fn render(_: &Study, _: &[CostRow], _: &Provenance) -> maud::Markup {
    maud::html! {}
}
