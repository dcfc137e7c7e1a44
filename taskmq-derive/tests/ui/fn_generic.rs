use taskmq_core::task_consumer;

#[task_consumer(topic = "yace")]
fn play<T>(_n: T) {}

fn main() {}
