//! The steps of a workflow begin when those are done that they wait for, once each, whatever happens in between.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::{Value, json};
use taskmq_core::broker::{
    Action, Claim, Claimed, Noted, Outcome, Peer, Share, Step, StepState, WorkerIdentity, WorkflowId,
    WorkflowState,
};
use taskmq_core::worker::Ended;
use taskmq_core::{
    AnyConnection, BrokerConnection, Context, Error, MessageId, NewMessage, Registry, Retention, State,
    Worker, Workflow, task_consumer,
};
use taskmq_tests::databases::TestDatabase;

use super::{claim, done, end, ids, worker};

each_database! {
    a_step_begins_when_all_before_it_are_done,
    steps_that_end_together_call_the_next_once,
    a_message_of_a_step_is_as_it_was_asked_for,
    a_workflow_is_produced_whole_or_not_at_all,
    what_cannot_be_stored_stores_nothing,
    a_dead_step_holds_up_what_waits_for_it,
    a_deleted_message_holds_up_what_waits_for_it,
    who_was_given_up_calls_no_next_step,
    a_step_that_is_settled_twice_calls_the_next_once,
    a_message_that_was_deleted_while_it_ran_keeps_no_other_from_calling_the_next_step,
    an_acknowledgement_in_the_hosts_transaction_calls_the_next_step,
    of_a_cancelled_workflow_nothing_more_begins,
    finished_workflows_are_purged_when_their_time_is_over,
    workflows_are_listed_by_state_and_page,
    a_header_alone_makes_no_step,
    many_workers_run_each_step_once_and_in_order,
    a_worker_hands_results_on,
}

/// A topic has one consumer: "t" is what the workers of these tests know.
fn message<'a>(payload: &str) -> NewMessage<'a> {
    NewMessage::new("t", payload)
}

/// a before b and c, both before d.
fn diamond<'a>() -> Workflow<'a> {
    Workflow::new("diamond")
        .step("a", message("a"), &[])
        .step("b", message("b"), &["a"])
        .step("c", message("c"), &["a"])
        .step("d", message("d"), &["b", "c"])
}

fn claim_as(conn: &mut AnyConnection, worker: &WorkerIdentity, as_batch: bool) -> Vec<Claimed> {
    let topics = [Share { topic: "t", limit: 100, ageing: None }];
    conn.broker()
        .claim(&Claim { worker_id: worker.id, topics: &topics, limit: 100, as_batch, after: &[] })
        .expect("claims")
}

fn payloads(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|c| c.payload.trim_matches('"')).collect()
}

fn settle(conn: &mut AnyConnection, worker: &WorkerIdentity, claimed: &[Claimed]) {
    let settlements: Vec<_> = claimed.iter().map(done).collect();
    assert!(conn.broker().settle(worker, &settlements).expect("settles").is_empty());
}

fn steps(conn: &mut AnyConnection, id: WorkflowId) -> Vec<Step> {
    conn.broker().workflow(id).expect("reads").expect("is there").1
}

fn states(conn: &mut AnyConnection, id: WorkflowId) -> Vec<&'static str> {
    steps(conn, id).iter().map(|step| step.state.as_str()).collect()
}

fn state(conn: &mut AnyConnection, id: WorkflowId) -> (WorkflowState, i32, i64) {
    let entry = conn.broker().workflow(id).expect("reads").expect("is there").0;
    assert_eq!(entry.finished_at.is_some(), entry.state != WorkflowState::Running);
    (entry.state, entry.done, entry.stuck)
}

fn a_step_begins_when_all_before_it_are_done(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for as_batch in [false, true] {
        let id = diamond().produce(&mut conn).expect("produces");
        let [a, b, c, d] = steps(&mut conn, id).try_into().expect("four steps");
        assert_eq!((a.step, &*a.name, &*a.topic, a.state), (1, "a", "t", StepState::Message(State::Ready)));
        assert_eq!([&b, &c, &d].map(|step| (step.state, step.message_id)), [(StepState::Waiting, None); 3]);
        assert_eq!([a.after, b.after, c.after, d.after], [vec![], vec![1], vec![1], vec![2, 3]]);
        let claimed = claim_as(&mut conn, &w, as_batch);
        assert_eq!(payloads(&claimed), ["a"]);
        assert!(claimed[0].tied().step);
        assert_eq!(states(&mut conn, id), ["running", "waiting", "waiting", "waiting"]);
        settle(&mut conn, &w, &claimed);
        let claimed = claim_as(&mut conn, &w, as_batch);
        assert_eq!(payloads(&claimed), ["b", "c"]);
        settle(&mut conn, &w, &claimed[..1]);
        assert!(claim_as(&mut conn, &w, as_batch).is_empty());
        assert_eq!(states(&mut conn, id), ["done", "done", "running", "waiting"]);
        assert_eq!(state(&mut conn, id), (WorkflowState::Running, 2, 0));
        settle(&mut conn, &w, &claimed[1..]);
        let claimed = claim_as(&mut conn, &w, as_batch);
        assert_eq!(payloads(&claimed), ["d"]);
        settle(&mut conn, &w, &claimed);
        assert_eq!(states(&mut conn, id), ["done"; 4]);
        assert!(steps(&mut conn, id).iter().all(|step| step.done_at.is_some()));
        assert_eq!(state(&mut conn, id), (WorkflowState::Done, 4, 0));
    }
}

fn steps_that_end_together_call_the_next_once(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for as_batch in [false, true] {
        let both =
            [diamond().produce(&mut conn), diamond().produce(&mut conn)].map(|id| id.expect("produces"));
        for called in [2, 4, 2] {
            let claimed = claim_as(&mut conn, &w, as_batch);
            assert_eq!(claimed.len(), called);
            let Some((last, rest)) = claimed.split_last() else { unreachable!("there are some") };
            // One that is not done along with others that are.
            let mut settlements: Vec<_> = rest.iter().map(done).collect();
            settlements.push(end(last, Outcome::HandBack));
            assert!(conn.broker().settle(&w, &settlements).expect("settles").is_empty());
            let again = claim_as(&mut conn, &w, as_batch);
            let (again, others): (Vec<_>, Vec<_>) = again.into_iter().partition(|c| c.id == last.id);
            settle(&mut conn, &w, &again);
            let back: Vec<_> = others.iter().map(|c| end(c, Outcome::HandBack)).collect();
            assert!(conn.broker().settle(&w, &back).expect("settles").is_empty());
        }
        assert!(claim_as(&mut conn, &w, as_batch).is_empty());
        assert_eq!(both.map(|id| state(&mut conn, id)), [(WorkflowState::Done, 4, 0); 2]);
    }
}

fn a_message_of_a_step_is_as_it_was_asked_for(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let later = NewMessage::new("t", &json!({"text": "\u{4f60}\u{597d} '\"\\ ?"}))
        .priority(-7)
        .max_attempts(3)
        .ordering_key("a key")
        .header("who", "me ?")
        .delay(Duration::from_secs(3600));
    let workflow = Workflow::new("w").step("a", message("a").header("x", "y"), &[]);
    let id = workflow.step("b", later, &["a"]).produce(&mut conn).expect("produces");
    let first = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(first[0].headers.as_deref(), Some(&*format!(r#"{{"taskmq-workflow":"{id}","x":"y"}}"#)));
    settle(&mut conn, &w, &first);
    let b = steps(&mut conn, id).remove(1).message_id.expect("it waits for nothing");
    let b = conn.broker().message(b).expect("reads").expect("is there");
    assert_eq!((b.state, b.priority, b.max_attempts), (State::Scheduled, -7, Some(3)));
    assert_eq!((b.unique_key, b.ordering_key.as_deref()), (None, Some("a key")));
    assert_eq!(b.payload.get(), "{\"text\":\"\u{4f60}\u{597d} '\\\"\\\\ ?\"}");
    let headers: HashMap<String, String> =
        serde_json::from_str(b.headers.expect("has some").get()).expect("texts");
    assert_eq!(headers["who"], "me ?");
    assert_eq!(headers["taskmq-workflow"], id.to_string());
    let delay = (b.run_at - b.created_at).num_seconds();
    assert!((3599..=3601).contains(&delay), "the delay begins with its turn: {delay}");
}

fn a_workflow_is_produced_whole_or_not_at_all(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut other = db.connect();
    conn.broker().begin().expect("begins");
    let id = diamond().produce(&mut conn).expect("produces");
    assert!(other.broker().workflow(id).expect("reads").is_none());
    conn.broker().rollback().expect("rolls back");
    assert!(conn.broker().workflows(None, i64::MAX, 10).expect("reads").is_empty());
    assert!(conn.broker().topics().expect("reads").is_empty());
    conn.broker().begin().expect("begins");
    let id = diamond().produce(&mut conn).expect("produces");
    conn.broker().commit().expect("commits");
    assert_eq!(state(&mut other, id), (WorkflowState::Running, 0, 0));
}

fn what_cannot_be_stored_stores_nothing(db: &TestDatabase) {
    let mut conn = db.connect();
    let workflow = diamond().step("e", NewMessage::new("no topic", &1), &["d"]);
    assert!(matches!(workflow.produce(&mut conn), Err(Error::Topic { .. })));
    let workflow = diamond().step("e", message("e"), &["f"]);
    assert!(matches!(workflow.produce(&mut conn), Err(Error::Workflow { .. })));
    assert!(conn.broker().workflows(None, i64::MAX, 10).expect("reads").is_empty());
    assert!(conn.broker().topics().expect("reads").is_empty());
}

fn a_dead_step_holds_up_what_waits_for_it(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let id = diamond().produce(&mut conn).expect("produces");
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    let retry = Outcome::Retry { delay: Duration::ZERO, kind: "error", error: "no".to_owned() };
    conn.broker().settle(&w, &[end(&claimed[0], retry)]).expect("settles");
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(states(&mut conn, id), ["running", "waiting", "waiting", "waiting"]);
    let dead = Outcome::Dead { kind: Some("error"), error: "no".to_owned() };
    conn.broker().settle(&w, &[end(&claimed[0], dead)]).expect("settles");
    assert_eq!(states(&mut conn, id), ["dead", "waiting", "waiting", "waiting"]);
    assert_eq!(state(&mut conn, id), (WorkflowState::Running, 0, 1));
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty());
    super::retry(conn.broker(), claimed[0].id).expect("retries");
    assert_eq!(state(&mut conn, id), (WorkflowState::Running, 0, 0));
    let again = claim(conn.broker(), &w, &["t"], 10);
    settle(&mut conn, &w, &again);
    assert_eq!(payloads(&claim(conn.broker(), &w, &["t"], 10)), ["b", "c"]);
}

fn a_deleted_message_holds_up_what_waits_for_it(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let id = diamond().produce(&mut conn).expect("produces");
    let a = steps(&mut conn, id).remove(0).message_id.expect("it has one");
    let changed = conn.broker().change(&Action::Delete, &[a], Noted::No).expect("deletes");
    assert_eq!(changed.changed, [a]);
    assert_eq!(states(&mut conn, id), ["deleted", "waiting", "waiting", "waiting"]);
    assert!(StepState::Deleted.is_stuck());
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty());
    assert!(conn.broker().cancel_workflow(id, "me").expect("cancels"));
    assert_eq!(state(&mut conn, id).0, WorkflowState::Cancelled);
}

fn who_was_given_up_calls_no_next_step(db: &TestDatabase) {
    let mut conn = db.connect();
    let paused = worker(&mut conn, 1);
    worker(&mut conn, 2);
    for as_batch in [false, true] {
        let id = diamond().produce(&mut conn).expect("produces");
        let paused = if as_batch { worker(&mut conn, 3) } else { paused.clone() };
        let old = claim_as(&mut conn, &paused, as_batch);
        let look = conn.broker().look(2, &["t"]).expect("looks");
        let beat = look.peers.iter().find(|peer| peer.id == paused.id).expect("is there").beat;
        conn.broker().rescue(&Peer { id: paused.id, beat, lock_free: None }).expect("rescues");
        assert_eq!(conn.broker().settle(&paused, &[done(&old[0])]).expect("settles"), ids(&old));
        assert_eq!(states(&mut conn, id)[1..], ["waiting"; 3]);
        let again = conn.broker().claim_suspects(2, &["t"], 10).expect("claims");
        assert_eq!(ids(&again), ids(&old));
        settle(&mut conn, &super::identity(2), &again);
        let next = claim(conn.broker(), &super::identity(2), &["t"], 10);
        assert_eq!(payloads(&next), ["b", "c"]);
        settle(&mut conn, &super::identity(2), &next);
        let last = claim(conn.broker(), &super::identity(2), &["t"], 10);
        settle(&mut conn, &super::identity(2), &last);
    }
}

fn a_step_that_is_settled_twice_calls_the_next_once(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let id = Workflow::new("w")
        .step("a", message("a"), &[])
        .step("b", message("b"), &["a"])
        .produce(&mut conn)
        .expect("produces");
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    for _ in 0..2 {
        settle(&mut conn, &w, &claimed);
    }
    assert_eq!(payloads(&claim(conn.broker(), &w, &["t"], 10)), ["b"]);
    assert_eq!(state(&mut conn, id), (WorkflowState::Running, 1, 0));
}

fn a_message_that_was_deleted_while_it_ran_keeps_no_other_from_calling_the_next_step(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for as_batch in [false, true] {
        let other = message("other").produce(&mut conn).expect("produces").id();
        let id = diamond().produce(&mut conn).expect("produces");
        let claimed = claim_as(&mut conn, &w, as_batch);
        assert_eq!(payloads(&claimed), ["other", "a"]);
        db.execute(&format!("DELETE FROM taskmq_messages WHERE id = {other}"));
        let settlements: Vec<_> = claimed.iter().map(done).collect();
        conn.broker().settle(&w, &settlements).expect("settles");
        assert_eq!(states(&mut conn, id), ["done", "ready", "ready", "waiting"]);
        let next = claim_as(&mut conn, &w, as_batch);
        settle(&mut conn, &w, &next);
        let last = claim_as(&mut conn, &w, as_batch);
        settle(&mut conn, &w, &last);
    }
}

fn an_acknowledgement_in_the_hosts_transaction_calls_the_next_step(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let id = diamond().produce(&mut conn).expect("produces");
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    for commits in [false, true] {
        conn.broker().begin().expect("begins");
        assert!(conn.broker().ack(&w, &done(&claimed[0])).expect("acknowledges"));
        if commits {
            conn.broker().commit().expect("commits");
        } else {
            conn.broker().rollback().expect("rolls back");
            assert_eq!(states(&mut conn, id), ["running", "waiting", "waiting", "waiting"]);
        }
    }
    assert_eq!(payloads(&claim(conn.broker(), &w, &["t"], 10)), ["b", "c"]);
}

fn of_a_cancelled_workflow_nothing_more_begins(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let id = diamond().produce(&mut conn).expect("produces");
    let first = claim(conn.broker(), &w, &["t"], 10);
    settle(&mut conn, &w, &first);
    let second = claim(conn.broker(), &w, &["t"], 10);
    assert!(conn.broker().cancel_workflow(id, "me").expect("cancels"));
    assert!(!conn.broker().cancel_workflow(id, "me").expect("looks"));
    assert!(!conn.broker().cancel_workflow(id + 1, "me").expect("looks"));
    // What runs goes on to its end.
    settle(&mut conn, &w, &second);
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty());
    assert_eq!(states(&mut conn, id), ["done", "done", "done", "waiting"]);
    assert_eq!(state(&mut conn, id), (WorkflowState::Cancelled, 3, 0));
    let notes = conn.broker().notes(i64::MAX, 10).expect("reads");
    assert_eq!(notes.len(), 1);
    assert_eq!((&*notes[0].actor, &*notes[0].action), ("me", "cancel workflow"));
    assert_eq!(notes[0].details, format!("workflow {id}"));
}

fn finished_workflows_are_purged_when_their_time_is_over(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let single = |retention| Workflow::new("w").step("a", message("a"), &[]).retention(retention);
    let retentions = [
        Retention::None,
        Retention::For(Duration::from_secs(3600)),
        Retention::For(Duration::MAX),
        Retention::Forever,
    ];
    let made = retentions.map(|retention| single(retention).produce(&mut conn).expect("produces"));
    assert_eq!(conn.broker().purge_workflows(10).expect("purges"), 0, "none is finished");
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    settle(&mut conn, &w, &claimed);
    assert_eq!(conn.broker().purge_workflows(10).expect("purges"), 1);
    assert_eq!(conn.broker().purge_workflows(10).expect("purges"), 0);
    let there = made.map(|id| conn.broker().workflow(id).expect("reads").is_some());
    assert_eq!(there, [false, true, true, true]);
    // Nothing of it is left behind.
    for table in ["steps", "edges"] {
        let count =
            sql::<BigInt>(&format!("SELECT count(*) FROM taskmq_{table} WHERE workflow_id = {}", made[0]));
        let rows: i64 = match &mut conn {
            AnyConnection::Sqlite(conn) => count.get_result(conn),
            AnyConnection::Postgres(conn) => count.get_result(conn),
            AnyConnection::Mysql(conn) => count.get_result(conn),
            _ => unreachable!("there are three databases"),
        }
        .expect("counts");
        assert_eq!(rows, 0, "taskmq_{table}");
    }
}

fn workflows_are_listed_by_state_and_page(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let made: Vec<WorkflowId> = (0..5).map(|_| diamond().produce(&mut conn).expect("produces")).collect();
    assert!(conn.broker().cancel_workflow(made[1], "me").expect("cancels"));
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    let of = |claimed: &[Claimed], id: WorkflowId| -> Vec<Claimed> {
        let header = format!("\"{id}\"");
        claimed
            .iter()
            .filter(|c| c.headers.as_deref().is_some_and(|h| h.contains(&header)))
            .cloned()
            .collect()
    };
    settle(&mut conn, &w, &of(&claimed, made[3]));
    for _ in 0..2 {
        let next = claim(conn.broker(), &w, &["t"], 10);
        settle(&mut conn, &w, &of(&next, made[3]));
    }
    let running = conn.broker().running_workflows(10).expect("counts");
    let oldest = conn.broker().workflow(made[0]).expect("reads").expect("is there").0.created_at;
    assert_eq!((running.number, running.oldest), (3, Some(oldest)));
    assert_eq!(conn.broker().running_workflows(2).expect("counts").number, 2);
    let mut listed = |state, below, limit| -> Vec<WorkflowId> {
        let found = conn.broker().workflows(state, below, limit).expect("reads");
        found.iter().map(|entry| entry.id).collect()
    };
    assert_eq!(listed(None, i64::MAX, 10), [made[4], made[3], made[2], made[1], made[0]]);
    assert_eq!(listed(None, made[3], 2), [made[2], made[1]]);
    assert_eq!(listed(Some(WorkflowState::Running), i64::MAX, 10), [made[4], made[2], made[0]]);
    assert_eq!(listed(Some(WorkflowState::Running), made[4], 1), [made[2]]);
    assert_eq!(listed(Some(WorkflowState::Done), i64::MAX, 10), [made[3]]);
    assert_eq!(listed(Some(WorkflowState::Cancelled), i64::MAX, 10), [made[1]]);
}

fn a_header_alone_makes_no_step(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let id = diamond().produce(&mut conn).expect("produces");
    let first = claim(conn.broker(), &w, &["t"], 10);
    for text in [id.to_string(), "nonsense".to_owned(), i64::MAX.to_string()] {
        message("forged").header("taskmq-workflow", text).produce(&mut conn).expect("produces");
    }
    let forged = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(forged.len(), 3);
    settle(&mut conn, &w, &forged);
    assert_eq!(states(&mut conn, id), ["running", "waiting", "waiting", "waiting"]);
    settle(&mut conn, &w, &first);
    assert_eq!(claim(conn.broker(), &w, &["t"], 10).len(), 2);
}

fn many_workers_run_each_step_once_and_in_order(db: &TestDatabase) {
    const LAYERS: usize = 5;
    const WIDTH: usize = 8;
    let mut conn = db.connect();
    let name = |layer: usize, n: usize| format!("{layer}-{n}");
    let make = |conn: &mut AnyConnection| {
        let mut workflow = Workflow::new("layers");
        for layer in 0..LAYERS {
            // All steps of the layer before, or some.
            for n in 0..WIDTH {
                let before: Vec<String> = match layer {
                    0 => Vec::new(),
                    _ => (0..WIDTH)
                        .filter(|m| n % 2 == 0 || (m + n) % 3 == 0)
                        .map(|m| name(layer - 1, m))
                        .collect(),
                };
                let before: Vec<&str> = before.iter().map(String::as_str).collect();
                workflow = workflow.step(name(layer, n), message(&name(layer, n)), &before);
            }
        }
        workflow.produce(conn).expect("produces")
    };
    let made: Vec<WorkflowId> = (0..4).map(|_| make(&mut conn)).collect();
    let all = made.len() * LAYERS * WIDTH;
    let ran: Mutex<Vec<(MessageId, String, String)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for id in 1..=4 {
            let ran = &ran;
            scope.spawn(move || {
                let mut conn = db.connect();
                let w = worker(&mut conn, id);
                let as_batch = id % 2 == 0;
                let topics = [Share { topic: "t", limit: 3, ageing: None }];
                let claim = Claim { worker_id: w.id, topics: &topics, limit: 3, as_batch, after: &[] };
                let mut settlements = Vec::new();
                let mut ended = Vec::new();
                loop {
                    let exchanged =
                        conn.broker().exchange(&w, &settlements, &ended, Some(&claim)).expect("exchanges");
                    assert!(exchanged.lost.is_empty());
                    let mut ran = ran.lock().unwrap_or_else(PoisonError::into_inner);
                    for c in &exchanged.claimed {
                        let headers = c.headers.clone().unwrap_or_default();
                        ran.push((c.id, headers, c.payload.trim_matches('"').to_owned()));
                    }
                    settlements = exchanged.claimed.iter().map(done).collect();
                    ended = exchanged.claimed.iter().filter_map(|c| c.batch).collect();
                    ended.dedup();
                    if exchanged.claimed.is_empty() && ran.len() >= all {
                        break;
                    }
                }
            });
        }
    });
    let ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(ran.len(), all, "each step once");
    for id in made {
        assert_eq!(state(&mut conn, id), (WorkflowState::Done, (LAYERS * WIDTH) as i32, 0));
        let header = format!("\"{id}\"");
        let own: Vec<&str> =
            ran.iter().filter(|(_, h, _)| h.contains(&header)).map(|(.., step)| step.as_str()).collect();
        let place: HashMap<&str, usize> = own.iter().enumerate().map(|(at, step)| (*step, at)).collect();
        assert_eq!(place.len(), LAYERS * WIDTH);
        let steps = steps(&mut conn, id);
        for step in &steps {
            for before in &step.after {
                let before = &steps[*before as usize - 1];
                assert!(place[&*before.name] < place[&*step.name], "{} before {}", before.name, step.name);
            }
        }
    }
}

static REPORTS: Mutex<Vec<(String, Value)>> = Mutex::new(Vec::new());

#[task_consumer(topic = "fetch", max_attempts = 3, backoff = "1ms")]
fn fetch(number: i64, ctx: &Context) -> Result<Option<i64>, &'static str> {
    match (number, ctx.attempt()) {
        (0, _) => Ok(None),
        (_, 1) => Err("again"),
        _ => Ok(Some(number * 10)),
    }
}

#[task_consumer(topic = "sum")]
fn sum(database: String, ctx: &Context) -> Result<i64, Error> {
    let mut conn = AnyConnection::establish(&database)?;
    let results = ctx.results(&mut conn)?;
    // What it produces itself belongs to no workflow.
    none::message(&database).produce(&mut conn)?;
    Ok(results.values().filter_map(Value::as_i64).sum())
}

#[task_consumer(topic = "none")]
fn none(database: String, ctx: &Context) -> Result<(), Error> {
    let results = ctx.results(&mut AnyConnection::establish(&database)?)?;
    assert!(ctx.workflow().is_none() && results.is_empty());
    Ok(())
}

#[task_consumer(topic = "report")]
fn report(database: String, ctx: &Context) -> Result<(), Error> {
    let results = json!(ctx.results(&mut AnyConnection::establish(&database)?)?);
    REPORTS.lock().unwrap_or_else(PoisonError::into_inner).push((database, results));
    Ok(())
}

fn a_worker_hands_results_on(db: &TestDatabase) {
    let mut conn = db.connect();
    let database = db.url().to_owned();
    let id = Workflow::new("report")
        .step("one", fetch::message(&1), &[])
        .step("two", fetch::message(&2), &[])
        .step("nothing", fetch::message(&0), &[])
        .step("sum", sum::message(&database), &["one", "two", "nothing"])
        .step("report", report::message(&database), &["sum", "nothing"])
        .produce(&mut conn)
        .expect("produces");
    let consumers = [fetch::consumer(), sum::consumer(), none::consumer(), report::consumer()];
    let registry = consumers.into_iter().try_fold(Registry::default(), Registry::with).expect("four topics");
    let worker = Worker::new(registry, db.url()).handle_signals(false).concurrency(4);
    assert_eq!(worker.until_empty(true).run().expect("runs"), Ended::Finished);
    assert_eq!(state(&mut conn, id), (WorkflowState::Done, 5, 0));
    let reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(reports.contains(&(database, json!({"sum": 30, "nothing": null}))), "{reports:?}");
}
