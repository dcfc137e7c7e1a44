//! A connection that nobody waits for without end. A server may fall silent (it is frozen, or what lies between drops
//! everything) and the drivers would wait for it for ever, so each call to a server runs on a thread beside the
//! connection; what does not come back in time is left to itself, the connection with it. A call may be many statements, and
//! each answer begins the time anew: a server whose disk is slow is not silent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "mysql")]
use crossbeam_channel::TryRecvError;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use diesel::connection::{Connection, InstrumentationEvent};

use super::sessions::{Session, Sessions};
use crate::{AnyConnection, Backend, Error, Result, database_url};

/// So long a server may be silent before it is given up;
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// and so long at most, after it was given up again and again because it is only slow.
const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// So long a host of several that says nothing keeps a connection from the next one.
const NEXT_HOST: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce() + Send>;

/// A connection whose calls end in time.
pub(super) struct Patient {
    /// Not there while a call is under way.
    conn: Option<AnyConnection>,
    backend: Backend,
    own_session: bool,
    patience: Duration,
    heard: Heard,
    jobs: Sender<Job>,
    session: Option<Session>,
}

/// When the server was heard of last.
#[derive(Clone)]
struct Heard {
    first: Instant,
    millis: Arc<AtomicU64>,
}

impl Heard {
    fn new() -> Self {
        Self { first: Instant::now(), millis: Arc::default() }
    }

    fn is_now(&self) {
        let millis = u64::try_from(self.first.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn at(&self) -> Instant {
        self.first + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }

    /// Listens to what goes on on a connection to a server.
    fn listen_to(&self, conn: &mut AnyConnection) {
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        let heard = self.clone();
        match conn {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            AnyConnection::Postgres(conn) => {
                conn.set_instrumentation(move |_: InstrumentationEvent<'_>| heard.is_now());
            }
            #[cfg(feature = "mysql")]
            AnyConnection::Mysql(conn) => {
                conn.set_instrumentation(move |_: InstrumentationEvent<'_>| heard.is_now());
            }
        }
    }
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patient").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// A call under way.
pub(super) struct Pending<T> {
    reply: Receiver<(AnyConnection, Result<T>)>,
}

#[cfg(feature = "mysql")]
impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl Patient {
    /// Connects, as a worker does.
    pub(super) fn establish(url: &str, patience: Duration) -> Result<Self> {
        let mut established = Self::connect(url, patience, |url| {
            let mut conn = AnyConnection::establish_for_worker(url)?;
            let own_session = conn.has_own_session()?;
            Ok((conn, own_session))
        })?;
        // On the host's own connections its own instrumentation listens.
        let heard = established.heard.clone();
        heard.listen_to(established.local()?);
        Ok(established)
    }

    /// Connects, as a host does: for transactions that stay open while a handler runs.
    pub(super) fn establish_for_handlers(url: &str, patience: Duration) -> Result<Self> {
        Self::connect(url, patience, |url| Ok((AnyConnection::establish(url)?, true)))
    }

    fn connect(
        url: &str,
        patience: Duration,
        establish: fn(&str) -> Result<(AnyConnection, bool)>,
    ) -> Result<Self> {
        let backend = Backend::of_url(url)?;
        let (jobs, queue) = bounded::<Job>(1);
        if backend == Backend::Sqlite {
            let (conn, own_session) = establish(url)?;
            let heard = Heard::new();
            return Ok(Self { conn: Some(conn), backend, own_session, patience, heard, jobs, session: None });
        }
        thread::Builder::new()
            .name("taskmq-database".to_owned())
            .spawn(move || queue.iter().for_each(|job| job()))
            .map_err(|e| Error::Configuration(format!("cannot start a thread for a connection: {e}")))?;
        let (reply, established) = bounded(1);
        let to_connect = patience.min(PATIENCE) + NEXT_HOST * (database_url::hosts(url) - 1);
        let url = url.to_owned();
        jobs.send(Box::new(move || drop(reply.send(establish(&url))))).map_err(|_| gone())?;
        let (conn, own_session) =
            established.recv_timeout(to_connect).map_err(|_| Error::Silent(to_connect))??;
        let heard = Heard::new();
        Ok(Self { conn: Some(conn), backend, own_session, patience, heard, jobs, session: None })
    }

    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    /// See [`AnyConnection::has_own_session`].
    pub(super) fn has_own_session(&self) -> bool {
        self.own_session
    }

    /// Makes the server's session one of a worker's.
    pub(super) fn belong_to(mut self, sessions: &Arc<Sessions>) -> Result<Self> {
        self.session = sessions.open(&mut self)?;
        Ok(self)
    }

    /// How long the server may take for each further answer.
    pub(super) fn wait_at_most(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The connection itself, for what asks the server nothing.
    pub(super) fn local(&mut self) -> Result<&mut AnyConnection> {
        self.conn.as_mut().ok_or_else(gone)
    }

    /// Asks the server something, and waits.
    pub(super) fn call<T: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.backend == Backend::Sqlite {
            // Whatever happens, a file does not fall silent.
            return ask(self.local()?);
        }
        let pending = self.begin(ask)?;
        self.end(pending)
    }

    /// Asks the server something; its answer is waited for with [`end`](Self::end), and nothing else can be asked
    /// before.
    pub(super) fn begin<T: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&mut AnyConnection) -> Result<T> + Send + 'static,
    ) -> Result<Pending<T>> {
        let mut conn = self.conn.take().ok_or_else(gone)?;
        self.heard.is_now();
        let (reply, answer) = bounded(1);
        let own_session = self.own_session;
        let job = Box::new(move || {
            let answer = if own_session { ask(&mut conn) } else { conn.without_session(ask) };
            let _ = reply.send((conn, answer));
        });
        self.jobs.send(job).map_err(|_| gone())?;
        Ok(Pending { reply: answer })
    }

    /// The answer, if it has come.
    #[cfg(feature = "mysql")]
    pub(super) fn try_end<T>(&mut self, pending: &Pending<T>) -> Option<Result<T>> {
        match pending.reply.try_recv() {
            Ok((conn, answer)) => {
                self.conn = Some(conn);
                Some(answer)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(gone())),
        }
    }

    /// Waits for the answer. After [`Error::Silent`] the connection cannot be used any more.
    pub(super) fn end<T>(&mut self, pending: Pending<T>) -> Result<T> {
        loop {
            let until = self.heard.at() + self.patience;
            match pending.reply.recv_deadline(until) {
                Ok((conn, answer)) => {
                    self.conn = Some(conn);
                    return answer;
                }
                Err(RecvTimeoutError::Timeout) if self.heard.at() + self.patience > until => {}
                Err(_) => return Err(Error::Silent(self.patience)),
            }
        }
    }
}

/// How long to wait for the next answer, after this one did not come.
pub(super) fn more(patience: Duration) -> Duration {
    (patience * 2).min(MOST_PATIENCE)
}

fn gone() -> Error {
    Error::Configuration("the connection to the database was given up".to_owned())
}
