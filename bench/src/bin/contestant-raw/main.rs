//! The raw SQL loop through Diesel: what each database gives when nothing but the bare statements run, in batches of
//! 500. It keeps no promise: no leases, no retries, no rescue.
//!
//! `RAW_ONE_WRITE=1` locks and deletes in one transaction, and writes each row once; otherwise a message is claimed
//! with an UPDATE and acknowledged with a DELETE.

mod mysql;
mod postgres;
mod sqlite;

use std::process::ExitCode;
use std::time::Duration;

use taskmq_bench_contestant::{Contestant, Message, Payload, Producer, Result, TOPICS, Work, handle};
use taskmq_core::Backend;

/// Messages in a claim.
const BATCH: i64 = 500;

use table::raw_messages;

#[allow(missing_docs, reason = "Diesel's macro makes public items")]
mod table {
    diesel::table! {
        raw_messages (id) {
            id -> BigInt,
            topic -> Text,
            body -> Text,
        }
    }
}

/// A message as a claim gives it.
#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    id: i64,
    #[diesel(sql_type = diesel::sql_types::Text)]
    body: String,
}

/// The statements of one database, on one connection.
trait Loop: Send {
    fn create_table(&mut self) -> Result;
    fn insert(&mut self, topic: &str, body: &str) -> Result;
    fn insert_many(&mut self, topic: &str, bodies: &[String]) -> Result;
    /// Claims a batch, has it handled, and acknowledges it; says how many there were.
    fn claim_and_ack(&mut self, topic: &str, handle: &mut dyn FnMut(&[Row]) -> Result) -> Result<usize>;
    /// The same with each row written once.
    fn one_write(&mut self, topic: &str, handle: &mut dyn FnMut(&[Row]) -> Result) -> Result<usize>;
}

fn connect(url: &str) -> Result<Box<dyn Loop>> {
    Ok(match Backend::of_url(url)? {
        Backend::Sqlite => Box::new(sqlite::connect(url)?),
        Backend::Postgres => Box::new(postgres::connect(url)?),
        Backend::Mysql => Box::new(mysql::connect(url)?),
    })
}

struct Raw {
    one_write: bool,
}

struct RawProducer(Box<dyn Loop>);

impl Contestant for Raw {
    type Producer = RawProducer;

    fn prepare(&self, url: &str) -> Result {
        connect(url)?.create_table()
    }

    fn producer(&self, url: &str) -> Result<RawProducer> {
        connect(url).map(RawProducer)
    }

    fn work(&self, url: &str, _work: &Work) -> Result {
        let mut conn = connect(url)?;
        let mut handle_all = |rows: &[Row]| {
            for row in rows {
                handle(&serde_json::from_str::<Payload>(&row.body)?);
            }
            Ok(())
        };
        loop {
            let handled = if self.one_write {
                conn.one_write(TOPICS[0], &mut handle_all)?
            } else {
                conn.claim_and_ack(TOPICS[0], &mut handle_all)?
            };
            if handled == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Producer for RawProducer {
    fn one(&mut self, message: Message) -> Result {
        self.0.insert(message.topic, &serde_json::to_string(&message.payload)?)
    }

    /// All of one topic: the workloads of many topics are not for the raw loop.
    fn many(&mut self, messages: Vec<Message>) -> Result {
        let bodies = messages
            .iter()
            .map(|m| serde_json::to_string(&m.payload))
            .collect::<serde_json::Result<Vec<_>>>()?;
        self.0.insert_many(TOPICS[0], &bodies)
    }
}

fn main() -> ExitCode {
    taskmq_bench_contestant::main(&Raw { one_write: std::env::var_os("RAW_ONE_WRITE").is_some() })
}
