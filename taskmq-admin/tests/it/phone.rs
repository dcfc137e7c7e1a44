//! Long, unbroken and foreign texts in every place where a text of others can stand, on a small phone: no page is wider
//! than it. Some pictures are kept in `target/screenshots`.

use std::fmt::Write;

use serde_json::json;
use taskmq_core::{Backend, BrokerConnection, NewMessage, Workflow};
use taskmq_tests::databases::TestDatabase;

use crate::browser::{WIDER, folder};
use crate::driver::Browser;
use crate::site::{Served, Site, dead, run};
use crate::xss;

each_database! {
    no_page_is_wider_than_a_phone,
}

/// As wide as the narrowest phones that are sold.
const WIDTH: u32 = 360;

/// Each fits where it has the least room, 200 bytes.
fn texts() -> Vec<String> {
    vec![
        "W".repeat(200),
        "a_long_name_without_any_space_in_it".repeat(5),
        "https://example.org/a/very/long/path?with=many&parameters=and;semicolons".repeat(2),
        "😀👩‍👩‍👧‍👦".repeat(6),
        "طابور الرسائل الطويل جدا ".repeat(4).trim_end().to_owned(),
        "消息队列的名字非常非常长".repeat(5),
        "Zalgo\u{336}\u{301}\u{302}\u{303}\u{304}".repeat(10),
        "one\ttab, and  two  spaces; ".repeat(7).trim_end().to_owned(),
        "0.1234567890123456789e".repeat(9),
    ]
}

fn no_page_is_wider_than_a_phone(db: TestDatabase) {
    let backend = db.backend();
    let folder = folder(backend);
    let mut conn = db.connect();
    let texts = texts();
    let mut ids = xss::seed(&db, &texts);
    // What may be longer than those.
    let runner = taskmq_core::broker::WorkerIdentity { id: 77, ..crate::site::identity() };
    conn.broker().register(&runner).expect("registers");
    let trace = (0..200).fold(String::new(), |mut all, n| {
        let _ = writeln!(all, "  {n}: core::ops::function::FnOnce<(alloc::vec::Vec<Something>, Other)>::call_once{{{{vtable.shim}}}}");
        all
    });
    let payload = json!({ "x".repeat(300): "y".repeat(5000), "list": (0..50).collect::<Vec<_>>(), "deep": [[[[[[[[1]]]]]]]] });
    let topic = "t".repeat(100);
    let long = NewMessage::new(&*topic, &payload)
        .ordering_key("k".repeat(200))
        .produce(&mut conn)
        .expect("produces");
    run(&mut conn, &runner, &topic, dead(&format!("it failed\n{trace}")));
    ids.push(long.id());
    let steps = (1..40).fold(
        Workflow::new("n".repeat(200)).step("first", NewMessage::new("alive", &1), &[]),
        |workflow, n| {
            let name = |n| format!("{}{n}", "s".repeat(60));
            let before = if n == 1 || n % 3 == 0 { "first".to_owned() } else { name(n - 1) };
            workflow.step(name(n), NewMessage::new("alive", &1), &[&before])
        },
    );
    let workflow = steps.produce(&mut conn).expect("produces");
    let mut paths: Vec<String> =
        ["/overview", "/messages", "/messages?state=dead", "/dead", "/workers", "/schedules"]
            .iter()
            .chain(&["/workflows", "/audit", "/produce", "/changes", "/topic?name=t1", "/topic?name=l1"])
            .map(|path| (*path).to_owned())
            .collect();
    paths.push(format!("/topic?name={topic}"));
    paths.push(format!("/workflows/{workflow}"));
    paths.push(format!("/messages?topic={topic}&state=dead"));
    paths.extend(ids.iter().map(|id| format!("/messages/{id}")));
    let served = Served::new(Site::new(db, |admin| admin));
    let browser = Browser::start();
    browser.resize(WIDTH, 800);
    let mut too_wide = Vec::new();
    let languages = if backend == Backend::Sqlite { &["en", "zh"][..] } else { &["en"] };
    for language in languages {
        browser.open(&served.at("/overview"));
        browser.script("document.cookie = `taskmq_language=${arguments[0]}; path=/`", &json!([language]));
        for path in &paths {
            browser.open(&served.at(path));
            if browser.script(WIDER, &json!([])) != json!(0) {
                let which = "const wide = document.documentElement.clientWidth;
                    return [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > wide + 1)
                        .map((e) => `${e.tagName}.${e.className}`).slice(0, 8).join(' ')";
                too_wide.push((language, path, browser.script(which, &json!([]))));
            }
            browser.is_clean();
            if *language == "en" && !path.contains("l1") {
                let name: String = path.chars().filter(|c| c.is_ascii_alphanumeric()).take(24).collect();
                browser.picture(&folder.join(format!("ugly-{name}-phone.png")));
            }
        }
    }
    assert!(too_wide.is_empty(), "{too_wide:#?}");
}
