use taskmq_core::task_consumer;

#[task_consumer(topic = "yace")]
fn play(_n: u32, _ctx: &mut taskmq_core::Context) {}

fn main() {}
