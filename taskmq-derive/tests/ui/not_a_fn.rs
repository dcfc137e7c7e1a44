use taskmq_core::task_consumer;

#[task_consumer(topic = "yace")]
struct Play;

fn main() {}
