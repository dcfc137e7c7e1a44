use std::fmt;
use std::time::Duration;

/// Why an attempt failed, and what is to become of the message.
///
/// Any error turns into one that is retried with the consumer's backoff. A handler that knows better says so:
/// ```
/// use taskmq_core::{Failure, task_consumer};
/// use std::time::Duration;
///
/// #[task_consumer(topic = "pay")]
/// fn pay(amount: i64) -> Result<(), Failure> {
///     if amount < 0 {
///         return Err(Failure::dead("a negative amount can never be paid"));
///     }
///     if bank_is_closed() {
///         return Err(Failure::retry_in(Duration::from_secs(3600), "the bank is closed"));
///     }
///     std::fs::write("/dev/null", amount.to_string())?; // `?` works for every error
///     Ok(())
/// }
/// # fn bank_is_closed() -> bool { false }
/// ```
#[derive(Debug, Clone)]
pub struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) error: String,
    pub(crate) verdict: Verdict,
}

/// What a failed attempt failed of, as `taskmq_failures.kind` has it. A `crash` is written by the rescue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Error,
    Panic,
    Timeout,
    Payload,
    /// Its task was ended at once, as a person wanted.
    #[cfg(feature = "async")]
    Cancelled,
}

impl FailureKind {
    #[cfg(feature = "worker")]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            FailureKind::Error => "error",
            FailureKind::Panic => "panic",
            FailureKind::Timeout => "timeout",
            FailureKind::Payload => "payload",
            #[cfg(feature = "async")]
            FailureKind::Cancelled => "cancelled",
        }
    }
}

/// What is to become of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Retry,
    RetryIn(Duration),
    Dead,
}

impl Failure {
    /// Retried with the consumer's backoff until its attempts are used up.
    pub fn new(error: impl fmt::Display) -> Self {
        Self::of_kind(FailureKind::Error, error, Verdict::Retry)
    }

    /// Retried after this delay, instead of the backoff's, until its attempts are used up.
    pub fn retry_in(delay: Duration, error: impl fmt::Display) -> Self {
        Self::of_kind(FailureKind::Error, error, Verdict::RetryIn(delay.min(crate::limits::MAX_DELAY)))
    }

    /// Dead-lettered at once.
    pub fn dead(error: impl fmt::Display) -> Self {
        Self::of_kind(FailureKind::Error, error, Verdict::Dead)
    }

    pub(crate) fn payload(type_name: &str, error: &serde_json::Error) -> Self {
        let text = format!("the payload does not fit {type_name}: {}", without_value(&error.to_string()));
        Self::of_kind(FailureKind::Payload, text, Verdict::Dead)
    }

    /// Whether the database undid the transaction because another one stood in its way. An error may have come through any
    /// number of wrappers, so its text decides; who has chosen what is to become of the message has chosen.
    #[cfg(feature = "worker")]
    pub(crate) fn is_conflict(&self) -> bool {
        self.kind == FailureKind::Error
            && self.verdict == Verdict::Retry
            && crate::error::is_conflict(&self.error)
    }

    pub(crate) fn of_kind(kind: FailureKind, error: impl fmt::Display, verdict: Verdict) -> Self {
        // The alternate form makes anyhow and its kin print their chain of causes.
        Self { kind, error: format!("{error:#}"), verdict }
    }
}

/// What serde says, but not the text that it found, which may be long or secret; the line and the column tell where it is.
/// Without it those that failed for the same reason look alike.
fn without_value(error: &str) -> String {
    const QUOTED: [(&str, &str, &str); 4] = [
        ("invalid type: string", " \"", "\", expected "),
        ("invalid value: string", " \"", "\", expected "),
        ("unknown variant", " `", "`, "),
        ("unknown field", " `", "`, "),
    ];
    let cut = QUOTED.iter().find_map(|(what, open, close)| {
        let value = error.strip_prefix(what)?.strip_prefix(open)?;
        // What is expected is the type's; of the value anything may be.
        let expected = value.rfind(close).filter(|_| *open == " \"").or_else(|| value.find(close))?;
        Some(format!("{what}{}", value[expected..].strip_prefix(['"', '`'])?))
    });
    cut.unwrap_or_else(|| error.to_owned())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

// As with `anyhow::Error`, this `From` is what makes `?` work, and the reason why `Failure` is no `Error` itself.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::new(with_causes(&error))
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Many errors repeat their cause in their own words.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mail {
        #[expect(dead_code)]
        to: u8,
        #[expect(dead_code)]
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    enum Kind {
        Short,
    }

    #[test]
    fn what_was_found_in_a_payload_is_not_told() {
        let told = |payload: &str| {
            let error = serde_json::from_str::<Mail>(payload).expect_err("does not fit");
            without_value(&error.to_string())
        };
        for (payload, says) in [
            (r#"{"to": "secret"}"#, "invalid type: string, expected u8 at line 1 column 15"),
            (r#"{"to": "a\", expected b\" c"}"#, "invalid type: string, expected u8 at line 1 column 28"),
            (r#"{"to": 300}"#, "invalid value: integer `300`, expected u8 at line 1 column 10"),
            (r#"{"to": 1, "secret": 2}"#, "unknown field, expected `to` or `kind` at line 1 column 18"),
            (r#"{"to": 1, "kind": "secret"}"#, "unknown variant, expected `Short` at line 1 column 26"),
            (r#"{"kind": "Short"}"#, "missing field `to` at line 1 column 17"),
        ] {
            assert_eq!(told(payload), says);
        }
    }
}
