//! The pages of workflows.

use axum::http::StatusCode;
use taskmq_core::broker::{Outcome, WorkflowId, WorkflowState};
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, Retention, Workflow, workflow};
use taskmq_tests::databases::TestDatabase;

use crate::site::{Site, dead, identity, run, worker};

each_database! {
    workflows_are_listed_and_shown_as_pictures,
    what_is_stuck_is_retried_and_a_workflow_is_cancelled,
    a_message_shows_the_workflow_that_it_is_a_step_of,
    one_with_too_many_steps_is_a_list,
    whoever_may_only_look_changes_no_workflow,
}

/// One that has run for a while, and a dead step in it: its path, and that of the dead message.
pub(crate) fn nightly(conn: &mut AnyConnection) -> (String, String) {
    let message = |name: &str| NewMessage::new("nightly".to_owned(), name);
    let id = Workflow::new("Nightly import and report")
        .step("fetch orders", message("orders").priority(9), &[])
        .step("fetch customers", message("customers").priority(8), &[])
        .step("fetch exchange rates", message("rates").priority(7), &[])
        .step("check orders", message("check"), &["fetch orders", "fetch customers"])
        .step("convert to euros", message("convert"), &["check orders", "fetch exchange rates"])
        .step("report per customer", message("customer"), &["convert to euros", "fetch customers"])
        .step("report per country", message("country"), &["convert to euros"])
        .step(
            "send the reports to everybody who asked for them",
            message("send"),
            &["report per customer", "report per country"],
        )
        .produce(conn)
        .expect("produces");
    let worker = identity();
    for outcome in [done(), done(), dead("rates: connection refused"), done()] {
        run(conn, &worker, "nightly", outcome);
    }
    let dead = stuck_message(conn, id);
    (format!("/workflows/{id}"), format!("/messages/{dead}"))
}

fn done() -> Option<Outcome> {
    Some(Outcome::Done { result: Some("[1,2]".to_owned()), retention: Retention::Forever })
}

fn stuck_message(conn: &mut AnyConnection, id: WorkflowId) -> i64 {
    let steps = conn.broker().workflow(id).expect("reads").expect("is there").1;
    let stuck = steps.iter().find(|step| step.state.is_stuck()).expect("one is stuck");
    stuck.message_id.expect("it has a message")
}

fn id_of(path: &str) -> i64 {
    path.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id")
}

fn workflows_are_listed_and_shown_as_pictures(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    assert!(site.page("/workflows").contains("No workflows here"));
    let mut conn = site.db.connect();
    worker(&mut conn);
    let (path, _) = nightly(&mut conn);
    let list = site.page("/workflows?state=running");
    for text in ["Nightly import and report", "3 / 8", &format!("href=\"./workflows/{}\"", id_of(&path))] {
        assert!(list.contains(text), "{text}: {list}");
    }
    assert!(site.page("/workflows?state=done").contains("No workflows here"));
    let body = site.page(&path);
    // A box and a row for each step, and a line for each that one waits for.
    assert_eq!((body.matches("<rect").count(), body.matches("data-key").count()), (8, 8));
    assert_eq!(body.matches("class=\"link").count(), 9, "{body}");
    assert_eq!(body.matches("class=\"link done\"").count(), 4, "{body}");
    for text in ["class=\"step dead\"", "class=\"step waiting\"", "send the reports to ev…", "A step is dead"]
    {
        assert!(body.contains(text), "{text}: {body}");
    }
    assert!(site.get_in("zh", &path).body.contains("等待前序"));
    for path in ["/workflows/0", "/workflows/x", "/workflows/99999999999999999999"] {
        assert_eq!(site.get(path).status, StatusCode::NOT_FOUND, "{path}");
    }
}

fn what_is_stuck_is_retried_and_a_workflow_is_cancelled(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    let mut conn = site.db.connect();
    worker(&mut conn);
    let (path, dead) = nightly(&mut conn);
    let send = |action: &str| site.post(&path, &[("action", action)]);
    site.told(&send("retry"), &path, "What was stuck waits for a worker.");
    assert_eq!(site.state(id_of(&dead)), Some(taskmq_core::State::Ready));
    assert_eq!(send("retry").status, StatusCode::CONFLICT, "none is stuck");
    // What cannot be undone is asked about.
    let asked = send("cancel");
    assert!(
        asked.status == StatusCode::OK && asked.body.contains("5 steps that are not done"),
        "{}",
        asked.body
    );
    assert!(site.get_in("zh", &path).body.contains("5 个步骤未完成"));
    assert_eq!(site.state(id_of(&dead)), Some(taskmq_core::State::Ready));
    let cancel = [("action", "cancel"), ("confirm", "yes")];
    site.told(&site.post(&path, &cancel), &path, "It was cancelled.");
    let entry = conn.broker().workflow(id_of(&path)).expect("reads").expect("is there").0;
    assert_eq!((entry.state, entry.done, entry.stuck), (WorkflowState::Cancelled, 3, 1));
    assert_eq!(site.state(id_of(&dead)), Some(taskmq_core::State::Cancelled));
    let body = site.page(&path);
    assert!(body.contains("state cancelled") && !body.contains("value=\"cancel\""), "{body}");
    let refused = send("retry");
    assert!(
        refused.status == StatusCode::CONFLICT && refused.body.contains("it is cancelled"),
        "{}",
        refused.body
    );
    let notes = conn.broker().notes(i64::MAX, 100).expect("reads");
    let noted: Vec<_> = notes.iter().rev().map(|n| (&*n.actor, &*n.action, n.messages)).collect();
    assert_eq!(noted, [("kim", "retry", 1), ("kim", "cancel workflow", 0), ("kim", "cancel", 1)]);
    assert_eq!(send("explode").status, StatusCode::NOT_FOUND);
    let chinese = site.post_in("zh", &path, &[("action", "retry")]);
    assert!(chinese.body.contains(&format!("工作流 {}：它已取消", id_of(&path))), "{}", chinese.body);
    assert_eq!(site.post("/workflows/77", &[("action", "cancel")]).status, StatusCode::NOT_FOUND);
    assert_eq!(site.post("/workflows/77", &cancel).status, StatusCode::CONFLICT);
}

fn a_message_shows_the_workflow_that_it_is_a_step_of(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    let mut conn = site.db.connect();
    worker(&mut conn);
    let (path, dead) = nightly(&mut conn);
    let body = site.page(&dead);
    assert!(
        body.contains("class=\"step dead own\"") && body.contains(&format!("../{}", &path[1..])),
        "{body}"
    );
    assert!(!site.page("/messages/1").contains("step dead own"));
    // One that is kept no longer, or never was.
    for header in ["999", "nonsense"] {
        let message = NewMessage::new("mail", &1).header("taskmq-workflow", header).produce(&mut conn);
        let body = site.page(&format!("/messages/{}", message.expect("produces").id()));
        assert!(!body.contains("<rect"), "{body}");
    }
}

fn one_with_too_many_steps_is_a_list(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    let mut conn = site.db.connect();
    let many = (0..101).fold(Workflow::new("wide"), |workflow, n| {
        workflow.step(format!("part {n}"), NewMessage::new("parts", &n), &[])
    });
    let id = many.produce(&mut conn).expect("produces");
    let body = site.page(&format!("/workflows/{id}"));
    assert!(body.contains("too many steps for a picture") && !body.contains("<rect"), "{body}");
    assert_eq!(body.matches("data-key").count(), 101);
    workflow::cancel(&mut conn, id, "kim").expect("cancels");
    assert_eq!(conn.broker().topics().expect("reads")[0].cancelled, 101);
}

fn whoever_may_only_look_changes_no_workflow(db: TestDatabase) {
    let mut conn = db.connect();
    worker(&mut conn);
    let (path, _) = nightly(&mut conn);
    let site = Site::new(db, |admin| admin.read_only(true));
    assert!(!site.page(&path).contains("name=\"action\""));
    assert_eq!(site.post(&path, &[("action", "cancel")]).status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        conn.broker().workflow(id_of(&path)).expect("reads").expect("is there").0.state,
        WorkflowState::Running
    );
}
