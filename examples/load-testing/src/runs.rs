//! The platform's own table: which load tests were asked for, and what came of them.

use diesel::prelude::*;

use crate::consumers::{LoadTest, play};
use crate::database::{Db, Error, transaction};
use crate::load::Report;

diesel::table! {
    test_runs (id) {
        id -> BigInt,
        url -> Text,
        users -> Integer,
        seconds -> Integer,
        worker -> Nullable<Integer>,
        requests -> Nullable<BigInt>,
        errors -> Nullable<BigInt>,
        p50_micros -> Nullable<BigInt>,
        p99_micros -> Nullable<BigInt>,
    }
}

/// A load test, and its report once it was played.
#[derive(Debug, Queryable)]
pub struct TestRun {
    pub id: i64,
    pub url: String,
    pub users: i32,
    pub seconds: i32,
    pub worker: Option<i32>,
    pub requests: Option<i64>,
    pub errors: Option<i64>,
    pub p50_micros: Option<i64>,
    pub p99_micros: Option<i64>,
}

/// Records a run and produces its message in one transaction: there is never one without the other.
pub fn ask_for(conn: &mut Db, test: &LoadTest) -> Result<i64, Error> {
    transaction(conn, |conn| {
        let id = play::message(test).produce(conn)?.id();
        diesel::insert_into(test_runs::table)
            .values((
                test_runs::id.eq(id),
                test_runs::url.eq(&test.url),
                test_runs::users.eq(i32::try_from(test.users)?),
                test_runs::seconds.eq(i32::try_from(test.seconds)?),
            ))
            .execute(conn)?;
        Ok(id)
    })
}

/// Stores a report. A test that was played twice, for its first worker died, has the later report.
pub fn store(conn: &mut Db, id: i64, worker: i32, report: &Report) -> Result<(), Error> {
    diesel::update(test_runs::table.find(id))
        .set((
            test_runs::worker.eq(worker),
            test_runs::requests.eq(report.requests),
            test_runs::errors.eq(report.errors),
            test_runs::p50_micros.eq(report.p50_micros),
            test_runs::p99_micros.eq(report.p99_micros),
        ))
        .execute(conn)?;
    Ok(())
}

pub fn all(conn: &mut Db) -> Result<Vec<TestRun>, Error> {
    Ok(test_runs::table.order(test_runs::id).load(conn)?)
}
