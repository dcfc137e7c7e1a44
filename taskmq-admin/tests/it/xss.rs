//! Texts that would run as a script if any page took them for markup: in every place where a text of others can stand,
//! each page must have the very elements that it has with harmless texts there, and a real browser must run none of them.

use std::collections::BTreeMap;

use html5gum::{DefaultEmitter, Token, Tokenizer};
use serde_json::json;
use taskmq_core::broker::{Note, WorkerIdentity};
use taskmq_core::{AnyConnection, Backend, BrokerConnection, MessageId, NewMessage, Workflow};
use taskmq_tests::databases::{TestDatabase, fresh};

use crate::driver::Browser;
use crate::site::{Served, Site, dead, run, worker};

each_database! {
    texts_of_others_are_no_markup,
    a_browser_runs_no_text_of_others,
}

const CORPUS: &str = include_str!("corpus.txt");
/// As many workers and schedules have such texts, too; each is on one page.
const FEW: usize = 100;

fn corpus() -> Vec<String> {
    let texts: Vec<String> = CORPUS.lines().map(str::to_owned).collect();
    assert!(texts.len() > 200, "{}", texts.len());
    texts
}

/// As SQL has it.
fn quoted(db: &TestDatabase, text: &str) -> String {
    let text = text.replace('\'', "''");
    format!("'{}'", if db.backend() == Backend::Mysql { text.replace('\\', "\\\\") } else { text })
}

fn cut(text: &str, characters: usize) -> String {
    let cut: String = text.chars().take(characters).collect();
    cut.trim_end().to_owned()
}

/// Puts each text wherever somebody else may write one; gives the dead messages.
pub(crate) fn seed(db: &TestDatabase, texts: &[String]) -> Vec<MessageId> {
    let mut conn = db.connect();
    let first = worker(&mut conn);
    let mut ids = Vec::new();
    let mut topics = String::new();
    for (index, text) in texts.iter().enumerate() {
        let topic = format!("t{index}");
        let message = NewMessage::new(&*topic, text).unique(text).header(&**text, &**text);
        let id = message.produce(&mut conn).expect("produces").id();
        run(&mut conn, &first, &topic, dead(text));
        note(&mut conn, text, id);
        // No producer could, but the archive takes what other programs write into it.
        let ascii = text.is_ascii() && text.len() <= 100;
        if db.backend() != Backend::Mysql || ascii {
            topics.push_str(&format!(
                "UPDATE taskmq_archive SET topic = {} WHERE id = {id};",
                quoted(db, text)
            ));
        }
        ids.push(id);
    }
    if !topics.is_empty() {
        db.execute(&topics); // of nothing, MariaDB's client reads what is not there
    }
    let mut schedules = String::new();
    for (index, text) in texts.iter().enumerate().take(FEW) {
        let number = i64::try_from(index).expect("is small");
        let worker = WorkerIdentity {
            id: 100 + number,
            host: text.clone(),
            pid: 1,
            // A comma would make two of them.
            topics: text.replace(',', ";"),
            concurrency: 1,
        };
        conn.broker().register(&worker).expect("registers");
        // There such names and texts are ASCII.
        let text = if db.backend() == Backend::Mysql && !text.is_ascii() { "-" } else { text };
        let (name, text) = (quoted(db, &format!("{index}{}", cut(text, 90))), quoted(db, text));
        schedules.push_str(&format!(
            "INSERT INTO taskmq_schedules (name, topic, payload, cron, unique_key, declared_by) \
             VALUES ({name}, 't', '1', {text}, {text}, {});",
            worker.id
        ));
    }
    let limit = |(index, text): (usize, &String)| format!("('l{index}', 5, {})", quoted(db, &cut(text, 255)));
    let limits: Vec<String> = texts.iter().enumerate().take(FEW).map(limit).collect();
    schedules.push_str(&format!(
        "INSERT INTO taskmq_limits (topic, running, actor) VALUES {};",
        limits.join(", ")
    ));
    // Every other one cannot be used, and its error has the text.
    let schema = |(index, text): (usize, &String)| {
        let text = json!(text);
        let definition = if index % 10 == 0 {
            json!({ "type": "object", "description": text })
        } else {
            json!({ "type": text })
        };
        format!("('l{index}', {})", quoted(db, &definition.to_string()))
    };
    let definitions: Vec<String> = texts.iter().enumerate().take(FEW).step_by(5).map(schema).collect();
    schedules.push_str(&format!(
        "INSERT INTO taskmq_schemas (topic, definition) VALUES {};",
        definitions.join(", ")
    ));
    // However long this takes, they look alive.
    schedules.push_str("UPDATE taskmq_workers SET beat_at = '2037-01-01 00:00:00'");
    db.execute(&schedules);
    for text in texts.iter().take(FEW) {
        // Both pages of it, as its step is the message of the list.
        let name = cut(&text.replace('\0', ""), 200);
        let step = NewMessage::new("alive", text).priority(1);
        let workflow = Workflow::new(format!("w{name}.")).step(format!("s{name}."), step, &[]);
        let waiting = NewMessage::new("alive", text);
        workflow.step("later", waiting, &[&format!("s{name}.")]).produce(&mut conn).expect("produces");
    }
    let live = NewMessage::new("alive", &json!({ "text": texts[0] })).produce(&mut conn).expect("produces");
    ids.push(live.id());
    ids
}

fn note(conn: &mut AnyConnection, text: &str, id: MessageId) {
    let topic = text.is_ascii().then(|| cut(text, 100));
    let note = Note {
        actor: text,
        action: "retry",
        topic: Some(topic.as_deref().unwrap_or("none")),
        message_id: Some(id),
        details: text,
        messages: 1,
    };
    conn.broker().note(&note).expect("notes");
}

/// The elements of a page with the names of their attributes, but for the marks at characters that deceive.
fn elements(body: &str) -> Vec<String> {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut elements = Vec::new();
    for token in Tokenizer::new_with_emitter(body, emitter) {
        let Ok(Token::StartTag(tag)) = token else { continue };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let attributes: BTreeMap<String, String> =
            tag.attributes.iter().map(|(name, value)| (text(name), text(value))).collect();
        let name = text(&tag.name);
        let class = attributes.get("class").map_or("", |class| class);
        // Of the lines in a chart there are as many as what happened lately needs.
        let is_line = name == "path" && (class.starts_with("line ") || class.starts_with("area "));
        if is_line || name == "span" && class == "ctl" {
            continue;
        }
        for (attribute, value) in &attributes {
            let leads =
                matches!(&**attribute, "href" | "src" | "action" | "formaction" | "data-href" | "data-live");
            assert!(!leads || value.starts_with('.') || value.starts_with('#'), "{attribute}={value}");
            assert!(!attribute.starts_with("on") && attribute != "style", "{attribute}={value}");
        }
        let names: Vec<&String> = attributes.keys().collect();
        elements.push(format!("{name} {names:?}"));
    }
    elements
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Pages that ask for a text.
fn asking(text: &str) -> Vec<String> {
    let text = encoded(text);
    vec![
        format!(
            "/messages?topic={text}&text={text}&key={text}&error={text}&after={text}&state={text}&sort={text}&{text}={text}"
        ),
        format!("/messages?state=dead&topic={text}&key={text}&text={text}&error={text}"),
        format!("/messages?json=$.a+%3D+{text}&key=none"),
        format!("/messages?json={text}"),
        format!("/messages?since={text}"),
        format!("/topic?name={text}"),
        format!("/dead?topic={text}"),
        format!("/produce?topic={text}&payload={text}&headers={text}&key={text}&priority={text}"),
        format!("/overview?topics={text}"),
        format!("/schedules?name={text}"),
        format!("/audit?below={text}"),
        format!("/workflows?state={text}&below={text}"),
        format!("/workflows/{}", text.replace('+', "%20")),
        format!("/messages/{}", text.replace('+', "%20")),
        format!("/{}", text.replace('+', "%20")),
    ]
}

/// All pages of lists, and each message's own.
fn showing(ids: &[MessageId], site: &Site) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/overview",
        "/topic?name=t1",
        "/dead",
        "/workers",
        "/schedules",
        "/workflows",
        "/produce",
        "/changes",
    ]
    .map(str::to_owned)
    .into();
    paths.extend((1..=FEW).map(|id| format!("/workflows/{id}")));
    for first in ["/messages", "/messages?state=dead", "/audit", "/workflows"] {
        let mut next = Some(first.to_owned());
        while let Some(path) = next {
            let body = site.page(&path);
            let link = body.split(" rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
            next = link.map(|link| format!("/{}", link.trim_start_matches("./").replace("&amp;", "&")));
            paths.push(path);
        }
    }
    paths.extend((0..FEW).step_by(5).map(|index| format!("/topic?name=l{index}")));
    paths.extend((0..FEW).step_by(5).map(|index| format!("/produce?topic=l{index}")));
    paths.extend(ids.iter().map(|id| format!("/messages/{id}")));
    paths
}

fn texts_of_others_are_no_markup(db: TestDatabase) {
    let texts = corpus();
    let harmless: Vec<String> = (0..texts.len()).map(|n| format!("harmless{n}")).collect();
    let other = fresh(db.backend());
    let ids = seed(&db, &texts);
    assert_eq!(ids, seed(&other, &harmless));
    let site = Site::new(db, |admin| admin);
    let other = Site::new(other, |admin| admin);
    let paths = showing(&ids, &site);
    assert!(paths.len() > texts.len() + 15, "{}", paths.len());
    for (path, plain) in paths.iter().zip(showing(&ids, &other)) {
        let (body, plain) = (site.page(path), other.page(&plain));
        assert_eq!(elements(&body), elements(&plain), "{path}: {body}");
    }
    // What is asked comes back on the page as what it is.
    let plain: Vec<Vec<String>> =
        asking("plain-and-simple").iter().map(|path| elements(&other.get(path).body)).collect();
    // How a page is written does not depend on the database.
    let every = if other.db.backend() == Backend::Sqlite { 1 } else { 20 };
    for text in texts.iter().step_by(every) {
        for (path, plain) in asking(text).iter().zip(&plain) {
            let body = other.get(path).body;
            assert_eq!(&elements(&body), plain, "{path}: {body}");
        }
    }
}

/// In a real browser, which runs whatever can be run. All of the corpus with `TASKMQ_TEST_LONG=1`.
fn a_browser_runs_no_text_of_others(db: TestDatabase) {
    let some = if db.backend() == Backend::Sqlite { 8 } else { 40 };
    let mut texts = corpus();
    let ids = seed(&db, &texts);
    let served = Served::new(Site::new(db, |admin| admin));
    let browser = Browser::start();
    let every = if std::env::var_os("TASKMQ_TEST_LONG").is_some() { 1 } else { some };
    let is_harmless = |path: &str| {
        let ran = browser.script("return String(window.__xss)", &json!([]));
        assert_eq!(ran, json!("undefined"), "{path}");
        browser.is_clean();
    };
    for path in showing(&ids[..0], &served.site) {
        browser.open(&served.at(&path));
        is_harmless(&path);
    }
    // What a person points at and reaches with the keyboard stays a text, too.
    let touch = "for (const place of document.querySelectorAll('main *')) {
        for (const name of ['mouseover', 'pointerenter', 'focus', 'input', 'animationend', 'transitionend'])
            place.dispatchEvent(new Event(name, { bubbles: true }));
    }";
    for (text, id) in texts.iter().zip(&ids).step_by(every) {
        let path = format!("/messages/{id}");
        browser.open(&served.at(&path));
        browser.script(touch, &json!([]));
        is_harmless(&path);
        // The key is shown to the letter.
        if !text
            .contains(|c: char| c.is_control() || ('\u{200b}'..='\u{feff}').contains(&c) || c > '\u{ffff}')
        {
            let literal = browser.script(
                "return [...document.querySelectorAll('.details code')].some((code) => code.textContent === arguments[0])",
                &json!([text]),
            );
            assert_eq!(literal, json!(true), "{text:?} on {path}: {}", browser.text());
        }
        for path in asking(text).into_iter().take(2) {
            browser.open(&served.at(&path));
            browser.script(touch, &json!([]));
            is_harmless(&path);
        }
    }
    // The part that is sent as it changes is put into the page by a script.
    for path in ["", "/workers", "/topic?name=t0"] {
        browser.open(&served.at(path));
        browser.until("it is live", || {
            browser.script("return !document.querySelector('.live').hidden", &json!([])) == json!(true)
        });
        let before = browser.script("return document.getElementById('live').innerHTML.length", &json!([]));
        texts.rotate_left(1);
        let mut conn = served.site.db.connect();
        for (n, text) in texts.iter().enumerate().take(5) {
            NewMessage::new("t0", text)
                .unique(format!("{path}{n}{text}"))
                .produce(&mut conn)
                .expect("produces");
        }
        let worker = WorkerIdentity {
            id: 500 + i64::try_from(path.len()).expect("is small"),
            host: texts[0].clone(),
            pid: 2,
            topics: format!("t0,{}", texts[1]),
            concurrency: 1,
        };
        conn.broker().register(&worker).expect("registers");
        browser.until("it has changed", || {
            browser.script("return document.getElementById('live').innerHTML.length", &json!([])) != before
        });
        is_harmless(path);
    }
}
