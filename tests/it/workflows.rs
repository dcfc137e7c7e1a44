//! Real worker processes that share workflows, and are killed.

use std::time::Duration;

use taskmq_core::broker::{WorkflowId, WorkflowState};
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, Workflow};
use taskmq_tests::databases::TestDatabase;

use crate::workers::Workers;

each_database! {
    killed_workers_leave_every_workflow_whole,
}

const LONG: Duration = Duration::from_secs(90);
const WORKFLOWS: i64 = 20;
/// Each waits for all of the layer before.
const LAYERS: [i64; 4] = [1, 4, 3, 1];

/// Its numbers are those of no other.
fn layered(conn: &mut AnyConnection, of: i64) -> WorkflowId {
    let mut workflow = Workflow::new("layered");
    let (mut number, mut before) = (of * 100, Vec::new());
    for (layer, width) in LAYERS.into_iter().enumerate() {
        let names: Vec<String> = (0..width).map(|n| format!("{layer}.{n}")).collect();
        let after: Vec<&str> = before.iter().map(String::as_str).collect();
        for name in &names {
            // Some are quick and share the lease of a batch, some take a while.
            let topic = if number % 5 == 0 { "slow" } else { "uneven" };
            number += 1;
            workflow = workflow.step(name.clone(), NewMessage::new(topic, &number), &after);
        }
        before = names;
    }
    workflow.produce(conn).expect("produces")
}

fn killed_workers_leave_every_workflow_whole(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let made: Vec<WorkflowId> = (0..WORKFLOWS).map(|of| layered(&mut conn, of)).collect();
    let mut killed = Vec::new();
    let mut alive = workers.start(&["--concurrency", "4"]);
    workers.start(&["--concurrency", "4"]);
    for part in 1..=3 {
        let ended = |workers: &Workers| workers.journal().iter().filter(|e| e.what == "end").count();
        let some = usize::try_from(WORKFLOWS * part).expect("is small");
        workers.wait("some steps are done", LONG, || ended(&workers) >= some);
        killed.push(workers.children[alive].id());
        workers.signal(alive, "KILL");
        alive = workers.start(&["--concurrency", "4"]);
    }
    workers.wait("all are done", LONG, || {
        conn.broker().workflows(Some(WorkflowState::Running), i64::MAX, 1).expect("reads").is_empty()
    });
    let journal = workers.journal();
    let first = |what: &str, number: i64| journal.iter().position(|e| e.what == what && e.number == number);
    for (of, id) in (0..).zip(made) {
        let (workflow, steps) = conn.broker().workflow(id).expect("reads").expect("is there");
        assert_eq!((workflow.state, workflow.done, workflow.stuck), (WorkflowState::Done, 9, 0));
        for step in &steps {
            let begun = first("begin", of * 100 + i64::from(step.step)).expect("it ran");
            for before in &step.after {
                let ended = first("end", of * 100 + i64::from(*before)).expect("it ended");
                assert!(ended < begun, "workflow {id}: step {before} before {}", step.step);
            }
        }
    }
    // Nothing ran twice but what a worker had begun that was killed.
    for step in journal.iter().filter(|e| e.what == "begin") {
        let mut begun = journal.iter().filter(|e| e.what == "begin" && e.number == step.number);
        let last = begun.next_back().map(|e| e.pid);
        assert!(begun.all(|e| killed.contains(&e.pid)), "step {} ran twice, last in {last:?}", step.number);
    }
}
