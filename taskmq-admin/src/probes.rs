//! Whether the admin, or the worker beside it, lives and whether it can do its work, for those who start and stop programs. Anybody may ask, so
//! the answers say nothing else, and asking often costs nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use tokio::sync::Mutex;

use crate::admin::Shared;

/// So long an answer of the database holds.
const HOLDS: Duration = Duration::from_secs(1);

/// When the database was last asked, and whether it answered.
pub(crate) type Readiness = Mutex<Option<(Instant, bool)>>;

pub(crate) async fn health() -> &'static str {
    "ok\n"
}

pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    let mut last = shared.readiness.lock().await;
    let answered = match *last {
        Some((at, answered)) if at.elapsed() < HOLDS => answered,
        _ => {
            let answered = shared.reading.ask(|conn| conn.schema_version()).await.is_ok();
            *last = Some((Instant::now(), answered));
            answered
        }
    };
    if answered { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}
