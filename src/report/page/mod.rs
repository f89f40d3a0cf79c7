//! The page: one file that opens from disk, with its style, its script and its figures inside.

mod correlations;
mod figures;
mod headline;
mod made;
mod statistics;
mod table;
mod trust;
mod uncertainty;

use super::format::norm;
use super::input::{CostRow, Provenance};
use super::plot::{FIGURE_CSS, clean};
use super::study::Study;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub fn render(study: &Study, costs: &[CostRow], provenance: &Provenance) -> Markup {
    let results = study.results;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "epsweep " (provenance.epsweep) };
                title { (clean(&results.sweep)) " · robustness and accuracy" }
                style { (PreEscaped(STYLE)) (PreEscaped(FIGURE_CSS)) }
            }
            body {
                main {
                    header {
                        p.kicker {
                            "Accuracy and robustness"
                            @if !provenance.data.is_empty() { " · " (clean(&provenance.data)) }
                            " · " (norm(&results.norm))
                        }
                        h1 { (clean(&results.sweep)) }
                        (headline::lede(study))
                        (headline::cards(study, costs, provenance))
                        (headline::banner(study, provenance))
                        (headline::warnings(study))
                    }
                    @if !study.frontier.candidates.is_empty() {
                        (figures::control(study))
                        (figures::frontier(study))
                        @if study.reach() > 0.0 { (figures::curves(study)) }
                        (figures::tradeoff(study))
                        (uncertainty::trajectories(study))
                        @if study.reach() > 0.0 { (statistics::hypervolume(study)) }
                        @if study.comparisons.compared.len() > 1 { (statistics::comparisons(study)) }
                        (crate::report::regions::section(study))
                    }
                    (uncertainty::section(study))
                    @if !study.frontier.candidates.is_empty() { (correlations::section(study)) }
                    (table::section(study))
                    @if !study.curves.is_empty() { (trust::section(study)) }
                    (made::section(study, costs, provenance))
                }
                div #tip role="tooltip" hidden {}
                script type="application/json" #data { (PreEscaped(figures::data(study))) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}
