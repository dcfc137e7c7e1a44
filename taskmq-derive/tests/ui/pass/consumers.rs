#![forbid(unsafe_code)]
#![deny(warnings, missing_docs)]
//! Everything that a consumer may be, in a crate as strict as a host's can be.

use serde::{Deserialize, Serialize};
use taskmq_core::{Context, Failure, Registry, task_consumer};

/// A message.
#[derive(Serialize, Deserialize)]
pub struct LoadTest {
    /// Where.
    pub url: String,
    /// How many.
    pub users: u32,
}

/// State.
pub struct App;

/// Documented.
#[task_consumer(topic = "all", max_attempts = 3, timeout = "1m 30s", backoff = "2s..10m", priority = -5, ageing = "5m", retention = "forever")]
pub fn all(ctx: &Context, LoadTest { url, users }: LoadTest, app: &App) -> Result<(String, u32), std::io::Error> {
    let _ = app;
    Ok((url, users + ctx.attempt()))
}

macro_rules! from_a_macro {
    ($name:ident, $topic:literal, $priority:expr) => {
        #[task_consumer(topic = $topic, priority = $priority)]
        fn $name(_n: u8) {}
    };
}
from_a_macro!(made, "made", -3);

#[task_consumer(topic = "nothing")]
fn nothing(_n: Option<u8>) {}

#[task_consumer(topic = "alias", retention = "0s")]
fn alias(_texts: Vec<String>) -> std::io::Result<()> {
    Ok(())
}

/// Named as what the macro writes may be.
mod names {
    use super::{App, Context, task_consumer};

    #[task_consumer(topic = "call")]
    pub fn call(_n: u8, _ctx: &Context) {}

    #[task_consumer(topic = "payload")]
    pub fn payload(_n: u8) {}

    #[task_consumer(topic = "connection")]
    pub fn connection(_n: u8, _conn: &mut diesel::SqliteConnection) -> diesel::QueryResult<()> {
        Ok(())
    }

    #[task_consumer(topic = "returned")]
    pub fn returned(_n: u8) {}

    #[task_consumer(topic = "state")]
    pub fn state_1(_n: u8, _app: &App) {}

    #[task_consumer(topic = "ty")]
    pub async fn result(_n: u8) {}
}

#[task_consumer(topic = "text-error")]
fn text_error(n: u8) -> Result<(), String> {
    Err(n.to_string())
}

#[task_consumer(topic = "failure", backoff = "500ms")]
fn failure(_n: u8) -> Result<u8, Failure> {
    Ok("1".parse::<u8>()?)
}

#[task_consumer(topic = "asynchronous", timeout = "5s")]
async fn asynchronous(n: u8, _ctx: &Context, _app: &App) -> Result<u8, Failure> {
    Ok(n)
}

#[task_consumer(topic = "transactional")]
fn transactional(n: u8, _conn: &mut diesel::sqlite::SqliteConnection) -> diesel::QueryResult<u8> {
    Ok(n)
}

#[task_consumer(topic = "hourly", schedule = "@hourly")]
fn hourly(_nothing: ()) {}

#[task_consumer(
    topic = "scheduled",
    priority = 3,
    schedule = "0 7 * * mon-fri",
    time_zone = "Europe/Berlin",
    payload = LoadTest { url: String::from("http://127.0.0.1"), users: 10 },
    unique = "scheduled"
)]
async fn scheduled(_test: LoadTest) {}

mod renamed {
    pub use taskmq_core as queue;
}

#[task_consumer(topic = "other-path", crate = crate::renamed::queue)]
fn other_path(_n: u8) {}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct Described {
    /// How many.
    n: u8,
}

#[task_consumer(schema, topic = "described")]
fn described(_d: Described) {}

fn main() {
    #[task_consumer(topic = "inside")]
    fn inside(_n: u8) {}

    let _ = inside::message(&1);
    let _ = all::message(&LoadTest { url: String::new(), users: 1 }).priority(1);
    assert_eq!(all::TOPIC, "all");
    let registry = Registry::discovered().expect("one consumer for each topic");
    let topics = ["alias", "all", "asynchronous", "call", "connection", "described", "failure", "hourly", "inside", "made", "nothing", "other-path", "payload", "returned", "scheduled", "state", "text-error", "transactional", "ty"];
    assert_eq!(registry.topics(), topics);
    assert!(registry.get("all").is_some_and(|c| c.name().ends_with("::all")));
}
