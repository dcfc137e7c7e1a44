//! Horizontal bars, one group for each workload on each database, as long as its fastest allows.

use std::fmt::Write;

use super::tables::thousands;
use crate::database::Kind;
use crate::results::Results;

const WIDTH: f64 = 900.0;
const LABELS: f64 = 230.0;
const BAR: f64 = 20.0;

/// Drains by one worker and bulk produce, of every contestant.
pub(super) fn svg(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    let groups = [("drain", "1 worker", "drain by one worker"), ("bulk", "", "bulk produce")];
    for (workload, case, title) in groups {
        for database in [Kind::Sqlite, Kind::Postgres, Kind::Mariadb] {
            let bars = bars(results, workload, case, database);
            if !bars.is_empty() {
                y = group(&mut body, y, &format!("{database}: {title}, messages a second"), &bars);
            }
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn bars(results: &Results, workload: &str, case: &str, database: Kind) -> Vec<(String, f64)> {
    let mut bars: Vec<(String, f64)> = Vec::new();
    for record in &results.records {
        let fits = record.workload == workload && record.database == database;
        if !fits
            || !(case.is_empty() || record.case == case)
            || bars.iter().any(|(n, _)| *n == record.contestant)
        {
            continue;
        }
        let spread = results.spread(workload, &record.case, database, &record.contestant, "rate");
        bars.extend(spread.map(|spread| (record.contestant.clone(), spread.median)));
    }
    bars.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    bars
}

/// Writing to a String cannot fail.
fn group(body: &mut String, mut y: f64, title: &str, bars: &[(String, f64)]) -> f64 {
    y += 20.0;
    _ = writeln!(body, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{title}</text>");
    y += 8.0;
    let most = bars.iter().map(|(_, rate)| *rate).fold(f64::MIN_POSITIVE, f64::max);
    for (name, rate) in bars {
        let length = rate / most * (WIDTH - LABELS - 100.0);
        let colour = match name {
            name if name.starts_with("taskmq") => "#c2410c",
            name if name.starts_with("raw") => "#9ca3af",
            _ => "#3b82f6",
        };
        let middle = y + BAR * 0.72;
        _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{middle}\">{}</text>",
            LABELS - 8.0,
            name.replace('&', "&amp;").replace('<', "&lt;"),
            BAR - 4.0,
            LABELS + length + 6.0,
            thousands(*rate)
        );
        y += BAR;
    }
    y + 14.0
}
