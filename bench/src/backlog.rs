//! A long backlog of many topics, made by the database itself.

use crate::Result;
use crate::database::{Database, Kind};

pub(crate) const TOPICS: u64 = 1_000;
/// So many are copied with one statement.
const COPIED: u64 = 1_000_000;
const DEAD: u64 = 10_000;

/// Makes `number` messages of the topics `bench-00` to `bench-999`, whose messages alternate. Of a hundred one is
/// scheduled, and of a thousand one had an attempt that failed and waits for the next; and there are dead ones besides.
pub(crate) fn fill(database: &Database, number: u64) -> Result {
    let mut client = database.client()?;
    let (day, hour) = match database.kind {
        Kind::Sqlite => {
            // Nobody works on it yet, and what is lost with the machine's power is made anew.
            client.execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000")?;
            let later = |time| format!("strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 {time}')");
            (later("day"), later("hour"))
        }
        Kind::Postgres => {
            let later = |time| format!("statement_timestamp() + interval '1 {time}'");
            (later("day"), later("hour"))
        }
        Kind::Mariadb => {
            let later = |time| format!("CURRENT_TIMESTAMP(6) + INTERVAL 1 {time}");
            (later("day"), later("hour"))
        }
    };
    let topics: Vec<String> = (0..TOPICS).map(|n| format!("('bench-{n:02}', '{{\"n\": 7}}')")).collect();
    client.execute(&format!("INSERT INTO taskmq_messages (topic, payload) VALUES {}", topics.join(", ")))?;
    let copies = |have: u64, enough: u64| have.min(COPIED).min(enough - have);
    let copy = |number: u64| {
        format!(
            "INSERT INTO taskmq_messages (topic, run_at, attempts, payload)
             SELECT topic, run_at, attempts, payload FROM taskmq_messages ORDER BY id LIMIT {number}"
        )
    };
    let mut have = TOPICS;
    while have < number.min(COPIED) {
        let more = copies(have, number.min(COPIED));
        client.execute(&copy(more))?;
        have += more;
    }
    // A thousand neighbours are of a thousand topics.
    for (of, begin, run_at, attempts) in [(100, 10, &day, 0), (1_000, 500, &hour, 1)] {
        client.execute(&format!(
            "UPDATE taskmq_messages SET run_at = {run_at}, attempts = {attempts}
             WHERE id % ({of} * {TOPICS}) BETWEEN {begin} * {TOPICS} AND {begin} * {TOPICS} + {TOPICS} - 1"
        ))?;
    }
    while have < number {
        let more = copies(have, number);
        client.execute(&copy(more))?;
        have += more;
    }
    client.execute(&format!(
        "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, worker_id, attempts, crashes, payload, error)
         SELECT id, topic, 'dead', priority, run_at, created_at, 0, 1, 0, payload, 'no' FROM taskmq_messages ORDER BY id LIMIT {DEAD}"
    ))?;
    client.execute("DELETE FROM taskmq_messages WHERE id <= (SELECT max(id) FROM taskmq_archive)")?;
    client.execute(
        "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
         SELECT id, 1, 'error', 'no', 'bench:1' FROM taskmq_messages WHERE attempts > 0 UNION ALL
         SELECT id, 1, 'error', 'no', 'bench:1' FROM taskmq_archive",
    )?;
    database.settle()
}
