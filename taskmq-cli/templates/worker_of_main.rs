//! Runs this project's consumers: `cargo run --bin worker`, as many as you like.

// A project without a library shares modules by their files. Add those that the consumers use in the same way.
#[path = "../consumers.rs"]
mod consumers;

fn main() -> std::process::ExitCode {
    taskmq_core::worker::main()
}
