//! Three nodes of a MariaDB Galera cluster, a worker on each and producers on two, of which one node dies and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use taskmq_core::{Backend, BrokerConnection, NewMessage, Produced, migration, produce_many};
use taskmq_tests::servers::Galera;

use super::{LONG, connect, execute, long, say};
use crate::workers::Workers;

const SLOW: i64 = 120;
const NOTES: i64 = 1000;

/// Nothing but the tables tells one worker of another, as on three machines.
fn start(workers: &mut Workers, url: &str) -> u32 {
    let machine = tempfile::tempdir_in(workers.folder()).expect("a folder").keep();
    let temporary = [("TMPDIR", machine.to_str().expect("a path in UTF-8"))];
    let at = workers.start_with(url, &["--concurrency", "4"], &temporary);
    workers.children[at].id()
}

#[test]
fn a_node_of_a_galera_cluster_is_killed() {
    if !long() {
        return say(
            "SKIPPED, no Galera cluster was started: it takes half a minute, TASKMQ_TEST_LONG=1 has it",
        );
    }
    let began = Instant::now();
    let mut cluster = Galera::start(3).expect("the cluster starts");
    cluster.node(0).create_database("app").expect("makes a database");
    let urls: Vec<String> = (0..3).map(|at| cluster.node(at).url("app")).collect();
    execute(&mut connect(&urls[0]), migration::up(Backend::Mysql));
    let started = began.elapsed();
    let mut workers = Workers::new(&urls[0]);
    let pids: Vec<u32> = urls.iter().map(|url| start(&mut workers, url)).collect();
    workers.wait("all are ready", LONG, || workers.log().matches("worker ready").count() == 3);
    assert_eq!(workers.log().matches("is a node of a Galera cluster").count(), 3, "{}", workers.log());

    // Two producers at once, on two nodes, the same keys among them: each key is stored once.
    let stored: i64 = std::thread::scope(|scope| {
        let on = |url: &String, first: i64| {
            let url = url.clone();
            move || {
                let mut conn = connect(&url);
                let many = (0..NOTES / 2).map(|n| NewMessage::new("note", &(first + 1000 + n)));
                produce_many(&mut conn, many).expect("produces");
                let keys = (0..100).map(|n| {
                    NewMessage::new("note", &(first + 5000 + n))
                        .delay(Duration::from_secs(20))
                        .unique(format!("key {n}"))
                });
                keys.map(|message| {
                    i64::from(matches!(message.produce(&mut conn).expect("produces"), Produced::New(_)))
                })
                .sum::<i64>()
            }
        };
        let (one, other) = (scope.spawn(on(&urls[0], 0)), scope.spawn(on(&urls[2], 10_000)));
        one.join().expect("produces") + other.join().expect("produces")
    });
    assert_eq!(stored, 100, "each key is stored once");
    produce_many(&mut connect(&urls[0]), (0..SLOW).map(|n| NewMessage::new("slow", &n))).expect("produces");

    let running = |workers: &Workers, pid: u32| -> BTreeSet<i64> {
        let journal = workers.journal();
        let of = |what: &str| -> BTreeSet<i64> {
            journal.iter().filter(|e| e.pid == pid && e.what == what).map(|e| e.number).collect()
        };
        of("begin").difference(&of("end")).copied().collect()
    };
    workers.wait("all three work", LONG, || pids.iter().all(|pid| !running(&workers, *pid).is_empty()));
    cluster.kill9(2).expect("kills a node");
    let killed = Instant::now();
    // Its worker has no other node to go to.
    let mut rescued = None;
    workers.wait("the others take over what its worker held", LONG, || {
        if rescued.is_none() && workers.log().contains("died") {
            rescued = Some(killed.elapsed());
        }
        let ended: BTreeSet<i64> = workers
            .journal()
            .iter()
            .filter(|e| e.what == "end" && e.pid != pids[2])
            .map(|e| e.number)
            .collect();
        let stats = connect(&urls[0]).broker().topics().expect("reads");
        rescued.is_some()
            && stats.iter().all(|topic| topic.ready + topic.running + topic.retrying == 0)
            && !ended.is_empty()
    });
    let rescued = rescued.expect("it is");
    // As it ships, the other nodes wait five seconds for a silent one before anything goes on.
    assert!(rescued < Duration::from_secs(15), "{rescued:?}");
    cluster.restart(2).expect("the node comes back");
    workers.wait("its worker begins anew", LONG, || workers.log().matches("worker ready").count() == 4);
    let before = workers.journal().len();
    produce_many(&mut connect(&urls[2]), (900..940).map(|n| NewMessage::new("slow", &n))).expect("produces");
    workers.wait("it works again", LONG, || workers.journal()[before..].iter().any(|e| e.pid == pids[2]));
    workers.wait("all is done", LONG, || {
        let stats = connect(&urls[1]).broker().topics().expect("reads");
        stats.iter().map(|topic| topic.done).sum::<i64>() == SLOW + NOTES + 100 + 40
    });
    say(&format!(
        "Galera: started after {started:.1?}, what the worker on a killed node held was given back after {rescued:.1?}, all after {:.1?}",
        began.elapsed()
    ));
    // Only what a worker held that was cut off from its node may have been run by two.
    let mut runs: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for entry in workers.journal().iter().filter(|e| e.what == "end") {
        runs.entry(entry.number).or_default().push(entry.pid);
    }
    for (number, by) in &runs {
        assert!(
            by.len() == 1 || by.len() == 2 && by.contains(&pids[2]),
            "{number} was run by {by:?}, {pids:?}"
        );
    }
    assert_eq!(runs.len(), usize::try_from(SLOW + NOTES + 100 + 40).expect("is small"), "each was handled");
    let log = workers.log();
    assert!(!log.contains("Deadlock"), "{log}");
    a_worker_is_killed(&workers, &urls[0]);
}

fn a_worker_is_killed(workers: &Workers, url: &str) {
    produce_many(&mut connect(url), (2000..2040).map(|n| NewMessage::new("slow", &n))).expect("produces");
    workers
        .wait("they are run", LONG, || workers.journal().iter().any(|e| e.number >= 2000 && e.number < 3000));
    let before = workers.log().matches(" died;").count();
    workers.signal(1, "KILL");
    let took = workers.wait("it is found dead", LONG, || workers.log().matches(" died;").count() > before);
    say(&format!("Galera: a killed worker was found dead after {took:.1?}"));
    assert!(took < Duration::from_secs(10), "{took:?}");
    workers.wait("all is done", LONG, || {
        let stats = connect(url).broker().topics().expect("reads");
        stats.iter().all(|topic| topic.ready + topic.running + topic.retrying == 0)
    });
}
