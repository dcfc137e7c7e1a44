use std::io::IsTerminal;

use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::fmt::time::ChronoLocal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::LogFormat;
use crate::limits::is_printable;

/// Logs to standard error, unless the program has set up logging of its own. `collector` gets the spans.
pub(super) fn start(format: LogFormat, collector: Option<impl Layer<Registry> + Send + Sync>) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|asked| !asked.is_empty());
    let read = asked.as_deref().map(EnvFilter::try_new).transpose();
    let unread = read.as_ref().err().map(ToString::to_string);
    let filter = read.ok().flatten().unwrap_or_else(|| EnvFilter::new("info"));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => layer
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .with_timer(ChronoLocal::new("%H:%M:%S%.3f".to_owned()))
            // The sentence says it all; the fields are for JSON.
            .fmt_fields(debug_fn(|writer, field, value| match field.name() {
                "message" => writer.write_str(&shown(&format!("{value:?}"))),
                _ => Ok(()),
            }))
            .with_filter(filter)
            .boxed(),
    };
    let started = tracing_subscriber::registry().with(collector).with(layer).try_init();
    if let (Ok(()), Some(problem)) = (started, unread) {
        let asked = asked.unwrap_or_default();
        tracing::warn!(
            "RUST_LOG is {asked:?}, which cannot be read ({problem}): it is logged as with RUST_LOG=info"
        );
    }
}

/// On one line, whatever another program has stored, and with nothing in it that a terminal would carry out.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    shown
}
