//! `taskmq-cli migrate` beside others, cut off in the middle, and under workers that run.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, migration, produce_many};
use taskmq_tests::databases::{TestDatabase, empty, try_execute};

use crate::hosts::host::taskmq_cli;
use crate::workers::Workers;

each_database! {
    two_at_once_are_one,
    one_that_is_killed_is_run_again,
    tables_of_another_version_are_refused,
    workers_live_through_one,
}

const LONG: Duration = Duration::from_secs(60);
const TASKMQ: &str = "2026-01-01-000001_taskmq";

/// A project with migrations, and its database.
struct Project<'a> {
    db: &'a TestDatabase,
    folder: tempfile::TempDir,
}

impl<'a> Project<'a> {
    fn new(db: &'a TestDatabase) -> Self {
        let project = Self { db, folder: tempfile::tempdir().expect("a folder") };
        project.write(TASKMQ, migration::up(db.backend()));
        project
    }

    fn migrations(&self) -> PathBuf {
        self.folder.path().join("migrations")
    }

    fn write(&self, name: &str, up: &str) {
        let folder = self.migrations().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("up.sql"), up).expect("a file");
        std::fs::write(folder.join("down.sql"), "SELECT 1;").expect("a file");
    }

    fn cli(&self, command: &str) -> Command {
        let mut cli = Command::new(taskmq_cli());
        cli.arg(command).current_dir(self.folder.path()).env("DATABASE_URL", self.db.url());
        cli.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        cli
    }

    fn diesel(&self) -> Command {
        let mut diesel = Command::new("diesel");
        diesel.args(["migration", "run", "--migration-dir"]).arg(self.migrations());
        diesel.current_dir(self.folder.path()).env("DATABASE_URL", self.db.url());
        diesel.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        diesel
    }

    fn migrate(&self) -> Output {
        self.cli("migrate").output().expect("runs")
    }

    /// Every migration has been run, and the tables are as they should be.
    fn is_migrated(&self) {
        let out = self.migrate();
        assert!(said(&out).contains("nothing to do"), "{}", said(&out));
        let mut conn = self.db.connect();
        assert_eq!(conn.broker().schema_version().expect("reads"), migration::SCHEMA_VERSION);
        let doctor = self.cli("doctor").output().expect("runs");
        assert!(doctor.status.success(), "{}", said(&doctor));
    }
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn two_at_once_are_one(db: &TestDatabase) {
    let db = empty(db.backend());
    let project = Project::new(&db);
    let all: Vec<_> = (0..4).map(|_| project.cli("migrate").spawn().expect("starts")).collect();
    let all: Vec<Output> = all.into_iter().map(|one| one.wait_with_output().expect("ends")).collect();
    for out in &all {
        assert!(out.status.success(), "{}", said(out));
    }
    let ran = all.iter().filter(|out| said(out).contains("Running migration")).count();
    assert_eq!(ran, 1, "{all:?}");
    project.is_migrated();

    // Diesel takes no lock, so one of the two may fail; what is there afterwards is whole.
    let db = empty(db.backend());
    let project = Project::new(&db);
    let both = [project.cli("migrate"), project.diesel()].map(|mut one| one.spawn().expect("starts"));
    let both = both.map(|one| one.wait_with_output().expect("ends"));
    assert!(both.iter().any(|out| out.status.success()), "{} {}", said(&both[0]), said(&both[1]));
    project.is_migrated();
}

fn one_that_is_killed_is_run_again(db: &TestDatabase) {
    let backend = db.backend();
    let db = empty(backend);
    let project = Project::new(&db);
    let pause = match backend {
        Backend::Postgres => "SELECT pg_sleep(2);",
        Backend::Mysql => "DO SLEEP(2);",
        Backend::Sqlite => {
            "CREATE TABLE slow AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n;"
        }
    };
    let whole = migration::up(backend);
    let (first, second) = whole.split_at(middle(whole));
    project.write(TASKMQ, &format!("{first}\n{pause}\n{second}"));
    let mut cut_off = project.cli("migrate").spawn().expect("starts");
    let began = Instant::now();
    while !is_in_the_middle(&db) {
        assert!(began.elapsed() < LONG, "it never comes to the middle");
        assert!(cut_off.try_wait().expect("can be asked").is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(10));
    }
    cut_off.kill().expect("kills");
    cut_off.wait().expect("ends");
    assert!(db.connect().broker().schema_version().is_err(), "it had not come to the end");

    project.write(TASKMQ, whole);
    let out = project.migrate();
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("Running migration"), "{}", said(&out));
    project.is_migrated();
}

/// Where some of the tables are made.
fn middle(sql: &str) -> usize {
    let table = sql.match_indices("\nCREATE TABLE").nth(3).expect("there are more").0;
    // Before the words about it.
    sql[..table].rfind("\n\n").expect("it stands by itself")
}

fn is_in_the_middle(db: &TestDatabase) -> bool {
    use diesel::RunQueryDsl;
    use diesel::dsl::sql;
    use diesel::sql_types::BigInt;
    let running: i64 = match &mut db.connect() {
        AnyConnection::Postgres(conn) => {
            sql::<BigInt>("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").get_result(conn)
        }
        AnyConnection::Mysql(conn) => sql::<BigInt>(
            "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User sleep'",
        )
        .get_result(conn),
        // What takes the lock for longer is the pause.
        conn => {
            try_execute(conn, "PRAGMA busy_timeout = 500").expect("sets it");
            return try_execute(conn, "BEGIN IMMEDIATE").is_err();
        }
    }
    .expect("reads");
    running > 0
}

/// What a program says that refuses its database, and that it ends by itself.
fn refusal(mut program: Command) -> String {
    let mut child =
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let began = Instant::now();
    while child.try_wait().expect("can be asked").is_none() {
        if began.elapsed() > LONG {
            child.kill().expect("kills");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let out = child.wait_with_output().expect("ends");
    assert!(!out.status.success(), "it was to refuse: {}", said(&out));
    said(&out)
}

fn tables_of_another_version_are_refused(db: &TestDatabase) {
    let project = Project::new(db);
    for (version, way_out) in
        [(migration::SCHEMA_VERSION - 1, "taskmq-cli init"), (migration::SCHEMA_VERSION + 1, "update taskmq")]
    {
        db.execute(&format!("UPDATE taskmq_schema SET version = {version}"));
        let mut worker = Command::new(env!("CARGO_BIN_EXE_test-worker"));
        worker.env("DATABASE_URL", db.url());
        for program in [worker, project.cli("topics"), project.cli("admin")] {
            let name = format!("{program:?}");
            let text = refusal(program);
            assert!(
                text.contains(&format!("schema version {version}")) && text.contains(way_out),
                "{name}: {text}"
            );
        }
    }
}

fn workers_live_through_one(db: &TestDatabase) {
    const NOTES: i64 = 4000;
    let backend = db.backend();
    let db = empty(backend);
    let project = Project::new(&db);
    assert!(project.migrate().status.success());
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    workers.start(&["--concurrency", "4"]);
    workers.start(&["--concurrency", "4"]);
    workers.wait("both are ready", LONG, || workers.log().matches("worker ready").count() == 2);
    // What a next version may bring: a column more, an index more, another table.
    let text = if backend == Backend::Mysql { "VARCHAR(20)" } else { "TEXT" };
    let next = format!(
        "ALTER TABLE taskmq_messages ADD COLUMN newer {text};
         ALTER TABLE taskmq_archive ADD COLUMN newer {text} NOT NULL DEFAULT 'none';
         CREATE INDEX taskmq_messages_newer ON taskmq_messages (newer, created_at);
         CREATE TABLE taskmq_newer (id INTEGER NOT NULL PRIMARY KEY);"
    );
    project.write("2026-01-02-000001_newer", &next);
    let mut migrating = None;
    let mut longest = Duration::ZERO;
    for n in 0..NOTES / 20 {
        let began = Instant::now();
        produce_many(&mut conn, (n * 20..(n + 1) * 20).map(|n| NewMessage::new("note", &n)))
            .expect("a producer notices nothing");
        longest = longest.max(began.elapsed());
        if n == 50 {
            migrating = Some(project.cli("migrate").spawn().expect("starts"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let out = migrating.expect("it was started").wait_with_output().expect("ends");
    assert!(out.status.success() && said(&out).contains("Running migration"), "{}", said(&out));
    workers.wait("all are done", LONG, || conn.broker().topics().expect("reads")[0].done == NOTES);
    let handled = workers.journal();
    assert_eq!(i64::try_from(handled.len()).expect("is small"), NOTES, "each was handled once");
    let log = workers.log();
    assert!(!log.contains(" ERROR "), "{log}");
    assert!(longest < Duration::from_secs(10), "a producer waited for {longest:?}");
    try_execute(&mut conn, "SELECT newer FROM taskmq_messages").expect("the column is there");
}
