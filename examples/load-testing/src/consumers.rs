//! The consumers of the platform.

use serde::{Deserialize, Serialize};
use taskmq_core::{Context, Failure, task_consumer};

use crate::database::DbPool;
use crate::load::{self, Report};
use crate::runs;

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadTest {
    pub url: String,
    pub users: u32,
    pub seconds: u32,
}

/// Shared by all handlers of a worker.
pub struct App {
    pub pool: DbPool,
}

/// Plays one load test and stores its report.
#[task_consumer(topic = "yace", max_attempts = 3, timeout = "10m")]
pub fn play(test: LoadTest, ctx: &Context, app: &App) -> Result<Report, Failure> {
    if test.users == 0 || test.seconds == 0 {
        return Err(Failure::dead("a load test needs at least one user and one second"));
    }
    let report = load::play(&test, || ctx.is_cancelled());
    if ctx.is_cancelled() {
        return Err(Failure::new("stopped before its end"));
    }
    let conn = &mut app.pool.get()?;
    let worker = i32::try_from(std::process::id()).unwrap_or_default();
    runs::store(conn, ctx.id(), worker, &report).map_err(Failure::new)?;
    Ok(report)
}
