//! The consumers: each function handles the messages of one topic, in as many workers as run.

use serde::{Deserialize, Serialize};
use taskmq_core::task_consumer;

#[derive(Debug, Serialize, Deserialize)]
pub struct Greeting {
    pub name: String,
}

/// Produce one with `hello::message(&Greeting { .. }).produce(conn)?`, or
/// `taskmq-cli produce hello '{"name": "world"}'`. What it returns is kept as the message's result.
#[task_consumer(topic = "hello")]
pub fn hello(greeting: Greeting) -> String {
    format!("Hello, {}!", greeting.name)
}
