use taskmq_core::task_consumer;

#[task_consumer(topic = "yace", schema = true)]
fn play(_n: u32) {}

fn main() {}
