//! taskmq as a host uses it: annotated consumers, a worker with its defaults.
//!
//! `TASKMQ_RETENTION_OFF=1` sets the consumers' option `retention = "0s"`; otherwise done messages are archived for a
//! day, as by default. `claims` measures the claim alone.

mod claims;
mod consumers;

use std::process::ExitCode;

use taskmq_bench_contestant::{Contestant, Message, Producer, Result, TOPICS, Work};
use taskmq_core::{AnyConnection, Backend, NewMessage, Registry, Retention, Worker, migration, produce_many};

struct Taskmq {
    retention_off: bool,
}

struct TaskmqProducer(AnyConnection);

impl Contestant for Taskmq {
    type Producer = TaskmqProducer;

    /// The migration, as a host runs it.
    fn prepare(&self, url: &str) -> Result {
        use diesel::connection::SimpleConnection;
        use diesel::{Connection, SqliteConnection};
        if Backend::of_url(url)? == Backend::Sqlite {
            SqliteConnection::establish(url)?;
        }
        let mut conn = AnyConnection::establish(url)?;
        let up = migration::up(conn.backend());
        match &mut conn {
            AnyConnection::Sqlite(conn) => conn.batch_execute(up)?,
            AnyConnection::Postgres(conn) => conn.batch_execute(up)?,
            AnyConnection::Mysql(conn) => conn.batch_execute(up)?,
            _ => return Err("taskmq knows a database that this benchmark does not".into()),
        }
        Ok(())
    }

    fn producer(&self, url: &str) -> Result<TaskmqProducer> {
        Ok(TaskmqProducer(AnyConnection::establish(url)?))
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        // The asynchronous consumers have topics of their own.
        let mut registry = Registry::default();
        for consumer in consumers::all(work.asynchronous).into_iter().take(work.topics.min(TOPICS.len())) {
            let consumer = if self.retention_off { consumer.retention(Retention::None) } else { consumer };
            registry = registry.with(consumer)?;
        }
        let mut worker = Worker::new(registry, url);
        if let Some(concurrency) = work.concurrency {
            worker = worker.concurrency(concurrency);
        }
        worker.run()?;
        Ok(())
    }
}

impl Producer for TaskmqProducer {
    fn one(&mut self, message: Message) -> Result {
        NewMessage::new(message.topic, &message.payload).produce(&mut self.0)?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let message = |m: Message| {
            let message = NewMessage::new(m.topic, &m.payload);
            match m.ordering_key {
                Some(key) => message.ordering_key(key),
                None => message,
            }
        };
        produce_many(&mut self.0, messages.into_iter().map(message))?;
        Ok(())
    }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("claims") {
        return claims::main();
    }
    let retention_off = std::env::var_os("TASKMQ_RETENTION_OFF").is_some();
    taskmq_bench_contestant::main(&Taskmq { retention_off })
}
