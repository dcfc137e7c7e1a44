use serde::{Deserialize, Serialize};
use taskmq_core::task_consumer;

#[derive(Serialize, Deserialize)]
struct Report {
    days: u32,
}

#[task_consumer(topic = "report", schema)]
fn report(_report: Report) {}

fn main() {}
