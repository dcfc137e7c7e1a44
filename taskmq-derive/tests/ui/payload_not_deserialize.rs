use taskmq_core::task_consumer;

struct Opaque;

#[task_consumer(topic = "yace")]
fn play(_n: Opaque) {}

fn main() {}
