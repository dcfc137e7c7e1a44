use taskmq_core::task_consumer;

struct Opaque;

#[task_consumer(topic = "yace")]
fn play(_n: u32) -> Opaque {
    Opaque
}

fn main() {}
