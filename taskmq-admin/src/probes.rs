//! Whether the admin, or the worker beside it, lives and whether it can do its work, for those who start and stop programs. Anybody may ask, so
//! the answers say nothing else, and asking often costs nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
#[cfg(feature = "worker")]
use taskmq_core::worker::Pulse;
use tokio::sync::Mutex;

use crate::admin::Shared;
use crate::database::Pool;

/// So long an answer of the database holds.
const HOLDS: Duration = Duration::from_secs(1);

/// Whose life it is.
pub(crate) enum Probed {
    /// The admin's: when the database was last asked, and whether it answered.
    Admin(Mutex<Option<(Instant, bool)>>),
    /// The worker's that it is beside.
    #[cfg(feature = "worker")]
    Worker(Pulse),
}

impl Probed {
    fn is_alive(&self) -> bool {
        match self {
            // It answers.
            Probed::Admin(_) => true,
            #[cfg(feature = "worker")]
            Probed::Worker(pulse) => pulse.is_alive(),
        }
    }

    async fn is_ready(&self, reading: &Pool) -> bool {
        match self {
            Probed::Admin(last) => answers(last, reading).await,
            #[cfg(feature = "worker")]
            Probed::Worker(pulse) => pulse.is_ready(),
        }
    }
}

async fn answers(last: &Mutex<Option<(Instant, bool)>>, reading: &Pool) -> bool {
    let mut last = last.lock().await;
    match *last {
        Some((at, answered)) if at.elapsed() < HOLDS => answered,
        _ => {
            let answered = reading.ask(|conn| conn.schema_version()).await.is_ok();
            *last = Some((Instant::now(), answered));
            answered
        }
    }
}

type Verdict = (StatusCode, &'static str);

fn alive(is_alive: bool) -> Verdict {
    if is_alive { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not alive\n") }
}

fn readiness(is_ready: bool) -> Verdict {
    if is_ready { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

pub(crate) async fn health(State(shared): State<Arc<Shared>>) -> Verdict {
    alive(shared.probed.is_alive())
}

pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Verdict {
    readiness(shared.probed.is_ready(&shared.reading).await)
}

/// No pages and no database, but what a worker counts, and whether it lives.
#[cfg(feature = "worker")]
pub(crate) fn of_worker(pulse: Pulse) -> axum::Router {
    use axum::routing::get;

    axum::Router::new()
        .route("/metrics", get(crate::metrics::show_process))
        .route("/health", get(|State(pulse): State<Pulse>| async move { alive(pulse.is_alive()) }))
        .route("/ready", get(|State(pulse): State<Pulse>| async move { readiness(pulse.is_ready()) }))
        .with_state(pulse)
}
