//! The roles of `docs/roles.md`, made with the SQL of that very page: each can do its work, and no more.

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use taskmq_core::broker::{
    Action, Claim, MessageFilter, Note, Noted, Outcome, Settlement, Share, WorkerIdentity,
};
use taskmq_core::worker::Ended;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Context, Error, NewMessage, Produced, Registry, Retention,
    Worker, Workflow, produce, produce_many, task_consumer, workflow,
};
use taskmq_tests::databases::{TestDatabase, fresh, try_execute};

const PAGE: &str = include_str!("../../docs/roles.md");

/// The page's SQL under a heading, with names that no other test uses.
fn sql(heading: &str, suffix: &str) -> String {
    let section = PAGE.split(&format!("\n## {heading}\n")).nth(1).expect("the heading");
    let sql = section.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("SQL");
    ["producer", "worker", "reader", "operator"].iter().fold(sql.to_owned(), |sql, role| {
        sql.replace(&format!("taskmq_{role} "), &format!("{role}_{suffix} "))
            .replace(&format!("taskmq_{role};"), &format!("{role}_{suffix};"))
    })
}

struct Roles {
    db: TestDatabase,
    suffix: String,
}

impl Roles {
    fn new(backend: Backend, heading: &str) -> Self {
        let db = fresh(backend);
        let suffix = format!("{:08x}", fastrand::u32(..));
        db.execute(&sql(heading, &suffix));
        Self { db, suffix }
    }

    fn url(&self, role: &str) -> String {
        let (scheme, rest) = self.db.url().split_once("://").expect("a URL");
        let (_, place) = rest.split_once('@').expect("a user");
        format!("{scheme}://{role}_{}:change-me@{place}", self.suffix)
    }

    fn connect(&self, role: &str) -> AnyConnection {
        AnyConnection::establish(&self.url(role)).unwrap_or_else(|error| panic!("{role}: {error}"))
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for role in ["producer", "worker", "reader", "operator"] {
            let name = format!("{role}_{}", self.suffix);
            let mut conn = self.db.connect();
            // What is left goes with the server.
            _ = match self.db.backend() {
                Backend::Postgres => {
                    try_execute(&mut conn, &format!("DROP OWNED BY {name}; DROP ROLE {name}"))
                }
                _ => try_execute(&mut conn, &format!("DROP USER {name}")),
            };
        }
    }
}

#[task_consumer(topic = "roles.large")]
fn handle_large(payload: String) {
    assert_eq!(payload.len(), 10_000);
}

#[task_consumer(topic = "roles", max_attempts = 2, backoff = "1ms")]
fn handle(n: i64, ctx: &Context) -> Result<i64, &'static str> {
    ctx.log(n);
    if n < 0 { Err("negative") } else { Ok(n) }
}

#[test]
fn each_role_does_its_work_and_no_more_on_postgres() {
    each_role(&Roles::new(Backend::Postgres, "PostgreSQL"));
}

#[test]
fn each_role_does_its_work_and_no_more_on_mariadb() {
    each_role(&Roles::new(Backend::Mysql, "MariaDB and MySQL"));
}

fn each_role(roles: &Roles) {
    let mut producer = roles.connect("producer");
    produce(&mut producer, "roles", &1).expect("produces");
    let first =
        NewMessage::new("roles", &2).unique("k").header("a", "b").produce(&mut producer).expect("produces");
    let second = NewMessage::new("roles", &3).unique("k").produce(&mut producer).expect("produces");
    assert_eq!(second, Produced::Existing(first.id()));
    produce_many(&mut producer, [4, 5].map(|n| NewMessage::new("roles", &n))).expect("produces");
    let stored = produce_many(&mut producer, [6, 7].map(|n| NewMessage::new("roles", &n).unique("k")))
        .expect("produces");
    assert_eq!(stored, 0);
    produce(&mut producer, "roles", &-1).expect("produces");
    produce(&mut producer, "roles.large", &"x".repeat(10_000)).expect("produces");
    let of_steps = |last| {
        let workflow = Workflow::new("roles").step("a", NewMessage::new("roles", &8), &[]);
        workflow.step("b", NewMessage::new("roles", &last), &["a"]).retention(Retention::None)
    };
    let stuck = of_steps(-2).produce(&mut producer).expect("produces");
    let over = of_steps(9).produce(&mut producer).expect("produces");

    let registry = Registry::default().with(handle::consumer()).expect("one consumer");
    let registry = registry.with(handle_large::consumer()).expect("another");
    roles.connect("worker").broker().store_schema("roles", "{}").expect("stores");
    let worker = Worker::new(registry, roles.url("worker")).handle_signals(false).until_empty(true);
    assert_eq!(worker.run().expect("runs"), Ended::Finished);

    // The consumer has no schema, so its worker has removed it.
    assert!(producer.broker().schemas(&["roles"]).expect("reads").is_empty());
    let mut reader = roles.connect("reader");
    assert!(reader.broker().schemas(&["roles"]).expect("reads").is_empty());
    let all = MessageFilter { topic: None, state: None, limit: 100 };
    let messages = reader.broker().messages(&all).expect("reads");
    let mut failed: Vec<_> = messages.iter().filter(|m| m.error.is_some()).map(|m| m.id).collect();
    failed.sort_unstable();
    assert_eq!((messages.len(), failed.len()), (10, 2));
    assert!(messages.iter().any(|m| m.payload.get().len() > 10_000));
    assert_eq!(reader.broker().failures(failed[0]).expect("reads").len(), 2);
    assert_eq!(reader.broker().log(failed[0]).expect("reads").len(), 2);
    assert_eq!(reader.broker().topics().expect("reads")[0].done, 7);
    reader.broker().workers(10).expect("reads");
    reader.broker().held(10).expect("reads");
    assert_eq!(reader.broker().workflow(stuck).expect("reads").expect("is there").0.stuck, 1);
    let mut purger = roles.connect("worker");
    while purger.broker().workflow(over).expect("reads").is_some() {
        purger.broker().purge_workflows(10).expect("purges");
    }

    let mut operator = roles.connect("operator");
    for action in [Action::Retry, Action::Cancel, Action::Delete] {
        let note = Note {
            actor: "o",
            action: action.as_str(),
            topic: None,
            message_id: None,
            details: "",
            messages: 0,
        };
        let changed = operator.broker().change(&action, &failed, Noted::New(&note)).expect("changes");
        assert_eq!(changed.changed, failed, "{}", action.as_str());
    }

    // What runs: the operator asks, and the worker takes back what it finds waiting.
    let running = produce(&mut producer, "roles", &1).expect("produces");
    let mut worker = roles.connect("worker");
    let w =
        WorkerIdentity { id: 7, host: "h".to_owned(), pid: 1, topics: "roles".to_owned(), concurrency: 1 };
    worker.broker().register(&w).expect("registers");
    let topics = [Share { topic: "roles", limit: 1, ageing: None }];
    let claim = Claim { worker_id: w.id, topics: &topics, limit: 1, as_batch: false, after: &[] };
    let claimed = worker.broker().claim(&claim).expect("claims").remove(0);
    assert_eq!(claimed.id, running);
    let changed = operator.broker().change(&Action::Cancel, &[running], Noted::No).expect("changes");
    assert_eq!(changed.asked, [running]);
    assert!(reader.broker().cancel_asked_at(running).expect("reads").is_some());
    assert_eq!(worker.broker().look(w.id, &["roles"]).expect("looks").cancels, [running]);
    let back = Settlement {
        id: running,
        attempt: claimed.attempt,
        batch: None,
        tied: claimed.tied(),
        outcome: Outcome::HandBack,
        log: Vec::new(),
    };
    worker.broker().settle(&w, &[back]).expect("settles");
    assert_eq!(worker.broker().take_back(&[running]).expect("takes"), 1);
    worker.broker().deregister(w.id).expect("leaves");

    // Its dead letter is deleted by now.
    let error = workflow::retry(&mut operator, stuck, "o").expect_err("is refused");
    assert!(error.to_string().ends_with("no step of it is dead or cancelled"), "{error}");
    workflow::cancel(&mut operator, stuck, "o").expect("cancels");

    let refused = [
        ("producer", "SELECT payload FROM taskmq_steps"),
        ("producer", "SELECT payload FROM taskmq_payloads"),
        ("reader", "DELETE FROM taskmq_payloads"),
        ("producer", "UPDATE taskmq_workflows SET open_steps = 0"),
        ("reader", "UPDATE taskmq_workflows SET cancelled = TRUE"),
        ("operator", "DELETE FROM taskmq_workflows"),
        ("producer", "SELECT payload FROM taskmq_messages"),
        ("producer", "UPDATE taskmq_messages SET priority = 1"),
        ("producer", "DELETE FROM taskmq_messages"),
        ("producer", "SELECT id FROM taskmq_archive"),
        ("worker", "SELECT details FROM taskmq_audit"),
        ("worker", "DROP TABLE taskmq_messages"),
        ("worker", "DELETE FROM taskmq_schema"),
        ("reader", "INSERT INTO taskmq_messages (topic, payload) VALUES ('t', '1')"),
        ("reader", "DELETE FROM taskmq_archive"),
        ("operator", "DELETE FROM taskmq_audit"),
        ("operator", "DELETE FROM taskmq_workers"),
        ("operator", "DELETE FROM taskmq_schemas"),
        ("producer", "DELETE FROM taskmq_schemas"),
    ];
    for (role, sql) in refused {
        assert!(try_execute(&mut roles.connect(role), sql).is_err(), "{role}: {sql}");
    }
    let error = produce(&mut reader, "roles", &1).expect_err("is refused");
    assert!(error.to_string().contains("docs/roles.md") && matches!(error, Error::Forbidden(_)), "{error}");
    let error = producer.broker().messages(&all).expect_err("is refused");
    assert!(
        matches!(error, Error::Forbidden(DieselError::DatabaseError(DatabaseErrorKind::Unknown, _))),
        "{error}"
    );
}
