//! The whole platform at work: it serves an endpoint, asks for load tests of it, lets two worker processes share
//! them, and shows the reports.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use load_testing::consumers::LoadTest;
use load_testing::database::{self, Error};
use load_testing::{runs, server};

/// A small load-testing platform on taskmq
#[derive(Debug, Parser)]
struct Args {
    /// How many load tests are asked for
    #[arg(long, default_value_t = 6)]
    tests: u32,
    /// How many users each has
    #[arg(long, default_value_t = 5)]
    users: u32,
    /// How long each takes
    #[arg(long, default_value_t = 1)]
    seconds: u32,
    /// What is tested [default: an endpoint that this program serves]
    #[arg(long)]
    url: Option<String>,
}

fn main() -> Result<(), Error> {
    let _ = dotenvy::dotenv();
    let args = Args::parse();
    let pool = database::pool()?;
    database::migrate(&pool)?;
    let address = server::start(pool.clone())?;
    println!("serving http://{address} (POST /runs asks for a load test)");

    let url = args.url.unwrap_or_else(|| format!("http://{address}/"));
    let test = LoadTest { url, users: args.users, seconds: args.seconds };
    let mut asked = Vec::new();
    for number in 0..args.tests {
        // The first one as a browser would, the others as a program does.
        if number == 0 {
            let body = serde_json::to_string(&test)?;
            let answer =
                ureq::post(format!("http://{address}/runs")).send(body)?.body_mut().read_to_string()?;
            let answer: serde_json::Value = serde_json::from_str(&answer)?;
            asked.push(answer["id"].as_i64().ok_or("no id in the answer")?);
        } else {
            asked.push(runs::ask_for(&mut *pool.get()?, &test)?);
        }
    }
    println!(
        "asked for {} load tests of {} by {} users for {} s each\n",
        asked.len(),
        test.url,
        test.users,
        test.seconds
    );

    let program =
        std::env::current_exe()?.with_file_name(if cfg!(windows) { "worker.exe" } else { "worker" });
    let began = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..2 {
        let worker = Command::new(&program)
            .args(["--concurrency", "1", "--until-empty"])
            .env("DATABASE_URL", database::url())
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| {
                format!("{} cannot be started ({e}): build it with `cargo build --bins`", program.display())
            })?;
        workers.push(worker);
    }
    for worker in &mut workers {
        worker.wait()?;
    }

    println!("\nrun  worker  requests  errors  requests/s  p50 ms  p99 ms");
    let mut missing = 0;
    for run in runs::all(&mut *pool.get()?)?.iter().filter(|run| asked.contains(&run.id)) {
        let (Some(worker), Some(requests), Some(errors)) = (run.worker, run.requests, run.errors) else {
            missing += 1;
            continue;
        };
        let ms = |micros: Option<i64>| micros.unwrap_or_default() as f64 / 1000.0;
        let rate = requests / i64::from(run.seconds.max(1));
        println!(
            "{:<4} {worker:<7} {requests:<9} {errors:<7} {rate:<11} {:<7.2} {:.2}",
            run.id,
            ms(run.p50_micros),
            ms(run.p99_micros)
        );
    }
    let took = Duration::from_secs_f64(began.elapsed().as_secs_f64());
    println!("\n{} reports in {:.1} s by two workers", asked.len() - missing, took.as_secs_f64());

    let conn = &mut *pool.get()?;
    let waiting = taskmq_core::BrokerConnection::broker(conn).topics()?;
    let live: i64 = waiting.iter().map(|t| t.ready + t.scheduled + t.running + t.retrying).sum();
    println!("the queue holds {live} live messages");
    if missing > 0 || live > 0 { Err(format!("{missing} reports are missing").into()) } else { Ok(()) }
}
