//! What a payload must have at a path.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::{Error, Result};

/// What a payload must have at a path: `$.user.id = 42`.
///
/// A path is `$` and then names (`.user`, or `["user name"]`), places of arrays (`[0]`), and `*` or `[*]` for any of
/// them. What stands behind `=` is JSON, or else a text as it is: `$.to = kim` is `$.to = "kim"`. Numbers are the same
/// if they have the same value (`42` and `42.0`). Without `=` it is enough that there is something at the path.
///
/// Payloads are read and looked into here and not in the database: so all databases find the same, and none of them
/// sees the path.
///
/// ```
/// use taskmq_core::broker::Condition;
///
/// let condition: Condition = "$.user.id = 42".parse()?;
/// assert!(condition.holds(r#"{"user": {"id": 42}}"#));
/// assert!(!condition.holds(r#"{"user": {"id": "42"}}"#));
/// assert!("$.tags[*] = new".parse::<Condition>()?.holds(r#"{"tags": ["old", "new"]}"#));
/// # Ok::<(), taskmq_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    path: Vec<Step>,
    wanted: Option<Value>,
    /// As it was written.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Place(usize),
    Any,
}

impl Condition {
    /// Whether this JSON has it. What is no JSON, or deeper than 127 levels, has nothing.
    pub fn holds(&self, payload: &str) -> bool {
        serde_json::from_str(payload).is_ok_and(|payload: Value| self.holds_at(&payload, &self.path))
    }

    fn holds_at(&self, value: &Value, path: &[Step]) -> bool {
        let Some((step, rest)) = path.split_first() else {
            return self.wanted.as_ref().is_none_or(|wanted| same(value, wanted));
        };
        match (step, value) {
            (Step::Name(name), Value::Object(map)) => {
                map.get(name).is_some_and(|value| self.holds_at(value, rest))
            }
            (Step::Place(place), Value::Array(list)) => {
                list.get(*place).is_some_and(|value| self.holds_at(value, rest))
            }
            (Step::Any, Value::Object(map)) => map.values().any(|value| self.holds_at(value, rest)),
            (Step::Any, Value::Array(list)) => list.iter().any(|value| self.holds_at(value, rest)),
            _ => false,
        }
    }
}

fn same(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Number(value), Value::Number(wanted)) => value == wanted || value.as_f64() == wanted.as_f64(),
        (value, wanted) => value == wanted,
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        parse(text).map(|(path, wanted)| Self { path, wanted, text: text.to_owned() }).map_err(|problem| {
            Error::Condition { condition: text.chars().take(100).collect(), problem: problem.to_owned() }
        })
    }
}

fn parse(text: &str) -> std::result::Result<(Vec<Step>, Option<Value>), &'static str> {
    let mut rest = text.strip_prefix('$').ok_or("it must begin with $, as in $.user.id = 42")?;
    let mut path = Vec::new();
    loop {
        let (step, after) = if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(|c: char| c.is_whitespace() || ".[=".contains(c)).unwrap_or(name.len());
            match name.split_at(end) {
                ("", _) => {
                    return Err("a name is missing behind a dot; names with other characters are [\"...\"]");
                }
                ("*", after) => (Step::Any, after),
                (name, after) => (Step::Name(name.to_owned()), after),
            }
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (inner, after) = bracket(inner)?;
            let step = match inner.parse() {
                _ if inner == "*" => Step::Any,
                Ok(place) => Step::Place(place),
                Err(_) => Step::Name(
                    serde_json::from_str(inner).map_err(|_| "[ ] holds a place, a name in quotes, or *")?,
                ),
            };
            (step, after)
        } else {
            break;
        };
        path.push(step);
        rest = after;
    }
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Ok((path, None));
    }
    let value =
        rest.strip_prefix('=').ok_or("the path ends with = and a value, or with nothing")?.trim_start();
    if value.is_empty() {
        return Err("a value is missing behind =");
    }
    Ok((path, Some(serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())))))
}

/// What is before the closing bracket, and what is behind it.
fn bracket(text: &str) -> std::result::Result<(&str, &str), &'static str> {
    let (mut in_name, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_name,
            '"' => in_name = !in_name,
            ']' if !in_name => return Ok((text[..at].trim(), &text[at + 1..])),
            _ => {}
        }
    }
    Err("a ] is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str =
        r#"{"user":{"id":42,"user name":"Ünal","x.y":null},"tags":["a",{"b":1.50}],"on":true}"#;

    #[test]
    fn what_is_at_a_path_counts() {
        for (condition, holds) in [
            ("$.user.id = 42", true),
            ("$.user.id=42.0", true),
            ("$.user.id = \"42\"", false),
            ("  $.user.id", true),
            ("$.user.no", false),
            ("$[\"user\"][\"user name\"] = Ünal", true),
            ("$.user[\"x.y\"] = null", true),
            ("$.user[\"\\u0069d\"] = 42", true),
            ("$.tags[0] = a", true),
            ("$.tags[1].b = 1.5", true),
            ("$.tags[2]", false),
            ("$.tags[*].b = 1.5", true),
            ("$.*.id = 42", true),
            ("$.on = true", true),
            ("$.on = 1", false),
            ("$.tags = [\"a\", {\"b\": 1.50}]", true),
            ("$.user.id.deeper = 42", false),
            ("$", true),
            ("$ = 1", false),
        ] {
            let parsed: Condition = condition.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(parsed.holds(PAYLOAD), holds, "{condition}");
            assert_eq!(parsed.to_string(), condition.trim());
        }
        assert!(!"$".parse::<Condition>().expect("is one").holds("no JSON"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "user.id = 42",
            "$user",
            "$.",
            "$..id",
            "$.a[",
            "$.a[b]",
            "$.a[\"b]",
            "$.a =",
            "$.a > 1",
            "$.a b",
        ] {
            assert!(matches!(text.parse::<Condition>(), Err(Error::Condition { .. })), "{text}");
        }
    }
}
