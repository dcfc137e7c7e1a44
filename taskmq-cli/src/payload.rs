//! Payloads as they are written: on the command line, on standard input, as the lines of a file.

use std::io::{BufRead, ErrorKind, Read};
use std::path::Path;

use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// As it was written, or from standard input.
pub(crate) fn read(payload: Option<&str>) -> Result<Box<RawValue>> {
    let text = match payload {
        Some("-") | None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(Error::file("standard input"))?;
            text
        }
        Some(text) => text.to_owned(),
    };
    parse(&text).map_err(|reason| {
        let hint = if cfg!(windows) {
            "; in cmd.exe write \"{\\\"key\\\": 1}\""
        } else if text.trim_start().starts_with(|c: char| c.is_alphabetic()) {
            "; a text is written with double quotes, as '\"text\"'"
        } else {
            ""
        };
        Error::Json { what: "the payload".to_owned(), reason: reason + hint }
    })
}

/// Each line that is not empty, with its number from 1.
pub(crate) fn lines(file: impl BufRead, path: &Path) -> impl Iterator<Item = Result<(usize, Box<RawValue>)>> {
    file.lines().enumerate().filter_map(move |(index, line)| {
        let broken = |reason: String| Error::Json {
            what: format!("{} line {}", path.display(), index + 1),
            reason: format!("{}; nothing was produced", reason.replace(" at line 1 column ", " at column ")),
        };
        match line {
            Ok(line) if line.trim().is_empty() => None,
            Ok(line) => Some(parse(&line).map(|payload| (index + 1, payload)).map_err(broken)),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Some(Err(broken("it is no UTF-8 text".to_owned())))
            }
            Err(error) => Some(Err(Error::file(path)(error))),
        }
    })
}

/// Passed on as it was written; only what is no JSON at all is refused.
fn parse(text: &str) -> std::result::Result<Box<RawValue>, String> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    serde_json::from_str(text).map_err(|e| e.to_string())
}
