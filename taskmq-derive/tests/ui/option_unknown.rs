use taskmq_core::task_consumer;

#[task_consumer(topic = "yace", max_attempt = 3, colour = "red")]
fn play(_n: u32) {}

fn main() {}
