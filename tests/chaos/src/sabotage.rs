//! Workers that break a promise, so that it can be seen that the checker sees it.

use std::sync::OnceLock;

use taskmq_core::{AnyConnection, Context};
use taskmq_tests::databases::try_execute;

/// Names the sabotage in a worker's environment.
pub const VARIABLE: &str = "TASKMQ_CHAOS_SABOTAGE";

/// What a worker does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// It acknowledges by the message's id, whoever has the lease.
    NoFence,
    /// It acknowledges before it runs the handler.
    AckFirst,
    /// What a transactional consumer writes, it commits apart from the acknowledgement.
    EffectApart,
}

impl Sabotage {
    const ALL: [Self; 3] = [Self::NoFence, Self::AckFirst, Self::EffectApart];

    /// As it stands in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFence => "no-fence",
            Self::AckFirst => "ack-first",
            Self::EffectApart => "effect-apart",
        }
    }

    /// That of this process.
    pub fn chosen() -> Option<Self> {
        static CHOSEN: OnceLock<Option<Sabotage>> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let name = std::env::var(VARIABLE).ok()?;
            let sabotage = Self::ALL.into_iter().find(|sabotage| sabotage.name() == name);
            Some(sabotage.unwrap_or_else(|| panic!("{VARIABLE} is {name}, which nobody knows")))
        })
    }
}

fn connect() -> AnyConnection {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL is set");
    AnyConnection::establish(&url).expect("connects")
}

/// As an acknowledgement would be that does not look at the lease.
pub(crate) fn acknowledge(ctx: &Context) {
    let worker = ctx.lease_token().split('-').next().map(|worker| u64::from_str_radix(worker, 16));
    let worker = worker.expect("a lease names its worker").expect("in hexadecimal").cast_signed();
    let (id, attempt) = (ctx.id(), ctx.attempt());
    let sql = format!(
        "INSERT INTO taskmq_archive
            (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts, crashes, payload)
         SELECT id, topic, 'done', priority, run_at, created_at, claimed_at, {worker}, {attempt}, crashes, payload
         FROM taskmq_messages WHERE id = {id};
         DELETE FROM taskmq_messages WHERE id = {id}"
    );
    try_execute(&mut connect(), &sql).expect("acknowledges");
}

/// On a connection of its own.
pub(crate) fn leave_effect_apart(key: &str, lease: &str) {
    let sql = format!("INSERT INTO effects (message_key, lease) VALUES ('{key}', '{lease}')");
    try_execute(&mut connect(), &sql).expect("leaves an effect");
}
