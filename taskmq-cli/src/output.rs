//! What a person or a program reads.

/// Text from a message as it may reach a terminal: control characters and those that turn the direction of writing
/// are shown and not carried out.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || c.is_control() && c != '\n' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// On one line, and cut to so many characters.
pub(crate) fn cell(text: &str, width: usize) -> String {
    let line = printable(&text.replace('\n', " "));
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Rows under a heading, in columns as wide as their widest cell.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..heading.len())
        .map(|at| {
            rows.iter()
                .map(|row| row[at].chars().count())
                .chain([heading[at].chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let print = |cells: &[String]| {
        let line: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", line.join("  ").trim_end());
    };
    print(&heading.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
    for row in rows {
        print(row);
    }
}

/// Always an array, so that a program reads every answer the same way.
pub(crate) fn json(rows: &[serde_json::Value]) {
    println!("{}", serde_json::to_string_pretty(rows).unwrap_or_default());
}

/// As JSON; what taskmq describes can always be written so.
pub(crate) fn value(row: impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(row).unwrap_or_default()
}
