//! One attempt: calls the handler, and makes an outcome of whatever happens.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use diesel::r2d2::PooledConnection;

use crate::broker::{Claimed, Outcome, Settlement, WorkerIdentity};
use crate::consumer::call::{Call, HandlerResult, States};
use crate::consumer::failure::{FailureKind, Verdict};
use crate::consumer::{Consumer, Handler};
use crate::limits::{MAX_PAYLOAD_BYTES, clean_error};
use crate::statement::AfterFailure;
use crate::trace::Handling;
use crate::{AnyConnection, BrokerConnection, Context, Failure};

use super::backtrace;
use super::patience::Patient;
use super::pool::{Manager, Pool};

/// A transaction that was undone because another stood in its way, or because its connection was lost, is not the message's
/// fault, so it is run again within the same attempt. Up to so many times, for a handler may be what ends its connection;
const RERUNS: u32 = 5;
/// each time after a part of this, lest the same two meet again.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs a handler on this thread. One in a transaction begins when that is open, which is told by `begins`; it says whether
/// anybody waits for the handler still.
pub(super) fn run(
    states: &States,
    pool: &Pool,
    worker: &WorkerIdentity,
    consumer: &Consumer,
    claimed: &Claimed,
    context: &Context,
    begins: impl Fn() -> bool,
) -> Ran {
    let call = Call { payload: &claimed.payload, context, states };
    let handling = Handling::of(context);
    let ran = handling.run(|| match consumer.handler {
        Handler::Sync(handler) => Ran::Outcome(outcome(consumer, context, guarded(|| handler(&call)))),
        Handler::Transactional { run, .. } => {
            let mut reruns = 0;
            loop {
                let (topic, id) = (consumer.topic, claimed.id);
                let mut conn = match begin(pool) {
                    Ok(conn) => conn,
                    Err(error) => {
                        tracing::warn!(topic, id, "{topic} #{id} could not begin its transaction: {error}");
                        break Ran::Outcome(Outcome::HandBack);
                    }
                };
                if context.shared.is_asked_to_end() || !begins() {
                    break Ran::Outcome(Outcome::HandBack);
                }
                match transactional(&mut conn, worker, consumer, claimed, &call, run) {
                    Ok(()) => break Ran::Settled,
                    Err(failure) if reruns < RERUNS && is_undone(&failure, &mut conn) => {
                        if context.is_cancelled() {
                            // Nobody waits for it any more, or the worker stops: another may run it again.
                            break Ran::Outcome(Outcome::HandBack);
                        }
                        reruns += 1;
                        tracing::debug!(topic, id, "{topic} #{id} is run again: {failure}");
                        drop(conn);
                        std::thread::sleep(PAUSE.mul_f64(fastrand::f64()));
                    }
                    Err(failure) => break Ran::Outcome(outcome(consumer, context, Err(failure))),
                }
            }
        }
        #[cfg(feature = "async")]
        Handler::Async(_) => Ran::Outcome(Outcome::HandBack), // never sent to a thread
    });
    if let Ran::Outcome(outcome) = &ran {
        handling.ended(outcome);
    }
    ran
}

/// What became of an attempt.
#[derive(Debug)]
pub(super) enum Ran {
    /// It ended so, which is still to be written.
    Outcome(Outcome),
    /// It committed its own end.
    Settled,
}

/// A connection with a transaction open. The message is not to blame when there is none: no attempt has begun.
fn begin(pool: &Pool) -> Result<PooledConnection<Manager>, String> {
    let mut conn = pool.get().map_err(|error| error.to_string())?;
    conn.call(|conn| conn.broker().begin()).map_err(|error| error.to_string())?;
    Ok(conn)
}

/// The handler's writes and the acknowledgement in one transaction. The lease is checked by the acknowledgement: if it
/// is lost, nothing of the handler's is committed.
fn transactional(
    conn: &mut Patient,
    worker: &WorkerIdentity,
    consumer: &Consumer,
    claimed: &Claimed,
    call: &Call<'_>,
    run: fn(&Call<'_>, &mut AnyConnection) -> HandlerResult,
) -> Result<(), Failure> {
    let ended = guarded(|| run(call, conn.local()?)).and_then(|result| {
        if conn.local()?.open_transactions().is_ok_and(|open| open > 1) {
            return Err(Failure::new(
                "it returned while a transaction was open that it had begun itself; nothing that it wrote was committed",
            ));
        }
        let outcome = Outcome::Done { result, retention: consumer.retention };
        let tied = claimed.tied();
        let settlement = Settlement {
            id: claimed.id,
            attempt: claimed.attempt,
            batch: claimed.batch,
            tied,
            outcome,
            log: call.context.logged(),
        };
        let worker = worker.clone();
        if conn.call(move |conn| conn.broker().ack(&worker, &settlement))? {
            Ok(conn.call(|conn| conn.broker().commit())?)
        } else {
            Err(Failure::new("its lease was lost while it ran; nothing that it wrote was committed"))
        }
    });
    if ended.is_err() {
        // The first error is the one to tell; a connection on which even this fails, or does not end all, is thrown away by
        // the pool.
        let _ = conn.call(|conn| {
            conn.after_failure(); // it may have been one of the handler's own statements
            conn.broker().rollback()
        });
    }
    ended
}

/// Whether it was the database that undid a transaction.
fn is_undone(failure: &Failure, conn: &mut Patient) -> bool {
    let mut is_cut_off = || conn.call(|conn| conn.broker().schema_version()).is_err();
    failure.is_conflict() || failure.verdict == Verdict::Retry && is_cut_off()
}

/// Turns a handler's result into what is written.
pub(super) fn outcome(consumer: &Consumer, context: &Context, result: HandlerResult) -> Outcome {
    match result {
        Ok(Some(json)) if json.len() > MAX_PAYLOAD_BYTES => {
            tracing::warn!(
                topic = consumer.topic,
                id = context.id(),
                "{} #{}: its result of {} bytes is too large to keep",
                consumer.topic,
                context.id(),
                json.len()
            );
            Outcome::Done { result: None, retention: consumer.retention }
        }
        Ok(result) => Outcome::Done { result, retention: consumer.retention },
        Err(failure) => {
            let kind = failure.kind.as_str();
            let error = clean_error(&failure.error);
            match failure.verdict {
                _ if context.shared.is_asked_to_end() => Outcome::Cancelled { kind: Some(kind), error },
                Verdict::Dead => Outcome::Dead { kind: Some(kind), error },
                _ if context.attempt() >= context.max_attempts() => Outcome::Dead { kind: Some(kind), error },
                Verdict::RetryIn(delay) => Outcome::Retry { delay, kind, error },
                Verdict::Retry => Outcome::Retry {
                    delay: consumer.backoff.after_with_jitter(context.attempt()),
                    kind,
                    error,
                },
            }
        }
    }
}

pub(super) fn timed_out(consumer: &Consumer, context: &Context) -> Outcome {
    let limit = consumer.timeout.unwrap_or_default();
    let error = format!("it ran longer than its timeout of {}", humantime::format_duration(limit));
    outcome(consumer, context, Err(Failure::of_kind(FailureKind::Timeout, error, Verdict::Retry)))
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The prefix of the names of the threads on which handlers run.
pub(super) const THREAD_PREFIX: &str = "taskmq-handler";

fn guarded(handler: impl FnOnce() -> HandlerResult) -> HandlerResult {
    catch_unwind(AssertUnwindSafe(handler)).unwrap_or_else(|payload| Err(panicked(payload)))
}

/// As [`guarded`], for a handler that waits in between: it panics on the thread that polls it.
#[cfg(feature = "async")]
pub(super) async fn guarded_task(handler: impl Future<Output = HandlerResult>) -> HandlerResult {
    let mut handler = std::pin::pin!(handler);
    std::future::poll_fn(move |task| {
        catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(task)))
            .unwrap_or_else(|payload| std::task::Poll::Ready(Err(panicked(payload))))
    })
    .await
}

/// The failure of a handler that has just panicked on this thread.
fn panicked(payload: Box<dyn Any + Send>) -> Failure {
    let words = LAST_PANIC.take();
    panicked_somewhere(words, payload)
}

/// The same where the thread is not known, and so not what was said there.
#[cfg(feature = "async")]
pub(super) fn panicked_elsewhere(payload: Box<dyn Any + Send>) -> Failure {
    panicked_somewhere(None, payload)
}

fn panicked_somewhere(words: Option<String>, payload: Box<dyn Any + Send>) -> Failure {
    let words = words.unwrap_or_else(|| panic_words(&*payload));
    let_go(payload);
    Failure::of_kind(FailureKind::Panic, words, Verdict::Retry)
}

/// What a handler panicked with may panic itself when it is dropped.
fn let_go(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(again);
        LAST_PANIC.take();
    }
}

fn panic_words(payload: &(dyn Any + Send)) -> String {
    let words = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", words.unwrap_or("with something that is no text"))
}

/// A handler's panic is an attempt's failure and is reported as such, with its place; Rust's own words about it would
/// only come in between. The way to it is kept where `RUST_BACKTRACE` asks for it. Panics of other threads are as they were.
pub(super) fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !std::thread::current().name().is_some_and(|name| name.starts_with(THREAD_PREFIX)) {
                return previous(info);
            }
            let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
            let words = info.payload_as_str().unwrap_or("with something that is no text");
            let way = backtrace::of_panic();
            LAST_PANIC.set(Some(format!("panicked{place}: {words}{way}")));
        }));
    });
}
