use taskmq_core::task_consumer;

#[task_consumer(topic = "yace")]
fn play(_n: u32) {}

fn produce() {
    let _ = play::message(&"text");
}

fn main() {}
