use taskmq_core::task_consumer;

#[task_consumer(topic = "yace")]
fn play(_n: u32, _s: &'static String) {}

fn main() {}
