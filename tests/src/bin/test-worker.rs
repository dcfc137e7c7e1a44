//! A worker binary for tests that need real processes. Each handler appends a line to the file that `TEST_JOURNAL`
//! names: begin or end, the message, the worker's process.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use taskmq_core::{Context, task_consumer};

#[task_consumer(topic = "note")]
fn note(number: i64, ctx: &Context) {
    journal("end", number, ctx);
}

#[task_consumer(topic = "slow", max_attempts = 3)]
fn slow(number: i64, ctx: &Context) {
    journal("begin", number, ctx);
    std::thread::sleep(Duration::from_millis(300));
    journal("end", number, ctx);
}

#[task_consumer(topic = "patient")]
fn patient(number: i64, ctx: &Context) {
    journal("begin", number, ctx);
    std::thread::sleep(Duration::from_secs(6));
    journal("end", number, ctx);
}

#[task_consumer(topic = "long")]
fn long(number: i64, ctx: &Context) {
    journal("begin", number, ctx);
    std::thread::sleep(Duration::from_secs(60));
    journal("end", number, ctx);
}

/// Ends the whole process for the number 13.
#[task_consumer(topic = "poison", max_attempts = 3)]
fn poison(number: i64, ctx: &Context) {
    journal("begin", number, ctx);
    if number == 13 {
        std::process::abort();
    }
    journal("end", number, ctx);
}

fn journal(what: &str, number: i64, ctx: &Context) {
    let Ok(path) = std::env::var("TEST_JOURNAL") else { return };
    let line = format!("{what} {number} {} {}\n", ctx.attempt(), std::process::id());
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        let _ = file.write_all(line.as_bytes());
    }
}

fn main() -> ExitCode {
    taskmq_core::worker::main()
}
