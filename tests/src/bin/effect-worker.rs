//! A worker binary with one consumer, which is transactional: it leaves a row on MariaDB, and lines in the file that
//! `TEST_JOURNAL` names, as test-worker does.

use std::process::ExitCode;
use std::time::Duration;

use diesel::{MysqlConnection, RunQueryDsl, sql_query, sql_types::BigInt};
use taskmq_core::{Context, Failure, task_consumer};
use taskmq_tests::journal::journal;

#[task_consumer(topic = "effect", max_attempts = 3)]
fn effect(number: i64, ctx: &Context, conn: &mut MysqlConnection) -> Result<(), Failure> {
    journal("begin", number, ctx);
    sql_query("INSERT INTO effects (number) VALUES (?)").bind::<BigInt, _>(number).execute(conn)?;
    std::thread::sleep(Duration::from_millis(200));
    journal("end", number, ctx);
    Ok(())
}

fn main() -> ExitCode {
    taskmq_core::worker::main()
}
