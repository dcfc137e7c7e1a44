//! Many workers, and a server that is gone: each tries again by itself, and not all of them at once.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use taskmq_core::{Backend, produce};
use taskmq_tests::proxy::Proxy;
use taskmq_tests::servers::{Kind, MariadbKind, PostgresKind};

use super::{LONG, ONE_AT_A_TIME, connect, done, long, say, server};
use crate::workers::Workers;

const WORKERS: usize = 6;
/// A worker's pauses between two tries grow to their longest in this time.
const FIRST_TRIES: Duration = Duration::from_secs(3);
/// So many tries in a second by each worker at most, on average: one by what claims and settles, one by what proves that it lives.
const TRIES: f64 = 2.0;
/// Tries that are closer than this come at once.
const AT_ONCE: Duration = Duration::from_millis(50);

fn a_server_that_is_gone_is_not_overrun<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (_server, url) = server::<K>(backend);
    let proxy = Proxy::before(&url).expect("a proxy");
    let mut workers = Workers::new(proxy.url());
    for _ in 0..WORKERS {
        workers.start(&[]);
    }
    workers.wait("all are idle", LONG, || workers.log().matches("idle, waiting").count() >= WORKERS);

    proxy.refuse(true);
    let away = Duration::from_secs(if long() { 60 } else { 10 });
    std::thread::sleep(FIRST_TRIES);
    let began = Instant::now();
    std::thread::sleep(away);
    let attempts = proxy.attempts_since(began);
    proxy.refuse(false);
    produce(&mut connect(&url), "note", &1).expect("produces");
    let recovered = workers.wait("a new message is run", LONG, || done(&url, "note") == 1);
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let rate = attempts.len() as f64 / away.as_secs_f64() / WORKERS as f64;
    // In phase they would come at once in every second; in one or the other a busy machine makes them do so.
    let mut crowds = vec![0; usize::try_from(away.as_secs()).expect("is small")];
    for (at, first) in attempts.iter().enumerate() {
        let crowd = attempts[at..].iter().take_while(|next| **next - *first < AT_ONCE).count();
        let second = usize::try_from((*first - began).as_secs()).expect("is small");
        if let Some(most) = crowds.get_mut(second) {
            *most = crowd.max(*most);
        }
    }
    crowds.sort_unstable();
    let crowd = crowds[crowds.len() / 2];
    say(&format!(
        "{backend}, {WORKERS} workers without a server: {rate:.2} tries a second each, in half of the seconds {crowd} at once at most; \
         a new message was run {recovered:.1?} after it was back"
    ));
    assert!(rate <= TRIES, "each tries {rate:.2} times a second");
    assert!(rate > 0.2, "they hardly try: {rate:.2} times a second");
    assert!(crowd < WORKERS, "they try at the same time: {crowds:?}");
}

#[test]
fn a_postgres_that_is_gone_is_not_overrun() {
    a_server_that_is_gone_is_not_overrun::<PostgresKind>(Backend::Postgres);
}

#[test]
fn a_mariadb_that_is_gone_is_not_overrun() {
    a_server_that_is_gone_is_not_overrun::<MariadbKind>(Backend::Mysql);
}
