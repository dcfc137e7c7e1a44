use taskmq_core::task_consumer;

#[task_consumer(topic = "yace")]
fn play(_a: u32, _b: u32) {}

fn main() {}
