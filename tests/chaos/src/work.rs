//! What is produced and handled: the payloads, how long their handlers take, and the consumers.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::{MysqlConnection, PgConnection, SqliteConnection, sql_query};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use taskmq_core::{Backend, Context, NewMessage, task_consumer};

use crate::journal::{Event, Journal, Lease, Step};
use crate::sabotage::Sabotage;

/// Names the journal that handlers write into.
pub const JOURNAL: &str = "TASKMQ_CHAOS_JOURNAL";

/// The table into which transactional consumers write. No constraint keeps a message from being in it twice.
pub const EFFECTS: &str =
    "CREATE TABLE effects (message_key VARCHAR(50) NOT NULL, lease VARCHAR(50) NOT NULL)";

/// A payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    /// Unlike all others'.
    pub key: String,
    /// How long its handler takes.
    pub millis: u64,
    /// So many attempts fail.
    pub failures: u32,
    /// Makes it as large as it is to be.
    pub filling: String,
}

/// How a handler fails that is to fail.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It is to.
    #[error("it is to fail")]
    Planned,
    /// It could not write.
    #[error("{0}")]
    Effect(#[from] diesel::result::Error),
}

/// Ends at once; workers that have no other consumers lease them in batches.
#[task_consumer(topic = "quick", backoff = "50ms..1s", max_attempts = 100)]
pub fn quick(work: Work, ctx: &Context) -> Result<(), Failed> {
    handle(&work, ctx, || Ok(()))
}

/// Takes its time.
#[task_consumer(topic = "slow", backoff = "50ms..1s", max_attempts = 100)]
pub fn slow(work: Work, ctx: &Context) -> Result<(), Failed> {
    handle(&work, ctx, || Ok(()))
}

/// Leaves a row, in the transaction that acknowledges it.
#[task_consumer(topic = "effect-sqlite", backoff = "50ms..1s", max_attempts = 100)]
pub fn effect_sqlite(work: Work, ctx: &Context, conn: &mut SqliteConnection) -> Result<(), Failed> {
    handle(&work, ctx, || leave_effect!(conn, "?", "?", &work, ctx))
}

/// Leaves a row, in the transaction that acknowledges it.
#[task_consumer(topic = "effect-postgres", backoff = "50ms..1s", max_attempts = 100)]
pub fn effect_postgres(work: Work, ctx: &Context, conn: &mut PgConnection) -> Result<(), Failed> {
    handle(&work, ctx, || leave_effect!(conn, "$1", "$2", &work, ctx))
}

/// Leaves a row, in the transaction that acknowledges it.
#[task_consumer(topic = "effect-mysql", backoff = "50ms..1s", max_attempts = 100)]
pub fn effect_mysql(work: Work, ctx: &Context, conn: &mut MysqlConnection) -> Result<(), Failed> {
    handle(&work, ctx, || leave_effect!(conn, "?", "?", &work, ctx))
}

macro_rules! leave_effect {
    ($conn:expr, $first:literal, $second:literal, $work:expr, $ctx:expr) => {{
        if Sabotage::chosen() == Some(Sabotage::EffectApart) {
            crate::sabotage::leave_effect_apart(&$work.key, &$ctx.lease_token());
        } else {
            sql_query(concat!(
                "INSERT INTO effects (message_key, lease) VALUES (",
                $first,
                ", ",
                $second,
                ")"
            ))
            .bind::<Text, _>(&$work.key)
            .bind::<Text, _>($ctx.lease_token())
            .execute($conn)?;
        }
        Ok(())
    }};
}
use leave_effect;

/// What every handler does.
pub(crate) fn handle(
    work: &Work,
    ctx: &Context,
    effect: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let plain = !Topic::leaves_effect(ctx.topic());
    if plain && Sabotage::chosen() == Some(Sabotage::AckFirst) {
        crate::sabotage::acknowledge(ctx);
    }
    note(Step::Start, work, ctx);
    effect()?;
    if work.millis > 0 {
        std::thread::sleep(Duration::from_millis(work.millis));
    }
    if ctx.attempt() <= work.failures {
        note(Step::Fail, work, ctx);
        return Err(Failed::Planned);
    }
    note(Step::End, work, ctx);
    if plain && Sabotage::chosen() == Some(Sabotage::NoFence) {
        crate::sabotage::acknowledge(ctx);
    }
    Ok(())
}

fn note(step: Step, work: &Work, ctx: &Context) {
    static FILE: OnceLock<Journal> = OnceLock::new();
    let journal = FILE.get_or_init(|| {
        let path = std::env::var_os(JOURNAL).map(PathBuf::from).expect("a journal is named");
        Journal::open(&path).expect("the journal opens")
    });
    let lease = Lease::parse(&ctx.lease_token()).expect("a lease has a worker and an attempt");
    let event = Event::Handler { step, key: work.key.clone(), lease, pid: std::process::id() };
    journal.write(event).expect("the journal is written");
}

/// How long handlers take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Those that leave an effect, if they take any time;
    pub effect: u64,
    /// the shortest slow ones,
    pub short: u64,
    /// slow ones,
    pub slow: u64,
    /// and those that are slower still.
    pub slowest: u64,
}

impl Mix {
    /// Of minutes and more.
    pub const LONG: Self = Self { effect: 5, short: 5, slow: 500, slowest: 20_000 };
    /// Of seconds.
    pub const SHORT: Self = Self { slow: 200, slowest: 2_000, ..Self::LONG };
    /// What is slow outlasts a pause of a few seconds.
    pub const SLOW: Self = Self { short: 3_000, slow: 3_000, slowest: 3_000, ..Self::LONG };
    /// Where there is an effect, it takes seconds to acknowledge it.
    pub const SLOW_EFFECTS: Self = Self { effect: 2_000, ..Self::SHORT };

    /// The next message. Of a hundred, 70 end at once (14 of them leave an effect), 20 take a moment (4 of them leave an
    /// effect), 9 are slow and one is slowest; one of a hundred fails twice.
    pub fn work(self, key: String, rng: &mut Rng) -> (Topic, Work) {
        let (topic, millis) = match rng.u32(0..100) {
            0..56 => (Topic::Quick, 0),
            56..70 => (Topic::Effect, 0),
            70..86 => (Topic::Slow, self.short),
            86..90 => (Topic::Effect, self.effect),
            90..99 => (Topic::Slow, self.slow),
            _ => (Topic::Slow, self.slowest),
        };
        let failures = if rng.u32(0..100) == 0 { 2 } else { 0 };
        (topic, Work { key, millis, failures, filling: filling(rng) })
    }

    /// One that ends at once.
    pub fn quick(key: String, rng: &mut Rng) -> Work {
        Work { key, millis: 0, failures: 0, filling: filling(rng) }
    }
}

/// 80 of 100 have up to 200 bytes, 15 have 2 KiB, and 5 have 100 KiB.
fn filling(rng: &mut Rng) -> String {
    let length = match rng.u32(0..100) {
        0..80 => rng.usize(0..=200),
        80..95 => 2 * 1024,
        _ => 100 * 1024,
    };
    "x".repeat(length)
}

/// Which consumer handles a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// See [`quick()`].
    Quick,
    /// See [`slow()`].
    Slow,
    /// The transactional one of the database.
    Effect,
}

impl Topic {
    /// Its name.
    pub fn name(self, backend: Backend) -> &'static str {
        match (self, backend) {
            (Self::Quick, _) => "quick",
            (Self::Slow, _) => "slow",
            (Self::Effect, Backend::Sqlite) => "effect-sqlite",
            (Self::Effect, Backend::Postgres) => "effect-postgres",
            (Self::Effect, Backend::Mysql) => "effect-mysql",
        }
    }

    /// Whether messages of this topic leave an effect.
    pub fn leaves_effect(topic: &str) -> bool {
        topic.starts_with("effect-")
    }

    /// A message, by the consumer's own typed producer.
    pub fn message(self, backend: Backend, work: &Work) -> NewMessage<'static> {
        match (self, backend) {
            (Self::Quick, _) => quick::message(work),
            (Self::Slow, _) => slow::message(work),
            (Self::Effect, Backend::Sqlite) => effect_sqlite::message(work),
            (Self::Effect, Backend::Postgres) => effect_postgres::message(work),
            (Self::Effect, Backend::Mysql) => effect_mysql::message(work),
        }
    }
}
