//! A connection on which MariaDB waits for new messages, while the worker has nothing to do: there a look costs a query,
//! and looking often enough would cost hundreds a second.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::executors::Event;
use super::patience::{PATIENCE, Patient, Pending};
use crate::broker::mysql;
use crate::{AnyConnection, MessageId, Result};

/// After it failed the worker does without it for so long, and learns of new messages by its other looks.
const AGAIN: Duration = Duration::from_secs(10);
/// The server waits ten seconds at most, or longer when it is busy.
const OVERDUE: Duration = Duration::from_secs(25);
/// While messages of other topics come, they are looked at no more often than this.
const OF_OTHERS: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(super) struct Waiter {
    url: String,
    topics: Vec<&'static str>,
    events: Sender<Event>,
    conn: Option<Patient>,
    waiting: Option<(Pending<MessageId>, Instant)>,
    /// The newest message that the worker was told of. `None`: it has not been told of any on this connection.
    seen: Option<MessageId>,
    not_before: Instant,
}

impl Waiter {
    pub(super) fn new(url: &str, topics: Vec<&'static str>, events: &Sender<Event>) -> Self {
        Self {
            url: url.to_owned(),
            topics,
            events: events.clone(),
            conn: None,
            waiting: None,
            seen: None,
            not_before: Instant::now(),
        }
    }

    /// Whether the server waits, after this call if not before.
    pub(super) fn wait(&mut self) -> bool {
        match self.try_wait() {
            Ok(waits) => waits,
            Err(error) => {
                tracing::debug!("new messages are looked for once a second only: {error}");
                self.conn = None;
                self.waiting = None;
                self.seen = None;
                self.not_before = Instant::now() + AGAIN;
                false
            }
        }
    }

    fn try_wait(&mut self) -> Result<bool> {
        if self.not_before > Instant::now() {
            return Ok(false);
        }
        let conn = match &mut self.conn {
            Some(conn) => conn,
            none => none.insert(Patient::establish(&self.url, PATIENCE)?),
        };
        if let Some((pending, since)) = &mut self.waiting {
            match conn.try_end(pending) {
                Some(seen) => self.seen = Some(seen?),
                None if since.elapsed() > OVERDUE => return Err(crate::Error::Silent(OVERDUE)),
                None => return Ok(true),
            }
        }
        let (seen, topics, events) = (self.seen, self.topics.clone(), self.events.clone());
        let pending = conn.begin(move |conn| {
            let (seen, due) = wait(conn, seen, &topics)?;
            let _ = events.send(if due { Event::Due } else { Event::Wake });
            Ok(seen)
        })?;
        self.waiting = Some((pending, Instant::now()));
        Ok(true)
    }
}

/// The newest message afterwards, and whether the worker had better look.
fn wait(
    conn: &mut AnyConnection,
    seen: Option<MessageId>,
    topics: &[&'static str],
) -> Result<(MessageId, bool)> {
    match (conn, seen) {
        // What came before this look the worker has not heard of.
        (AnyConnection::Mysql(conn), None) => Ok((mysql::newest(conn)?, true)),
        (AnyConnection::Mysql(conn), Some(seen)) => {
            if !mysql::wait_for_newer(conn, seen)? {
                return Ok((seen, false));
            }
            let newest = mysql::newest(conn)?.max(seen);
            let ours = mysql::has_newer(conn, seen, topics)?;
            if !ours {
                thread::sleep(OF_OTHERS);
            }
            Ok((newest, ours))
        }
        #[allow(unreachable_patterns, reason = "when MariaDB is the only database")]
        _ => Ok((seen.unwrap_or_default(), false)),
    }
}
