//! How a handler came to where it panicked.

use std::backtrace::{Backtrace, BacktraceStatus};

/// Where an error text tells of it.
const HEADING: &str = "\nstack backtrace:\n";

/// The frames of the handler, from the panic outwards, as text that goes after an error; nothing unless `RUST_BACKTRACE` or
/// `RUST_LIB_BACKTRACE` asks for it.
pub(super) fn of_panic() -> String {
    let all = Backtrace::capture();
    if all.status() != BacktraceStatus::Captured {
        return String::new();
    }
    format!("{HEADING}{}", of_handler(&all.to_string()))
}

/// An error without it: for the log, where an error is a line.
pub(super) fn without(error: &str) -> &str {
    error.split(HEADING).next().unwrap_or(error)
}

/// Without the frames of the panic itself, and of those who called the handler. How the text is made up is not promised, so
/// where they are not found all are left.
fn of_handler(all: &str) -> String {
    let mut frames: Vec<String> = Vec::new();
    for line in all.lines() {
        let number = line.trim_start().split(':').next().unwrap_or_default();
        match frames.last_mut() {
            Some(frame) if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) => {
                frame.push('\n');
                frame.push_str(line);
            }
            _ => frames.push(line.to_owned()),
        }
    }
    let is_any = |frame: &str, names: &[&str]| names.iter().any(|name| frame.contains(name));
    let callers = ["taskmq_core::worker::", "catch_unwind"];
    let panics =
        ["core::panicking::", "rust_begin_unwind", "std::panicking::begin_panic", "std::panic::panic_any"];
    // Above the panic are the hook's own frames, which are taskmq's, too.
    let Some(first) = frames.iter().position(|frame| is_any(frame, &panics)) else {
        return all.to_owned();
    };
    let handler = frames[first..].iter().position(|frame| is_any(frame, &callers));
    let until = handler.map_or(frames.len(), |callers| first + callers);
    let from =
        frames[..until].iter().rposition(|frame| is_any(frame, &panics)).map_or(first, |last| last + 1);
    frames[from..until].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_the_handler_are_left() {
        let all = "   0: std::backtrace::Backtrace::capture\n   1: taskmq_core::worker::backtrace::of_panic\n   \
                   2: __rustc::rust_begin_unwind\n             at /rustc/x\n   3: core::panicking::panic_fmt\n             at /rustc/y\n   \
                   4: host::inner\n             at ./src/main.rs:3\n   5: host::mail\n   6: taskmq_core::worker::execute::run\n   \
                   7: std::panicking::catch_unwind::do_call";
        let left = "   4: host::inner\n             at ./src/main.rs:3\n   5: host::mail";
        assert_eq!(of_handler(all), left);
        assert_eq!(of_handler("   0: <unknown>\n   1: <unknown>"), "   0: <unknown>\n   1: <unknown>");
        assert_eq!(of_handler(""), "");
        assert_eq!(without(&format!("panicked: no{HEADING}{left}")), "panicked: no");
        assert_eq!(without("two\nlines"), "two\nlines");
    }
}
