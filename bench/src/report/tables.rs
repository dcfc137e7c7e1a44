use crate::database::Kind;
use crate::results::{Results, Spread};
use crate::workloads::{self, Workload};

const DATABASES: [Kind; 3] = [Kind::Sqlite, Kind::Postgres, Kind::Mariadb];

/// A table for each workload on each database: a row for each case and contestant, a column for each measure.
pub(super) fn markdown(results: &Results) -> String {
    workloads::ALL.iter().map(|workload| section(results, workload)).collect()
}

fn section(results: &Results, workload: &Workload) -> String {
    let tables: String = DATABASES.iter().map(|&database| table(results, workload, database)).collect();
    if tables.is_empty() {
        return String::new();
    }
    format!("## {}\n\n{}\n\n{tables}", workload.title, workload.about)
}

fn table(results: &Results, workload: &Workload, database: Kind) -> String {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    let mut columns: Vec<&str> = Vec::new();
    for record in results.records.iter().filter(|r| r.workload == workload.name && r.database == database) {
        let row = (record.case.as_str(), record.contestant.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
        for name in record.measures.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    // Cases stay in the order in which they ran, and their contestants together.
    let mut cases: Vec<&str> = Vec::new();
    for (case, _) in &rows {
        if !cases.contains(case) {
            cases.push(case);
        }
    }
    let titles: Vec<&str> = columns.iter().map(|name| title(name)).collect();
    let mut text = format!("### {database}\n\n| | | {} |\n", titles.join(" | "));
    text += &format!("|---|---|{}\n", "---:|".repeat(columns.len()));
    for case in cases {
        for (_, contestant) in rows.iter().filter(|(of, _)| *of == case) {
            let cells: Vec<String> = columns
                .iter()
                .map(|name| {
                    let spread = results.spread(workload.name, case, database, contestant, name);
                    spread.map_or_else(String::new, |spread| cell(name, spread))
                })
                .collect();
            let problem = results.problem(workload.name, case, database, contestant);
            match problem {
                Some(problem) if cells.iter().all(String::is_empty) => {
                    let first = problem.lines().next().unwrap_or_default().replace('|', "/");
                    text += &format!(
                        "| {case} | {contestant} | failed: {first}{} |\n",
                        " |".repeat(columns.len() - 1)
                    );
                }
                _ => text += &format!("| {case} | {contestant} | {} |\n", cells.join(" | ")),
            }
        }
    }
    text + "\n"
}

fn title(name: &str) -> &str {
    match name {
        "rate" => "a second",
        "rss_mib" => "peak memory, MiB",
        "ran_twice" => "of them twice",
        "p50_ms" => "p50, ms",
        "p99_ms" => "p99, ms",
        "p99.9_ms" => "p99.9, ms",
        "call_p50_ms" => "producing call, p50, ms",
        "first_tenth" => "a second in the first tenth",
        "last_tenth" => "in the last tenth",
        "asked_a_second" => "asked a second",
        "cpu_percent" => "processor, %",
        "asked_a_look" => "asked a look",
        "rows_a_look" => "read a look",
        "watched_rate" => "a second, watched",
        "watched_percent" => "of it, %",
        other => other,
    }
}

fn cell(name: &str, spread: Spread) -> String {
    let show = |value: f64| {
        if matches!(
            name,
            "rate" | "watched_rate" | "rows_a_look" | "messages" | "ran_twice" | "first_tenth" | "last_tenth"
        ) {
            thousands(value)
        } else {
            format!("{value:.2}")
        }
    };
    if spread.least < spread.most {
        format!("{} ({} to {})", show(spread.median), show(spread.least), show(spread.most))
    } else {
        show(spread.median)
    }
}

/// `12345.6` as `12,300`: three digits are all that a benchmark knows, and the rest is noise.
pub(super) fn thousands(value: f64) -> String {
    let mut unit = 1.0;
    while value / unit >= 1000.0 {
        unit *= 10.0;
    }
    let digits = format!("{:.0}", (value / unit).round() * unit);
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn numbers_are_rounded_to_three_digits_and_grouped() {
        assert_eq!(
            [7.4, 999.6, 1234.0, 99_960.0, 123_456.0, 1_234_567.0].map(thousands),
            ["7", "1,000", "1,230", "100,000", "123,000", "1,230,000"]
        );
    }
}
