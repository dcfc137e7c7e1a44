use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};

use super::{BATCH, Loop, Result, Row, raw_messages};

pub(super) fn connect(url: &str) -> Result<PgConnection> {
    Ok(PgConnection::establish(url)?)
}

impl Loop for PgConnection {
    fn create_table(&mut self) -> Result {
        Ok(self.batch_execute(
            "CREATE TABLE raw_messages (
                 id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic TEXT NOT NULL,
                 priority SMALLINT NOT NULL DEFAULT 0, status SMALLINT NOT NULL DEFAULT 0,
                 attempts SMALLINT NOT NULL DEFAULT 0, run_at TIMESTAMPTZ NOT NULL DEFAULT now(),
                 locked_until TIMESTAMPTZ, locked_by BIGINT, body JSON NOT NULL
             ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01);
             CREATE INDEX raw_ready ON raw_messages (topic, priority DESC, run_at, id) WHERE status = 0",
        )?)
    }

    fn insert(&mut self, topic: &str, body: &str) -> Result {
        use diesel::dsl::sql;
        // Written with the query builder, for Diesel keeps its statements prepared.
        diesel::insert_into(raw_messages::table)
            .values((
                raw_messages::topic.eq(topic),
                raw_messages::body.eq(sql::<Text>("").bind::<Text, _>(body).sql("::json")),
            ))
            .execute(self)?;
        Ok(())
    }

    fn insert_many(&mut self, topic: &str, bodies: &[String]) -> Result {
        sql_query("INSERT INTO raw_messages (topic, body) SELECT $1, body::json FROM unnest($2) AS body")
            .bind::<Text, _>(topic)
            .bind::<Array<Text>, _>(bodies)
            .execute(self)?;
        Ok(())
    }

    fn claim_and_ack(&mut self, topic: &str, handle: &mut dyn FnMut(&[Row]) -> Result) -> Result<usize> {
        let rows: Vec<Row> = sql_query(
            "WITH due AS (
                 SELECT id FROM raw_messages WHERE status = 0 AND topic = $1 AND run_at <= now()
                 ORDER BY priority DESC, run_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
             )
             UPDATE raw_messages m
             SET status = 1, attempts = attempts + 1, locked_by = pg_backend_pid(), locked_until = now() + interval '30 s'
             FROM due WHERE m.id = due.id RETURNING m.id, m.body::text AS body",
        )
        .bind::<Text, _>(topic)
        .bind::<BigInt, _>(BATCH)
        .load(self)?;
        if !rows.is_empty() {
            handle(&rows)?;
            sql_query("DELETE FROM raw_messages WHERE id = ANY($1) AND locked_by = pg_backend_pid()")
                .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.id).collect::<Vec<_>>())
                .execute(self)?;
        }
        Ok(rows.len())
    }

    fn one_write(&mut self, topic: &str, handle: &mut dyn FnMut(&[Row]) -> Result) -> Result<usize> {
        self.transaction(|conn| {
            let rows: Vec<Row> = sql_query(
                "SELECT id, body::text AS body FROM raw_messages WHERE status = 0 AND topic = $1 AND run_at <= now()
                 ORDER BY priority DESC, run_at, id LIMIT $2 FOR UPDATE SKIP LOCKED",
            )
            .bind::<Text, _>(topic)
            .bind::<BigInt, _>(BATCH)
            .load(conn)?;
            if !rows.is_empty() {
                handle(&rows)?;
                sql_query("DELETE FROM raw_messages WHERE id = ANY($1)")
                    .bind::<Array<BigInt>, _>(rows.iter().map(|row| row.id).collect::<Vec<_>>())
                    .execute(conn)?;
            }
            Ok(rows.len())
        })
    }
}
