use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as Diesel};
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::{BATCH, Loop, Result, Row, raw_messages};

pub(super) fn connect(url: &str) -> Result<MysqlConnection> {
    let mut conn = MysqlConnection::establish(url)?;
    conn.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
    Ok(conn)
}

impl Loop for MysqlConnection {
    fn create_table(&mut self) -> Result {
        Ok(self.batch_execute(
            "CREATE TABLE raw_messages (
                 id BIGINT AUTO_INCREMENT PRIMARY KEY, topic VARCHAR(100) NOT NULL,
                 priority SMALLINT NOT NULL DEFAULT 0, status SMALLINT NOT NULL DEFAULT 0,
                 attempts SMALLINT NOT NULL DEFAULT 0, run_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
                 locked_until DATETIME(6), locked_by BIGINT, body LONGTEXT NOT NULL,
                 INDEX raw_ready (status, topic, priority DESC, run_at, id)
             ) ENGINE = InnoDB",
        )?)
    }

    fn insert(&mut self, topic: &str, body: &str) -> Result {
        // Written with the query builder, for Diesel keeps its statements prepared.
        diesel::insert_into(raw_messages::table)
            .values((raw_messages::topic.eq(topic), raw_messages::body.eq(body)))
            .execute(self)?;
        Ok(())
    }

    fn insert_many(&mut self, topic: &str, bodies: &[String]) -> Result {
        sql_query(
            "INSERT INTO raw_messages (topic, body)
             SELECT ?, body FROM JSON_TABLE(?, '$[*]' COLUMNS (body LONGTEXT PATH '$')) AS bodies",
        )
        .bind::<Text, _>(topic)
        .bind::<Text, _>(serde_json::to_string(bodies)?)
        .execute(self)?;
        Ok(())
    }

    fn claim_and_ack(&mut self, topic: &str, handle: &mut dyn FnMut(&[Row]) -> Result) -> Result<usize> {
        let rows = again_after_a_deadlock(self, |conn| {
            let rows = lock(conn, topic)?;
            if !rows.is_empty() {
                sql_query(format!(
                    "UPDATE raw_messages SET status = 1, attempts = attempts + 1, locked_by = CONNECTION_ID(),
                     locked_until = CURRENT_TIMESTAMP(6) + INTERVAL 30 SECOND WHERE id IN ({})",
                    ids(&rows)
                ))
                .execute(conn)?;
            }
            Ok(rows)
        })?;
        if !rows.is_empty() {
            handle(&rows)?;
            let delete = format!(
                "DELETE FROM raw_messages WHERE id IN ({}) AND locked_by = CONNECTION_ID()",
                ids(&rows)
            );
            again_after_a_deadlock(self, |conn| sql_query(&delete).execute(conn))?;
        }
        Ok(rows.len())
    }

    fn one_write(&mut self, topic: &str, handle: &mut dyn FnMut(&[Row]) -> Result) -> Result<usize> {
        let rows = again_after_a_deadlock(self, |conn| {
            let rows = lock(conn, topic)?;
            if !rows.is_empty() {
                sql_query(format!("DELETE FROM raw_messages WHERE id IN ({})", ids(&rows))).execute(conn)?;
            }
            Ok(rows)
        })?;
        // After the commit, so that a deadlock does not handle them twice; the statements are the same.
        handle(&rows)?;
        Ok(rows.len())
    }
}

fn lock(conn: &mut MysqlConnection, topic: &str) -> QueryResult<Vec<Row>> {
    sql_query(
        "SELECT id, body FROM raw_messages WHERE status = 0 AND topic = ? AND run_at <= CURRENT_TIMESTAMP(6)
         ORDER BY priority DESC, run_at, id LIMIT ? FOR UPDATE SKIP LOCKED",
    )
    .bind::<Text, _>(topic)
    .bind::<BigInt, _>(BATCH)
    .load(conn)
}

/// A list in the statement: InnoDB finds no index for a JSON_TABLE in a DELETE.
fn ids(rows: &[Row]) -> String {
    rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>().join(",")
}

fn again_after_a_deadlock<T>(
    conn: &mut MysqlConnection,
    run: impl Fn(&mut MysqlConnection) -> QueryResult<T>,
) -> Result<T> {
    loop {
        match conn.transaction(&run) {
            Err(Diesel::DatabaseError(DatabaseErrorKind::Unknown, report))
                if report.message().contains("Deadlock") => {}
            Err(Diesel::DatabaseError(DatabaseErrorKind::SerializationFailure, _)) => {}
            outcome => return Ok(outcome?),
        }
    }
}
