//! Plays the load tests that were asked for.

use std::process::ExitCode;

use load_testing::consumers::App;
use load_testing::database;
#[cfg(feature = "admin")]
use taskmq_admin as _;

fn main() -> ExitCode {
    let pool = match database::pool() {
        Ok(pool) => pool,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    taskmq_core::worker::main_with(|worker| worker.state(App { pool }))
}
