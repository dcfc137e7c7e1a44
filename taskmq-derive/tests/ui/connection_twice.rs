use taskmq_core::task_consumer;

use diesel::SqliteConnection;

#[task_consumer(topic = "yace")]
fn play(_n: u32, _a: &mut SqliteConnection, _b: &mut SqliteConnection) {}

fn main() {}
