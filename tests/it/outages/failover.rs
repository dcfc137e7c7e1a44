//! A PostgreSQL pair: the primary dies, and its standby, which has every commit, takes its place. Everybody knows both.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, produce, produce_many};
use taskmq_tests::proxy::Proxy;
use taskmq_tests::servers::PostgresKind;

use super::{LONG, connect, counts, done, say, server};
use crate::workers::Workers;

const PATIENT: i64 = 4;

fn host_of(url: &str) -> &str {
    url.rsplit_once('@').and_then(|(_, rest)| rest.split('/').next()).expect("a host")
}

/// Produces one after the other and connects anew when it must, until it is dropped.
struct Producer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Produced>>,
}

#[derive(Default)]
struct Produced {
    /// For certain.
    stored: BTreeSet<i64>,
    /// Perhaps.
    tried: BTreeSet<i64>,
    refused_for: Duration,
}

impl Producer {
    fn start(url: String) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut produced = Produced::default();
            let mut conn: Option<AnyConnection> = None;
            let mut last = Instant::now();
            for number in 1000.. {
                if stopping.load(Ordering::Acquire) {
                    break;
                }
                if conn.is_none() {
                    conn = AnyConnection::establish(&url).ok();
                }
                if let Some(open) = &mut conn {
                    produced.tried.insert(number);
                    if produce(open, "note", &number).is_ok() {
                        produced.stored.insert(number);
                        produced.refused_for = produced.refused_for.max(last.elapsed());
                        last = Instant::now();
                    } else {
                        conn = None;
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            produced
        });
        Self { stop, thread: Some(thread) }
    }

    fn end(mut self) -> Produced {
        self.stop.store(true, Ordering::Release);
        self.thread.take().expect("it runs").join().expect("produces")
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// `vanishes`: the machine of the primary is gone, and nothing says so; else only its server.
fn nothing_is_lost_when_a_standby_takes_over(vanishes: bool) {
    let (mut primary, url) = server::<PostgresKind>(Backend::Postgres);
    let standby = primary.start_standby().expect("the standby starts");
    primary.sql("app", "ALTER SYSTEM SET synchronous_standby_names = '*'").expect("sets it");
    primary.sql("app", "SELECT pg_reload_conf()").expect("reloads");
    let proxy = Proxy::before(&url).expect("a proxy");
    let first = if vanishes { proxy.url() } else { &url };
    let both = format!(
        "postgres://postgres@{},{}/app?target_session_attrs=read-write",
        host_of(first),
        host_of(&standby.server_url())
    );
    let mut workers = Workers::new(&both);
    workers.wait("the standby follows", LONG, || {
        primary
            .sql("app", "SELECT sync_state FROM pg_stat_replication")
            .is_ok_and(|state| state.trim() == "sync")
    });
    produce_many(&mut connect(&both), (0..PATIENT).map(|n| NewMessage::new("patient", &n)))
        .expect("produces");
    workers.start(&["--concurrency", "4"]);
    workers.start(&["--concurrency", "4"]);
    workers.wait("all have begun", LONG, || counts(&workers, "begin").len() == 4);

    // A connection that is open when a machine vanishes is noticed by the system after some 10 s (`tcp_user_timeout`); the
    // proxy's end is alive, so it never would be. The producer is on the machine itself.
    let producer = Producer::start(format!(
        "{}?target_session_attrs=read-write",
        url.replace(host_of(&url), &format!("{},{}", host_of(&url), host_of(&standby.server_url())),)
    ));
    let ended = || counts(&workers, "end").len();
    workers.wait("messages come through", LONG, || ended() > 50);
    if vanishes {
        proxy.swallow(true);
    }
    primary.kill9().expect("kills the primary");
    standby.promote().expect("promotes the standby");
    let before = ended();
    let first_run = workers.wait("messages come through again", LONG, || ended() > before + 50);
    let Produced { stored, tried, refused_for } = producer.end();
    let url = standby.url("app");
    let all = || {
        let stats = connect(&url).broker().topics().expect("reads");
        stats.iter().all(|topic| topic.ready + topic.running + topic.retrying == 0)
    };
    workers.wait("all is done", LONG, || done(&url, "patient") == PATIENT && all());
    say(&format!(
        "PostgreSQL, fail-over{}: 50 messages run {first_run:.1?} after the promotion, the producer was refused for {refused_for:.1?}, \
         {} stored",
        if vanishes { ", the primary vanished" } else { "" },
        stored.len()
    ));
    let handled: BTreeSet<i64> =
        counts(&workers, "end").into_keys().filter(|number| *number >= 1000).collect();
    assert!(stored.is_subset(&handled), "lost: {:?}", stored.difference(&handled).collect::<Vec<_>>());
    assert!(
        handled.is_subset(&tried),
        "never produced: {:?}",
        handled.difference(&tried).collect::<Vec<_>>()
    );
    let begun = counts(&workers, "begin");
    assert!(begun.values().all(|times| *times == 1), "{begun:?}\n{}", workers.log());
    assert!(!workers.log().contains("died"), "{}", workers.log());
}

#[test]
fn a_standby_takes_over() {
    nothing_is_lost_when_a_standby_takes_over(false);
}

#[test]
fn a_standby_takes_over_from_a_machine_that_is_gone() {
    nothing_is_lost_when_a_standby_takes_over(true);
}
