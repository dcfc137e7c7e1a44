//! What a message, the limit of a topic, and a workflow may be, stated and checked in one place.

use memchr::memchr2;

use crate::{Error, Result};

/// The longest topic, in characters.
pub const MAX_TOPIC_CHARS: usize = 100;
/// The longest unique key or ordering key, in characters.
pub const MAX_KEY_CHARS: usize = 255;
/// The largest payload, and the largest set of headers, in bytes of JSON. Below the 16 MiB packet that
/// MariaDB and MySQL accept as shipped, with room for quoting.
pub const MAX_PAYLOAD_BYTES: usize = 7 * 1024 * 1024;
/// The deepest nesting of a payload's lists and objects: MariaDB takes no more.
pub const MAX_PAYLOAD_DEPTH: usize = 31;
/// The longest delay: about 10 years. (MariaDB before 11.5 and MySQL refuse what would be due after 2038-01-19.)
pub const MAX_DELAY: std::time::Duration = std::time::Duration::from_secs(10 * 366 * 24 * 3600);
/// The largest schema of a consumer that is stored, in bytes of JSON.
pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// The most messages of a topic that a limit lets run at once.
pub const MAX_RUNNING: u32 = 10_000;
/// The most messages of a topic that a limit lets begin in a period.
pub const MAX_RATE: u32 = 1_000_000;
/// The longest period of such a limit: one day.
pub const MAX_RATE_PERIOD: std::time::Duration = std::time::Duration::from_secs(86_400);
/// The most steps of a workflow.
pub const MAX_STEPS: usize = 1000;
/// The most steps that one step of a workflow waits for.
pub const MAX_STEPS_BEFORE: usize = 100;
/// Longer error texts are cut to this many bytes before they are stored.
pub const MAX_ERROR_BYTES: usize = 8 * 1024;
/// So many of the last lines that a handler logs in one attempt are kept.
pub const MAX_LOG_LINES: usize = 200;
/// So many bytes at most the lines have that are kept of one attempt.
pub const MAX_LOG_BYTES: usize = 32 * 1024;
/// A line that a handler logs is cut to this many bytes.
pub const MAX_LOG_LINE_BYTES: usize = 4 * 1024;

/// Checks a topic: 1 to 100 characters, each an ASCII letter, a digit or one of `_ - . : /`.
///
/// # Errors
/// [`Error::Topic`] says what is wrong with it.
///
/// ```
/// assert!(taskmq_core::limits::check_topic("mail.welcome").is_ok());
/// assert!(taskmq_core::limits::check_topic("").is_err());
/// ```
pub fn check_topic(topic: &str) -> Result<()> {
    let problem = if topic.is_empty() {
        "it is empty"
    } else if topic.chars().count() > MAX_TOPIC_CHARS {
        "it is longer than 100 characters"
    } else if !topic.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:/".contains(c)) {
        "it has a character that is no ASCII letter, no digit and none of _ - . : /"
    } else {
        return Ok(());
    };
    let shown: String = topic.chars().take(MAX_TOPIC_CHARS).collect();
    Err(Error::Topic { topic: shown, problem })
}

pub(crate) fn check_key(what: &'static str, key: &str) -> Result<()> {
    match key.chars().count() {
        0 => Err(Error::Key { what, problem: "it is empty" }),
        1..=MAX_KEY_CHARS if key.contains('\0') => {
            Err(Error::Key { what, problem: "it has a NUL character" })
        }
        1..=MAX_KEY_CHARS if key.ends_with(' ') => Err(Error::Key {
            what,
            problem: "it ends with a space, which MariaDB and MySQL do not tell from none",
        }),
        1..=MAX_KEY_CHARS => Ok(()),
        _ => Err(Error::Key { what, problem: "it is longer than 255 characters" }),
    }
}

/// What is JSON already, and is so for every one of the databases.
pub(crate) fn check_json(what: &'static str, json: &str) -> Result<()> {
    if json.len() > MAX_PAYLOAD_BYTES {
        return Err(Error::TooLarge { what, bytes: json.len(), limit: MAX_PAYLOAD_BYTES });
    }
    let bytes = json.as_bytes();
    let (mut depth, mut in_text) = (0_usize, false);
    let mut at = 0;
    while at < bytes.len() {
        if in_text {
            let Some(length) = memchr2(b'"', b'\\', &bytes[at..]) else { break };
            at += length;
        }
        match bytes[at] {
            b'"' => in_text = !in_text,
            b'\\' => {
                let Some(length) = escape(&bytes[at..]) else {
                    return Err(Error::Json { what, problem: "it has half of a surrogate pair" });
                };
                at += length;
                continue;
            }
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_PAYLOAD_DEPTH {
            return Err(Error::Json {
                what,
                problem: "its lists and objects are nested deeper than 31 levels",
            });
        }
        at += 1;
    }
    Ok(())
}

/// How many bytes the escape at the start has, a surrogate pair being one; none for half of a pair.
fn escape(json: &[u8]) -> Option<usize> {
    let unit = |at: usize| match json.get(at..at + 6) {
        Some([b'\\', b'u', digits @ ..]) => {
            std::str::from_utf8(digits).ok().and_then(|digits| u16::from_str_radix(digits, 16).ok())
        }
        _ => None,
    };
    match unit(0) {
        Some(0xd800..=0xdbff) => matches!(unit(6), Some(0xdc00..=0xdfff)).then_some(12),
        Some(0xdc00..=0xdfff) => None,
        Some(_) => Some(6),
        None => Some(2),
    }
}

/// Whether a terminal shows this character, and does not carry it out: it is no control character, and none that turns
/// the direction of writing or begins a line.
///
/// ```
/// use taskmq_core::limits::is_printable;
/// assert!(is_printable('é') && !is_printable('\u{1b}') && !is_printable('\u{202e}'));
/// ```
pub fn is_printable(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !(turns || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// Makes an error text safe to store and to show: no control characters but line breaks and tabs, and not too long.
pub(crate) fn clean_error(text: &str) -> String {
    clean(text, MAX_ERROR_BYTES)
}

/// The same for a line that a handler logs.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text, MAX_LOG_LINE_BYTES)
}

fn clean(text: &str, most: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(most));
    for c in text.chars() {
        if clean.len() + c.len_utf8() > most {
            clean.push_str(" [cut]");
            break;
        }
        clean.push(if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c });
    }
    clean
}

#[cfg(test)]
mod tests;
