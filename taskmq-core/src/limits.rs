//! What a message may be, stated and checked in one place.

use crate::{Error, Result};

/// The longest topic, in characters.
pub const MAX_TOPIC_CHARS: usize = 100;
/// The longest unique key or ordering key, in characters.
pub const MAX_KEY_CHARS: usize = 255;
/// The largest payload, and the largest set of headers, in bytes of JSON. Below the 16 MiB packet that
/// MariaDB and MySQL accept as shipped, with room for quoting.
pub const MAX_PAYLOAD_BYTES: usize = 7 * 1024 * 1024;
/// The longest delay: about 10 years, which every database's time type can hold.
pub const MAX_DELAY: std::time::Duration = std::time::Duration::from_secs(10 * 366 * 24 * 3600);
/// Longer error texts are cut to this many bytes before they are stored.
pub const MAX_ERROR_BYTES: usize = 8 * 1024;

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
        1..=MAX_KEY_CHARS => Ok(()),
        _ => Err(Error::Key { what, problem: "it is longer than 255 characters" }),
    }
}

pub(crate) fn check_size(what: &'static str, json: &str) -> Result<()> {
    if json.len() > MAX_PAYLOAD_BYTES {
        return Err(Error::TooLarge { what, bytes: json.len(), limit: MAX_PAYLOAD_BYTES });
    }
    Ok(())
}

/// Makes an error text safe to store and to show: no control characters but line breaks and tabs, and not too long.
pub(crate) fn clean_error(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_ERROR_BYTES));
    for c in text.chars() {
        if clean.len() + c.len_utf8() > MAX_ERROR_BYTES {
            clean.push_str(" [cut]");
            break;
        }
        clean.push(if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c });
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_checked() {
        for good in ["a", "yace", "mail.welcome", "a/b:c_d-e", &"x".repeat(100)] {
            assert!(check_topic(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "é", "😀", "a\0", "a\n", &"x".repeat(101)] {
            assert!(check_topic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_are_cleaned_and_cut() {
        assert_eq!(clean_error("a\0b\u{1b}[31m\nc"), "a\u{fffd}b\u{fffd}[31m\nc");
        let long = clean_error(&"é".repeat(10_000));
        assert!(long.len() <= MAX_ERROR_BYTES + " [cut]".len());
        assert!(long.ends_with("[cut]"));
    }
}
