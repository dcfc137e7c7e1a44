use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The topics, of which most workloads use the first.
pub static TOPICS: [&str; 50] = [
    "bench-00", "bench-01", "bench-02", "bench-03", "bench-04", "bench-05", "bench-06", "bench-07",
    "bench-08", "bench-09", "bench-10", "bench-11", "bench-12", "bench-13", "bench-14", "bench-15",
    "bench-16", "bench-17", "bench-18", "bench-19", "bench-20", "bench-21", "bench-22", "bench-23",
    "bench-24", "bench-25", "bench-26", "bench-27", "bench-28", "bench-29", "bench-30", "bench-31",
    "bench-32", "bench-33", "bench-34", "bench-35", "bench-36", "bench-37", "bench-38", "bench-39",
    "bench-40", "bench-41", "bench-42", "bench-43", "bench-44", "bench-45", "bench-46", "bench-47",
    "bench-48", "bench-49",
];

/// What is produced.
#[derive(Clone, Debug)]
pub struct Message {
    /// One of [`TOPICS`].
    pub topic: &'static str,
    /// Of those with the same key one is to run at a time.
    pub ordering_key: Option<String>,
    /// Its content.
    pub payload: Payload,
}

/// What the handler gets: `{"n": 7}`, and more where a workload needs it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Payload {
    /// Its number.
    pub n: u64,
    /// Just before the producing call, in microseconds since 1970; 0 where latency is not measured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub at: u64,
    /// How many milliseconds the handler takes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ms: u64,
    /// Makes it as large as the workload wants.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pad: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Microseconds since 1970; producer and worker are on one machine.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
