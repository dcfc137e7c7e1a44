//! Schedules: each tick is one message, whoever looks.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use taskmq_core::broker::{MessageFilter, NoteId};
use taskmq_core::schedule::{
    self, MISSED_HEADER, NAME_HEADER, NewSchedule, Schedule, TICK_HEADER, Ticked, tick,
};
use taskmq_core::worker::Ended;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Context, Error, NewMessage, Produced, Registry, Worker,
    task_consumer,
};
use taskmq_tests::databases::{TestDatabase, try_execute};

use super::worker;

each_database! {
    a_schedule_is_there_if_its_transaction_commits,
    each_tick_is_one_message_however_many_look,
    one_message_makes_up_for_what_was_missed,
    a_schedule_that_is_paused_makes_up_for_nothing,
    another_cron_text_takes_effect_and_a_pause_stays,
    with_a_unique_key_one_message_lives_at_a_time,
    what_people_do_is_noted,
    any_program_can_store_a_schedule,
    nobody_waits_for_a_transaction_that_holds_a_schedule,
    a_tick_that_fails_leaves_nothing,
    workers_that_declare_different_schedules_do_not_fight,
    a_declared_schedule_ticks_where_its_consumer_runs,
    a_look_tells_when_the_next_tick_is,
    a_worker_enters_what_it_declares_and_runs_it,
    a_worker_refuses_what_cannot_tick,
}

/// One whose ticks a test brings about itself.
fn yearly(name: &'static str) -> NewSchedule<'static> {
    NewMessage::new("t", &1).schedule(name, "@yearly")
}

fn find(conn: &mut AnyConnection, name: &str) -> Option<Schedule> {
    schedule::list(conn).expect("lists").into_iter().find(|schedule| schedule.name == name)
}

fn ticked(conn: &mut AnyConnection) -> Ticked {
    tick(conn.broker(), &["t"]).expect("ticks")
}

/// Makes a schedule due so many seconds ago.
fn make_due(conn: &mut AnyConnection, name: &str, ago: i64) -> DateTime<Utc> {
    let now = conn.broker().now().expect("a time");
    let due = DateTime::from_timestamp(now.timestamp() - ago, 0).expect("a time");
    conn.broker().advance_schedule(name, due, None).expect("writes");
    due
}

/// The headers of every message, by id.
fn headers(conn: &mut AnyConnection) -> Vec<BTreeMap<String, String>> {
    let filter = MessageFilter { topic: None, state: None, limit: 1000 };
    let mut messages = conn.broker().messages(&filter).expect("lists");
    messages.sort_by_key(|message| message.id);
    let headers = |json: &str| serde_json::from_str(json).expect("texts");
    messages.iter().map(|message| headers(message.headers.as_ref().expect("headers").get())).collect()
}

fn a_schedule_is_there_if_its_transaction_commits(db: &TestDatabase) {
    let mut conn = db.connect();
    conn.broker().begin().expect("begins");
    yearly("s").store(&mut conn).expect("stores");
    conn.broker().rollback().expect("rolls back");
    assert_eq!(schedule::list(&mut conn).expect("lists"), []);
    conn.broker().begin().expect("begins");
    NewMessage::new("t", &"é")
        .priority(-3)
        .max_attempts(7)
        .unique("key")
        .header("k", "v")
        .schedule("s", " 0 7 * * mon-fri ")
        .time_zone("Asia/Kathmandu")
        .store(&mut conn)
        .expect("stores");
    conn.broker().commit().expect("commits");
    let stored = find(&mut conn, "s").expect("is there");
    assert_eq!((&*stored.cron, &*stored.time_zone), ("0 7 * * mon-fri", "Asia/Kathmandu"));
    assert_eq!((&*stored.topic, &*stored.payload, stored.priority), ("t", "\"é\"", -3));
    assert_eq!((stored.max_attempts, stored.unique_key.as_deref()), (Some(7), Some("key")));
    assert_eq!(stored.headers.as_deref(), Some("{\"k\":\"v\"}"));
    assert!(!stored.paused && stored.declared_by.is_none() && !stored.orphaned);
    assert_eq!((stored.next_at, stored.last_at), (None, None));
    assert!((stored.seen_at - stored.since).abs() < TimeDelta::seconds(60), "{stored:?}");
    for (wrong, words) in [
        (yearly(""), "it is empty"),
        (yearly("a b"), "ASCII"),
        (yearly("s").time_zone("Berlin"), "Europe/Berlin"),
        (NewMessage::new("t", &1).schedule("s", "61 * * * *"), "minute"),
        (NewMessage::new("t", &1).delay(Duration::from_secs(1)).schedule("s", "@daily"), "delay"),
        (NewMessage::new("two words", &1).schedule("s", "@daily"), "two words"),
    ] {
        let error = wrong.store(&mut conn).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(find(&mut conn, "s").expect("is there").cron, stored.cron);
}

fn each_tick_is_one_message_however_many_look(db: &TestDatabase) {
    let mut conn = db.connect();
    NewMessage::new("t", &1).schedule("s", "* * * * * *").store(&mut conn).expect("stores");
    yearly("other").store(&mut conn).expect("stores");
    let first = make_due(&mut conn, "s", 8);
    let counts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut conn = db.connect_worker();
                let messages = (0..15).map(|_| ticked(&mut conn).messages).sum::<usize>();
                counts.lock().expect("no panic").push(messages);
            });
        }
    });
    let last = find(&mut conn, "s").expect("is there").last_at.expect("has ticked");
    let expected: Vec<DateTime<Utc>> =
        (0..=(last - first).num_seconds()).map(|n| first + TimeDelta::seconds(n)).collect();
    assert!(expected.len() >= 8, "{expected:?}");
    let headers = headers(&mut conn);
    let mut ticks: Vec<DateTime<Utc>> =
        headers.iter().map(|headers| headers[TICK_HEADER].parse().expect("a time")).collect();
    ticks.sort_unstable();
    assert_eq!(ticks, expected, "each once, none left out");
    assert!(headers.iter().all(|h| h[NAME_HEADER] == "s" && !h.contains_key(MISSED_HEADER)), "{headers:?}");
    assert_eq!(counts.into_inner().expect("no panic").iter().sum::<usize>(), expected.len());
}

fn one_message_makes_up_for_what_was_missed(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    NewMessage::new("t", &1).schedule("s", "*/10 * * * * *").store(&mut conn).expect("stores");
    let due = make_due(&mut conn, "s", 3600);
    let round = ticked(&mut conn);
    assert_eq!(round.messages, 1);
    assert!(round.next.expect("a next one") <= Duration::from_secs(10), "{round:?}");
    let made_up = headers(&mut conn).remove(0);
    assert_eq!(made_up[TICK_HEADER].parse::<DateTime<Utc>>().expect("a time"), due);
    let missed: i64 = made_up[MISSED_HEADER].parse().expect("a number");
    assert!((359..=361).contains(&missed), "{missed}");
    let after = find(&mut conn, "s").expect("is there");
    assert!(after.next_at > Some(after.last_at.expect("has ticked") + TimeDelta::seconds(3590)), "{after:?}");
    assert_eq!(after.last_message_id, Some(1));
}

fn a_schedule_that_is_paused_makes_up_for_nothing(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    yearly("s").store(&mut conn).expect("stores");
    make_due(&mut conn, "s", 2);
    assert!(schedule::pause(&mut conn, "s", "a person").expect("pauses"));
    assert!(!schedule::pause(&mut conn, "s", "another").expect("reads"), "it is paused already");
    assert_eq!(ticked(&mut conn), Ticked::default());
    assert!(find(&mut conn, "s").expect("is there").upcoming(3).expect("reads").is_empty());
    assert!(schedule::resume(&mut conn, "s", "a person").expect("resumes"));
    assert!(!schedule::resume(&mut conn, "s", "a person").expect("reads"));
    let round = ticked(&mut conn);
    assert!(round.messages == 0 && round.next > Some(Duration::from_secs(1)), "{round:?}");
    let upcoming = find(&mut conn, "s").expect("is there").upcoming(2).expect("reads");
    assert!(upcoming.len() == 2 && upcoming[0] < upcoming[1], "{upcoming:?}");
}

fn another_cron_text_takes_effect_and_a_pause_stays(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    yearly("s").store(&mut conn).expect("stores");
    assert_eq!(ticked(&mut conn).messages, 0);
    let before = find(&mut conn, "s").expect("is there");
    assert!(before.next_at.is_some(), "it is worked out");
    NewMessage::new("t", &2).schedule("s", "@yearly").store(&mut conn).expect("stores");
    let message = find(&mut conn, "s").expect("is there");
    assert_eq!((&*message.payload, message.next_at, message.since), ("2", before.next_at, before.since));
    yearly("s").time_zone("Pacific/Apia").store(&mut conn).expect("stores");
    let zone = find(&mut conn, "s").expect("is there");
    assert!(zone.next_at.is_none() && zone.since >= before.since, "{zone:?}");
    schedule::pause(&mut conn, "s", "a person").expect("pauses");
    NewMessage::new("t", &1).schedule("s", "* * * * * *").store(&mut conn).expect("stores");
    assert!(find(&mut conn, "s").expect("is there").paused);
    schedule::resume(&mut conn, "s", "a person").expect("resumes");
    let round = ticked(&mut conn);
    assert!(round.next.expect("a next one") <= Duration::from_secs(1), "{round:?}");
}

fn with_a_unique_key_one_message_lives_at_a_time(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    NewMessage::new("t", &1).unique("k").schedule("s", "* * * * * *").store(&mut conn).expect("stores");
    let first = make_due(&mut conn, "s", 3);
    let messages: usize = (0..3).map(|_| ticked(&mut conn).messages).sum();
    assert_eq!(messages, 1);
    let after = find(&mut conn, "s").expect("is there");
    assert!(after.last_at >= Some(first + TimeDelta::seconds(2)), "it ticks on: {after:?}");
    assert_eq!(after.last_message_id, Some(1));
    let run = schedule::run_now(&mut conn, "s", "a person").expect("runs");
    assert_eq!(run, Produced::Existing(1));
}

fn what_people_do_is_noted(db: &TestDatabase) {
    let mut conn = db.connect();
    yearly("s").store(&mut conn).expect("stores");
    let Produced::New(id) = schedule::run_now(&mut conn, "s", "me").expect("runs") else { panic!("is new") };
    let now = headers(&mut conn).remove(0);
    assert_eq!(now[NAME_HEADER], "s");
    assert!(now[TICK_HEADER].parse::<DateTime<Utc>>().is_ok(), "{now:?}");
    schedule::pause(&mut conn, "s", "me").expect("pauses");
    schedule::run_now(&mut conn, "s", "me").expect("a pause does not keep it from being run by hand");
    schedule::resume(&mut conn, "s", "me").expect("resumes");
    schedule::remove(&mut conn, "s", "me").expect("removes");
    assert_eq!(schedule::list(&mut conn).expect("lists"), []);
    let notes = conn.broker().notes(NoteId::MAX, 10).expect("reads");
    let notes: Vec<_> = notes
        .iter()
        .rev()
        .map(|n| (&*n.actor, &*n.action, n.topic.as_deref(), &*n.details, n.messages))
        .collect();
    let note = |action, messages| ("me", action, Some("t"), "s", messages);
    let expected = [
        note("run schedule", 1),
        note("pause schedule", 0),
        note("run schedule", 1),
        note("resume schedule", 0),
        note("remove schedule", 0),
    ];
    assert_eq!(notes, expected);
    assert_eq!(
        conn.broker().notes(NoteId::MAX, 10).expect("reads").pop().and_then(|n| n.message_id),
        Some(id)
    );
    for missing in [
        schedule::pause(&mut conn, "s", "me").map(drop),
        schedule::resume(&mut conn, "s", "me").map(drop),
        schedule::run_now(&mut conn, "s", "me").map(drop),
        schedule::remove(&mut conn, "s", "me"),
    ] {
        assert!(matches!(missing, Err(Error::NoSchedule { .. })), "{missing:?}");
    }
    // Inside a transaction of the host's own, on every database.
    yearly("s").store(&mut conn).expect("stores");
    conn.broker().begin().expect("begins");
    schedule::remove(&mut conn, "s", "me").expect("removes");
    conn.broker().rollback().expect("rolls back");
    assert!(find(&mut conn, "s").is_some());
}

fn any_program_can_store_a_schedule(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    db.execute("INSERT INTO taskmq_schedules (name, topic, payload, cron) VALUES ('s', 't', '{\"a\": 1}', '* * * * * *')");
    assert!(ticked(&mut conn).next.expect("a next one") <= Duration::from_secs(1));
    make_due(&mut conn, "s", 0);
    assert_eq!(ticked(&mut conn).messages, 1);
    db.execute("UPDATE taskmq_schedules SET headers = '{\"n\": 1}'");
    make_due(&mut conn, "s", 0);
    assert_eq!(ticked(&mut conn).messages, 1, "headers that are no texts stop nothing");
    db.execute("DELETE FROM taskmq_schedules");
    for (name, cron, zone) in
        [("a", "0 25 * * *", "UTC"), ("b", "0 0 30 2 *", "UTC"), ("c", "0 7 * * *", "Mars")]
    {
        db.execute(&format!(
            "INSERT INTO taskmq_schedules (name, topic, payload, cron, time_zone) VALUES ('{name}', 't', '1', '{cron}', '{zone}')"
        ));
    }
    yearly("good").store(&mut conn).expect("stores");
    make_due(&mut conn, "good", 1);
    assert_eq!(ticked(&mut conn).messages, 1, "a bad one hurts no other");
    assert!(schedule::list(&mut conn).expect("lists").iter().all(|s| s.paused == (s.name != "good")));
    let notes = conn.broker().notes(NoteId::MAX, 10).expect("reads");
    let said = notes.iter().map(|n| n.details.as_str()).collect::<Vec<_>>().join("\n");
    assert!(said.contains("its hour") && said.contains("no such day") && said.contains("\"Mars\""), "{said}");
    db.execute("DELETE FROM taskmq_schedules");
    // What no message can have, the table refuses.
    for (column, value) in [
        ("topic", "'a b'"),
        ("topic", "''"),
        ("max_attempts", "0"),
        ("unique_key", "'k '"),
        ("unique_key", "''"),
        ("priority", "70000"),
    ] {
        let mut row = vec![("name", "'bad'"), ("topic", "'t'"), ("payload", "'1'"), ("cron", "'@yearly'")];
        row.retain(|(name, _)| *name != column);
        row.push((column, value));
        let (columns, values): (Vec<_>, Vec<_>) = row.into_iter().unzip();
        let insert =
            format!("INSERT INTO taskmq_schedules ({}) VALUES ({})", columns.join(", "), values.join(", "));
        assert!(try_execute(&mut conn, &insert).is_err(), "{insert}");
    }
    // Or else the schedule is paused, and hurts no other.
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let insert = format!(
        "INSERT INTO taskmq_schedules (name, topic, payload, cron) VALUES ('bad', 't', '{deep}', '@yearly')"
    );
    if try_execute(&mut conn, &insert).is_err() {
        return; // MariaDB takes no such JSON at all
    }
    yearly("good").store(&mut conn).expect("stores");
    make_due(&mut conn, "bad", 2);
    make_due(&mut conn, "good", 1);
    assert_eq!(ticked(&mut conn).messages, 1, "a bad one hurts no other");
    let is_paused = |conn: &mut AnyConnection, name| find(conn, name).expect("is there").paused;
    assert!(is_paused(&mut conn, "bad") && !is_paused(&mut conn, "good"));
}

fn nobody_waits_for_a_transaction_that_holds_a_schedule(db: &TestDatabase) {
    if db.backend() == Backend::Sqlite {
        return; // There a transaction that writes holds the whole file.
    }
    let (mut host, mut conn) = (db.connect(), db.connect_worker());
    for name in ["s", "other"] {
        yearly(name).store(&mut conn).expect("stores");
        make_due(&mut conn, name, 2);
    }
    host.broker().begin().expect("begins");
    NewMessage::new("t", &2).schedule("s", "@yearly").store(&mut host).expect("stores");
    let began = Instant::now();
    assert_eq!(ticked(&mut conn).messages, 1, "the other one ticks");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    host.broker().commit().expect("commits");
    assert_eq!(ticked(&mut conn).messages, 1);
    assert_eq!(ticked(&mut conn).messages, 0);
}

fn a_tick_that_fails_leaves_nothing(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    yearly("s").store(&mut conn).expect("stores");
    let due = make_due(&mut conn, "s", 2);
    let refuse = match db.backend() {
        Backend::Sqlite => {
            "CREATE TRIGGER refuse BEFORE UPDATE OF last_at ON taskmq_schedules BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
        Backend::Postgres => "ALTER TABLE taskmq_schedules ADD CONSTRAINT refuse CHECK (last_at IS NULL)",
        Backend::Mysql => "ALTER TABLE taskmq_schedules ADD CONSTRAINT refuse CHECK (last_at IS NULL)",
    };
    db.execute(refuse);
    tick(conn.broker(), &["t"]).expect_err("the row cannot be written");
    assert_eq!(headers(&mut conn).len(), 0, "no message without its tick");
    assert_eq!(find(&mut conn, "s").expect("is there").next_at, Some(due));
    let allow = match db.backend() {
        Backend::Sqlite => "DROP TRIGGER refuse",
        _ => "ALTER TABLE taskmq_schedules DROP CONSTRAINT refuse",
    };
    try_execute(&mut conn, allow).expect("is allowed again");
    assert_eq!(ticked(&mut conn).messages, 1, "the connection is as good as before");
}

fn workers_that_declare_different_schedules_do_not_fight(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    let declared =
        |cron: &'static str| [NewMessage::new("t", &1).schedule("t", cron).into_record().expect("is right")];
    let (old, new) = (declared("0 1 * * *"), declared("0 2 * * *"));
    let mut declare = |worker, declared: &[_], starts| {
        schedule::declare(conn.broker(), worker, &["t"], declared, starts).expect("declares");
        let there = schedule::list(&mut conn).expect("lists");
        there.first().map(|s| (s.cron.clone(), s.declared_by.expect("is declared")))
    };
    let is = |cron: &str, worker| Some((cron.to_owned(), worker));
    let mut others = db.connect();
    for id in 1..=4 {
        worker(&mut others, id);
    }
    assert_eq!(declare(1, &old, true), is("0 1 * * *", 1));
    assert!(schedule::pause(&mut others, "t", "a person").expect("pauses"));
    assert_eq!(declare(2, &new, true), is("0 2 * * *", 2), "who starts last wins");
    assert_eq!(declare(1, &old, false), is("0 2 * * *", 2), "as long as it runs");
    assert_eq!(declare(3, &[], true), is("0 2 * * *", 2), "and who declares none leaves it alone");
    others.broker().deregister(2).expect("ends");
    assert_eq!(
        declare(1, &old, false),
        is("0 1 * * *", 1),
        "then one of those that still run enters its own"
    );
    assert!(find(&mut others, "t").expect("is there").paused, "a person's pause stays");
    others.broker().deregister(1).expect("ends");
    assert_eq!(
        declare(4, &old, false),
        is("0 1 * * *", 4),
        "the same text, but now it is entered by one that runs"
    );
    assert_eq!(declare(3, &[], false), is("0 1 * * *", 4));
    others.broker().deregister(4).expect("ends");
    assert_eq!(declare(3, &[], false), None, "nobody declares it any more");
    // What a consumer declares is changed at the consumer.
    assert_eq!(declare(3, &new, true), is("0 2 * * *", 3));
    let refused = yearly("t").store(&mut others).expect_err("is declared").to_string();
    assert!(refused.contains("its consumer declares it"), "{refused}");
    let refused = schedule::remove(&mut others, "t", "a person").expect_err("is declared").to_string();
    assert!(refused.contains("pause it"), "{refused}");
}

fn a_declared_schedule_ticks_where_its_consumer_runs(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    worker(&mut conn, 1);
    let declared = [NewMessage::new("mail", &1).schedule("mail", "@yearly").into_record().expect("is right")];
    schedule::declare(conn.broker(), 1, &["mail"], &declared, true).expect("declares");
    make_due(&mut conn, "mail", 1);
    assert_eq!(ticked(&mut conn), Ticked::default(), "a worker of another topic");
    assert_eq!(conn.broker().look(1, &["t"]).expect("looks").next_tick, None);
    assert_eq!(conn.broker().look(1, &["mail"]).expect("looks").next_tick, Some(Duration::ZERO));
    assert_eq!(tick(conn.broker(), &["mail"]).expect("ticks").messages, 1);
}

fn a_look_tells_when_the_next_tick_is(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    worker(&mut conn, 1);
    let next = |conn: &mut AnyConnection| conn.broker().look(1, &["t"]).expect("looks").next_tick;
    assert_eq!(next(&mut conn), None);
    yearly("s").store(&mut conn).expect("stores");
    assert_eq!(next(&mut conn), Some(Duration::ZERO), "it is to be worked out");
    let round = ticked(&mut conn);
    let year = next(&mut conn).expect("a next one");
    assert!(round.next.expect("a next one").abs_diff(year) < Duration::from_secs(60), "{round:?} {year:?}");
    assert!(year <= Duration::from_secs(366 * 24 * 3600));
    make_due(&mut conn, "s", -30);
    let soon = next(&mut conn).expect("a next one");
    assert!(soon > Duration::from_secs(20) && soon <= Duration::from_secs(30), "{soon:?}");
    schedule::pause(&mut conn, "s", "a person").expect("pauses");
    assert_eq!(next(&mut conn), None);
}

static HANDLED: Mutex<Vec<(String, BTreeMap<String, String>)>> = Mutex::new(Vec::new());

#[task_consumer(topic = "seconds", schedule = "* * * * * *", payload = "every second".to_owned())]
fn seconds(text: String, ctx: &Context) {
    HANDLED.lock().expect("no panic").push((text, ctx.headers().clone()));
}

fn registry(consumer: taskmq_core::Consumer) -> Registry {
    Registry::default().with(consumer).expect("one consumer")
}

fn a_worker_enters_what_it_declares_and_runs_it(db: &TestDatabase) {
    let worker = Worker::new(registry(seconds::consumer()), db.url()).handle_signals(false);
    let stop = worker.stop_handle();
    let running = thread::spawn(move || worker.run());
    let mut conn = db.connect();
    let began = Instant::now();
    while conn.broker().topics().expect("reads").first().is_none_or(|topic| topic.done < 3) {
        assert!(began.elapsed() < Duration::from_secs(20), "it ticks");
        thread::sleep(Duration::from_millis(20));
    }
    stop.stop();
    assert_eq!(running.join().expect("joins").expect("runs"), Ended::Finished);
    let filter = MessageFilter { topic: Some("seconds".to_owned()), state: None, limit: 100 };
    for message in conn.broker().messages(&filter).expect("lists") {
        let headers: BTreeMap<String, String> =
            serde_json::from_str(message.headers.expect("headers").get()).expect("texts");
        let tick: DateTime<Utc> = headers[TICK_HEADER].parse().expect("a time");
        let late = message.created_at - tick;
        // Near enough to be used, far enough for a machine that is busy with other tests.
        assert!(late >= TimeDelta::zero() && late < TimeDelta::seconds(3), "{late}");
    }
    let handled = HANDLED.lock().expect("no panic");
    assert!(
        handled.iter().all(|(text, headers)| text == "every second" && headers[NAME_HEADER] == "seconds")
    );
    let declared = find(&mut conn, "seconds").expect("is there");
    assert!(declared.orphaned, "its worker has ended");
}

fn a_worker_refuses_what_cannot_tick(db: &TestDatabase) {
    for (cron, zone, words) in [("0 25 * * *", "UTC", "its hour is \"25\""), ("@daily", "Mars", "\"Mars\"")] {
        let consumer = seconds::consumer().schedule(cron, zone, || seconds::message(&String::new()));
        let error = Worker::new(registry(consumer), db.url()).run().expect_err(words).to_string();
        assert!(error.contains("::seconds") && error.contains(words), "{error}");
    }
    assert_eq!(schedule::list(&mut db.connect()).expect("lists"), []);
}
