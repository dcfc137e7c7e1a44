//! Looking changes nothing, and every link leads somewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures_util::StreamExt;
use taskmq_core::broker::Outcome;
use taskmq_core::{BrokerConnection, Retention, State};
use taskmq_tests::databases::TestDatabase;
use tower::ServiceExt;

use crate::site::{HOST, MOUNT, Site, produce, run, seed};

each_database! {
    every_page_says_what_it_should,
    every_link_leads_somewhere_and_changes_nothing,
    a_topics_dead_letters_are_found_among_those_of_others,
    dead_letters_of_many_kinds_are_counted,
    lists_go_on_where_they_ended,
    messages_are_found,
    errors_are_failed_attempts,
    the_live_part_is_sent_as_it_changes,
    payloads_can_be_hidden,
    what_is_beyond_all_bounds_is_bounded,
    what_was_read_last_is_shown_when_nothing_newer_can_be,
}

fn what_was_read_last_is_shown_when_nothing_newer_can_be(db: TestDatabase) {
    seed(&db);
    let site = Site::new(db, |admin| admin);
    assert!(!site.page("").contains("no newer figures"));
    site.db.execute("ALTER TABLE taskmq_claims RENAME TO elsewhere");
    let body = site.wait("", "no newer figures");
    assert!(body.contains("bill/now") && body.contains("no taskmq tables"), "{body}");
    assert!(site.page("/workers").contains("no newer figures"));
    // What a page reads beside the figures is left out.
    let topic = site.page("/topic?name=mail");
    assert_eq!(topic.matches("no newer figures").count(), 1, "{topic}");
    assert!(topic.contains("Backlog") && !topic.contains("table class=\"list messages\""), "{topic}");
    site.db.execute("ALTER TABLE elsewhere RENAME TO taskmq_claims");
    let anew = std::time::Instant::now() + Duration::from_secs(20);
    while site.page("").contains("no newer figures") {
        assert!(std::time::Instant::now() < anew, "it is read again");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn every_page_says_what_it_should(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let (dead, done) = (seeded.dead[0], seeded.done);
    for (path, texts) in [
        ("", vec!["Throughput", "bill/now", "mail", ">web-1<", "Dead"][..3].to_vec()),
        ("/topic?name=mail", vec!["running one", "perished one", "aria-label=\"Backlog: 0 now, 0 at most\""]),
        ("/messages", vec!["ready one", "done one", "perished one", "running one", "later"]),
        ("/messages?state=dead&topic=mail", vec!["timeout after 14 s"]),
        (
            &*format!("/messages/{dead}"),
            vec![
                "timeout after 3 s",
                "web-1:42",
                "tenant",
                "Retry",
                "Attempt 1",
                "timeout after 3 s (logged)",
                ">warn<",
            ],
        ),
        (&*format!("/messages/{done}"), vec!["sent", "Done"]),
        ("/dead", vec![">2<", "timeout after", "no such user", "Retry all"]),
        ("/workers", vec!["web-1", "42", "mail", "Runs now"]),
        ("/audit", vec!["Nothing was changed"]),
        ("/produce", vec!["Payload (JSON)"]),
        ("/changes", vec!["No bulk changes"]),
    ] {
        let body = site.page(path);
        for text in texts {
            assert!(body.contains(text), "{path} has no {text:?}: {body}");
        }
        assert!(!body.contains(" style=") && !body.contains("javascript:"), "{path}");
        assert!(!body.contains(" onclick") && !body.contains("<script>"), "{path}");
        let chinese = site.get_in("zh-CN,zh;q=0.9", path);
        assert_eq!(chinese.status, StatusCode::OK);
        assert!(chinese.body.contains("<html lang=\"zh-CN\"") && chinese.body.contains("死信"), "{path}");
    }
    assert_eq!(site.get("/messages/999999").status, StatusCode::NOT_FOUND);
    assert_eq!(site.get("/messages/x").status, StatusCode::NOT_FOUND);
    assert_eq!(site.get("/nowhere").status, StatusCode::NOT_FOUND);
}

/// What the browser makes of a link on a page.
fn resolve(page: &str, link: &str) -> String {
    let path = page.split('?').next().unwrap_or_default();
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    let (way, query) = link.split_once('?').map_or((link, None), |(way, query)| (way, Some(query)));
    for part in way.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    let way = parts.join("/");
    query.map_or(way.clone(), |query| format!("{way}?{query}"))
}

fn every_link_leads_somewhere_and_changes_nothing(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let mut known = BTreeSet::from([MOUNT.to_owned()]);
    let mut left = vec![MOUNT.to_owned()];
    while let Some(page) = left.pop() {
        let path = page.strip_prefix(MOUNT).unwrap_or_else(|| panic!("{page} is outside"));
        let body = site.page(path);
        let links = body.split(" href=\"").skip(1).chain(body.split(" src=\"").skip(1));
        for link in links.filter_map(|rest| rest.split('"').next()) {
            assert!(!link.starts_with('/') && !link.contains("://"), "{link} on {page}");
            if link.starts_with('#') {
                continue;
            }
            let target = resolve(&page, &link.replace("&amp;", "&"));
            if known.insert(target.clone()) {
                left.push(target);
            }
        }
    }
    assert!(known.len() > 30, "{known:?}");
    assert_eq!(site.state(seeded.dead[0]), Some(State::Dead));
    assert_eq!(site.state(seeded.ready), Some(State::Ready));
    assert!(site.db.connect().broker().notes(i64::MAX, 10).expect("reads").is_empty());
}

fn a_topics_dead_letters_are_found_among_those_of_others(db: TestDatabase) {
    let seeded = seed(&db);
    let columns = "priority, created_at, worker_id, attempts, crashes, payload, topic, state, run_at, finished_at, error";
    let at = (chrono::Utc::now() + chrono::TimeDelta::hours(1)).format("%Y-%m-%d %H:%M:%S.000");
    let other = |id| format!("({id}, 0, '{at}', 0, 1, 0, '1', 'other', 'dead', '{at}', '{at}', 'x')");
    let others: Vec<String> = (1_000_000..1_005_100).map(other).collect();
    for others in others.chunks(1_000) {
        db.execute(&format!("INSERT INTO taskmq_archive (id, {columns}) VALUES {}", others.join(", ")));
    }
    let site = Site::new(db, |admin| admin);
    assert!(!site.page("/dead").contains("no such user"), "others are newer");
    // On a busy machine a look ends before it comes so far.
    let dead = site.wait("/dead?topic=mail", "no such user");
    assert!(dead.contains("timeout after"), "{dead}");
    for id in seeded.dead {
        site.wait("/topic?name=mail", &format!("#{id}<"));
    }
    assert!(site.page("/topic?name=bill").contains(&format!("#{}<", seeded.scheduled)));
    for odd in ["/messages?state=bogus", "/messages?after=x&since=x"] {
        assert_eq!(site.get(odd).status, StatusCode::UNPROCESSABLE_ENTITY, "{odd}");
    }
    for nul in ["/messages?key=%00", "/topic?name=%00", "/dead?topic=%00"] {
        assert_eq!(site.get(nul).status, StatusCode::OK, "{nul}");
    }
}

fn dead_letters_of_many_kinds_are_counted(db: TestDatabase) {
    let columns = "id, topic, payload, state, priority, created_at, run_at, worker_id, attempts, crashes, finished_at, error";
    let at = "'2026-01-01 00:00:00'";
    let letters = |n: i64| [n / 26, n % 26].map(|n| char::from(b'a' + u8::try_from(n).expect("is small")));
    let dead = |n: i64| {
        let [first, second] = letters(n);
        format!("({}, 'mail', '1', 'dead', 0, {at}, {at}, 0, 1, 0, {at}, '{first}{second} is away')", n + 1)
    };
    let dead: Vec<String> = (0..107).map(dead).collect();
    db.execute(&format!("INSERT INTO taskmq_archive ({columns}) VALUES {}", dead.join(", ")));
    let site = Site::new(db, |admin| admin);
    for path in ["/dead", "/dead?topic=mail"] {
        let body = site.page(path);
        assert_eq!(body.matches("role=\"group\" aria-label=\"1 message, mail: ").count(), 100, "{body}");
        assert!(body.contains(">7 more groups"), "{body}");
    }
    assert!(site.get_in("zh", "/dead").body.contains(">7 组未显示"));
}

/// The ids on a page of the list, in its order.
fn ids(body: &str) -> Vec<i64> {
    let keys = body.split("<tr data-key=\"").skip(1).filter_map(|rest| rest.split('"').next());
    keys.filter_map(|key| key.parse().ok()).collect()
}

fn lists_go_on_where_they_ended(db: TestDatabase) {
    let mut conn = db.connect();
    let mut all: Vec<i64> = (0..120).map(|n| produce(&mut conn, ["a", "b", "c"][n % 3], "x")).collect();
    let site = Site::new(db, |admin| admin);
    for filter in ["/messages", "/messages?state=ready"] {
        let (mut seen, mut path, mut pages) = (Vec::new(), filter.to_owned(), 0);
        loop {
            let body = site.page(&path);
            let page = ids(&body);
            assert!(page.len() <= 50);
            seen.extend(page);
            pages += 1;
            assert!(pages < 10, "{seen:?}");
            assert!(body.contains("<nav class=\"paging\" aria-label=\"Pages of the list\">"), "{body}");
            let Some(next) =
                body.split(" rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next())
            else {
                break;
            };
            path = format!("/{}", next.trim_start_matches("./").replace("&amp;", "&"));
        }
        seen.sort_unstable();
        all.sort_unstable();
        assert_eq!(seen, all, "{filter}: each once");
    }
    // Where all is on one page there is no way to others.
    for path in ["/audit", "/workflows", "/messages?state=dead", "/messages?state=ready&topic=a"] {
        assert!(!site.page(path).contains("<nav class=\"paging\""), "{path}");
    }
}

fn messages_are_found(db: TestDatabase) {
    let seeded = seed(&db);
    let mut conn = db.connect();
    let keyed = taskmq_core::NewMessage::new("mail", "k")
        .unique("order:5")
        .produce(&mut conn)
        .expect("produces")
        .id();
    taskmq_core::NewMessage::new("mail", "k").unique("order:55").produce(&mut conn).expect("produces");
    let paid = serde_json::json!({ "user": { "id": 42 } });
    let paid = taskmq_core::NewMessage::new("pay", &paid).produce(&mut conn).expect("produces").id();
    let ordered = taskmq_core::NewMessage::new("pay", &7).ordering_key("account 7");
    let ordered = ordered.produce(&mut conn).expect("produces").id();
    taskmq_core::NewMessage::new("pay", "account 7")
        .ordering_key("account 77")
        .produce(&mut conn)
        .expect("produces");
    let site = Site::new(db, |admin| admin);
    let listed = site.page("/messages?ordering=account+7");
    assert!(listed.contains("topic=pay&amp;ordering=account+7\">account 7</a>"), "{listed}");
    for (query, expected) in [
        ("text=running+one", vec![seeded.running]),
        ("topic=bill%2Fnow", vec![seeded.ready]),
        ("state=scheduled", vec![seeded.scheduled]),
        ("state=running", vec![seeded.running]),
        ("state=done", vec![seeded.done]),
        ("key=order:5", vec![keyed]),
        ("ordering=account+7", vec![ordered]),
        ("ordering=account+7&state=ready&topic=pay", vec![ordered]),
        ("ordering=account", vec![]),
        ("state=dead&error=no+such+user", vec![seeded.dead[2]]),
        ("state=dead&topic=bill", vec![]),
        ("text=nothing+like+this", vec![]),
        ("json=%24.user.id+%3D+42", vec![paid]),
        ("json=%24.user.id+%3D+42&state=ready&topic=pay&since=2020-01-01T00:00", vec![paid]),
        ("json=%24.user.id+%3D+42&before=2020-01-01T00:00", vec![]),
        ("json=%24.user&state=dead", vec![]),
        ("key=order:5&state=ready", vec![keyed]),
        ("key=order:5&state=dead", vec![]),
        ("key=order:5&topic=bill", vec![]),
        ("since=2036-01-01T00:00", vec![]),
    ] {
        assert_eq!(ids(&site.page(&format!("/messages?{query}"))), expected, "{query}");
    }
    assert_eq!(site.get("/messages?id=%2317").location, "./messages/17");
    // Not all messages instead of the one that was meant.
    for id in ["abc", "99999999999999999999"] {
        assert_eq!(site.get(&format!("/messages?id={id}")).status, StatusCode::UNPROCESSABLE_ENTITY, "{id}");
    }
    for refused in ["json=user.id", "json=%24.a+%3E+1", "since=soon", "before=99999-01-01T00:00"] {
        let answer = site.get(&format!("/messages?{refused}"));
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    }
    let chinese = site.get_in("zh", "/messages?json=user.id");
    assert!(chinese.body.contains("无法按“user.id”查找"), "{}", chinese.body);
    // All that match can be changed, and only those.
    let fields = [("all", "cancel"), ("state", "ready"), ("json", "$.user.id = 42"), ("confirm", "yes")];
    site.wait(site.post("/change", &fields).change(), ">Finished<");
    assert_eq!(site.state(paid), Some(State::Cancelled));
    assert_eq!(site.state(keyed), Some(State::Ready));
}

fn errors_are_failed_attempts(db: TestDatabase) {
    let mut conn = db.connect();
    let worker = crate::site::worker(&mut conn);
    for n in 0..4 {
        produce(&mut conn, "mail", "x");
        let outcome = match n {
            0 => Outcome::Retry { delay: Duration::from_secs(600), kind: "error", error: "once".to_owned() },
            _ => Outcome::Done { result: None, retention: Retention::Forever },
        };
        run(&mut conn, &worker, "mail", Some(outcome));
    }
    let site = Site::new(db, |admin| admin);
    for path in ["/overview", "/topic?name=mail"] {
        let body = site.page(path);
        assert!(body.contains("Errors 25%"), "{body}");
    }
    // Not those of more than an hour ago.
    site.db.execute("UPDATE taskmq_failures SET failed_at = '2020-01-01 00:00:00'");
    let Site { db, .. } = site;
    assert!(Site::new(db, |admin| admin).page("/overview").contains("Errors 0%"));
}

fn the_live_part_is_sent_as_it_changes(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    site.runtime.block_on(async {
        let ask = Request::get(format!("{MOUNT}/live?of=overview")).header(header::HOST, HOST);
        let ask = ask.body(Body::empty()).expect("a request");
        let response = site.router.clone().oneshot(ask).await.expect("an answer");
        let mut events = response.into_body().into_data_stream();
        let mut next = async || {
            let event = tokio::time::timeout(std::time::Duration::from_secs(20), events.next()).await;
            let event = event.expect("an event in time").expect("an event").expect("an event");
            String::from_utf8(event.to_vec()).expect("UTF-8")
        };
        let first = next().await;
        assert!(first.contains("There are no messages yet"), "{first}");
        produce(&mut site.db.connect(), "fresh.topic", "x");
        while !next().await.contains("fresh.topic") {}
    });
    assert_eq!(site.get("/live?of=nothing").body, "");
}

/// However far beyond all bounds the question is, the answer is a page of the usual size.
fn what_is_beyond_all_bounds_is_bounded(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let (most, least) = (i64::MAX, i64::MIN);
    for path in [
        "/messages?page=1000000000&days=1000000000&limit=1000000000".to_owned(),
        "/messages?after=p.1000000000".into(),
        format!("/messages?after=p.{most}"),
        format!("/messages?after=p.{least}"),
        format!("/messages?after=k.{most}&key=x"),
        format!("/messages?state=dead&after=f.{most}.{most}"),
        format!("/messages?state=ready&after=w.{most}.{most}.{most}.{most}"),
        format!("/messages?state=ready&after=w.32767.253402300799000000.{most}.zzz"),
        "/messages?since=1970-01-01T00:00&before=9999-12-31T23:59:59".into(),
        "/messages?state=ready&since=9999-12-31T23:59&before=1970-01-01T00:00".into(),
        "/messages?state=dead&since=9999-12-31T23:59".into(),
        format!("/messages?json=%24{}", "[0]".repeat(2_000)),
        format!("/messages?text={}", "x".repeat(10_000)),
        format!("/audit?below={most}"),
        format!("/audit?below={least}"),
        format!("/topic?name={}", "x".repeat(10_000)),
    ] {
        let answer = site.get(&path);
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        assert!(answer.body.len() < 200_000, "{path}: {} bytes", answer.body.len());
    }
    assert_eq!(site.get(&format!("/live?of=change&id={}", u64::MAX)).status, StatusCode::NOT_FOUND);
    let id = seeded.ready.to_string();
    for (name, value) in [("delay", "99999999999"), ("max_attempts", "99999"), ("priority", "-99999")] {
        let fields = [("topic", "mail"), ("payload", "1"), (name, value)];
        assert_eq!(site.post("/produce", &fields).status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
    }
    let far = [("id", &*id), ("action", "run at"), ("run_at", "9999-12-31T23:59")];
    assert_eq!(site.post("/change", &far).status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(site.state(seeded.ready), Some(State::Ready));
}

fn payloads_can_be_hidden(db: TestDatabase) {
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin.hide_payloads(true));
    let message = format!("/messages/{}", seeded.done);
    for path in ["", "/messages", "/topic?name=mail", "/dead", &*message] {
        let body = site.page(path);
        for secret in ["done one", "perished one", "ready one", "acme", "sent"] {
            assert!(!body.contains(secret), "{path} shows {secret}");
        }
    }
    assert!(site.page(&message).contains("hidden"));
    // Whether a text is found would tell what is hidden.
    assert_eq!(site.get("/messages?text=acme").status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(site.get("/messages?json=%24.a").status, StatusCode::UNPROCESSABLE_ENTITY);
}
