//! A claim reads what it takes and next to nothing else, whatever the database's statistics say.

use std::sync::{Arc, Mutex};

use diesel::connection::{Connection, InstrumentationEvent};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use taskmq_core::broker::{Claim, Settlement, Share};
use taskmq_core::{AnyConnection, BrokerConnection};
use taskmq_tests::databases::{TestDatabase, try_execute};

use super::{done, worker};

each_database! {
    claims_of_a_million_use_the_index,
}

const WAITING: i64 = 1_000_000;
const TAKEN: i64 = 500;

#[derive(QueryableByName)]
struct Figure {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

fn claims_of_a_million_use_the_index(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    worker(&mut conn, 1);
    // Statistics of an empty table, then of a full one, then of one that has been emptied and filled again.
    for round in 0..3 {
        if round != 1 {
            run(&mut conn, "DELETE FROM taskmq_messages");
            analyze(&mut conn);
        }
        if round != 1 {
            fill(&mut conn, WAITING);
        } else {
            analyze(&mut conn);
        }
        for as_batch in [true, false] {
            claims_read_little(&mut conn, as_batch, round);
        }
    }
}

fn run(conn: &mut AnyConnection, sql: &str) {
    try_execute(conn, sql).unwrap_or_else(|error| panic!("{error} in {sql}"));
}

pub(super) fn analyze(conn: &mut AnyConnection) {
    match conn {
        AnyConnection::Mysql(_) => run(conn, "ANALYZE TABLE taskmq_messages"),
        _ => run(conn, "ANALYZE"),
    }
}

/// So many that are due, some of another topic and of other priorities, and some that are scheduled.
pub(super) fn fill(conn: &mut AnyConnection, count: i64) {
    let numbers = match conn {
        AnyConnection::Sqlite(_) => format!(
            "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n) n"
        ),
        AnyConnection::Postgres(_) => format!("generate_series(1, {count}) AS n (i)"),
        _ => format!("(SELECT seq AS i FROM seq_1_to_{count}) n"),
    };
    let (later, remainder) = match conn {
        AnyConnection::Sqlite(_) => ("strftime('%Y-%m-%d %H:%M:%f', 'now', '+30 days')", "i % 10"),
        AnyConnection::Postgres(_) => ("statement_timestamp() + interval '30 days'", "i % 10"),
        _ => ("CURRENT_TIMESTAMP(6) + INTERVAL 30 DAY", "i MOD 10"),
    };
    run(conn, &format!("INSERT INTO taskmq_messages (topic, payload) SELECT 't', '1' FROM {numbers}"));
    run(
        conn,
        &format!(
            "INSERT INTO taskmq_messages (topic, priority, payload) SELECT 'u', {remainder}, '1' FROM {numbers} WHERE {remainder} < 3"
        ),
    );
    run(
        conn,
        &format!(
            "INSERT INTO taskmq_messages (topic, run_at, payload) SELECT 't', {later}, '1' FROM {numbers} WHERE {remainder} < 3"
        ),
    );
}

fn claims_read_little(conn: &mut AnyConnection, as_batch: bool, round: i32) {
    let read = measured(conn, 3, |conn| {
        let claim = Claim {
            worker_id: 1,
            topics: &[Share { topic: "t", limit: TAKEN, ageing: None }],
            limit: TAKEN,
            as_batch,
            after: &[],
        };
        let claimed = conn.broker().claim(&claim).expect("claims");
        assert_eq!(i64::try_from(claimed.len()).expect("is small"), TAKEN);
        let worker = super::identity(1);
        let settlements: Vec<Settlement> = claimed.iter().map(done).collect();
        let batches: Vec<i64> = claimed[0].batch.into_iter().collect();
        let exchanged = conn.broker().exchange(&worker, &settlements, &batches, None).expect("settles");
        assert!(exchanged.lost.is_empty());
    });
    // Each message is found by the claim, leased, found again when it is settled, and moved.
    assert!(read < 12 * TAKEN, "round {round}, as a batch {as_batch}: {read} rows read for {TAKEN}");
}

/// How many rows of the messages' table the database read, or a number far too large where a plan does not use the
/// index; that takes at least this many statements.
pub(super) fn measured(
    conn: &mut AnyConnection,
    statements: usize,
    work: impl FnOnce(&mut AnyConnection),
) -> i64 {
    match conn {
        AnyConnection::Sqlite(_) => planned(conn, statements, work),
        AnyConnection::Postgres(_) => {
            let before = rows_read(conn);
            work(conn);
            rows_read(conn) - before
        }
        _ => {
            run(conn, "FLUSH STATUS");
            work(conn);
            rows_read(conn)
        }
    }
}

fn rows_read(conn: &mut AnyConnection) -> i64 {
    let figures: Vec<Figure> = match conn {
        AnyConnection::Postgres(conn) => {
            // What this session did is otherwise reported now and then only.
            diesel::sql_query("SELECT pg_stat_force_next_flush()").execute(conn).expect("asks for a report");
            diesel::sql_query("SELECT pg_stat_clear_snapshot()").execute(conn).expect("asks for new figures");
            diesel::sql_query(
                "SELECT CAST(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) AS BIGINT) AS value FROM pg_stat_user_tables
                 WHERE relname IN ('taskmq_messages', 'taskmq_archive')",
            )
            .load(conn)
        }
        AnyConnection::Mysql(conn) => diesel::sql_query(
            "SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) AS value FROM information_schema.SESSION_STATUS
             WHERE VARIABLE_NAME IN ('HANDLER_READ_NEXT', 'HANDLER_READ_KEY', 'HANDLER_READ_PREV', 'HANDLER_READ_RND')",
        )
        .load(conn),
        _ => unreachable!("SQLite does not count"),
    }
    .expect("reads the figures");
    figures[0].value
}

/// SQLite does not count the rows that it reads, but it says how it would find them.
fn planned(conn: &mut AnyConnection, at_least: usize, work: impl FnOnce(&mut AnyConnection)) -> i64 {
    let statements: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&statements);
    let AnyConnection::Sqlite(sqlite) = &mut *conn else { unreachable!("only SQLite") };
    sqlite.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            seen.lock().expect("is free").push(query.to_string());
        }
    });
    work(conn);
    let AnyConnection::Sqlite(sqlite) = &mut *conn else { unreachable!("only SQLite") };
    sqlite.set_instrumentation(|_: InstrumentationEvent<'_>| {});
    let statements: Vec<String> = std::mem::take(&mut *statements.lock().expect("is free"));
    let mut explained = 0;
    for statement in statements {
        let sql = statement.split(" -- binds").next().unwrap_or_default();
        if !sql.contains("taskmq_messages") && !sql.contains("taskmq_archive") {
            continue;
        }
        let steps: Vec<Step> =
            diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(sqlite).expect("explains");
        for step in &steps {
            let scans = ["SCAN m", "SCAN a", "SCAN taskmq_messages", "SCAN taskmq_archive"]
                .iter()
                .any(|scan| step.detail.starts_with(scan) && !step.detail.ends_with("taskmq_messages_held"));
            let sorts = step.detail.contains("TEMP B-TREE FOR ORDER BY");
            assert!(!scans && !sorts, "{}: {sql}", step.detail);
        }
        explained += 1;
    }
    assert!(explained >= at_least, "the statements were seen");
    0
}
