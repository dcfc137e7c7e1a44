use taskmq_core::task_consumer;

#[task_consumer(topic = "a", time_zone = "Europe/Berlin", payload = 7, unique = "key")]
fn without_a_schedule(_n: u32) {}

#[task_consumer(topic = "b", schedule = " ")]
fn empty(_n: u32) {}

#[task_consumer(topic = "c", schedule = 7, time_zone = Berlin)]
fn no_text(_n: u32) {}

fn main() {}
