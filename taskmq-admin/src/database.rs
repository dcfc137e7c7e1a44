//! Connections for whoever looks and whoever changes. They block, and for ever where a server is frozen or what lies between
//! drops everything: so each question runs on a thread of its own, which is left to itself if no answer comes.

mod silence;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use taskmq_core::broker::Broker;
use taskmq_core::{AnyConnection, BrokerConnection, Error, migration};
use tokio::sync::{Semaphore, oneshot};

use self::silence::Silence;
use crate::problem::Problem;

/// No statement may take longer. SQLite has no such bound.
const STATEMENT: Duration = Duration::from_secs(2);

/// Nobody waits longer for a connection,
const PATIENCE: Duration = Duration::from_secs(5);

/// or for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A few connections that are opened when they are needed.
pub(crate) struct Pool {
    connections: Arc<Connections>,
    free: Arc<Semaphore>,
    answer: Duration,
}

struct Connections {
    url: String,
    read_only: bool,
    idle: Mutex<Vec<AnyConnection>>,
    silence: Silence,
}

impl Pool {
    pub(crate) fn new(url: &str, read_only: bool, size: usize) -> Self {
        let (idle, silence) = (Mutex::default(), Silence::default());
        let connections = Arc::new(Connections { url: url.to_owned(), read_only, idle, silence });
        Self { connections, free: Arc::new(Semaphore::new(size)), answer: ANSWER }
    }

    /// Asks the queue. A connection that gave an error is not used again.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Broker) -> taskmq_core::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let free = Arc::clone(&self.free).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(PATIENCE, free).await else { return Err(Problem::Busy) };
        let at_most = self.answer;
        let silent = move || Problem::Queue(Error::Silent(at_most));
        if !self.connections.silence.lets_ask(at_most) {
            return Err(silent());
        }
        let (tell, told) = oneshot::channel();
        let connections = Arc::clone(&self.connections);
        thread::Builder::new()
            .name("taskmq-admin-question".to_owned())
            .spawn(move || connections.answer(question, tell))
            .map_err(|_| Problem::Busy)?;
        let connections = Arc::clone(&self.connections);
        // A task, for whoever goes away before the answer must not make room for more questions than there may be.
        let answer = tokio::spawn(async move {
            let _turn = turn;
            match tokio::time::timeout(at_most, told).await {
                Ok(Ok(answer)) => {
                    connections.silence.is_over();
                    answer.map_err(Problem::from)
                }
                Ok(Err(_)) => Err(Problem::Busy),
                Err(_) => {
                    connections.silence.goes_on();
                    // They lead to the same server.
                    connections.idle().clear();
                    Err(silent())
                }
            }
        });
        answer.await.unwrap_or(Err(Problem::Busy))
    }
}

impl Connections {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<AnyConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<T>(
        &self,
        question: impl FnOnce(&mut dyn Broker) -> taskmq_core::Result<T>,
        tell: oneshot::Sender<taskmq_core::Result<T>>,
    ) {
        let kept = self.idle().pop();
        let conn = kept.map_or_else(|| open(&self.url, self.read_only), Ok);
        let answer = conn.and_then(|mut conn| Ok((question(conn.broker())?, conn)));
        let answer = answer.map(|(answer, conn)| {
            // After a late answer another connection has taken its place.
            if !tell.is_closed() {
                self.idle().push(conn);
            }
            answer
        });
        let _ = tell.send(answer);
    }
}

fn open(url: &str, read_only: bool) -> taskmq_core::Result<AnyConnection> {
    let mut conn = AnyConnection::establish(url)?;
    let found = conn.broker().schema_version()?;
    if found != migration::SCHEMA_VERSION {
        return Err(Error::SchemaVersion { found, needed: migration::SCHEMA_VERSION });
    }
    conn.broker().restrict(STATEMENT, read_only)?;
    Ok(conn)
}

/// Opens a connection as the pages will.
///
/// # Errors
/// What keeps every page from being shown, as a pooler on the way. That the database is away, or has no tables yet, does
/// not: it may come.
#[cfg(feature = "serve")]
pub(crate) fn try_out(url: &str) -> taskmq_core::Result<()> {
    let (tell, told) = std::sync::mpsc::channel();
    let target = url.to_owned();
    // As a question, on a thread that is left to itself.
    let begun = thread::Builder::new()
        .name("taskmq-admin-question".to_owned())
        .spawn(move || tell.send(open(&target, true).map(drop)));
    let opened = match begun {
        Ok(_) => told.recv_timeout(PATIENCE).unwrap_or(Err(Error::Silent(PATIENCE))),
        Err(_) => return Ok(()),
    };
    match opened {
        Err(error @ Error::Unsupported(_)) => Err(error),
        Err(error) => {
            tracing::warn!("the admin has no database yet, and asks it again for each page: {error}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// A connection that is its broker already.
pub(crate) struct On<'a>(pub(crate) &'a mut dyn Broker);

impl BrokerConnection for On<'_> {
    fn broker(&mut self) -> &mut dyn Broker {
        self.0
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use taskmq_core::Backend;
    use taskmq_tests::databases::fresh;

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);

    #[allow(clippy::expect_used, reason = "a test fails by panicking")]
    fn run(answer: Duration, test: impl AsyncFnOnce(Pool)) {
        let db = fresh(Backend::Sqlite);
        let pool = Pool { answer, ..Pool::new(db.url(), true, 1) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(test(pool));
    }

    /// Answered when the other end is dropped.
    fn waits(
        for_end: Receiver<()>,
    ) -> impl FnOnce(&mut dyn Broker) -> taskmq_core::Result<()> + Send + 'static {
        move |_| {
            let _ = for_end.recv();
            Ok(())
        }
    }

    #[test]
    fn a_question_that_is_not_answered_is_left_to_itself() {
        run(SHORT, async |pool| {
            assert!(pool.ask(|broker| broker.now()).await.is_ok());
            let (end, ends) = channel();
            let asked = pool.ask(waits(ends)).await;
            assert!(matches!(asked, Err(Problem::Queue(Error::Silent(SHORT)))), "{asked:?}");
            let held_off = pool.ask(|broker| broker.now()).await;
            assert!(matches!(held_off, Err(Problem::Queue(Error::Silent(SHORT)))), "{held_off:?}");
            drop(end);
            // It is asked again after a pause.
            while pool.ask(|broker| broker.now()).await.is_err() {
                tokio::time::sleep(SHORT / 10).await;
            }
            assert!(pool.ask(|broker| broker.now()).await.is_ok());
            assert_eq!(pool.connections.idle().len(), 1, "not that of the late answer, too");
        });
    }

    #[test]
    fn whoever_goes_away_makes_no_room_before_the_answer() {
        run(ANSWER, async |pool| {
            let (end, ends) = channel();
            let asked = tokio::time::timeout(SHORT, pool.ask(waits(ends))).await;
            assert!(asked.is_err());
            assert_eq!(pool.free.available_permits(), 0);
            drop(end);
            assert!(pool.ask(|broker| broker.now()).await.is_ok());
            assert_eq!(pool.free.available_permits(), 1);
        });
    }
}
