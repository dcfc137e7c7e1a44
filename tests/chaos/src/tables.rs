//! What the tables say in the end.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{QueryableByName, sql_query};
use taskmq_core::{AnyConnection, Backend};

use crate::journal::{Lease, Nanos, now};

/// The state of all messages.
#[derive(Debug, Default)]
pub struct Tables {
    /// What `taskmq_archive` has.
    pub finished: Vec<Finished>,
    /// The keys of what `taskmq_messages` has.
    pub live: Vec<String>,
    /// The keys of what `effects` has.
    pub effects: Vec<String>,
    /// The errors in `taskmq_failures` that no handler was told to make, and how often each is there.
    pub errors: Vec<(String, i64)>,
}

/// A finished message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its key.
    pub key: String,
    /// done, dead or cancelled.
    pub state: String,
    /// The lease under which it was acknowledged.
    pub lease: Lease,
    /// With how many deaths it is charged.
    pub crashes: u32,
    /// How many other failures `taskmq_failures` has of it.
    pub failures: u32,
    /// When, by the machine's monotonic clock.
    pub at: Nanos,
}

#[derive(QueryableByName)]
struct FinishedRow {
    #[diesel(sql_type = Text)]
    message_key: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    worker_id: i64,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = BigInt)]
    crashes: i64,
    #[diesel(sql_type = BigInt)]
    failures: i64,
    #[diesel(sql_type = BigInt)]
    micros: i64,
}

#[derive(QueryableByName)]
struct ErrorRow {
    #[diesel(sql_type = Text)]
    error: String,
    #[diesel(sql_type = BigInt)]
    times: i64,
}

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = Text)]
    message_key: String,
}

macro_rules! rows {
    ($conn:expr, $sql:expr) => {
        match $conn {
            AnyConnection::Sqlite(conn) => sql_query($sql).load(conn),
            AnyConnection::Postgres(conn) => sql_query($sql).load(conn),
            AnyConnection::Mysql(conn) => sql_query($sql).load(conn),
            _ => unreachable!("taskmq knows three databases"),
        }
    };
}

impl Tables {
    /// Reads them.
    ///
    /// # Errors
    /// What the database reports.
    pub fn read(conn: &mut AnyConnection) -> QueryResult<Self> {
        let (key, micros) = match conn.backend() {
            Backend::Sqlite => (
                "payload ->> '$.key'",
                "1000 * CAST(round((julianday(finished_at) - 2440587.5) * 86400000.0) AS INTEGER)",
            ),
            Backend::Postgres => {
                ("payload ->> 'key'", "CAST(extract(epoch FROM finished_at) * 1000000 AS BIGINT)")
            }
            Backend::Mysql => {
                ("JSON_VALUE(payload, '$.key')", "CAST(UNIX_TIMESTAMP(finished_at) * 1000000 AS SIGNED)")
            }
        };
        let whole = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
        let finished = format!(
            "SELECT {key} AS message_key, state, worker_id, attempts, CAST(crashes AS {whole}) AS crashes, {micros} AS micros,
                (SELECT count(*) FROM taskmq_failures f WHERE f.message_id = a.id AND f.kind <> 'crash') AS failures
             FROM taskmq_archive a"
        );
        let finished: Vec<FinishedRow> = rows!(conn, finished)?;
        let live: Vec<KeyRow> = rows!(conn, format!("SELECT {key} AS message_key FROM taskmq_messages"))?;
        let effects: Vec<KeyRow> = rows!(conn, "SELECT message_key FROM effects")?;
        let errors: Vec<ErrorRow> = rows!(
            conn,
            "SELECT error, count(*) AS times FROM taskmq_failures
             WHERE kind <> 'crash' AND error <> 'it is to fail' GROUP BY error ORDER BY 2 DESC"
        )?;
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let monotonic = |micros: i64| {
            let age = since_epoch.as_nanos() as i128 - i128::from(micros) * 1000;
            Nanos::try_from(i128::from(now()) - age).unwrap_or_default()
        };
        let finished = finished.into_iter().map(|row| Finished {
            key: row.message_key,
            state: row.state,
            lease: Lease { worker: row.worker_id, attempt: row.attempts },
            crashes: u32::try_from(row.crashes).unwrap_or_default(),
            failures: u32::try_from(row.failures).unwrap_or_default(),
            at: monotonic(row.micros),
        });
        let keys = |rows: Vec<KeyRow>| rows.into_iter().map(|row| row.message_key).collect();
        let errors = errors.into_iter().map(|row| (row.error, row.times)).collect();
        Ok(Self { finished: finished.collect(), live: keys(live), effects: keys(effects), errors })
    }
}
