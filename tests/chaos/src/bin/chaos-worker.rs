//! A worker whose handlers write into the journal.

use std::process::ExitCode;

// The consumers.
use taskmq_chaos as _;

fn main() -> ExitCode {
    taskmq_core::worker::main()
}
