use taskmq_core::task_consumer;

#[task_consumer(topic = "yace")]
fn play(_text: &str) {}

fn main() {}
