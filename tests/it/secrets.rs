//! The password of a `DATABASE_URL` is in nothing that any command or worker says, whatever is wrong with the URL.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use taskmq_core::{AnyConnection, Backend, BrokerConnection, Worker, produce};
use taskmq_tests::databases::{TestDatabase, fresh};

use crate::hosts::host::taskmq_cli;
use crate::workers::Workers;

/// What is looked for; the password has characters around it that a URL has to write in another way.
const MARK: &str = "HIDDEN5word";
const ENCODED: &str = "a%40%2FHIDDEN5word%25%3F%23";
const DECODED: &str = "a@/HIDDEN5word%?#";

const COMMANDS: [&[&str]; 17] = [
    &["topics"],
    &["messages", "--json"],
    &["show", "1"],
    &["produce", "t", "1"],
    &["produce", "two words", "1"],
    &["produce", "t", "{"],
    &["dead"],
    &["workers"],
    &["schedules"],
    &["schedules", "add", "s", "@daily", "t", "1"],
    &["pause", "t"],
    &["resume", "t"],
    &["retry", "1"],
    &["purge", "--state", "done", "--yes"],
    &["doctor"],
    &["doctor", "--json"],
    &["watch"],
];

/// Some do without a database; what they say about it must not name it either.
const ALWAYS: [&[&str]; 6] =
    [&["--help"], &["produce", "--help"], &["--version"], &["migrate"], &["init"], &["nonsense"]];

struct Account {
    db: TestDatabase,
    name: String,
    /// A project, for `init` and `migrate`.
    project: tempfile::TempDir,
}

impl Account {
    fn new(backend: Backend) -> Self {
        let (db, name) = (fresh(backend), format!("secret_{:08x}", fastrand::u32(..)));
        db.execute(&match backend {
            Backend::Postgres => format!("CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{DECODED}'"),
            _ => format!("CREATE USER {name} IDENTIFIED BY '{DECODED}'; GRANT ALL ON *.* TO {name}"),
        });
        let project = tempfile::tempdir().expect("a folder");
        let manifest = format!(
            "[package]\nname = \"host\"\nedition = \"2024\"\n[dependencies]\ndiesel = {{ features = [\"{}\"] }}\n",
            backend.feature()
        );
        for (file, text) in [
            ("Cargo.toml", &*manifest),
            ("src/main.rs", "fn main() {}\n"),
            ("migrations/2026-01-01-000000_host/up.sql", "SELECT 1;\n"),
        ] {
            let path = project.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            std::fs::write(path, text).expect("a file");
        }
        Self { db, name, project }
    }

    fn cli(&self, url: &str, args: &[&str]) -> Output {
        cli(self.project.path(), url, args)
    }

    /// `host:port/name` of the database.
    fn place(&self) -> &str {
        self.db.url().rsplit_once('@').expect("a user").1
    }

    fn scheme(&self) -> &'static str {
        if self.db.backend() == Backend::Postgres { "postgres" } else { "mysql" }
    }

    fn good(&self) -> String {
        format!("{}://{}:{ENCODED}@{}", self.scheme(), self.name, self.place())
    }

    /// With something wrong in each.
    fn bad(&self) -> Vec<String> {
        let (scheme, name, place) = (self.scheme(), &self.name, self.place());
        let (host, database) = place.split_once('/').expect("a database");
        vec![
            format!("{scheme}://{name}:wrong{ENCODED}@{place}"),
            format!("{scheme}://nobody:{ENCODED}@{place}"),
            format!("{scheme}://{name}:{ENCODED}@{host}/no_such_database"),
            format!("{scheme}://{name}:{ENCODED}@127.0.0.1:1/{database}"),
            format!("{scheme}://{name}:{ENCODED}@no-such-host.invalid/{database}"),
            format!("{scheme}://{name}:{ENCODED}@127.0.0.1:port/{database}"),
            format!("{scheme}://{name}:{ENCODED}@127.0.0.1:99999/{database}"),
            format!("{scheme}://{name}:{ENCODED}@[::1/{database}"),
            format!("{scheme}://{name}:{DECODED}@{place}"),
            format!("{scheme}://{name}:{MARK}@x@{place}"),
            format!("{scheme}://{name}:{MARK}%zz@{place}"),
            format!("{scheme}://{name}:{MARK}"),
            format!("{scheme}://{name}:{MARK}/{database}"),
            format!("{scheme}://{name}@127.0.0.1:1/{database}?password={MARK}"),
            format!("{scheme}://127.0.0.1:1/{database}?user={name}&password={MARK}@x"),
            format!("{scheme}://{name}:{MARK}@127.0.0.1:1/{database}?nonsense={MARK}"),
            format!("{scheme}:/{name}:{MARK}@{place}"),
            format!("{name}:{MARK}@{place}"),
            format!("//{name}:{MARK}@{place}"),
            format!("x{scheme}://{name}:{MARK}@{place}"),
            format!("{name}:{MARK}@{scheme}://{place}"),
            format!("sqlite://{name}:{MARK}@{place}"),
            format!("host=127.0.0.1 port=1 user={name} password={MARK}"),
        ]
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let sql = match self.db.backend() {
            Backend::Postgres => format!("DROP ROLE {}", self.name),
            _ => format!("DROP USER {}", self.name),
        };
        let _ = taskmq_tests::databases::try_execute(&mut self.db.connect(), &sql);
    }
}

fn keeps(said: &str, of: &str) {
    assert!(!said.contains(MARK), "{of}: {said}");
}

fn cli(folder: &Path, url: &str, args: &[&str]) -> Output {
    let out = Command::new(taskmq_cli())
        .args(args)
        .current_dir(folder)
        .env("DATABASE_URL", url)
        .env("RUST_BACKTRACE", "full")
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    for text in [&out.stdout, &out.stderr] {
        keeps(&String::from_utf8_lossy(text), &format!("{args:?} with {url}"));
    }
    assert!(!String::from_utf8_lossy(&out.stderr).contains("panicked"), "{args:?} with {url}: {out:?}");
    out
}

/// What a page says while a URL is used, right or wrong.
fn pages(url: &str, works: bool) {
    let mut admin = Command::new(taskmq_cli())
        .args(["admin", "--listen", "127.0.0.1:0", "--trust-proxy"])
        .env("DATABASE_URL", url)
        .env("RUST_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(admin.stdout.take().expect("is piped")).lines().map_while(Result::ok);
    if let Some(line) = lines.find(|line| line.contains("http://")) {
        keeps(&line, url);
        let place =
            line.split("http://").nth(1).expect("a link").split('/').next().expect("a place").to_owned();
        for path in
            ["/", "/messages", "/messages/1", "/workers", "/audit", "/produce", "/healthz", "/nowhere"]
        {
            let mut stream = TcpStream::connect(&place).expect("connects");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n")
                .expect("asks");
            let mut page = Vec::new();
            let _ = stream.read_to_end(&mut page);
            let page = String::from_utf8_lossy(&page);
            assert!(
                page.starts_with("HTTP/1.1 ") && (!works || path != "/" || page.contains("200 OK")),
                "{path}: {page}"
            );
            keeps(&page, &format!("{path} with {url}"));
        }
    } else {
        assert!(!works, "it does not serve {url}");
    }
    let _ = admin.kill();
    let out = admin.wait_with_output().expect("ends");
    keeps(&String::from_utf8_lossy(&out.stderr), url);
}

fn nobody_says_it(backend: Backend) {
    let account = Account::new(backend);
    let good = account.good();
    let mut conn = AnyConnection::establish(&good).expect("connects");
    produce(&mut conn, "t", &1).expect("produces");
    for args in COMMANDS.iter().chain(&ALWAYS) {
        account.cli(&good, args);
    }
    let topics = account.cli(&good, &["topics"]);
    assert!(topics.status.success(), "{topics:?}");
    pages(&good, true);
    for (at, url) in account.bad().iter().enumerate() {
        // Each thing that is wrong with one command, and the first and the last with all.
        let all = at == 0 || at + 1 == account.bad().len();
        for args in
            COMMANDS.iter().chain(&ALWAYS).skip(if all { 0 } else { at % 12 }).take(if all { 99 } else { 2 })
        {
            account.cli(url, args);
        }
        account.cli(url, &["migrate"]);
        if let Err(error) = AnyConnection::establish(url) {
            keeps(&format!("{error} {error:?}"), url);
        }
        if let Err(error) = Backend::of_url(url) {
            keeps(&format!("{error} {error:?}"), url);
        }
    }
    pages(&account.bad()[3], false);

    let mut workers = Workers::new(&good);
    let everything = [("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")];
    produce(&mut conn, "ending", "panic").expect("produces");
    let at = workers.start_with(&good, &["--concurrency", "2", "--admin", "127.0.0.1:0"], &everything);
    workers.wait("it is dead", Duration::from_secs(60), || {
        conn.broker().topics().expect("reads").iter().any(|stats| stats.dead == 1)
    });
    workers.signal(at, "TERM");
    assert_eq!(workers.end_of(at, Duration::from_secs(60)), Some(0));
    let at = workers.start_with(&good, &["--help"], &everything);
    assert_eq!(workers.end_of(at, Duration::from_secs(60)), Some(0));
    let mut others = Vec::new();
    for url in account.bad() {
        others.push(workers.start_with(&url, &["--log", "json"], &everything));
    }
    // Some end at once; some wait for their server.
    workers.wait("all have said something", Duration::from_secs(60), || {
        workers.log().lines().count() > account.bad().len()
    });
    for at in others {
        if workers.children[at].try_wait().expect("can be asked").is_none() {
            workers.signal(at, "KILL");
        }
    }
    keeps(&workers.log(), "the worker");
    assert!(workers.log().contains("cannot connect"), "{}", workers.log());
    let debug = format!("{:?}", Worker::new(taskmq_core::Registry::default(), &*good));
    assert!(debug.contains(&account.name), "{debug}");
    keeps(&debug, "a worker's Debug");
}

#[test]
fn on_postgres_nobody_says_a_password() {
    nobody_says_it(Backend::Postgres);
}

#[test]
fn on_mariadb_nobody_says_a_password() {
    nobody_says_it(Backend::Mysql);
}
