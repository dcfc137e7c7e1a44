//! Runs this project's consumers: `cargo run --bin worker`, as many as you like.

// Consumers register when they are linked, and a library is linked when it is named.
use host_crate as _;

fn main() -> std::process::ExitCode {
    taskmq_core::worker::main()
}
