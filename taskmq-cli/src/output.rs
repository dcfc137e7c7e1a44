//! What a person or a program reads.

use std::io::{ErrorKind, Write};

use console::{Term, measure_text_width, truncate_str};
use taskmq_core::limits::is_printable;

/// A line for a person, as `println!`, but that a terminal carries nothing out of it.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::write(&($crate::output::printable(&format!($($text)*)) + "\n")) };
}

/// To standard output. When nobody reads on, as with `| head`, there is nothing left to do.
pub(crate) fn write(text: &str) {
    let mut out = std::io::stdout();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("error: cannot write the output: {error}");
        std::process::exit(1);
    }
}

/// However narrow the terminal is, so much of a cut column is shown.
const NARROWEST: usize = 10;
/// With less of it a last column says too little.
const ENOUGH: usize = 24;
const INDENT: &str = "    ";

/// Text from a message as it may reach a terminal: control characters and those that turn the direction of writing
/// are shown and not carried out.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) || c == '\n' { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out
}

/// On one line.
pub(crate) fn cell(text: &str) -> String {
    printable(&text.replace('\n', " "))
}

/// As [`cell`], of an error: what is below its first line is for who looks at the message.
pub(crate) fn first_line(error: &str) -> String {
    cell(error.trim_start().lines().next().unwrap_or_default())
}

/// Rows under a heading, in columns as wide as their widest cell. On a terminal the column `cut` gives way, so that
/// each row fits in one line; the last one goes below the others where too little of it would be left. If that is not
/// enough, the widest of the others give way. A file or another program gets it whole.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>], cut: usize) {
    let terminal = Term::stdout();
    let width = if terminal.is_term() {
        terminal.size_checked().map(|(_, columns)| usize::from(columns))
    } else {
        None
    };
    for line in lines(heading, rows, cut, width) {
        say!("{line}");
    }
}

fn lines(heading: &[&str], rows: &[Vec<String>], cut: usize, width: Option<usize>) -> Vec<String> {
    let heading: Vec<String> = heading.iter().map(|&name| name.to_owned()).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let mut widths: Vec<usize> = (0..heading.len())
        .map(|at| all().map(|row| measure_text_width(&row[at])).max().unwrap_or_default())
        .collect();
    let mut below = None;
    if let Some(width) = width {
        let others = widths.iter().sum::<usize>() - widths[cut] + 2 * (widths.len() - 1);
        let room = width.saturating_sub(others);
        if cut + 1 == widths.len() && room < widths[cut].min(ENOUGH) {
            below = widths.pop().map(|whole| whole.min(width.saturating_sub(INDENT.len()).max(NARROWEST)));
        } else {
            widths[cut] = widths[cut].min(room.max(NARROWEST));
        }
        while widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1) > width
            && let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > NARROWEST)
        {
            *widest -= 1;
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| {
            let cell = truncate_str(cell, width, "…");
            format!("{cell}{}", " ".repeat(width.saturating_sub(measure_text_width(&cell))))
        });
        let first = cells.collect::<Vec<_>>().join("  ").trim_end().to_owned();
        let second = below.zip(row.last()).filter(|(_, cell)| !cell.is_empty());
        let second = second.map(|(width, cell)| format!("{INDENT}{}", truncate_str(cell, width, "…")));
        std::iter::once(first).chain(second)
    };
    all().flat_map(line).collect()
}

/// Always an array, so that a program reads every answer the same way. What a terminal might carry out is escaped, as
/// JSON can.
pub(crate) fn json(rows: &[impl serde::Serialize]) {
    let text = serde_json::to_string_pretty(rows).unwrap_or_default();
    // Such characters are in strings only: between values JSON has none but its white space, of which any will do.
    let escaped = |c: char| match c {
        '\n' | '\t' => c.into(),
        '\r' => " ".to_owned(),
        c if is_printable(c) => c.into(),
        c => format!("\\u{:04x}", u32::from(c)),
    };
    write(&(text.chars().map(escaped).collect::<String>() + "\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_carries_out_is_left() {
        assert_eq!(printable("a\u{1b}[31m\u{9b}2J\u{202e}b\r\n"), "a\\u{1b}[31m\\u{9b}2J\\u{202e}b\\r\n");
        assert_eq!(cell("a\nb\u{2028}"), "a b\\u{2028}");
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let rows = [vec!["1".to_owned(), "x".repeat(100)], vec!["200".to_owned(), "日本語".repeat(20)]];
        for line in lines(&["ID", "PAYLOAD"], &rows, 1, Some(30)) {
            assert!(measure_text_width(&line) <= 30, "{line}");
        }
        let cut = lines(&["ID", "PAYLOAD"], &rows, 1, Some(30));
        assert_eq!(cut[..2], ["ID   PAYLOAD".to_owned(), format!("1    {}…", "x".repeat(24))]);
        let whole = lines(&["ID", "PAYLOAD"], &rows, 1, None);
        assert_eq!(whole[1], format!("1    {}", "x".repeat(100)));
        let below = lines(&["ID", "PAYLOAD"], &rows, 1, Some(20));
        assert_eq!(below[..4], ["ID", "    PAYLOAD", "1", &format!("    {}…", "x".repeat(15))]);
        assert!(below.iter().all(|line| measure_text_width(line) <= 20) && below.len() == 6, "{below:?}");
        assert!(lines(&["ID", "PAYLOAD"], &rows, 1, Some(5))[3].ends_with("xxxxxxxxx…"));
        let wide = [vec!["1".to_owned(), "x".repeat(20), "y".repeat(15), "{}".to_owned()]];
        let shrunk = lines(&["ID", "NAME", "TOPIC", "PAYLOAD"], &wide, 3, Some(34));
        assert_eq!(shrunk[2], format!("1   {}…  {}…", "x".repeat(13), "y".repeat(13)));
        let short = [vec!["1".to_owned(), "{}".to_owned()], vec!["2".to_owned(), String::new()]];
        assert_eq!(lines(&["ID", "PAYLOAD"], &short, 1, Some(11)), ["ID  PAYLOAD", "1   {}", "2"]);
    }
}
