//! The dashboard, the alerts and their page in the documentation, beside what is really exported.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use taskmq_core::{Backend, produce};
use taskmq_tests::databases::fresh;
use taskmq_tests::scrape::{self, Scrape};

use crate::metrics::address;
use crate::workers::Workers;

const LONG: Duration = Duration::from_secs(90);
const TOKEN: &str = "metrics-0123456789-0123456789";

fn file(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every query of the dashboard, and every one of the alerts.
fn queries() -> (Vec<String>, Vec<String>) {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(query) if name == "expr" => queries.push(query.clone()),
                        value => collect(value, queries),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&text("monitoring/grafana-dashboard.json")).expect("JSON");
    let mut shown = Vec::new();
    collect(&dashboard, &mut shown);
    let rules = text("monitoring/alerts.yml");
    let alerts = rules.split("expr: ").skip(1).map(|rest| {
        let end = ["\n        for:", "\n        labels:"].iter().filter_map(|word| rest.find(word)).min();
        rest[..end.expect("labels follow")].trim_start_matches('|').trim().to_owned()
    });
    (shown, alerts.collect())
}

fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("taskmq_worker_") || word.starts_with("taskmq_queue_")).collect()
}

#[test]
fn every_name_is_one_that_is_exported_and_documented() {
    let db = fresh(Backend::Sqlite);
    produce(&mut db.connect(), "note", &1).expect("produces");
    let mut workers = Workers::new(db.url());
    workers.start_with(db.url(), &["--admin", "127.0.0.1:0"], &[("TASKMQ_METRICS_TOKEN", TOKEN)]);
    let admin = address(&workers, "the admin is at");
    let (_, body) = scrape::get(&admin, "/metrics", &format!("Authorization: Bearer {TOKEN}\r\n"));
    let types = Scrape::parse(&body).types().clone();

    let (shown, alerts) = queries();
    assert!(shown.len() > 20 && alerts.len() > 10, "{} and {}", shown.len(), alerts.len());
    for query in shown.iter().chain(&alerts) {
        for name in names(query) {
            let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
            let of_histogram =
                parts.clone().any(|base| types.get(base).is_some_and(|kind| kind == "histogram"));
            let whole = types.get(name).is_some_and(|kind| kind != "histogram");
            assert!(whole || of_histogram, "{name} in {query:?} is not exported");
        }
    }
    let rules = text("monitoring/alerts.yml");
    for word in ["runbook:", "summary:", "severity:", "expr:"] {
        assert_eq!(rules.matches(word).count(), rules.matches("- alert:").count(), "{word} of each alert");
    }

    let page = text("docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `taskmq_"));
    let documented: BTreeSet<(String, String)> = rows
        .map(|row| {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
            (cells.next().expect("a name"), cells.next().expect("a type"))
        })
        .collect();
    let exported = types.into_iter().collect();
    assert_eq!(documented, exported, "docs/metrics.md and what is exported");
}

#[test]
fn prometheus_takes_the_alerts() {
    let checked =
        Command::new("promtool").args(["check", "rules"]).arg(file("monitoring/alerts.yml")).output();
    match checked {
        Ok(out) => assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr)),
        // It is a package of its own.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}

/// Whether an alert fires for a topic after an hour of such a backlog.
fn fires(alert: &str, series: &[(&str, &str)]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = file("monitoring/alerts.yml").canonicalize().expect("is there");
    let input: String = series
        .iter()
        .map(|(series, values)| format!("      - {{ series: '{series}', values: '{values}' }}\n"))
        .collect();
    let path = folder.path().join("test.yml");
    let text = format!(
        "rule_files: [{rules:?}]\ntests:\n  - interval: 1m\n    input_series:\n{input}    alert_rule_test:\n      \
         - {{ eval_time: 1h, alertname: {alert}, exp_alerts: [] }}\n"
    );
    std::fs::write(&path, text).expect("a file");
    let out = Command::new("promtool").args(["test", "rules"]).arg(&path).output().expect("promtool");
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success() || said.contains("got:[") || said.contains("got:\n"), "{said}");
    !out.status.success()
}

#[test]
fn what_is_held_back_on_purpose_alerts_nobody() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return; // It is a package of its own.
    }
    let (paused, limited) = ("taskmq_queue_paused{topic=\"t\"}", "taskmq_queue_limited{topic=\"t\"}");
    let backlog = [
        ("taskmq_queue_messages{topic=\"t\",state=\"ready\"}", "2000+10x60"),
        ("taskmq_queue_messages{topic=\"t\",state=\"running\"}", "0x60"),
        ("taskmq_queue_oldest_waiting_seconds{topic=\"t\"}", "400+60x60"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&backlog[..], more].concat();
    let free = with(&[(paused, "0x60"), (limited, "0x60")]);
    let at_rest = with(&[(paused, "1x60"), (limited, "0x60")]);
    let stuck = with(&[(paused, "0x60"), (limited, "1x60")]);
    let finished = "taskmq_worker_finished_total{topic=\"t\",outcome=\"done\"}";
    let working = with(&[(paused, "0x60"), (limited, "1x60"), (finished, "0+5x60")]);
    let flat = [("taskmq_queue_messages{topic=\"t\",state=\"ready\"}", "20000x60")];
    let counted_no_further =
        [&flat[..], &[("taskmq_queue_oldest_waiting_seconds{topic=\"t\"}", "100+6x60")]].concat();
    let steady = [&flat[..], &[("taskmq_queue_oldest_waiting_seconds{topic=\"t\"}", "400x60")]].concat();
    for (alert, series, expected) in [
        ("TaskmqBacklogGrows", &free, true),
        ("TaskmqBacklogGrows", &counted_no_further, true),
        ("TaskmqBacklogGrows", &steady, false),
        ("TaskmqBacklogGrows", &at_rest, false),
        ("TaskmqBacklogGrows", &working, false),
        ("TaskmqMessagesWait", &free, true),
        ("TaskmqMessagesWait", &at_rest, false),
        ("TaskmqMessagesWait", &working, false),
        // The limit is not why.
        ("TaskmqMessagesWait", &stuck, true),
    ] {
        assert_eq!(fires(alert, series), expected, "{alert}: {series:?}");
    }
}

struct Prometheus {
    child: Child,
    at: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(targets: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, TOKEN).expect("a file");
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{:?}]\nscrape_configs:\n  - job_name: taskmq\n    \
             authorization: {{ credentials_file: {token:?} }}\n    static_configs: [{{ targets: {targets:?} }}]\n",
            file("monitoring/alerts.yml").canonicalize().expect("is there")
        );
        std::fs::write(&config, text).expect("a file");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package prometheus");
        Self { child, at: port.to_string(), _folder: folder }
    }

    fn is_up(&self) -> bool {
        std::net::TcpStream::connect(&self.at).is_ok()
            && scrape::get(&self.at, "/-/ready", "").0.contains(" 200 ")
    }

    fn ask(&self, path: &str) -> Value {
        let (_, body) = scrape::get(&self.at, path, "");
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    fn series(&self, query: &str) -> usize {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.ask(&format!("/api/v1/query?query={encoded}"))["result"].as_array().map_or(0, Vec::len)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_asks_and_alerts() {
    if std::env::var_os("TASKMQ_TEST_LONG").is_none() {
        return;
    }
    let db = fresh(Backend::Sqlite);
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let environment = [("TASKMQ_METRICS_TOKEN", TOKEN)];
    workers.start_with(db.url(), &["--admin", "127.0.0.1:0"], &environment);
    let admin = address(&workers, "the admin is at");
    workers.start_with(db.url(), &["--metrics", "127.0.0.1:0"], &environment);
    let alone = address(&workers, "the metrics are at");
    let prometheus = Prometheus::start(&[admin, alone]);
    workers.wait("Prometheus is up", LONG, || prometheus.is_up());
    workers.wait("both are scraped", LONG, || prometheus.series("up{job=\"taskmq\"} == 1") == 2);

    let (shown, alerts) = queries();
    for query in &alerts {
        prometheus.series(query);
    }
    let mut left: Vec<String> =
        shown.iter().map(|query| query.replace("$__rate_interval", "1m").replace("$topic", ".*")).collect();
    workers.wait("every query of the dashboard has an answer", LONG, || {
        produce(&mut conn, "note", &1).expect("produces");
        produce(&mut conn, "ending", "panic").expect("produces");
        std::thread::sleep(Duration::from_millis(200));
        left.retain(|query| prometheus.series(query) == 0);
        left.is_empty()
    });
    let alerting = |name: &str| {
        let alerts = prometheus.ask("/api/v1/alerts")["alerts"].clone();
        let mut alerts = alerts.as_array().into_iter().flatten();
        alerts.any(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing")
    };
    workers.wait("the dead letters are told", LONG, || alerting("TaskmqDeadLetters"));
    let rules = prometheus.ask("/api/v1/rules").to_string();
    assert_eq!(rules.matches("\"health\":\"ok\"").count(), alerts.len(), "{rules}");
}
