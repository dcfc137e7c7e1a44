//! Three nodes of a MariaDB Galera cluster, a worker on each and producers on two, of which one node dies and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use taskmq_core::broker::WorkerIdentity;
use taskmq_core::{Backend, BrokerConnection, MessageId, NewMessage, Produced, migration, produce_many};
use taskmq_tests::servers::Galera;

use super::{LONG, connect, execute, long, say};
use crate::workers::Workers;

const SLOW: i64 = 120;
const NOTES: i64 = 1000;
/// The nodes go on without a silent one after two seconds, and not after five.
const QUICK: &str = "evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S";

/// Nothing but the tables tells one worker of another, as on three machines.
fn start(workers: &mut Workers, program: &str, url: &str) -> u32 {
    let machine = tempfile::tempdir_in(workers.folder()).expect("a folder").keep();
    let mut command = Command::new(program);
    command.args(["--concurrency", "4"]).env("TMPDIR", machine);
    let at = workers.spawn(url, command);
    workers.children[at].id()
}

/// A cluster of three with the tables, and the URLs of its nodes.
fn cluster(options: &str) -> (Galera, Vec<String>) {
    let cluster = Galera::start(3, options).expect("the cluster starts");
    cluster.node(0).create_database("app").expect("makes a database");
    let urls: Vec<String> = (0..3).map(|at| cluster.node(at).url("app")).collect();
    execute(&mut connect(&urls[0]), migration::up(Backend::Mysql));
    (cluster, urls)
}

/// What this worker has begun and not ended.
fn running(workers: &Workers, pid: u32) -> BTreeSet<i64> {
    let journal = workers.journal();
    let of = |what: &str| -> BTreeSet<i64> {
        journal.iter().filter(|e| e.pid == pid && e.what == what).map(|e| e.number).collect()
    };
    of("begin").difference(&of("end")).copied().collect()
}

/// The others do what there is while its node catches up, so there is more until it takes some.
fn works_again(workers: &Workers, pid: u32, url: &str, mut produce_more: impl FnMut()) {
    let before = workers.journal().len();
    workers.wait("it works again", LONG, || {
        if connect(url).broker().topics().expect("reads").iter().all(|topic| topic.ready == 0) {
            produce_more();
        }
        workers.journal()[before..].iter().any(|e| e.pid == pid)
    });
}

#[test]
fn a_node_of_a_galera_cluster_is_killed() {
    if !long() {
        return say(
            "SKIPPED, no Galera cluster was started: it takes half a minute, TASKMQ_TEST_LONG=1 has it",
        );
    }
    let began = Instant::now();
    let (mut cluster, urls) = cluster("");
    let started = began.elapsed();
    let mut workers = Workers::new(&urls[0]);
    let program = env!("CARGO_BIN_EXE_test-worker");
    let pids: Vec<u32> = urls.iter().map(|url| start(&mut workers, program, url)).collect();
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
    // As it ships, the other nodes wait five seconds for a silent one, and more on a busy machine, before anything goes on.
    assert!(rescued < Duration::from_secs(20), "{rescued:?}");
    cluster.restart(2).expect("the node comes back");
    workers.wait("its worker begins anew", LONG, || workers.log().matches("worker ready").count() == 4);
    let mut more = 0;
    works_again(&workers, pids[2], &urls[2], || {
        let numbers = 900 + more..908 + more;
        more += 8;
        produce_many(&mut connect(&urls[2]), numbers.map(|n| NewMessage::new("slow", &n))).expect("produces");
    });
    workers.wait("all is done", LONG, || {
        let stats = connect(&urls[1]).broker().topics().expect("reads");
        stats.iter().map(|topic| topic.done).sum::<i64>() == SLOW + NOTES + 100 + more
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
    assert_eq!(runs.len(), usize::try_from(SLOW + NOTES + 100 + more).expect("is small"), "each was handled");
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

/// Two workers claim the same suspects on two nodes, which no lock of a node's own keeps apart.
fn suspects_are_leased_once(urls: &[String]) {
    let mut conn = connect(&urls[0]);
    produce_many(&mut conn, (0..100).map(|n| NewMessage::new("suspect", &n))).expect("produces");
    execute(&mut conn, "UPDATE taskmq_messages SET worker_id = -2, suspicions = 1");
    let (sender, claimed) = channel();
    let claim_all = |at: usize| {
        let (url, sender) = (urls[at].clone(), sender.clone());
        thread::spawn(move || {
            claim_suspects(&url, at, |ids| sender.send((at, ids)).expect("is received"));
        });
    };
    let (mut leased, mut at_work) = (Vec::new(), BTreeSet::from([0, 1]));
    at_work.iter().for_each(|at| conn.broker().register(&worker_on(*at)).expect("registers"));
    at_work.iter().copied().for_each(claim_all);
    let (began, mut anew) = (Instant::now(), false);
    while !at_work.is_empty() {
        assert!(began.elapsed() < LONG, "not within {LONG:?}: nodes {at_work:?} have claimed all suspects");
        match claimed.recv_timeout(Duration::from_secs(5)) {
            Ok((at, ids)) if ids.is_empty() => drop(at_work.remove(&at)),
            Ok((_, ids)) => leased.extend(ids),
            Err(_) => {
                say(
                    "Galera: a claim that gave way says nothing more: its worker connects anew, as all do after five seconds",
                );
                at_work.iter().copied().for_each(claim_all);
                anew = true;
            }
        }
    }
    leased.sort_unstable();
    assert!(leased.windows(2).all(|pair| pair[0] < pair[1]), "each is leased once: {leased:?}");
    assert!(leased.len() == 100 || anew, "nobody has the others: {leased:?}");
    assert_eq!(conn.broker().topics().expect("reads")[0].running, 100);
    execute(&mut conn, "DELETE FROM taskmq_messages");
    execute(&mut conn, "DELETE FROM taskmq_workers");
}

fn worker_on(node: usize) -> WorkerIdentity {
    let id = 1 + i64::try_from(node).expect("is small");
    WorkerIdentity { id, host: "host".to_owned(), pid: 1, topics: "suspect".to_owned(), concurrency: 1 }
}

/// As the worker on a node, until there are none; then it gives none.
fn claim_suspects(url: &str, node: usize, mut leased: impl FnMut(Vec<MessageId>)) {
    let mut conn = connect(url);
    let id = worker_on(node).id;
    loop {
        match conn.broker().claim_suspects(id, &["suspect"], 2) {
            Ok(claimed) if !claimed.is_empty() => leased(claimed.into_iter().map(|m| m.id).collect()),
            Ok(_) if conn.broker().look(id, &["suspect"]).expect("looks").suspects => {}
            Ok(_) => return leased(Vec::new()),
            Err(error) => return say(&format!("Galera: a claim gave way too often: {error}")),
        }
    }
}

/// With transactional consumers only. The node is cut off from the others and not from its worker; then it is stopped.
#[test]
fn a_galera_cluster_is_cut_in_two() {
    if !long() {
        return say("SKIPPED, no Galera cluster was cut in two: TASKMQ_TEST_LONG=1 does it");
    }
    let (cluster, urls) = cluster(QUICK);
    suspects_are_leased_once(&urls);
    execute(
        &mut connect(&urls[0]),
        "CREATE TABLE effects (id BIGINT AUTO_INCREMENT PRIMARY KEY, number BIGINT NOT NULL)",
    );
    let mut workers = Workers::new(&urls[0]);
    let program = env!("CARGO_BIN_EXE_effect-worker");
    let pids: Vec<u32> = urls.iter().map(|url| start(&mut workers, program, url)).collect();
    let mut produced = 0;
    let faults: [(&str, &dyn Fn(bool)); 2] = [
        ("cut off", &|cut| cluster.isolate(2, cut).expect("cuts it off, or not")),
        ("stopped", &|stopped| cluster.node(2).freeze(stopped).expect("stops it, or not")),
    ];
    for (what, strike) in faults {
        let more = |count: i64, produced: &mut i64| {
            let numbers = *produced..*produced + count;
            *produced += count;
            produce_many(&mut connect(&urls[0]), numbers.map(|n| NewMessage::new("effect", &n)))
                .expect("produces");
        };
        more(200, &mut produced);
        workers.wait("all three work", LONG, || pids.iter().all(|pid| !running(&workers, *pid).is_empty()));
        let (died, begun) =
            (workers.log().matches(" died;").count(), workers.log().matches("worker ready").count());
        strike(true);
        let took =
            workers.wait("the others take over", LONG, || workers.log().matches(" died;").count() > died);
        say(&format!(
            "Galera: what the worker of a node held that was {what} was given back after {took:.1?}"
        ));
        assert!(took < Duration::from_secs(20), "{took:?}");
        let healthy = connect(&urls[0]).broker().topics().expect("reads");
        assert_eq!(healthy.iter().map(|topic| topic.dead).sum::<i64>(), 0);
        workers.wait("the two others do all that there is", LONG, || {
            let stats = connect(&urls[0]).broker().topics().expect("reads");
            stats.iter().map(|topic| topic.done).sum::<i64>() == produced
        });
        strike(false);
        let healed = Instant::now();
        workers
            .wait("its worker begins anew", LONG, || workers.log().matches("worker ready").count() > begun);
        works_again(&workers, pids[2], &urls[0], || more(20, &mut produced));
        say(&format!("Galera: it worked again after {:.1?}", healed.elapsed()));
        workers.wait("all is done", LONG, || {
            let stats = connect(&urls[1]).broker().topics().expect("reads");
            stats.iter().map(|topic| topic.done).sum::<i64>() == produced
        });
    }
    for at in 0..3 {
        let effects = cluster.node(at).sql(
            "app",
            "SET SESSION wsrep_sync_wait = 1; SELECT count(*), count(DISTINCT number) FROM effects",
        );
        assert_eq!(
            effects.expect("reads").trim(),
            format!("{produced}\t{produced}"),
            "each once, on node {at}"
        );
    }
    let stats = connect(&urls[2]).broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead, stats.ready, stats.running), (produced, 0, 0, 0));
}
