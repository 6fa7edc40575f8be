//! One scenario as bars: CPU per unit of every proxy, with the spread as a line.

use std::fmt::Write;

use super::Cell;
use super::page::{Spread, unit};
use super::scenario::Scenario;

const WIDTH: f64 = 640.0;
const LABEL: f64 = 90.0;
const ROW: f64 = 28.0;

/// An SVG that needs nothing but itself.
pub fn bars(scenario: &Scenario, cells: &[&Cell]) -> String {
    let rows: Vec<(&str, Spread)> = cells
        .iter()
        .map(|cell| (cell.proxy, Spread::of(cell.samples.iter().map(|it| it.cpu_per_unit))))
        .filter(|(_, it)| it.max > 0.0)
        .collect();
    let most = rows.iter().map(|(_, it)| it.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABEL - 80.0) / most;
    #[allow(clippy::cast_precision_loss, reason = "a handful of rows")]
    let height = 40.0 + ROW * rows.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <text x=\"0\" y=\"18\" font-weight=\"bold\">{}: {}, CPU {}</text>\n",
        scenario.name,
        scenario.what,
        unit(scenario)
    );
    let mut top = 32.0;
    for (proxy, it) in rows {
        let colour = if proxy == "tulle" { "#5b3fa8" } else { "#b8b8c8" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<text x=\"0\" y=\"{}\">{proxy}</text><rect x=\"{LABEL}\" y=\"{}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"#222\"/><text x=\"{:.1}\" y=\"{}\">{:.1}</text>",
            top + 13.0,
            top,
            it.median * scale,
            LABEL + it.min * scale,
            LABEL + it.max * scale,
            top + 8.0,
            top + 8.0,
            LABEL + it.max * scale + 6.0,
            top + 13.0,
            it.median
        );
        top += ROW;
    }
    out.push_str("</svg>\n");
    out
}
