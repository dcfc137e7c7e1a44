//! Sends the spans to where the environment says (`OTEL_EXPORTER_OTLP_ENDPOINT` and its like), over HTTP with protobuf.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{Layer, Registry};

/// One of them asks for traces.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// In milliseconds, the first one that is set.
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const TIMEOUT: Duration = Duration::from_secs(10);

/// What collects spans and sends them.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// `None` where the environment names no collector, or wants no traces.
    pub(super) fn start() -> Result<Option<Self>, String> {
        let is = |name: &str, value: &str| {
            std::env::var(name).is_ok_and(|given| given.trim().eq_ignore_ascii_case(value))
        };
        let named = ENDPOINTS.iter().any(|name| std::env::var(name).is_ok_and(|url| !url.trim().is_empty()));
        let wanted = named || is("OTEL_TRACES_EXPORTER", "otlp");
        if !wanted || is("OTEL_TRACES_EXPORTER", "none") || is("OTEL_SDK_DISABLED", "true") {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().with_http_client(Client::new()).build();
        let exporter = exporter.map_err(|error| format!("cannot send traces: {error}"))?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none()
            && !std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|all| all.contains("service.name="))
        {
            resource = resource.with_service_name("taskmq-worker");
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self(provider)))
    }

    /// What gives it the spans.
    pub(super) fn layer(&self) -> impl Layer<Registry> + Send + Sync + use<> {
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("taskmq")).with_filter(LevelFilter::INFO)
    }

    /// Sends what is left.
    pub(super) fn end(self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("the last traces could not be sent: {error}");
        }
    }
}

/// Blocks, for a thread that does nothing else sends the spans.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
    /// The last try failed, which is said once.
    fails: AtomicBool,
}

impl Client {
    fn new() -> Self {
        let millis = TIMEOUTS.iter().find_map(|name| std::env::var(name).ok()?.trim().parse().ok());
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(millis.map_or(TIMEOUT, Duration::from_millis)))
            .http_status_as_error(false);
        Self { agent: config.build().into(), fails: AtomicBool::new(false) }
    }

    fn tell(&self, failure: Option<&dyn Display>) {
        let failed = self.fails.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(failure) if !failed => {
                tracing::warn!("traces cannot be sent, and are lost until they can: {failure}");
            }
            None if failed => tracing::info!("traces are sent again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(parts, body.to_vec()));
        let answer = answer.inspect_err(|error| self.tell(Some(error)))?;
        let status = answer.status();
        self.tell((!status.is_success()).then_some(&status as &dyn Display));
        let (parts, mut body) = answer.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}
