//! Statements as SQL text that are prepared once for each connection. Diesel never caches `sql_query`, so these are
//! query fragments of our own, with a static id for each place in the source.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::{QueryResult, RunQueryDsl};

/// SQL text whose every `?` stands for the next of `binds`.
pub(crate) struct Statement<'a, Id, Row, DB: Backend> {
    sql: &'static str,
    binds: &'a [&'a dyn QueryFragment<DB>],
    marker: PhantomData<(Id, Row)>,
}

impl<'a, Id, Row, DB: Backend> Statement<'a, Id, Row, DB> {
    pub(crate) fn new(sql: &'static str, binds: &'a [&'a dyn QueryFragment<DB>]) -> Self {
        Self { sql, binds, marker: PhantomData }
    }
}

impl<Id, Row, DB: Backend> QueryFragment<DB> for Statement<'_, Id, Row, DB> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut binds = self.binds.iter();
        for (index, piece) in self.sql.split('?').enumerate() {
            if index > 0
                && let Some(bind) = binds.next()
            {
                bind.walk_ast(out.reborrow())?;
            }
            out.push_sql(piece);
        }
        Ok(())
    }
}

impl<Id: 'static, Row, DB: Backend> QueryId for Statement<'_, Id, Row, DB> {
    type QueryId = Id;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<Id, Row, DB: Backend> Query for Statement<'_, Id, Row, DB> {
    type SqlType = Row;
}

impl<Id, Row, DB: Backend, Conn> RunQueryDsl<Conn> for Statement<'_, Id, Row, DB> {}

/// What is to be done on a connection when a statement that gives rows has failed.
pub(crate) trait AfterFailure {
    fn after_failure(&mut self) {}
}

#[cfg(feature = "sqlite")]
impl AfterFailure for diesel::SqliteConnection {}

#[cfg(feature = "postgres")]
impl AfterFailure for diesel::PgConnection {}

/// A statement that failed after the server had told of its columns, as one that locks rows does when it has waited for too
/// long or must give way, still waits for its rows in MariaDB's client library (3.3.20): carried out again, it would wait for
/// ever, whatever it had locked by then. So no prepared statement is kept.
#[cfg(feature = "mysql")]
impl AfterFailure for diesel::MysqlConnection {
    fn after_failure(&mut self) {
        use diesel::connection::{CacheSize, Connection};
        self.set_prepared_statement_cache_size(CacheSize::Disabled);
        self.set_prepared_statement_cache_size(CacheSize::Unbounded);
    }
}

impl AfterFailure for crate::AnyConnection {
    fn after_failure(&mut self) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(conn) => conn.after_failure(),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn.after_failure(),
            #[cfg(feature = "mysql")]
            Self::Mysql(conn) => conn.after_failure(),
        }
    }
}

/// `load!(conn, Database => (Row, Types), "SELECT ...", Type = value, ...)` gives the rows.
macro_rules! load {
    ($conn:expr, $db:ty => $row:ty, $sql:expr $(, $ty:ty = $value:expr)* $(,)?) => {{
        struct Id;
        let rows = diesel::RunQueryDsl::load(
            $crate::statement::Statement::<'_, Id, $row, $db>::new(
                $sql,
                &[$(&diesel::IntoSql::into_sql::<$ty>($value)),*],
            ),
            $conn,
        );
        if rows.is_err() {
            $crate::statement::AfterFailure::after_failure($conn);
        }
        rows
    }};
}

/// `execute!(conn, Database, "UPDATE ...", Type = value, ...)` gives the number of rows that it touched.
macro_rules! execute {
    ($conn:expr, $db:ty, $sql:expr $(, $ty:ty = $value:expr)* $(,)?) => {{
        struct Id;
        let touched = diesel::RunQueryDsl::execute(
            $crate::statement::Statement::<'_, Id, (), $db>::new(
                $sql,
                &[$(&diesel::IntoSql::into_sql::<$ty>($value)),*],
            ),
            $conn,
        );
        touched
    }};
}

pub(crate) use {execute, load};
