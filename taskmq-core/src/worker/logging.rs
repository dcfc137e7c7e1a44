use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::fmt::time::ChronoLocal;

use super::LogFormat;
use crate::limits::is_printable;

/// Logs to standard error, unless the program has set up logging of its own.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder
            .with_ansi(
                std::io::IsTerminal::is_terminal(&std::io::stderr())
                    && std::env::var_os("NO_COLOR").is_none(),
            )
            .with_target(false)
            .with_timer(ChronoLocal::new("%H:%M:%S%.3f".to_owned()))
            // The sentence says it all; the fields are for JSON.
            .fmt_fields(debug_fn(|writer, field, value| match field.name() {
                "message" => writer.write_str(&shown(&format!("{value:?}"))),
                _ => Ok(()),
            }))
            .try_init(),
    };
}

/// On one line, whatever another program has stored, and with nothing in it that a terminal would carry out.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    shown
}
