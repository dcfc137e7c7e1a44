//! Being told of new messages is a saving of time, and nothing that a message needs.

use std::time::Duration;

use taskmq_core::{Backend, produce};
use taskmq_tests::databases::fresh;

use crate::workers::Workers;

const LONG: Duration = Duration::from_secs(60);
/// An idle worker looks by itself about each 1.3 s; with room for a machine that is busy with other tests.
const NEXT_LOOK: Duration = Duration::from_secs(4);

/// The host has switched off the trigger that notifies, as the migration says that it may.
#[test]
fn without_notifications_a_message_waits_for_the_next_look() {
    let db = fresh(Backend::Postgres);
    db.execute("ALTER TABLE taskmq_messages DISABLE TRIGGER taskmq_wake");
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    workers.start(&[]);
    workers.wait("it is idle", LONG, || workers.log().contains("idle, waiting"));
    for number in 0..8 {
        produce(&mut conn, "note", &number).expect("produces");
        let waited = workers.wait("it is handled", LONG, || {
            workers.journal().iter().any(|entry| entry.what == "end" && entry.number == number)
        });
        assert!(waited < NEXT_LOOK, "message {number} waited {waited:?}");
    }
}
