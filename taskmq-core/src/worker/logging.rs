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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
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
    let _ = tracing_subscriber::registry().with(collector).with(layer).try_init();
}

/// On one line, whatever another program has stored, and with nothing in it that a terminal would carry out.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    shown
}
