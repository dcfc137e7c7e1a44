//! What a handler logs, until the end of its attempt is written.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use crate::broker::Logged;
use crate::limits::{MAX_LOG_BYTES, MAX_LOG_LINES};

/// How much a line that a handler logged matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What the handler does.
    Info,
    /// For who looks for a mistake.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// Its name in `taskmq_logs`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The last lines of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: VecDeque<Logged>,
    bytes: usize,
    dropped: usize,
}

impl Log {
    pub(crate) fn push(&mut self, level: LogLevel, line: String) {
        self.bytes += line.len();
        self.lines.push_back(Logged { at: Instant::now(), level, line });
        while (self.lines.len() > MAX_LOG_LINES || self.bytes > MAX_LOG_BYTES)
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.line.len();
            self.dropped += 1;
        }
    }

    /// All that is left of them, below a line that says how many are not.
    pub(crate) fn lines(&self) -> Vec<Logged> {
        let first = self.lines.front().filter(|_| self.dropped > 0);
        let note = first.map(|first| {
            let line = match self.dropped {
                1 => "[1 line before is not kept]".to_owned(),
                many => format!("[{many} lines before are not kept]"),
            };
            Logged { at: first.at, level: LogLevel::Info, line }
        });
        note.into_iter().chain(self.lines.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(lines: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut log = Log::default();
        lines.into_iter().for_each(|line| log.push(LogLevel::Info, line));
        log.lines().into_iter().map(|logged| logged.line).collect()
    }

    #[test]
    fn the_last_lines_are_kept_and_the_others_counted() {
        assert!(logged([]).is_empty());
        assert_eq!(logged((0..MAX_LOG_LINES).map(|n| n.to_string())).len(), MAX_LOG_LINES);

        let many = logged((0..=MAX_LOG_LINES).map(|n| n.to_string()));
        assert_eq!(many.len(), 1 + MAX_LOG_LINES);
        assert_eq!(many[..2], ["[1 line before is not kept]", "1"]);
        assert_eq!(*many.last().unwrap(), MAX_LOG_LINES.to_string());

        let long = logged((0..20).map(|n| format!("{n:04096}")));
        assert_eq!(long.len(), 1 + MAX_LOG_BYTES / 4096);
        assert_eq!(long[0], "[12 lines before are not kept]");
    }
}
