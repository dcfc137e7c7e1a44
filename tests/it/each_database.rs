//! One list of cases, run on every database.

/// Makes a test of each case on each database.
macro_rules! each_database {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case(&taskmq_tests::databases::fresh(taskmq_core::Backend::Sqlite)); })*
        }
        each_server! { $($case),* }
    };
}

/// As `each_database`, for what only servers have.
macro_rules! each_server {
    ($($case:ident),* $(,)?) => {
        mod postgres {
            $(#[test] fn $case() { super::$case(&taskmq_tests::databases::fresh(taskmq_core::Backend::Postgres)); })*
        }
        mod mariadb {
            $(#[test] fn $case() { super::$case(&taskmq_tests::databases::fresh(taskmq_core::Backend::Mysql)); })*
        }
    };
}
