//! Keeps what a worker of this process counts.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// What was recorded is sorted into its buckets this often, so that it does not pile up where nobody asks.
const UPKEEP: Duration = Duration::from_secs(1);

/// From a handler that only adds to one that runs for hours.
const SECONDS: [f64; 14] =
    [0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];
const MESSAGES: [f64; 8] = [0.0, 1.0, 5.0, 10.0, 50.0, 200.0, 1000.0, 2000.0];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Must come before the worker begins. A program that has a recorder of its own keeps it, and shows the worker's
/// metrics its own way.
pub(crate) fn install() -> Result<(), String> {
    if HANDLE.get().is_some() {
        return Ok(());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_messages".to_owned()), &MESSAGES)
        })
        .map_err(|error| error.to_string())?
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::info!("this program has a recorder of metrics, which has the worker's too");
        return Ok(());
    }
    let upkeep = handle.clone();
    let _ = HANDLE.set(handle);
    let upkeep = move || {
        loop {
            thread::sleep(UPKEEP);
            upkeep.run_upkeep();
        }
    };
    let thread = thread::Builder::new().name("taskmq-metrics".to_owned()).spawn(upkeep);
    thread.map(drop).map_err(|error| format!("cannot start the thread of the metrics: {error}"))
}

pub(super) fn render() -> String {
    HANDLE.get().map(PrometheusHandle::render).unwrap_or_default()
}
