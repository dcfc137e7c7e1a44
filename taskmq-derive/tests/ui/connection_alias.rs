use taskmq_core::task_consumer;

type Db = diesel::SqliteConnection;

#[task_consumer(topic = "yace")]
fn play(_n: u32, _conn: &mut Db) {}

fn main() {}
