//! What a worker and an admin tell Prometheus, and whether it is what happened.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use taskmq_core::{Backend, BrokerConnection, NewMessage, produce, produce_many};
use taskmq_tests::databases::{TestDatabase, fresh};
use taskmq_tests::proxy::Proxy;
use taskmq_tests::scrape::{self, Scrape};

use crate::workers::Workers;

each_database! { what_is_counted_is_what_happened }

const LONG: Duration = Duration::from_secs(60);
const TOKEN: &str = "metrics-0123456789-0123456789";

/// The address that a worker says it serves, after these words.
pub(crate) fn address(workers: &Workers, words: &str) -> String {
    let mut address = None;
    workers.wait("it says where", LONG, || {
        let log = workers.log();
        let after = log.split(&format!("{words} http://")).nth(1);
        address = after.and_then(|rest| rest.split('/').next()).map(str::to_owned);
        address.is_some()
    });
    // What it counts is there once it begins.
    workers.wait("it begins", LONG, || workers.log().contains("worker ready"));
    address.expect("an address")
}

fn what_is_counted_is_what_happened(db: &TestDatabase) {
    let mut conn = db.connect();
    // Due before the worker begins, so that they wait, and are claimed together.
    produce_many(&mut conn, (0..300).map(|n| NewMessage::new("note", &n))).expect("produces");
    for how in ["", "panic", "panic"] {
        produce(&mut conn, "ending", how).expect("produces");
    }
    produce(&mut conn, "hanging", "stuck").expect("produces");
    NewMessage::new("note", &0).delay(LONG * 60).produce(&mut conn).expect("produces");
    conn.broker().pause("long", "a person").expect("pauses");
    produce(&mut conn, "long", &1).expect("produces");

    let mut workers = Workers::new(db.url());
    let url = db.url().to_owned();
    let args = ["--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--concurrency", "7"];
    let environment = [("TASKMQ_METRICS_TOKEN", TOKEN)];
    workers.start_with(&url, &args, &environment);
    let admin = address(&workers, "the admin is at");
    let alone = address(&workers, "the metrics are at");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    for at in [&admin, &alone] {
        let (head, _) = scrape::get(at, "/metrics", "");
        assert!(head.starts_with("HTTP/1.0 401") && head.contains("www-authenticate: Bearer"), "{head}");
        assert!(scrape::get(at, "/health", "").0.starts_with("HTTP/1.0 200"));
        workers.wait("it is ready", LONG, || scrape::get(at, "/ready", "").0.starts_with("HTTP/1.0 200"));
    }
    assert!(scrape::get(&admin, "/", &bearer).0.starts_with("HTTP/1.0 401"), "it opens no page");
    assert!(scrape::get(&alone, "/", &bearer).0.starts_with("HTTP/1.0 404"), "there is no page");
    let read = |at: &str| {
        let (head, body) = scrape::get(at, "/metrics", &bearer);
        assert!(head.starts_with("HTTP/1.0 200") && head.contains("text/plain; version=0.0.4"), "{head}");
        Scrape::parse(&body)
    };

    // Two panicking messages of three attempts each, one hanging one of two.
    let dead = |scrape: &Scrape, topic: &str| {
        scrape.value(&format!("taskmq_worker_finished_total{{topic=\"{topic}\",outcome=\"dead\"}}"))
    };
    let mut seen = Scrape::default();
    workers.wait("everything ended", LONG, || {
        seen = read(&alone);
        let notes = seen.value("taskmq_worker_finished_total{topic=\"note\",outcome=\"done\"}");
        let ended = notes == Some(300.0) && dead(&seen, "ending") == Some(2.0);
        ended && dead(&seen, "hanging") == Some(1.0) && seen.value("taskmq_worker_held") == Some(0.0)
    });
    let is = |series: &str, expected: f64| {
        assert_eq!(seen.value(series), Some(expected), "{series} in {seen:#?}");
    };
    is("taskmq_worker_started_total{topic=\"note\"}", 300.0);
    is("taskmq_worker_wait_seconds_count{topic=\"note\"}", 300.0);
    is("taskmq_worker_run_seconds_count{topic=\"note\"}", 300.0);
    is("taskmq_worker_started_total{topic=\"ending\"}", 7.0);
    is("taskmq_worker_finished_total{topic=\"ending\",outcome=\"done\"}", 1.0);
    is("taskmq_worker_finished_total{topic=\"ending\",outcome=\"retry\"}", 4.0);
    is("taskmq_worker_finished_total{topic=\"hanging\",outcome=\"retry\"}", 1.0);
    is("taskmq_worker_run_seconds_count{topic=\"hanging\"}", 2.0);
    is("taskmq_worker_run_seconds_bucket{topic=\"hanging\",le=\"0.1\"}", 0.0);
    is("taskmq_worker_started_total{topic=\"long\"}", 0.0);
    is("taskmq_worker_concurrency", 7.0);
    is("taskmq_worker_running", 0.0);
    is("taskmq_worker_database_up", 1.0);
    is("taskmq_worker_database_errors_total{connection=\"dispatch\"}", 0.0);
    is("taskmq_worker_restarts_total", 0.0);
    let claimed = seen.value("taskmq_worker_claim_messages_sum");
    assert_eq!(claimed, Some(300.0 + 7.0 + 2.0), "each attempt was claimed");
    let waited = seen.value("taskmq_worker_wait_seconds_sum{topic=\"note\"}").expect("a sum");
    assert!(waited > 0.0 && waited < 300.0 * LONG.as_secs_f64(), "{waited}");
    assert_eq!(seen.value("taskmq_queue_up"), None, "the queue's figures are the admin's");

    let queue = read(&admin);
    let is = |series: &str, expected: f64| {
        assert_eq!(queue.value(series), Some(expected), "{series} in {queue:#?}");
    };
    is("taskmq_queue_up", 1.0);
    is("taskmq_queue_workers", 1.0);
    is("taskmq_queue_messages{topic=\"note\",state=\"scheduled\"}", 1.0);
    is("taskmq_queue_messages{topic=\"note\",state=\"ready\"}", 0.0);
    is("taskmq_queue_messages{topic=\"ending\",state=\"dead\"}", 2.0);
    is("taskmq_queue_messages{topic=\"hanging\",state=\"dead\"}", 1.0);
    is("taskmq_queue_messages{topic=\"long\",state=\"ready\"}", 1.0);
    is("taskmq_queue_paused{topic=\"long\"}", 1.0);
    is("taskmq_queue_paused{topic=\"note\"}", 0.0);
    is("taskmq_queue_oldest_waiting_seconds{topic=\"note\"}", 0.0);
    let oldest = queue.value("taskmq_queue_oldest_waiting_seconds{topic=\"long\"}").expect("an age");
    assert!(oldest > 0.0 && oldest < 2.0 * LONG.as_secs_f64(), "{oldest}");
    let of = |scrape: &Scrape| scrape.types().keys().cloned().collect::<BTreeSet<_>>();
    assert!(of(&queue).is_superset(&of(&seen)), "the admin beside a worker shows both");
}

#[test]
fn a_supervised_worker_tells_how_often_it_was_started_again() {
    let db = fresh(Backend::Sqlite);
    produce(&mut db.connect(), "poison", &13).expect("produces");
    let mut workers = Workers::new(db.url());
    // Each of its processes is to be found at the same place.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    workers.start(&["--supervise", "--metrics", &port.to_string()]);
    workers.wait("it is dead after three attempts", LONG, || workers.log().contains("is dead after 3 of 3"));
    let (_, body) = scrape::get(&port.to_string(), "/metrics", "");
    let seen = Scrape::parse(&body);
    assert_eq!(seen.value("taskmq_worker_restarts_total"), Some(3.0), "{body}");
    assert_eq!(seen.value("taskmq_worker_started_total{topic=\"poison\"}"), Some(0.0), "not by this process");
    let dead = seen.value("taskmq_worker_finished_total{topic=\"poison\",outcome=\"dead\"}");
    assert_eq!(dead, Some(1.0), "{body}");
}

#[test]
fn a_database_that_is_away_is_told() {
    let db = fresh(Backend::Postgres);
    let proxy = Proxy::before(db.url()).expect("a proxy");
    let mut workers = Workers::new(db.url());
    workers.start_on(proxy.url(), &["--metrics", "127.0.0.1:0"]);
    let at = address(&workers, "the metrics are at");
    let value = |series: &str| {
        let (_, body) = scrape::get(&at, "/metrics", "");
        Scrape::parse(&body).value(series).unwrap_or_else(|| panic!("no {series} in {body}"))
    };
    let errors = "taskmq_worker_database_errors_total{connection=\"liveness\"}";
    let up = "taskmq_worker_database_up";
    workers.wait("it works", LONG, || value(up) == 1.0);
    proxy.swallow(true);
    produce(&mut db.connect(), "note", &1).expect("produces");
    workers.wait("it is missed", LONG, || value(up) == 0.0 && value(errors) > 0.0);
    proxy.swallow(false);
    workers.wait("it is back", LONG, || value(up) == 1.0);
    for connection in ["dispatch", "liveness"] {
        let reconnects = format!("taskmq_worker_reconnects_total{{connection={connection:?}}}");
        workers.wait("it was connected anew", LONG, || value(&reconnects) > 0.0);
    }
    assert!(value("taskmq_worker_database_errors_total{connection=\"dispatch\"}") > 0.0);
    workers.wait("it goes on", LONG, || {
        value("taskmq_worker_finished_total{topic=\"note\",outcome=\"done\"}") == 1.0
    });
}
