//! What stands in the parentheses of the attribute.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, ExprUnary, Ident, Lit, LitStr, Path, Result, Token, UnOp};

const KNOWN: [&str; 13] = [
    "topic",
    "max_attempts",
    "timeout",
    "backoff",
    "priority",
    "ageing",
    "retention",
    "schedule",
    "time_zone",
    "payload",
    "unique",
    "schema",
    "crate",
];

pub(crate) struct Options {
    pub(crate) topic: LitStr,
    pub(crate) max_attempts: Option<u16>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) backoff: Option<(Duration, Duration)>,
    pub(crate) priority: Option<i16>,
    pub(crate) ageing: Option<Duration>,
    pub(crate) retention: Option<Retention>,
    pub(crate) schedule: Option<LitStr>,
    pub(crate) time_zone: Option<LitStr>,
    pub(crate) payload: Option<Expr>,
    pub(crate) unique: Option<LitStr>,
    pub(crate) schema: bool,
    pub(crate) krate: Path,
}

pub(crate) enum Retention {
    None,
    For(Duration),
    Forever,
}

struct Pair {
    name: Ident,
    value: Value,
}

enum Value {
    Expr(Expr),
    Path(Path),
    /// None is given.
    Flag,
}

pub(crate) fn parse(tokens: TokenStream) -> Result<Options> {
    let pairs = (|input: ParseStream<'_>| Punctuated::<Pair, Token![,]>::parse_terminated_with(input, pair))
        .parse2(tokens)?;
    let mut options = Options {
        topic: LitStr::new("", Span::call_site()),
        max_attempts: None,
        timeout: None,
        backoff: None,
        priority: None,
        ageing: None,
        retention: None,
        schedule: None,
        time_zone: None,
        payload: None,
        unique: None,
        schema: false,
        krate: syn::parse_quote!(::taskmq_core),
    };
    let mut seen: Vec<String> = Vec::new();
    let mut errors: Option<Error> = None;
    for pair in &pairs {
        let name = pair.name.unraw().to_string();
        let result = if seen.contains(&name) {
            Err(Error::new(pair.name.span(), format!("`{name}` is given twice, keep one of them")))
        } else {
            set(&mut options, &name, pair)
        };
        seen.push(name);
        if let Err(error) = result {
            add(&mut errors, error);
        }
    }
    for pair in
        pairs.iter().filter(|pair| ["time_zone", "payload", "unique"].iter().any(|name| pair.name == name))
    {
        if !seen.iter().any(|name| name == "schedule") {
            let message =
                format!("`{}` belongs to a schedule, write schedule = \"0 7 * * *\" too", pair.name);
            add(&mut errors, Error::new(pair.name.span(), message));
        }
    }
    if !seen.iter().any(|name| name == "topic") {
        let error =
            Error::new(Span::call_site(), "the topic is missing, write #[task_consumer(topic = \"...\")]");
        add(&mut errors, error);
    }
    errors.map_or(Ok(options), Err)
}

/// Collects errors, so that all are shown at once.
pub(crate) fn add(errors: &mut Option<Error>, error: Error) {
    match errors {
        Some(errors) => errors.combine(error),
        None => *errors = Some(error),
    }
}

fn pair(input: ParseStream<'_>) -> Result<Pair> {
    if input.peek(syn::LitStr) {
        return Err(input.error("name the option, write topic = \"...\""));
    }
    let name = input.call(Ident::parse_any)?;
    if !input.peek(Token![=]) {
        if name == "schema" {
            return Ok(Pair { name, value: Value::Flag });
        }
        return Err(Error::new(name.span(), format!("`{name}` needs a value, write {name} = ...")));
    }
    input.parse::<Token![=]>()?;
    let value = if name == "crate" {
        Value::Path(input.call(Path::parse_mod_style)?)
    } else {
        Value::Expr(input.parse()?)
    };
    Ok(Pair { name, value })
}

fn set(options: &mut Options, name: &str, pair: &Pair) -> Result<()> {
    let expr = match &pair.value {
        Value::Path(path) => {
            options.krate = path.clone();
            return Ok(());
        }
        Value::Flag => {
            options.schema = schema(&pair.name, cfg!(feature = "schema"))?;
            return Ok(());
        }
        Value::Expr(expr) => expr,
    };
    match name {
        "topic" => options.topic = topic(expr)?,
        "max_attempts" => options.max_attempts = Some(integer(expr, 1, 1000)? as u16),
        "timeout" => {
            let text = string(expr, "timeout = \"30s\"")?;
            let timeout = duration(&text)?;
            if timeout.is_zero() {
                return Err(Error::new(text.span(), "the timeout is zero, leave the option out for none"));
            }
            options.timeout = Some(timeout);
        }
        "backoff" => options.backoff = Some(backoff(&string(expr, "backoff = \"1s..1h\"")?)?),
        "priority" => {
            options.priority = Some(integer(expr, i64::from(i16::MIN), i64::from(i16::MAX))? as i16)
        }
        "ageing" => {
            let text = string(expr, "ageing = \"1m\"")?;
            let time = duration(&text)?;
            if time.is_zero() {
                return Err(Error::new(text.span(), "the time is zero, leave the option out for no ageing"));
            }
            options.ageing = Some(time);
        }
        "retention" => {
            let text = string(expr, "retention = \"24h\"")?;
            options.retention = Some(match text.value().as_str() {
                "forever" => Retention::Forever,
                _ => match duration(&text)? {
                    Duration::ZERO => Retention::None,
                    time => Retention::For(time),
                },
            });
        }
        "schedule" => {
            let text = string(expr, "schedule = \"0 7 * * mon-fri\"")?;
            if text.value().trim().is_empty() {
                return Err(Error::new(
                    text.span(),
                    "the schedule is empty, write for instance \"0 7 * * mon-fri\"",
                ));
            }
            options.schedule = Some(text);
        }
        "time_zone" => options.time_zone = Some(string(expr, "time_zone = \"Europe/Berlin\"")?),
        "payload" => options.payload = Some(expr.clone()),
        "unique" => options.unique = Some(string(expr, "unique = \"key\"")?),
        "schema" => {
            return Err(Error::new(expr.span(), "`schema` takes no value, write `schema` alone"));
        }
        unknown => {
            let hint = KNOWN.iter().find(|known| strsim::levenshtein(known, unknown) <= 2);
            let hint = hint.map_or_else(String::new, |known| format!(", did you mean `{known}`?"));
            let message = format!("unknown option `{unknown}`{hint} (the options are {})", KNOWN.join(", "));
            return Err(Error::new(pair.name.span(), message));
        }
    }
    Ok(())
}

fn schema(name: &Ident, enabled: bool) -> Result<bool> {
    if enabled {
        return Ok(true);
    }
    let text = "`schema` needs the feature `schema` of taskmq-core: cargo add taskmq-core --features schema";
    Err(Error::new(name.span(), text))
}

fn topic(expr: &Expr) -> Result<LitStr> {
    let text = string(expr, "topic = \"...\"")?;
    let value = text.value();
    // The rules of `taskmq_core::limits::check_topic`, which a macro cannot call.
    let problem = if value.is_empty() {
        "the topic is empty, give it a name"
    } else if value.chars().count() > 100 {
        "the topic is longer than 100 characters"
    } else if !value.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:/".contains(c)) {
        "a topic has only ASCII letters, digits and _ - . : /"
    } else {
        return Ok(text);
    };
    Err(Error::new(text.span(), problem))
}

/// What a `macro_rules!` macro passes on as `$x:literal` or `$x:expr` comes in an invisible group.
fn ungrouped(mut expr: &Expr) -> &Expr {
    while let Expr::Group(group) = expr {
        expr = &group.expr;
    }
    expr
}

fn string(expr: &Expr, example: &str) -> Result<LitStr> {
    match ungrouped(expr) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        other => Err(Error::new(other.span(), format!("a text in quotes is needed here, write {example}"))),
    }
}

fn integer(expr: &Expr, least: i64, most: i64) -> Result<i64> {
    let error = || Error::new(expr.span(), format!("a whole number from {least} to {most} is needed here"));
    let (negative, literal) = match ungrouped(expr) {
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => (true, ungrouped(expr)),
        other => (false, other),
    };
    let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = literal else { return Err(error()) };
    let number: i64 = number.base10_parse().map_err(|_| error())?;
    let number = if negative { -number } else { number };
    if (least..=most).contains(&number) { Ok(number) } else { Err(error()) }
}

fn duration(text: &LitStr) -> Result<Duration> {
    parse_duration(text, &text.value())
}

fn parse_duration(text: &LitStr, value: &str) -> Result<Duration> {
    humantime::parse_duration(value.trim()).map_err(|e| {
        Error::new(
            text.span(),
            format!("{value:?} is no duration ({e}), write for instance \"500ms\", \"30s\" or \"1h 30m\""),
        )
    })
}

fn backoff(text: &LitStr) -> Result<(Duration, Duration)> {
    let value = text.value();
    let (first, longest) = match value.split_once("..") {
        Some((first, longest)) => (parse_duration(text, first)?, parse_duration(text, longest)?),
        None => {
            let first = parse_duration(text, &value)?;
            (first, first.max(Duration::from_secs(3600)))
        }
    };
    if first > longest {
        return Err(Error::new(
            text.span(),
            "the first delay is longer than the longest one, write \"first..longest\"",
        ));
    }
    Ok((first, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_needs_the_feature() {
        let name: Ident = syn::parse_quote!(schema);
        let error = schema(&name, false).expect_err("refused");
        assert!(error.to_string().contains("feature `schema` of taskmq-core"));
        assert!(schema(&name, true).expect("accepted"));
    }
}
