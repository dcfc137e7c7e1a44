//! Load on an HTTP endpoint: users who ask again as soon as they have their answer.

use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::consumers::LoadTest;

/// What came of a load test.
#[derive(Debug, Serialize)]
pub struct Report {
    pub requests: i64,
    pub errors: i64,
    pub p50_micros: i64,
    pub p99_micros: i64,
}

pub fn play(test: &LoadTest, cancelled: impl Fn() -> bool + Sync) -> Report {
    let until = Instant::now() + Duration::from_secs(test.seconds.into());
    let cancelled = &cancelled;
    let (mut times, mut errors) = (Vec::new(), 0);
    thread::scope(|scope| {
        let users: Vec<_> =
            (0..test.users).map(|_| scope.spawn(move || user(&test.url, until, cancelled))).collect();
        for user in users {
            if let Ok((took, failed)) = user.join() {
                times.extend(took);
                errors += failed;
            }
        }
    });
    times.sort_unstable();
    let at = |percent: usize| {
        times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
    };
    let requests = i64::try_from(times.len()).unwrap_or(i64::MAX) + errors;
    Report { requests, errors, p50_micros: at(50), p99_micros: at(99) }
}

/// The times of the answers in microseconds, and how many were errors.
fn user(url: &str, until: Instant, cancelled: &impl Fn() -> bool) -> (Vec<i64>, i64) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
    let (mut times, mut errors) = (Vec::new(), 0);
    while Instant::now() < until && !cancelled() {
        let began = Instant::now();
        match agent.get(url).call().and_then(|mut answer| answer.body_mut().read_to_string()) {
            Ok(_) => times.push(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX)),
            Err(_) => {
                errors += 1;
                // Do not spin on an endpoint that is down.
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
    (times, errors)
}
