//! Large payloads.

use std::collections::HashMap;

use diesel::pg::{Pg, PgRowByRowLoadingMode};
use diesel::prelude::*;
use diesel::query_builder::QueryFragment;
use diesel::sql_types::{Array, BigInt, Text};

use crate::statement::{Statement, execute};
use crate::{MessageId, Result};

/// The payload of a message as people see it, as an SQL expression.
macro_rules! payload {
    ($of:literal) => {
        concat!(
            "coalesce((SELECT p.payload::text FROM taskmq_payloads p WHERE p.id = ",
            $of,
            ".id AND ",
            $of,
            ".payload::text LIKE '%",
            $crate::broker::payloads::elsewhere!(),
            "%'), ",
            $of,
            ".payload::text)"
        )
    };
}
pub(super) use payload;

/// So much of payloads goes into one statement: a server takes a gibibyte at most, and holds it all in its memory.
const STATEMENT_BYTES: usize = 16 * 1024 * 1024;

pub(super) fn insert(conn: &mut PgConnection, payloads: &[(MessageId, &str)]) -> Result<()> {
    let mut rest = payloads;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, payload): &&(MessageId, &str)| {
            bytes += payload.len();
            bytes <= STATEMENT_BYTES
        };
        let (piece, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let (ids, texts): (Vec<MessageId>, Vec<&str>) = piece.iter().copied().unzip();
        execute!(
            conn, Pg,
            "INSERT INTO taskmq_payloads (id, payload) SELECT id, payload::json FROM unnest(?, ?) AS p (id, payload)",
            Array<BigInt> = ids,
            Array<Text> = texts,
        )?;
        rest = later;
    }
    Ok(())
}

/// Row by row: all of them in one result would hold them in memory twice, and be copied when the last has come rather than
/// while they come.
pub(super) fn of(conn: &mut PgConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, String>> {
    struct Id;
    let ids = ids.into_sql::<Array<BigInt>>();
    let binds: [&dyn QueryFragment<Pg>; 1] = [&ids];
    let statement = Statement::<'_, Id, (BigInt, Text), Pg>::new(
        "SELECT id, payload FROM taskmq_payloads WHERE id = ANY(?)",
        &binds,
    );
    let found = statement.load_iter::<(MessageId, String), PgRowByRowLoadingMode>(conn)?;
    Ok(found.collect::<QueryResult<_>>()?)
}

pub(super) fn delete(conn: &mut PgConnection, ids: &[MessageId]) -> Result<()> {
    execute!(conn, Pg, "DELETE FROM taskmq_payloads WHERE id = ANY(?)", Array<BigInt> = ids)?;
    Ok(())
}
