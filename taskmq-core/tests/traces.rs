//! A trace goes from the producer through the message to its handler, and the worker sends it to the collector that its
//! environment names. This program is that worker, too, when it is told so.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "it says how it went, as other tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use opentelemetry::trace::{SpanKind, TraceContextExt, TracerProvider};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use prost::Message;
use taskmq_core::{Backend, NewMessage, migration, produce_many, task_consumer};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

const WORKER: &str = "TASKMQ_TEST_TRACES_WORKER";
const LONG: Duration = Duration::from_secs(60);

#[task_consumer(topic = "good")]
fn good(_number: i64) {
    tracing::info!("in the handler");
}

#[task_consumer(topic = "tied")]
async fn tied(_number: i64) {}

#[task_consumer(topic = "bad", max_attempts = 2, backoff = "1ms")]
fn bad(_number: i64) -> Result<(), String> {
    Err("it is bad".to_owned())
}

fn main() -> ExitCode {
    if std::env::var_os(WORKER).is_some() {
        return taskmq_core::worker::main();
    }
    a_trace_goes_from_the_producer_to_the_handler();
    println!("test result: ok. 1 passed; 0 failed;");
    ExitCode::SUCCESS
}

fn a_trace_goes_from_the_producer_to_the_handler() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = folder.path().join("taskmq.db").to_str().expect("UTF-8").to_owned();
    let mut conn = SqliteConnection::establish(&url).expect("a file");
    conn.batch_execute(migration::up(Backend::Sqlite)).expect("migrates");

    let produced = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(produced.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("host"));
    let request = tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let request = tracing::info_span!("request");
        let trace = request.context().span().span_context().trace_id();
        request.in_scope(|| {
            good::message(&1).produce(&mut conn).expect("produces");
            tied::message(&2).produce(&mut conn).expect("produces");
            produce_many(&mut conn, [NewMessage::new("bad", &3)]).expect("produces");
            let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let own = NewMessage::new("good", &4).header("traceparent", own).header("tenant", "acme");
            own.produce(&mut conn).expect("produces");
        });
        trace
    });
    // Of a producer that is in no trace.
    good::message(&5).produce(&mut conn).expect("produces");

    let (at, received) = collector();
    let mut worker = Worker::start(&url, &format!("http://{at}"));
    let mut spans: Vec<(String, Span)> = Vec::new();
    let began = Instant::now();
    while spans.iter().filter(|(_, span)| span.name.starts_with("process ")).count() < 6 {
        assert!(began.elapsed() < LONG, "only these came: {spans:#?}");
        if let Ok(batch) = received.recv_timeout(Duration::from_millis(100)) {
            spans.extend(batch);
        }
    }
    assert!(
        worker.0.wait().expect("ends").success(),
        "--until-empty ends it, and what it had is sent by then"
    );

    let producing = produced.get_finished_spans().expect("spans");
    let sent = |name: &str| -> &SpanData {
        let span = producing.iter().find(|span| span.name == name);
        span.unwrap_or_else(|| panic!("no {name:?} in {producing:#?}"))
    };
    for (name, topic) in [("send good", "good"), ("send tied", "tied"), ("send messages", "bad")] {
        let sent = sent(name);
        assert_eq!(sent.span_kind, SpanKind::Producer);
        assert_eq!(sent.span_context.trace_id(), request, "it is in the trace of the request");
        let handled: Vec<&Span> = spans
            .iter()
            .map(|(_, span)| span)
            .filter(|span| span.parent_span_id == sent.span_context.span_id().to_bytes())
            .collect();
        assert_eq!(handled.len(), if topic == "bad" { 2 } else { 1 }, "{topic}: {spans:#?}");
        for (span, attempt) in handled.iter().zip(1..) {
            assert_eq!(span.trace_id, request.to_bytes(), "{topic}");
            assert_eq!(span.name, format!("process {topic}"));
            assert_eq!(span.kind, 5, "a consumer's");
            let words = format!("{:?}", span.attributes);
            assert!(words.contains("messaging.message.id") && words.contains("messaging.system"), "{words}");
            let tries = span.attributes.iter().find(|a| a.key == "messaging.taskmq.attempt");
            assert!(format!("{tries:?}").contains(&format!("IntValue({attempt})")), "{tries:?}");
            let status = span.status.as_ref().map(|status| (status.code, status.message.as_str()));
            match topic {
                "bad" => assert_eq!(status, Some((2, "it is bad"))),
                _ => assert_ne!(status.map(|(code, _)| code), Some(2), "{topic}"),
            }
        }
    }
    let own = spans.iter().find(|(_, span)| span.parent_span_id == 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert!(own.is_some(), "a trace that the host gave itself is kept: {spans:#?}");
    let roots: Vec<_> = spans.iter().filter(|(_, span)| span.parent_span_id.is_empty()).collect();
    assert_eq!(roots.len(), 1, "what was produced in no trace begins one: {roots:#?}");
    let events =
        spans.iter().filter(|(_, span)| span.name == "process good").map(|(_, span)| span.events.len());
    assert_eq!(events.collect::<Vec<_>>(), [1, 1, 1], "what a handler logs is in its span");
    assert!(spans.iter().all(|(service, _)| service == "shop"), "OTEL_SERVICE_NAME");
}

struct Worker(Child);

impl Worker {
    fn start(database: &str, collector: &str) -> Self {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--until-empty", "--concurrency", "1"])
            .env(WORKER, "1")
            .env("DATABASE_URL", database)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .env("OTEL_SERVICE_NAME", "shop")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .spawn();
        Self(child.expect("starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes spans as a collector does, each with the name of its service.
fn collector() -> (String, Receiver<Vec<(String, Span)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let at = listener.local_addr().expect("an address").to_string();
    let (send, received) = channel();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let send = send.clone();
            thread::spawn(move || {
                let mut client = BufReader::new(client);
                while let Some(body) = request(&mut client) {
                    let _ = send.send(spans(&body));
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                    client.get_mut().write_all(answer).expect("answers");
                }
            });
        }
    });
    (at, received)
}

/// The body of the next request. `None`: the client has gone.
fn request(client: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).expect("a length").1;
    let mut body = vec![0; length.parse().expect("a number")];
    client.read_exact(&mut body).ok()?;
    Some(body)
}

fn spans(body: &[u8]) -> Vec<(String, Span)> {
    let request = ExportTraceServiceRequest::decode(body).expect("protobuf");
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.iter().find(|attribute| attribute.key == "service.name");
        let value = service.and_then(|service| service.value.as_ref()).and_then(|value| value.value.as_ref());
        let name = match value {
            Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(name)) => name.clone(),
            other => format!("{other:?}"),
        };
        let scopes = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(scopes.map(|span| (name.clone(), span)));
    }
    spans
}
