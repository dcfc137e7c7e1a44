//! Many workers, and many connections of producers that do nothing.

use std::time::{Duration, Instant};

use taskmq_core::{AnyConnection, Backend};

use crate::loads::ground::Ground;
use crate::loads::measures::sessions;
use crate::loads::tally::spread;
use crate::loads::work::Topic;

const AT_ONCE: usize = 1000;
/// Everything is done by then, on a busy machine too.
const MOST: Duration = Duration::from_secs(300);

/// A server that takes so many sessions.
pub fn options(backend: Backend, sessions: usize) -> Vec<String> {
    match backend {
        Backend::Sqlite => Vec::new(),
        Backend::Postgres => vec!["-c".to_owned(), format!("max_connections={sessions}")],
        Backend::Mysql => vec![format!("--max-connections={sessions}")],
    }
}

/// So many workers have these messages; each is to be handled once. Gives the figures.
///
/// # Panics
/// When one is not.
pub fn many_workers(mut ground: Ground, workers: usize, messages: usize) -> String {
    let mut conn = ground.connect();
    let began = Instant::now();
    ground.start_workers(workers);
    ground.wait_for_workers();
    let started = began.elapsed().as_secs_f64();
    let taken = sessions(&mut conn);
    let began = Instant::now();
    produce(&mut ground, &mut conn, messages);
    ground.wait_until_over(messages, MOST);
    let took = began.elapsed().as_secs_f64();
    let figures = format!(
        "{workers} workers, there after {started:.1} s, with {taken} sessions ({:.1} each): {messages} messages in {took:.1} s, {:.0} a second, \
         by {} of the workers; waited {}; {} warnings",
        taken as f64 / workers as f64,
        messages as f64 / took,
        ground.tally.workers(),
        spread(&ground.tally.waits_from(0, &ground.produced)),
        ground.warnings(),
    );
    ground.finish();
    figures
}

/// So many connections have produced a message each and do nothing more while two workers have these messages; then each
/// produces another. Gives the figures.
///
/// # Panics
/// When a message is not handled once.
pub fn idle_connections(mut ground: Ground, connections: usize, messages: usize) -> String {
    let began = Instant::now();
    let mut idle: Vec<AnyConnection> = (0..connections).map(|_| ground.connect()).collect();
    for conn in &mut idle {
        ground.produce(conn, Topic::Load, 1, |_| 0);
    }
    let opened = began.elapsed().as_secs_f64();
    let mut conn = ground.connect();
    ground.start_workers(2);
    ground.wait_until_over(connections, MOST);
    let taken = sessions(&mut conn);
    let began = Instant::now();
    produce(&mut ground, &mut conn, messages);
    ground.wait_until_over(connections + messages, MOST);
    let took = began.elapsed().as_secs_f64();
    for conn in &mut idle {
        ground.produce(conn, Topic::Load, 1, |_| 0);
    }
    ground.wait_until_over(messages + 2 * connections, MOST);
    let figures = format!(
        "{connections} idle connections, opened in {opened:.1} s, {taken} sessions in all: {messages} messages in {took:.1} s, {:.0} a second; \
         {} warnings",
        messages as f64 / took,
        ground.warnings(),
    );
    drop(idle);
    ground.finish();
    figures
}

fn produce(ground: &mut Ground, conn: &mut AnyConnection, messages: usize) {
    for from in (0..messages).step_by(AT_ONCE) {
        ground.produce(conn, Topic::Load, AT_ONCE.min(messages - from), |_| 0);
    }
}
