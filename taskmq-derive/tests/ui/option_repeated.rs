use taskmq_core::task_consumer;

#[task_consumer(topic = "yace", timeout = "1s", timeout = "2s")]
fn play(_n: u32) {}

fn main() {}
