//! A worker binary for tests that need real processes. Each handler appends a line to the file that `TEST_JOURNAL`
//! names: begin or end, the message, the worker's process.

use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use diesel::r2d2;

// The flag --admin.
use taskmq_admin as _;
use taskmq_core::{AnyConnection, BrokerConnection, Context, Failure, task_consumer};
use taskmq_tests::journal::journal;

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

/// Fails, or ends the whole process, as its payload says.
#[task_consumer(topic = "ending", max_attempts = 3, backoff = "1ms")]
fn ending(how: String) -> Result<(), String> {
    match &*how {
        "panic" => panic!("in words"),
        "panic without words" => std::panic::panic_any(13),
        "panic with a bomb" => std::panic::panic_any(PanicsWhenDropped),
        "double panic" => {
            let _second = PanicsWhenDropped;
            panic!("the first");
        }
        "abort" => std::process::abort(),
        "overflow" => drop(deeper(&[0; 1024])),
        "exit 0" => std::process::exit(0),
        "exit 3" => std::process::exit(3),
        "segmentation fault" => {
            let pid = std::process::id().to_string();
            // Rust's own handler takes the first one for a stack that may have overflowed, and finds that it has not.
            for _ in 0..100 {
                let _ = std::process::Command::new("kill").args(["-SEGV", &pid]).status();
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        "allocate" => {
            let mut all = Vec::new();
            loop {
                all.push(std::hint::black_box(vec![1_u8; 16 * 1024 * 1024]));
            }
        }
        "large error" => return Err("x".repeat(10 * 1024 * 1024)),
        "odd error" => {
            return Err(format!("\0\u{1b}[31m{}", String::from_utf8_lossy(b"\xff\xfe")));
        }
        _ => {}
    }
    Ok(())
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("the second");
    }
}

#[allow(unconditional_recursion, reason = "it is to overflow the stack")]
fn deeper(before: &[u8; 1024]) -> [u8; 1024] {
    let mut here = std::hint::black_box(*before);
    here[0] = here[0].wrapping_add(1);
    let mut below = deeper(&here);
    below[1] = here[0];
    std::hint::black_box(below)
}

/// Hangs; `stuck` in a way that nothing can stop.
#[task_consumer(topic = "hanging", max_attempts = 2, backoff = "1ms", timeout = "300ms")]
fn hanging(how: String) {
    if how == "loop" {
        loop {
            std::hint::spin_loop();
        }
    }
    if how == "stuck" {
        loop {
            std::thread::park();
        }
    }
}

/// Blocks its thread of the runtime for ever, if it is to.
#[task_consumer(topic = "blocking", max_attempts = 1, timeout = "300ms")]
async fn blocking(block: bool) {
    if block {
        loop {
            std::thread::park();
        }
    }
}

/// For ever, and keeps no thread. Negative ones are quick, the number -13 panics.
#[task_consumer(topic = "dozing")]
async fn dozing(number: i64, ctx: &Context) {
    assert!(number != -13, "in its sleep");
    if number >= 0 {
        journal("begin", number, ctx);
        std::future::pending::<()>().await;
    }
}

/// Quick, but for the number 0.
#[task_consumer(topic = "uneven")]
fn uneven(number: i64, ctx: &Context) {
    journal("begin", number, ctx);
    if number == 0 {
        std::thread::sleep(Duration::from_secs(1));
    }
    journal("end", number, ctx);
}

/// Outlives its time, and ends the process once the next number has begun.
#[task_consumer(topic = "stray", max_attempts = 1, timeout = "200ms")]
fn stray(number: i64, ctx: &Context) {
    straying(number, ctx);
}

/// Ends the process once the next number has begun. Negative ones are quick.
#[task_consumer(topic = "straying")]
fn straying(number: i64, ctx: &Context) {
    if number < 0 {
        return;
    }
    journal("begin", number, ctx);
    let next = format!("begin {} ", number + 1);
    loop {
        let path = std::env::var("TEST_JOURNAL").unwrap_or_default();
        if std::fs::read_to_string(path).is_ok_and(|journal| journal.contains(&next)) {
            std::process::exit(3);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The host's own connections: two, whatever is run at once.
static POOL: LazyLock<r2d2::Pool<Manager>> =
    LazyLock::new(|| r2d2::Pool::builder().max_size(2).min_idle(Some(0)).build_unchecked(Manager));

#[derive(Debug)]
struct Manager;

impl r2d2::ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = taskmq_core::Error;

    fn connect(&self) -> taskmq_core::Result<AnyConnection> {
        AnyConnection::establish(
            &std::env::var("DATABASE_URL").map_err(|_| taskmq_core::Error::NoDatabaseUrl)?,
        )
    }

    fn is_valid(&self, conn: &mut AnyConnection) -> taskmq_core::Result<()> {
        conn.broker().schema_version().map(drop)
    }

    fn has_broken(&self, _conn: &mut AnyConnection) -> bool {
        false
    }
}

/// Needs a connection of the host's pool; the first ones keep theirs for longer than a lease would last.
#[task_consumer(topic = "pooled", max_attempts = 1)]
fn pooled(number: i64, ctx: &Context) -> Result<(), Failure> {
    journal("begin", number, ctx);
    let mut conn = POOL.get()?;
    conn.broker().schema_version()?;
    if number < 2 {
        std::thread::sleep(Duration::from_secs(11));
    }
    journal("end", number, ctx);
    Ok(())
}

fn main() -> ExitCode {
    taskmq_core::worker::main()
}
