//! Payloads checked by the JSON schema that a worker has stored of their topic.
//!
//! Whoever may write to `taskmq_schemas` wrote the schema, and may have meant harm. So it is bounded in size, nothing that it
//! refers to is fetched, patterns are matched in linear time, and all happens on a thread of its own that is waited for no
//! longer than a second. What cannot be used so is [`Unusable`] and checks nothing: that is to be said, and the payload let
//! through, for the consumer has the last word anyway.
//!
//! ```
//! use taskmq_admin::schema::Checker;
//! let schema = r#"{"type": "object", "properties": {"users": {"type": "integer", "minimum": 0}}}"#;
//! let mut checker = Checker::new(schema)?;
//! assert!(checker.check(r#"{"users": 10}"#)?.is_empty());
//! let misfits = checker.check(r#"{"users": -3}"#)?;
//! assert_eq!(misfits[0].pointer, "/users");
//! assert_eq!(misfits[0].problem, "-3 is less than the minimum of 0");
//! # Ok::<(), taskmq_admin::schema::Unusable>(())
//! ```

mod chinese;

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;
use taskmq_core::limits::{MAX_PAYLOAD_DEPTH, MAX_SCHEMA_BYTES};

/// What takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// A check that was given up goes on until it ends, for a thread cannot be stopped: so many at most.
const AT_ONCE: usize = 4;
/// Places of a schema that apply another one to the same value (such as `$ref` and `anyOf`): one after the other they
/// are as deep as a check goes for each level of the payload.
const MOST_STEPS: usize = 1000;
/// Enough for `MOST_STEPS` times the deepest payload, twice over. It takes memory when it is used.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Each compiled pattern takes memory,
const MOST_PATTERNS: usize = 100;
/// at most so much.
const PATTERN_BYTES: usize = 1024 * 1024;
/// More are not told.
const MOST_MISFITS: usize = 5;
/// Longer texts are cut.
const SHOWN_CHARS: usize = 300;

/// What is wrong with a payload, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misfit {
    /// A JSON pointer (RFC 6901); empty: the payload as a whole.
    pub pointer: String,
    /// What is wrong there, in English.
    pub problem: String,
    /// The same in Chinese.
    pub(crate) chinese: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.pointer {
            "" => write!(f, "the payload: {}", self.problem),
            pointer => write!(f, "{pointer}: {}", self.problem),
        }
    }
}

/// Why a schema checks nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema cannot be used: {0}")]
pub struct Unusable(String);

impl Unusable {
    fn new(why: impl Into<String>) -> Self {
        Self(cut(why.into()))
    }
}

/// A schema that is ready to check payloads by.
#[derive(Debug)]
pub struct Checker {
    asked: Sender<String>,
    answers: Receiver<Answer>,
    /// It does not answer any more.
    lost: Option<Unusable>,
}

type Answer = Result<Vec<Misfit>, Unusable>;

impl Checker {
    /// Takes a schema as it is stored.
    ///
    /// # Errors
    /// [`Unusable`] says why it can check nothing.
    pub fn new(schema: &str) -> Result<Self, Unusable> {
        if schema.len() > MAX_SCHEMA_BYTES {
            return Err(Unusable::new(format!(
                "it has {} bytes, the limit is {MAX_SCHEMA_BYTES}",
                schema.len()
            )));
        }
        let turn = Turn::take().ok_or_else(|| Unusable::new("other checks take too long"))?;
        let schema = schema.to_owned();
        let ((asked, questions), (answer, answers)) = (channel::<String>(), channel());
        let work = move || {
            let _turn = turn;
            let validator = match compile(&schema) {
                Ok(validator) => validator,
                Err(unusable) => return drop(answer.send(Err(unusable))),
            };
            // That it is ready.
            let _ = answer.send(Ok(Vec::new()));
            for payload in questions {
                let _ = answer.send(misfits(&validator, &payload));
            }
        };
        let started =
            thread::Builder::new().name("taskmq-schema".to_owned()).stack_size(STACK_BYTES).spawn(work);
        started.map_err(|error| Unusable::new(format!("no thread for it: {error}")))?;
        let mut checker = Self { asked, answers, lost: None };
        checker.answer()?;
        Ok(checker)
    }

    /// What does not fit, the first few; nothing when all does.
    ///
    /// # Errors
    /// [`Unusable`] when it cannot be told, as when it takes too long.
    pub fn check(&mut self, payload: &str) -> Result<Vec<Misfit>, Unusable> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        // When nobody takes it, there is no answer either.
        let _ = self.asked.send(payload.to_owned());
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let why = match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Timeout) => "it takes too long to check by",
            Err(RecvTimeoutError::Disconnected) => "the check failed",
        };
        Err(self.lost.insert(Unusable::new(why)).clone())
    }
}

/// One of the checks at once.
struct Turn;

static FREE: Mutex<usize> = Mutex::new(AT_ONCE);
static FREED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Option<Self> {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = FREED.wait_timeout_while(free, PATIENCE, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREED.notify_one();
    }
}

fn compile(schema: &str) -> Result<Validator, Unusable> {
    let schema: Value =
        serde_json::from_str(schema).map_err(|error| Unusable::new(format!("it is no JSON: {error}")))?;
    let (steps, patterns) = steps_and_patterns(&schema);
    if steps > MOST_STEPS {
        return Err(Unusable::new(format!(
            "it has {steps} references and choices, the limit is {MOST_STEPS}"
        )));
    }
    if patterns > MOST_PATTERNS {
        return Err(Unusable::new(format!("it has {patterns} patterns, the limit is {MOST_PATTERNS}")));
    }
    let linear = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
    let options = jsonschema::options().offline().with_pattern_options(linear).should_validate_formats(false);
    options.build(&schema).map_err(|error| {
        let place = error.schema_path().to_string();
        Unusable::new(if place.is_empty() { error.to_string() } else { format!("{place}: {error}") })
    })
}

/// Wherever such a name stands: too many are counted rather than too few.
fn steps_and_patterns(schema: &Value) -> (usize, usize) {
    let (mut steps, mut patterns) = (0, 0);
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(values) => left.extend(values),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match &**name {
                        "pattern" => patterns += 1,
                        "patternProperties" => patterns += value.as_object().map_or(1, serde_json::Map::len),
                        "allOf" | "anyOf" | "oneOf" => steps += value.as_array().map_or(1, Vec::len),
                        "$ref" | "$dynamicRef" | "$recursiveRef" | "not" | "if" | "then" | "else"
                        | "dependentSchemas" | "dependencies" | "extends" => steps += 1,
                        _ => {}
                    }
                    left.push(value);
                }
            }
            _ => {}
        }
    }
    (steps, patterns)
}

fn misfits(validator: &Validator, payload: &str) -> Answer {
    // Numbers beyond any type of Rust are JSON, too.
    let value: Value = serde_json::from_str(payload).map_err(|error| {
        Unusable::new(format!("not for this payload, which has what it does not know: {error}"))
    })?;
    if is_deeper(&value, MAX_PAYLOAD_DEPTH) {
        // No message may be so.
        return Ok(Vec::new());
    }
    let mut misfits = Vec::new();
    for error in validator.iter_errors(&value) {
        tell(&error, &mut misfits);
        if misfits.len() >= MOST_MISFITS {
            break;
        }
    }
    misfits.truncate(MOST_MISFITS);
    Ok(misfits)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(values) => levels == 0 || values.iter().any(|value| is_deeper(value, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|value| is_deeper(value, levels - 1)),
        _ => false,
    }
}

fn tell(error: &ValidationError<'_>, misfits: &mut Vec<Misfit>) {
    if let Some(errors) = meant(error) {
        return errors.iter().for_each(|error| tell(error, misfits));
    }
    let problem = error.to_string();
    // A large value would hide what is wrong with it.
    let problem = if problem.chars().count() > SHOWN_CHARS { error.masked().to_string() } else { problem };
    misfits.push(Misfit {
        pointer: cut(error.instance_path().to_string()),
        problem: cut(problem),
        chinese: cut(chinese::problem(error, SHOWN_CHARS)),
    });
}

/// Of several choices the one that was meant, if all others are of another type: what an `Option` has inside.
fn meant<'a>(error: &'a ValidationError<'_>) -> Option<&'a [ValidationError<'static>]> {
    let (ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }) =
        error.kind()
    else {
        return None;
    };
    let of_another_type = |errors: &&Vec<ValidationError<'static>>| {
        errors.iter().any(|inner| {
            matches!(inner.kind(), ValidationErrorKind::Type { .. })
                && inner.instance_path() == error.instance_path()
        })
    };
    let mut meant = context.iter().filter(|errors| !of_another_type(errors));
    match (meant.next(), meant.next()) {
        (Some(errors), None) if !errors.is_empty() => Some(errors),
        _ => None,
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
