//! Spans by `tracing`, named and labelled as OpenTelemetry's conventions for messaging have it
//! (<https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>), and their context in the message's headers
//! by W3C Trace Context (<https://www.w3.org/TR/trace-context/>).

use std::borrow::Cow;
use std::collections::BTreeMap;

#[cfg(feature = "worker")]
use opentelemetry::propagation::Extractor;
use opentelemetry::propagation::{Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::Result;
#[cfg(feature = "worker")]
use crate::{Context, broker::Outcome};

/// The span of a producing call.
pub(crate) struct Producing(Span);

impl Producing {
    pub(crate) fn one(topic: &str) -> Self {
        Self(tracing::info_span!(
            "send",
            otel.name = %format_args!("send {topic}"),
            otel.kind = "producer",
            otel.status_code = Empty,
            otel.status_description = Empty,
            messaging.system = "taskmq",
            messaging.operation.type = "send",
            messaging.destination.name = topic,
        ))
    }

    pub(crate) fn many() -> Self {
        Self(tracing::info_span!(
            "send",
            otel.name = "send messages",
            otel.kind = "producer",
            otel.status_code = Empty,
            otel.status_description = Empty,
            messaging.system = "taskmq",
            messaging.operation.type = "send",
        ))
    }

    /// Writes the trace into the headers of a message, unless it is in one of its own.
    pub(crate) fn goes_with<'a>(&self, headers: &mut BTreeMap<Cow<'a, str>, Cow<'a, str>>) {
        if headers.contains_key("traceparent") {
            return;
        }
        let mut context = self.0.context();
        if !context.span().span_context().is_valid() {
            // The host may have traces of its own without `tracing`.
            context = opentelemetry::Context::current();
        }
        TraceContextPropagator::new().inject_context(&context, &mut Headers(headers));
    }

    pub(crate) fn run<T>(self, produce: impl FnOnce() -> Result<T>) -> Result<T> {
        let produced = self.0.in_scope(produce);
        if let Err(error) = &produced {
            failed(&self.0, &error.to_string());
        }
        produced
    }
}

struct Headers<'h, 'a>(&'h mut BTreeMap<Cow<'a, str>, Cow<'a, str>>);

impl Injector for Headers<'_, '_> {
    fn set(&mut self, key: &str, value: String) {
        // An empty state says nothing.
        if !value.is_empty() {
            self.0.insert(Cow::Owned(key.to_owned()), Cow::Owned(value));
        }
    }
}

/// The span of one attempt.
#[cfg(feature = "worker")]
pub(crate) struct Handling(Span);

#[cfg(feature = "worker")]
impl Handling {
    /// A child of what produced the message, if that was in a trace.
    pub(crate) fn of(context: &Context) -> Self {
        let (topic, id, attempt) = (context.topic(), context.id(), i64::from(context.attempt()));
        let span = tracing::info_span!(
            "process",
            otel.name = %format_args!("process {topic}"),
            otel.kind = "consumer",
            otel.status_code = Empty,
            otel.status_description = Empty,
            messaging.system = "taskmq",
            messaging.operation.type = "process",
            messaging.destination.name = topic,
            messaging.message.id = id,
            messaging.taskmq.attempt = attempt,
        );
        let parent = TraceContextPropagator::new().extract(&Given(context.headers()));
        if parent.span().span_context().is_valid() {
            // It fails where nobody collects spans.
            let _ = span.set_parent(parent);
        }
        Self(span)
    }

    pub(crate) fn run<T>(&self, handle: impl FnOnce() -> T) -> T {
        self.0.in_scope(handle)
    }

    #[cfg(feature = "async")]
    pub(crate) fn within<F: Future>(&self, handle: F) -> tracing::instrument::Instrumented<F> {
        tracing::Instrument::instrument(handle, self.0.clone())
    }

    pub(crate) fn ended(self, outcome: &Outcome) {
        if let Outcome::Retry { error, .. } | Outcome::Dead { error, .. } | Outcome::Cancelled { error, .. } =
            outcome
        {
            failed(&self.0, error);
        }
    }
}

#[cfg(feature = "worker")]
struct Given<'a>(&'a BTreeMap<String, String>);

#[cfg(feature = "worker")]
impl Extractor for Given<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

fn failed(span: &Span, error: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", error);
}
