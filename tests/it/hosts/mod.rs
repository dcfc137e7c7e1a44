//! What a new user does, with the real programs: `taskmq-cli init`, `diesel migration run`, `cargo run`, two workers,
//! messages from a file, and one worker killed at its work.

pub(crate) mod host;
mod shapes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use diesel::RunQueryDsl;
use host::{Host, Worker};
use shapes::Shape;
use taskmq_core::{AnyConnection, Backend};
use taskmq_tests::databases;

mod sqlite {
    use super::{a_project_gets_a_queue, shapes};
    use taskmq_core::Backend::Sqlite;

    #[test]
    fn with_a_program_only() {
        a_project_gets_a_queue(shapes::main_only, Sqlite);
    }
    #[test]
    fn with_a_library_only() {
        a_project_gets_a_queue(shapes::lib_only, Sqlite);
    }
    #[test]
    fn with_both_and_a_schema_that_diesel_writes() {
        a_project_gets_a_queue(shapes::main_and_lib, Sqlite);
    }
    #[test]
    fn as_a_member_of_a_workspace() {
        a_project_gets_a_queue(shapes::workspace_member, Sqlite);
    }
    #[test]
    fn with_two_consumers_of_one_topic() {
        super::two_consumers_of_one_topic_are_named();
    }
    #[test]
    fn with_paths_of_its_own() {
        a_project_gets_a_queue(shapes::custom_paths, Sqlite);
    }
}

mod postgres {
    use super::{a_project_gets_a_queue, shapes};
    use taskmq_core::Backend::Postgres;

    #[test]
    fn with_a_program_only() {
        a_project_gets_a_queue(shapes::main_only, Postgres);
    }
    #[test]
    fn with_both_and_a_schema_that_diesel_writes() {
        a_project_gets_a_queue(shapes::main_and_lib, Postgres);
    }
}

mod mariadb {
    use super::{a_project_gets_a_queue, shapes};
    use taskmq_core::Backend::Mysql;

    #[test]
    fn with_a_program_only() {
        a_project_gets_a_queue(shapes::main_only, Mysql);
    }
    #[test]
    fn with_both_and_a_schema_that_diesel_writes() {
        a_project_gets_a_queue(shapes::main_and_lib, Mysql);
    }
}

/// What the owner adds to the consumers that `init` wrote.
const CONSUMERS: &str = r#"
#[task_consumer(topic = "work")]
fn work(number: u64) {
    journal("begin", number);
    std::thread::sleep(std::time::Duration::from_millis(20));
    journal("end", number);
}

#[task_consumer(topic = "slow")]
fn slow(number: u64) {
    journal("begin", number);
    std::thread::sleep(std::time::Duration::from_millis(300));
    journal("end", number);
}

fn journal(what: &str, number: u64) {
    use std::io::Write;
    let path = std::env::var_os("JOURNAL").expect("JOURNAL names a file");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    let line = format!("{what} {number} {}\n", std::process::id());
    file.write_all(line.as_bytes()).expect("a line");
}
"#;

/// What writes to a table of the project's own, together with the acknowledgement.
const POSTS: &str = r#"
#[task_consumer(topic = "post")]
fn post(title: String, conn: &mut diesel::SqliteConnection) -> diesel::QueryResult<usize> {
    use crate::schema::posts;
    use diesel::prelude::*;
    diesel::insert_into(posts::table).values(posts::title.eq(title)).execute(conn)
}
"#;

/// A program that produces.
const MAIN: &str = r#"
fn main() {
    use diesel::Connection;
    use host_consumers::{Greeting, hello};
    let url = std::fs::read_to_string(std::env::args().nth(1).expect("a file")).expect("is read");
    let mut conn = diesel::SqliteConnection::establish(url.trim()).expect("connects");
    let greeting = Greeting { name: "shop".to_owned() };
    hello::message(&greeting).produce(&mut conn).expect("produces");
}
"#;

fn a_project_gets_a_queue(shape: fn(Backend) -> Shape, backend: Backend) {
    let db = databases::empty(backend);
    let shape = shape(backend);
    let host = Host::new(&shape, &db);
    let notes = tempfile::tempdir().expect("a folder");

    let said = host.init();
    assert!(said.contains(&format!("shop has a message queue in {backend} now")), "{said}");
    let before = host.tree();
    let said = host.init();
    assert!(said.contains("nothing to do"), "{said}");
    assert!(host.tree() == before, "a second run changes nothing");
    host.diesel(&["migration", "run"]);
    // As it is, before its owner writes a line.
    host.cargo(&["build"]);

    write_code(&host, &shape, notes.path());
    host.cargo(&["build"]);
    if let Some(schema) = shape.schema {
        assert!(host.read(schema).contains("taskmq_messages (id)"), "diesel wrote the schema anew");
    }
    let workers = two_workers_share_the_work(&host, notes.path());
    if shape.program_says.is_some() {
        // No `--bin`: it still is the project's own program that runs.
        host.cargo(&["run", "--", &notes.path().join("url").display().to_string()]);
    } else {
        host.taskmq(&["produce", "hello", r#"{"name": "shop"}"#]);
    }
    wait("its message is handled", notes.path(), LONG, || done(&host, "hello") == 1);
    let results = host.json(&["messages", "--topic", "hello"]);
    assert_eq!((results.len(), &results[0]["result"]), (1, &"Hello, shop!".into()), "{results:?}");
    drop(workers);
    a_killed_workers_messages_are_rescued(&host, notes.path(), shape.schema.is_some());
}

fn two_consumers_of_one_topic_are_named() {
    let db = databases::empty(Backend::Sqlite);
    let host = Host::new(&shapes::main_only(Backend::Sqlite), &db);
    let notes = tempfile::tempdir().expect("a folder");
    host.init();
    host.diesel(&["migration", "run"]);
    let second = "\n#[task_consumer(topic = \"hello\")]\npub fn again(_greeting: Greeting) {}\n";
    host.edit("src/consumers.rs", |text| text + second);
    host.cargo(&["build"]);
    let _worker = host.start_worker(&notes.path().join("journal"));
    wait("it refuses", notes.path(), LONG, || log(notes.path()).contains("two consumers of topic \"hello\""));
    let text = host.read("src/consumers.rs");
    for (line, _) in text.lines().enumerate().filter(|(_, line)| line.starts_with("#[task_consumer")) {
        let place = format!("consumers.rs:{})", line + 1);
        assert!(log(notes.path()).contains(&place), "{place} in: {}", log(notes.path()));
    }
}

fn write_code(host: &Host<'_>, shape: &Shape, notes: &Path) {
    let connection = match host.db.backend() {
        Backend::Sqlite => "SqliteConnection",
        Backend::Postgres => "PgConnection",
        Backend::Mysql => "MysqlConnection",
    };
    let posts = if shape.schema.is_some() { POSTS } else { "" };
    host.edit(&format!("{}/consumers.rs", shape.modules), |text| {
        text + CONSUMERS + &posts.replace("SqliteConnection", connection)
    });
    let Some(consumers) = shape.program_says else { return };
    std::fs::write(notes.join("url"), host.db.url()).expect("a file");
    let main = MAIN.replace("host_consumers", consumers).replace("SqliteConnection", connection);
    host.edit("src/main.rs", |text| {
        text.replace("\nfn main() {}\n", &main).replacen("fn main() {}\n", &main, 1)
    });
}

fn two_workers_share_the_work(host: &Host<'_>, notes: &Path) -> [Worker; 2] {
    let journal = notes.join("work");
    let workers = [host.start_worker(&journal), host.start_worker(&journal)];
    wait("both are ready", notes, LONG, || log(notes).matches("worker ready").count() == 2);
    produce_file(host, notes, "work", (0..240).map(|n| n.to_string()));
    wait("all is done", notes, LONG, || done(host, "work") == 240);
    let entries = read(&journal);
    let ended: Vec<&Entry> = entries.iter().filter(|entry| entry.what == "end").collect();
    let numbers: BTreeSet<u64> = ended.iter().map(|entry| entry.number).collect();
    assert_eq!((ended.len(), numbers.len()), (240, 240), "each message is handled exactly once");
    let pids: BTreeSet<u32> = ended.iter().map(|entry| entry.pid).collect();
    assert_eq!(pids, workers.iter().map(|worker| worker.pid()).collect(), "both work");
    workers
}

fn a_killed_workers_messages_are_rescued(host: &Host<'_>, notes: &Path, posts: bool) {
    let journal = notes.join("slow");
    let mut workers = [host.start_worker(&journal), host.start_worker(&journal)];
    wait("both are ready", notes, LONG, || log(notes).matches("worker ready").count() == 4);
    produce_file(host, notes, "slow", (0..40).map(|n| n.to_string()));
    if posts {
        produce_file(host, notes, "post", (0..300).map(|n| format!("\"post {n}\"")));
    }
    // The one that is in the middle of handlers, which may be either.
    let works = |worker: &Worker| !unfinished(&journal, worker.pid()).is_empty();
    wait("one is in the middle of handlers", notes, LONG, || workers.iter().any(works));
    if !works(&workers[0]) {
        workers.swap(0, 1);
    }
    let [killed, survivor] = &mut workers;
    let (pid, other) = (killed.pid(), survivor.pid());
    killed.kill9();
    let lost = unfinished(&journal, pid);
    assert!(!lost.is_empty(), "it was killed in the middle of handlers");
    // How soon is asked in `processes`; beside what compiles, a commit here may take a second.
    wait("what it ran runs elsewhere", notes, LONG, || {
        let begun: BTreeSet<u64> =
            read(&journal).iter().filter(|e| e.pid == other).map(|e| e.number).collect();
        lost.is_subset(&begun)
    });
    wait("nothing is lost", notes, LONG, || done(host, "slow") == 40);
    let entries = read(&journal);
    let ended: BTreeSet<u64> = entries.iter().filter(|e| e.what == "end").map(|e| e.number).collect();
    assert_eq!(ended, (0..40).collect());
    if posts {
        wait("every post is written", notes, LONG, || done(host, "post") == 300);
        assert_eq!(count_posts(host), 300, "each post once, whoever was killed");
    }
}

fn produce_file(host: &Host<'_>, notes: &Path, topic: &str, lines: impl Iterator<Item = String>) {
    let file = notes.join(format!("{topic}.jsonl"));
    let lines: Vec<String> = lines.collect();
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let said = host.taskmq(&["produce", topic, "--file", &file.display().to_string()]);
    assert!(said.contains(&format!("produced {} messages of topic {topic}", lines.len())), "{said}");
}

fn done(host: &Host<'_>, topic: &str) -> i64 {
    let topics = host.json(&["topics"]);
    let figures: BTreeMap<_, _> = topics.iter().map(|row| (row["topic"].as_str(), row)).collect();
    figures.get(&Some(topic)).and_then(|row| row["done"].as_i64()).unwrap_or_default()
}

fn count_posts(host: &Host<'_>) -> i64 {
    let count = diesel::dsl::sql::<diesel::sql_types::BigInt>("count(*) FROM posts");
    let query = diesel::select(count);
    match host.db.connect() {
        AnyConnection::Sqlite(mut conn) => query.get_result(&mut conn),
        AnyConnection::Postgres(mut conn) => query.get_result(&mut conn),
        AnyConnection::Mysql(mut conn) => query.get_result(&mut conn),
        _ => unreachable!("taskmq knows three databases"),
    }
    .expect("counts")
}

struct Entry {
    what: String,
    number: u64,
    pid: u32,
}

fn read(journal: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let entry = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        Entry {
            what: words[0].to_owned(),
            number: words[1].parse().expect("a number"),
            pid: words[2].parse().expect("a pid"),
        }
    };
    complete.lines().map(entry).collect()
}

/// What a worker began and did not end.
fn unfinished(journal: &Path, pid: u32) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    for entry in read(journal).iter().filter(|entry| entry.pid == pid) {
        if entry.what == "begin" {
            numbers.insert(entry.number);
        } else {
            numbers.remove(&entry.number);
        }
    }
    numbers
}

const LONG: Duration = Duration::from_secs(60);

fn log(notes: &Path) -> String {
    std::fs::read_to_string(notes.join("log")).unwrap_or_default()
}

fn wait(what: &str, notes: &Path, limit: Duration, mut until: impl FnMut() -> bool) {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}\n{}", log(notes));
        std::thread::sleep(Duration::from_millis(20));
    }
}
