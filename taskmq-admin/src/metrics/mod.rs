//! `/metrics`, as Prometheus reads it: what a worker of this process counts, and the figures of the queue. Every name is
//! in `docs/metrics.md`.

mod queue;
#[cfg(feature = "worker")]
mod recorder;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::admin::Shared;
#[cfg(feature = "worker")]
pub(crate) use recorder::install;

/// So long the figures of the queue hold, however many ask.
const HOLDS: Duration = Duration::from_secs(5);

/// What there is of the queue and of this process.
pub(crate) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let sample = shared.sampler.within(HOLDS, &shared.reading).await;
    answer(process() + &queue::render(sample.ok().as_deref()))
}

/// What there is of this process alone.
#[cfg(feature = "worker")]
pub(crate) async fn show_process() -> Response {
    answer(process())
}

#[cfg(feature = "worker")]
fn process() -> String {
    recorder::render()
}

#[cfg(not(feature = "worker"))]
fn process() -> String {
    String::new()
}

fn answer(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
