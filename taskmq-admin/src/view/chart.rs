//! Charts as SVG, so that they are there without a script. Their colours are the style sheet's.

use std::fmt::Write;

use maud::{Markup, html};

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// The top of the axis: the next round number.
pub(crate) fn top(lines: &[&[Option<f64>]]) -> f64 {
    let highest = lines.iter().flat_map(|line| line.iter().flatten()).copied().fold(0.0, f64::max);
    let mut step = 1.0;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if highest <= step * factor * 0.95 {
                return step * factor;
            }
        }
        step *= 10.0;
        if step > 1e12 {
            return step;
        }
    }
}

/// Areas below lines, one on the other; gaps where nothing is known.
pub(crate) fn areas(label: &str, lines: &[(&str, &[Option<f64>])]) -> Markup {
    let top = top(&lines.iter().map(|(_, line)| *line).collect::<Vec<_>>());
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for part in 1..4 {
                line.grid x1="0" x2=(WIDTH) y1=(HEIGHT / 4.0 * f64::from(part)) y2=(HEIGHT / 4.0 * f64::from(part)) {}
            }
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
            @for (class, line) in lines {
                @for run in runs(line, top) {
                    path class={ "area " (class) } d=(closed(&run)) {}
                    path class={ "line " (class) } d=(open(&run)) {}
                }
            }
        }
    }
}

/// A small line, for a row of a table.
pub(crate) fn spark(label: &str, looks: &[i64], places: usize) -> Markup {
    #[expect(clippy::cast_precision_loss, reason = "it is drawn in a few pixels")]
    let mut line: Vec<Option<f64>> = looks.iter().map(|look| Some(*look as f64)).collect();
    let missing = places.saturating_sub(line.len());
    line.splice(0..0, std::iter::repeat_n(None, missing));
    let highest = line.iter().flatten().copied().fold(1.0, f64::max) * 1.1;
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - 1.0) y2=(HEIGHT - 1.0) {}
            @for run in runs(&line, highest) {
                path.area.ready d=(closed(&run)) {}
                path.line.ready d=(open(&run)) {}
            }
        }
    }
}

/// Points without gaps between them.
fn runs(line: &[Option<f64>], top: f64) -> Vec<Vec<(f64, f64)>> {
    let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    let last = u32::try_from(line.len().saturating_sub(1)).unwrap_or(1).max(1);
    for (index, value) in (0u32..).zip(line) {
        match (value, runs.last_mut()) {
            (Some(value), Some(run)) => {
                let x = WIDTH * f64::from(index) / f64::from(last);
                run.push((x, HEIGHT - 1.0 - (HEIGHT - 4.0) * value / top));
            }
            _ => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn open(run: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in run.iter().enumerate() {
        _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    path
}

fn closed(run: &[(f64, f64)]) -> String {
    let (first, last) = (run.first().map_or(0.0, |p| p.0), run.last().map_or(0.0, |p| p.0));
    format!("{}L{last:.1} {HEIGHT}L{first:.1} {HEIGHT}Z", open(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (highest, end) in [(0.0, 1.0), (0.9, 1.0), (3.0, 5.0), (97.0, 200.0), (1500.0, 2000.0)] {
            assert!((top(&[&[Some(highest), None]]) - end).abs() < f64::EPSILON, "{highest}");
        }
    }

    #[test]
    fn gaps_stay_gaps() {
        let line = [Some(1.0), None, Some(1.0), Some(2.0)];
        let runs = runs(&line, 2.0);
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    }
}
