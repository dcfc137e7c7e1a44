use taskmq_core::task_consumer;

use diesel::SqliteConnection;

#[task_consumer(topic = "yace")]
async fn play(_n: u32, _conn: &mut SqliteConnection) {}

fn main() {}
