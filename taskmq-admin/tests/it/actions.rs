//! Each action, what it asks before, and what the audit log says after.

use axum::http::StatusCode;
use taskmq_core::broker::NoteEntry;
use taskmq_core::{BrokerConnection, State};
use taskmq_tests::databases::TestDatabase;

use crate::site::{Site, dead, identity, produce, run, seed, worker};

each_database! {
    a_message_is_produced_by_a_form,
    single_messages_are_changed_and_noted,
    what_cannot_be_changed_is_refused,
    a_running_one_is_asked_to_end,
    several_are_changed_after_a_question,
    all_with_the_same_error_are_deleted_in_the_background,
    what_comes_after_the_question_is_left_out,
    a_bulk_change_can_be_stopped,
    a_topic_is_paused_and_resumed,
    a_topic_is_limited,
    a_payload_that_its_consumer_cannot_read_is_refused,
    a_worker_is_told_to_end,
    whoever_may_only_look_cannot_change,
}

fn notes(site: &Site) -> Vec<NoteEntry> {
    site.db.connect().broker().notes(i64::MAX, 100).expect("reads")
}

fn a_message_is_produced_by_a_form(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    let good = [
        ("topic", "mail"),
        ("payload", "{\"to\": 1.50}"),
        ("priority", "-3"),
        ("delay", "60"),
        ("max_attempts", "2"),
        ("key", "k1"),
        ("ordering_key", "line 1"),
        ("headers", "{\"tenant\": \"acme\"}"),
    ];
    let made = site.post("/produce", &good);
    let id = notes(&site)[0].message_id.expect("an id");
    site.told(&made, &format!("/messages/{id}"), "The message was produced.");
    let message = site.db.connect().broker().message(id).expect("reads").expect("is there");
    assert_eq!((message.state, message.priority, message.max_attempts), (State::Scheduled, -3, Some(2)));
    assert_eq!(message.unique_key.as_deref(), Some("k1"));
    assert_eq!(message.ordering_key.as_deref(), Some("line 1"));
    let page = site.page(&format!("/messages/{id}"));
    assert!(page.contains("acme") && page.contains("line 1"));
    let note = notes(&site).remove(0);
    assert_eq!((&*note.actor, &*note.action, note.message_id), ("kim", "produce", Some(id)));
    // The key is taken: nothing is stored, and the form says which message has it.
    let again = site.post("/produce", &good);
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.body.contains(&format!("messages/{id}")));
    for (field, value, said) in [
        ("payload", "{\"to\":", "no JSON"),
        ("topic", "no topic", "no ASCII letter"),
        ("priority", "99999", "99999"),
        ("headers", "[1]", "headers"),
    ] {
        let mut bad = good;
        for pair in bad.iter_mut().filter(|(name, _)| *name == field) {
            pair.1 = value;
        }
        let refused = site.post("/produce", &bad);
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        assert!(refused.body.contains(said) && refused.body.contains("value=\"k1\""), "{}", refused.body);
    }
    // In the reader's language, too.
    let (deep, long) = (format!("{}{}", "[".repeat(40), "]".repeat(40)), "k".repeat(300));
    for (field, value, said) in [
        ("payload", &*deep, "负载无法存储：列表和对象的嵌套不能超过 31 层"),
        ("topic", "no topic", "主题“no topic”无效：须为 1 至 100 个字符"),
        ("key", &long, "唯一键无效：须为 1 至 255 个字符"),
        ("ordering_key", &long, "排序键无效：须为 1 至 255 个字符"),
        ("delay", "999999999", "延迟 11574 天过长，上限为 3660 天"),
    ] {
        let mut bad = good;
        for pair in bad.iter_mut().filter(|(name, _)| *name == field) {
            pair.1 = value;
        }
        let refused = site.post_in("zh", "/produce", &bad);
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        assert!(refused.body.contains(said) && !refused.body.contains("cannot"), "{}", refused.body);
    }
    assert_eq!(notes(&site).len(), 1);
}

/// Its topic's consumer is part of this program.
#[taskmq_core::task_consumer(topic = "count")]
fn count(_number: u32) {}

fn a_payload_that_its_consumer_cannot_read_is_refused(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    let send = |payload| site.post("/produce", &[("topic", "count"), ("payload", payload)]);
    let refused = send("\"many\"");
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    assert!(refused.body.contains("count cannot read this payload"), "{}", refused.body);
    let chinese = site.post_in("zh", "/produce", &[("topic", "count"), ("payload", "\"many\"")]);
    assert!(chinese.body.contains("count 无法读取此负载"), "{}", chinese.body);
    assert!(notes(&site).is_empty());
    assert_eq!(send("17").status, StatusCode::SEE_OTHER);
    assert!(site.page("/produce").contains("so the payload is checked: count"));
}

fn a_worker_is_told_to_end(db: TestDatabase) {
    seed(&db);
    let site = Site::new(db, |admin| admin);
    assert!(site.page("/workers").contains("value=\"drain\""));
    let asked = site.post("/workers", &[("id", "7"), ("action", "drain")]);
    assert!(asked.status == StatusCode::OK && asked.body.contains("web-1:42"), "{}", asked.body);
    let draining = |site: &Site| site.db.connect().broker().workers(10).expect("reads")[0].draining;
    assert!(!draining(&site));
    let fields = [("id", "7"), ("action", "drain"), ("confirm", "yes")];
    for _ in 0..2 {
        site.told(
            &site.post("/workers", &fields),
            "/workers",
            "The worker was told to end: it takes no more messages.",
        );
    }
    assert!(draining(&site));
    let page = site.page("/workers");
    assert!(page.contains("draining") && !page.contains("value=\"drain\""), "{page}");
    assert!(site.get_in("zh", "/workers").body.contains("正在停止"));
    let noted: Vec<_> =
        notes(&site).into_iter().map(|note| (note.actor, note.action, note.details)).collect();
    assert_eq!(noted, [("kim".to_owned(), "drain".to_owned(), "web-1:42".to_owned())]);
    let gone = site.post("/workers", &[("id", "8"), ("action", "drain")]);
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert_eq!(site.post("/workers", &[("id", "7")]).status, StatusCode::NOT_FOUND);
    let Site { db, .. } = site;
    let looking = Site::new(db, |admin| admin.read_only(true));
    assert_eq!(looking.post("/workers", &fields).status, StatusCode::METHOD_NOT_ALLOWED);
}

fn single_messages_are_changed_and_noted(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let (id, dead) = (seeded.scheduled.to_string(), seeded.dead[0].to_string());
    let change = |fields: &[(&str, &str)], words: &str| {
        let id = fields[0].1;
        let deleted = fields[1].1 == "delete";
        let path = if deleted { "/messages".to_owned() } else { format!("/messages/{id}") };
        site.told(&site.post("/change", fields), &path, words);
    };
    change(&[("id", &id), ("action", "priority"), ("priority", "9")], "The priority was set.");
    change(&[("id", &id), ("action", "run at"), ("run_at", "2036-05-06T07:08:09")], "The time was set.");
    // Once, also where another language or other colours are chosen on the page that says so.
    let told = site.page(&format!("/messages/{id}?told=priority"));
    assert!(told.contains(&format!("name=\"back\" value=\"messages/{id}\"")), "{told}");
    let told = site.page("/topic?name=mail&told=pause");
    assert!(
        told.contains("It was paused.") && told.contains("name=\"back\" value=\"topic?name=mail\""),
        "{told}"
    );
    let message = site.db.connect().broker().message(seeded.scheduled).expect("reads").expect("is there");
    assert_eq!((message.priority, &*message.run_at.to_rfc3339()), (9, "2036-05-06T07:08:09+00:00"));
    change(&[("id", &id), ("action", "retry")], "It waits for a worker, or for its time.");
    assert_eq!(site.state(seeded.scheduled), Some(State::Ready));
    change(&[("id", &id), ("action", "cancel")], "It was cancelled.");
    assert_eq!(site.state(seeded.scheduled), Some(State::Cancelled));
    change(&[("id", &dead), ("action", "retry")], "It waits for a worker, or for its time.");
    assert_eq!(site.state(seeded.dead[0]), Some(State::Ready));
    // What cannot be undone is asked about.
    let asked = site.post("/change", &[("id", &id), ("action", "delete")]);
    assert!(asked.status == StatusCode::OK && asked.body.contains("1 message"), "{}", asked.body);
    assert_eq!(site.state(seeded.scheduled), Some(State::Cancelled));
    change(&[("id", &id), ("action", "delete"), ("confirm", "yes")], "The message was deleted.");
    assert_eq!(site.state(seeded.scheduled), None);
    let done: Vec<String> = notes(&site)
        .iter()
        .rev()
        .map(|note| format!("{} {} {}", note.actor, note.action, note.details))
        .collect();
    assert_eq!(
        done,
        [
            "kim priority to 9",
            "kim run at at 2036-05-06 07:08:09 UTC",
            "kim retry ",
            "kim cancel ",
            "kim retry ",
            "kim delete "
        ]
    );
    assert!(site.page("/audit").contains("2036-05-06"));
}

fn what_cannot_be_changed_is_refused(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let running = seeded.running.to_string();
    let change = [("id", &*running), ("action", "priority"), ("priority", "1")];
    let refused = site.post("/change", &change);
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("It is running"), "{}", refused.body);
    let refused = site.post_in("zh", "/change", &change);
    assert!(refused.body.contains("消息正在运行"), "{}", refused.body);
    for fields in [
        &[("action", "cancel")][..],
        &[("id", "1"), ("action", "priority"), ("priority", "many")],
        &[("id", "1"), ("action", "run at"), ("run_at", "soon")],
        &[("id", "1"), ("action", "run at"), ("run_at", "9999-01-01T00:00")],
        &[("all", "delete"), ("state", "running")],
        &[("all", "delete"), ("state", "cancelled")],
    ] {
        assert_eq!(site.post("/change", fields).status, StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}");
    }
    for fields in [&[("id", "1"), ("action", "explode")][..], &[("all", "delete"), ("confirm", "yes")]] {
        assert_eq!(site.post("/change", fields).status, StatusCode::NOT_FOUND, "{fields:?}");
    }
    assert!(notes(&site).is_empty());
}

fn a_running_one_is_asked_to_end(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let running = seeded.running.to_string();
    let path = format!("/messages/{running}");
    assert!(site.page(&path).contains("value=\"cancel\""), "the only thing that can be done with it");
    assert!(!site.page(&path).contains("value=\"delete\""));
    let told = site.post("/change", &[("id", &running), ("action", "cancel")]);
    assert_eq!(told.status, StatusCode::SEE_OTHER);
    let page = site.page(&path);
    assert!(page.contains("Its worker was asked to end it."), "{page}");
    assert!(!page.contains("value=\"cancel\""), "{page}");
    assert_eq!(site.state(seeded.running), Some(State::Running), "that is its worker's to do");
    let note = notes(&site).remove(0);
    assert_eq!((&*note.action, note.message_id, note.messages), ("cancel", Some(seeded.running), 1));
    // Beside others.
    let (first, second) = (seeded.dead[0].to_string(), running);
    let fields = [("id", &*first), ("id", &*second), ("action", "cancel"), ("confirm", "yes")];
    let told = site.post("/change", &fields);
    assert!(
        told.body.contains("Its worker was asked") && told.body.contains("It is finished"),
        "{}",
        told.body
    );
}

fn several_are_changed_after_a_question(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let (first, second) = (seeded.dead[0].to_string(), seeded.running.to_string());
    let mut fields = vec![("id", &*first), ("id", &*second), ("action", "retry")];
    let asked = site.post("/change", &fields);
    assert!(asked.body.contains("2 messages"), "{}", asked.body);
    assert_eq!(site.state(seeded.dead[0]), Some(State::Dead));
    fields.push(("confirm", "yes"));
    let told = site.post("/change", &fields);
    assert!(told.body.contains("1 message") && told.body.contains("It is running"), "{}", told.body);
    assert_eq!(site.state(seeded.dead[0]), Some(State::Ready));
    let note = notes(&site).remove(0);
    assert_eq!((note.messages, &*note.details), (1, &*format!("#{first}")), "which one it was");
}

fn what_comes_after_the_question_is_left_out(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let asked = site.post("/change", &[("all", "delete"), ("state", "dead"), ("topic", "mail")]);
    assert!(asked.body.contains("3 messages"), "{}", asked.body);
    let at = asked_at(&asked.body);
    // Its answer takes a while, and SQLite tells times apart by milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(5));
    let mut conn = site.db.connect();
    produce(&mut conn, "mail", "later");
    let worker = identity();
    let later = run(&mut conn, &worker, "mail", dead("later"));
    let fields = [("all", "delete"), ("state", "dead"), ("topic", "mail"), ("asked", at), ("confirm", "yes")];
    let begun = site.post("/change", &fields);
    site.wait(begun.change(), ">Finished<");
    assert_eq!(seeded.dead.iter().filter(|id| site.state(**id).is_some()).count(), 0);
    assert_eq!(site.state(later), Some(State::Dead), "nobody was asked about it");
    assert!(notes(&site)[0].details.contains("before 20"), "{}", notes(&site)[0].details);
    // The times of scheduled ones lie ahead, so it is when they were produced that tells.
    let scheduled = |site: &Site| {
        let fields = [("topic", "bill"), ("payload", "1"), ("delay", "3600")];
        assert_eq!(site.post("/produce", &fields).status, StatusCode::SEE_OTHER);
        notes(site)[0].message_id.expect("an id")
    };
    let before = scheduled(&site);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let asked = site.post("/change", &[("all", "delete"), ("state", "scheduled"), ("topic", "bill")]);
    assert!(asked.body.contains("2 messages"), "{}", asked.body);
    let at = asked_at(&asked.body);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let later = scheduled(&site);
    let fields =
        [("all", "delete"), ("state", "scheduled"), ("topic", "bill"), ("asked", at), ("confirm", "yes")];
    let begun = site.post("/change", &fields);
    site.wait(begun.change(), ">Finished<");
    assert_eq!(
        [seeded.scheduled, before, later].map(|id| site.state(id)),
        [None, None, Some(State::Scheduled)]
    );
}

/// When the question was asked.
fn asked_at(body: &str) -> &str {
    let at = body.split("name=\"asked\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    at.expect("the time of the question")
}

fn all_with_the_same_error_are_deleted_in_the_background(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let mut fields =
        vec![("all", "delete"), ("state", "dead"), ("topic", "mail"), ("error", "timeout after # s")];
    let asked = site.post("/change", &fields);
    assert!(asked.body.contains("2 messages"), "{}", asked.body);
    fields.push(("confirm", "yes"));
    let begun = site.post("/change", &fields);
    let ended = site.wait(begun.change(), ">Finished<");
    assert!(ended.contains("2 / 2 messages"), "{ended}");
    let left: Vec<_> = seeded.dead.iter().map(|id| site.state(*id)).collect();
    assert_eq!(left, [None, None, Some(State::Dead)]);
    let note = notes(&site).remove(0);
    assert_eq!((&*note.actor, note.messages, note.topic.as_deref()), ("kim", 2, Some("mail")));
    assert!(note.details.contains("timeout after # s"), "{}", note.details);
}

fn a_bulk_change_can_be_stopped(db: TestDatabase) {
    let mut conn = db.connect();
    let worker = worker(&mut conn);
    produce(&mut conn, "mail", "x");
    run(&mut conn, &worker, "mail", dead("no"));
    let many = (0..20_000).map(|n| taskmq_core::NewMessage::new("bill", &n));
    taskmq_core::produce_many(&mut conn, many).expect("produces");
    let site = Site::new(db, |admin| admin);
    let begun = site.post("/change", &[("all", "cancel"), ("state", "ready"), ("confirm", "yes")]);
    let path = begun.change();
    assert_eq!(site.post(&format!("{path}/stop"), &[]).location, format!("../..{path}"));
    site.wait(path, ">Stopped<");
    let cancelled = notes(&site).first().map_or(0, |note| note.messages);
    let counted = conn.broker().count_finished(State::Cancelled, 100_000).expect("counts");
    assert_eq!(counted.iter().map(|(_, number)| number).sum::<i64>(), cancelled, "all of it is noted");
    assert!(cancelled < 20_000, "{cancelled} were cancelled");
}

fn whoever_may_only_look_cannot_change(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin.read_only(true));
    let dead = format!("/messages/{}", seeded.dead[0]);
    for path in ["", "/messages?state=dead", "/dead", &*dead, "/topic?name=mail"] {
        let body = site.page(path);
        let forms: Vec<&str> = body.split("method=\"post\"").skip(1).collect();
        assert!(
            forms
                .iter()
                .all(|form| form.trim_start().starts_with("action=\"") && form[..60].contains("preferences")),
            "{path}: {body}"
        );
        assert!(body.contains("read-only"));
    }
    for path in ["/change", "/produce", "/changes/1/stop"] {
        assert_eq!(
            site.post(path, &[("id", "1"), ("action", "retry")]).status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    assert_eq!(site.state(seeded.dead[0]), Some(State::Dead));
}

fn a_topic_is_limited(db: TestDatabase) {
    seed(&db);
    let site = Site::new(db, |admin| admin);
    let topic = "/topic?name=bill%2Fnow";
    let send = |site: &Site, running, rate| {
        let fields = [("name", "bill/now"), ("running", running), ("rate", rate), ("action", "limit")];
        site.post("/topic", &fields)
    };
    assert!(!site.page(topic).contains("value=\"lift limit\""));
    for _ in 0..2 {
        site.told(&send(&site, "5", "100/1m"), topic, "The limit was set.");
    }
    let page = site.page(topic);
    assert!(
        page.contains("At once <b>5</b>, Rate <b>100/1m</b>") && page.contains("value=\"lift limit\""),
        "{page}"
    );
    assert!(page.contains("name=\"running\" min=\"1\" max=\"10000\" value=\"5\""), "{page}");
    assert!(site.get_in("zh", topic).body.contains("所有工作进程的总限制"));
    site.wait("/overview", "badge limited");
    let limits = site.db.connect().broker().limits().expect("reads");
    let limits: Vec<_> = limits.iter().map(|l| (&*l.topic, l.limit.to_string(), &*l.actor)).collect();
    assert_eq!(limits, [("bill/now", "5 at once, 100/1m".to_owned(), "kim")]);
    for (running, rate) in [("", ""), ("0", ""), ("five", ""), ("10001", ""), ("", "5"), ("1", "1/2d")] {
        let answer = send(&site, running, rate);
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{running} {rate}: {}", answer.body);
    }
    // One who may only look sees it, without a form.
    let Site { db, .. } = site;
    let looking = Site::new(db, |admin| admin.read_only(true));
    let page = looking.page(topic);
    assert!(page.contains("<b>100/1m</b>") && !page.contains("name=\"rate\""), "{page}");
    assert_eq!(send(&looking, "6", "").status, StatusCode::METHOD_NOT_ALLOWED);
    let Site { db, .. } = looking;
    let site = Site::new(db, |admin| admin);
    let lift = [("name", "bill/now"), ("action", "lift limit")];
    site.told(&site.post("/topic", &lift), topic, "The limit was lifted.");
    assert!(site.db.connect().broker().limits().expect("reads").is_empty());
    let noted: Vec<_> = notes(&site).into_iter().map(|note| (note.action, note.details)).collect();
    let expected = [("lift limit", ""), ("limit", "5 at once, 100/1m")];
    assert_eq!(noted, expected.map(|(action, details)| (action.to_owned(), details.to_owned())));
}

fn a_topic_is_paused_and_resumed(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let topic = "/topic?name=bill%2Fnow";
    let send = |action| site.post("/topic", &[("name", "bill/now"), ("action", action)]);
    assert!(site.page(topic).contains("value=\"pause\""));
    for _ in 0..2 {
        site.told(&send("pause"), topic, "It was paused.");
    }
    let page = site.page(topic);
    assert!(page.contains("value=\"resume\"") && page.contains("no worker takes messages"), "{page}");
    assert!(site.get_in("zh", topic).body.contains("已暂停"));
    site.wait("/overview", "badge paused");
    let paused = site.db.connect().broker().paused().expect("reads");
    assert_eq!(paused.iter().map(|p| (&*p.topic, &*p.actor)).collect::<Vec<_>>(), [("bill/now", "kim")]);
    assert_eq!(site.state(seeded.ready), Some(State::Ready));
    // One who may only look sees it, without a button.
    let Site { db, .. } = site;
    let looking = Site::new(db, |admin| admin.read_only(true));
    let page = looking.page(topic);
    assert!(page.contains("no worker takes messages") && !page.contains("value=\"resume\""), "{page}");
    let fields = [("name", "bill/now"), ("action", "resume")];
    assert_eq!(looking.post("/topic", &fields).status, StatusCode::METHOD_NOT_ALLOWED);
    let Site { db, .. } = looking;
    let site = Site::new(db, |admin| admin);
    assert_eq!(site.post("/topic", &fields).status, StatusCode::SEE_OTHER);
    assert!(site.page(topic).contains("value=\"pause\""));
    assert!(site.db.connect().broker().paused().expect("reads").is_empty());
    let noted: Vec<_> = notes(&site).into_iter().map(|note| (note.action, note.topic)).collect();
    let expected = ["resume", "pause"].map(|action| (action.to_owned(), Some("bill/now".to_owned())));
    assert_eq!(noted, expected);
    // What is no topic, and what is no action.
    let refused = site.post("/topic", &[("name", "no topic"), ("action", "pause")]);
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    assert_eq!(site.post("/topic", &[("name", "mail"), ("action", "drop")]).status, StatusCode::NOT_FOUND);
}
