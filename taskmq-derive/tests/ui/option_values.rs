use taskmq_core::task_consumer;

#[task_consumer(
    topic = "yace",
    max_attempts = 0,
    timeout = "0s",
    backoff = "1h..1s",
    priority = 40000,
    ageing = "0s",
    retention = "a while"
)]
fn play(_n: u32) {}

fn main() {}
