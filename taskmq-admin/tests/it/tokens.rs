//! Tokens can be tried as little as passwords, and who tries them keeps nobody else out.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::http::{Method, StatusCode};
use taskmq_admin::Access;

use crate::access::{Answer, Door, FORM, OWN, TOKEN};

const SCRAPER: &str = "scraper-0123456789-abcdef";
const WRONG: &str = "wrong-0123456789-abcdefgh";

/// Behind a proxy, which tells of addresses.
fn door() -> Door {
    let access = Access::token(TOKEN).and_then(|access| access.metrics_token(SCRAPER)).expect("tokens");
    Door::new(access.trust_proxy(true), |admin| admin)
}

fn bearer(door: &Door, path: &str, token: &str, from: &str) -> Answer {
    door.get(path, &[("authorization", &format!("Bearer {token}")), ("x-forwarded-for", from)])
}

fn sign_in(door: &Door, token: &str, from: &str) -> Answer {
    let headers = [FORM, OWN, ("x-forwarded-for", from), ("accept", "text/html")];
    door.ask(Method::POST, "/sign-in", &headers, &format!("secret={token}&next=messages"))
}

#[test]
fn a_right_token_costs_nothing() {
    let door = door();
    for _ in 0..100 {
        assert_eq!(bearer(&door, "/", TOKEN, "203.0.113.1").status, StatusCode::OK);
        assert_eq!(bearer(&door, "/metrics", SCRAPER, "203.0.113.1").status, StatusCode::OK);
        // It is no guess, but opens nothing else.
        assert_eq!(bearer(&door, "/", SCRAPER, "203.0.113.1").status, StatusCode::UNAUTHORIZED);
        assert_eq!(sign_in(&door, TOKEN, "203.0.113.1").status, StatusCode::SEE_OTHER);
    }
}

#[test]
fn wrong_bearers_of_an_address_are_refused_at_last() {
    let door = door();
    for path in ["/", "/metrics", "/", "/messages", "/live"] {
        assert_eq!(bearer(&door, path, WRONG, "203.0.113.1").status, StatusCode::UNAUTHORIZED);
    }
    for token in [WRONG, TOKEN, SCRAPER] {
        let answer = bearer(&door, "/metrics", token, "203.0.113.1");
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "nothing is compared any more");
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=11).contains(&wait), "{wait}");
    }
    assert_eq!(bearer(&door, "/metrics", SCRAPER, "203.0.113.2").status, StatusCode::OK);
    assert_eq!(bearer(&door, "/health", WRONG, "203.0.113.1").status, StatusCode::OK, "anybody may have it");
    // A scraper with an old token keeps out nobody who signs in at the same address.
    let signed_in = sign_in(&door, TOKEN, "203.0.113.1");
    assert_eq!(signed_in.status, StatusCode::SEE_OTHER);
    let cookie = signed_in.cookie();
    let page = door.get("/messages", &[("cookie", &cookie), ("x-forwarded-for", "203.0.113.1")]);
    assert_eq!(page.status, StatusCode::OK);
}

#[test]
fn wrong_tokens_of_people_are_refused_at_last() {
    let door = door();
    let open = |token: &str, from: &str| {
        let headers = [("x-forwarded-for", from), ("accept", "text/html")];
        door.get(&format!("/topic?name=a&token={token}"), &headers)
    };
    let from = "203.0.113.1";
    let tried = [
        open(WRONG, from),
        sign_in(&door, WRONG, from),
        open(WRONG, from),
        sign_in(&door, WRONG, from),
        open(WRONG, from),
    ];
    assert!(tried.iter().all(|answer| answer.status == StatusCode::UNAUTHORIZED));
    for answer in [open(TOKEN, from), sign_in(&door, TOKEN, from)] {
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "nothing is compared any more");
        assert!(answer.body.contains("Too many tries") && !answer.header("retry-after").is_empty());
        assert!(answer.body.contains("value=\"topic?name=a\"") || answer.body.contains("value=\"messages\""));
    }
    assert_eq!(open(TOKEN, "203.0.113.2").header("location"), "./topic?name=a");
    assert_eq!(bearer(&door, "/", TOKEN, from).status, StatusCode::OK);
}

#[test]
fn many_addresses_keep_no_other_out() {
    let door = door();
    for n in 0..100 {
        for _ in 0..5 {
            assert_eq!(
                bearer(&door, "/", WRONG, &format!("198.51.100.{n}")).status,
                StatusCode::UNAUTHORIZED
            );
        }
    }
    assert_eq!(bearer(&door, "/metrics", SCRAPER, "203.0.113.1").status, StatusCode::OK);
}

#[test]
fn bearers_of_the_host_are_no_tries() {
    let access = Access::host_decides().metrics_token(SCRAPER).expect("a token").trust_proxy(true);
    let door = Door::new(access, |admin| admin);
    for _ in 0..20 {
        assert_eq!(bearer(&door, "/messages", "a-token-of-the-host", "203.0.113.1").status, StatusCode::OK);
    }
    assert_eq!(bearer(&door, "/metrics", SCRAPER, "203.0.113.1").status, StatusCode::OK);
}

#[test]
fn who_is_signed_in_does_not_keep_the_token_in_the_address() {
    let door = door();
    let cookie = sign_in(&door, TOKEN, "203.0.113.1").cookie();
    for token in [TOKEN, WRONG] {
        let opened = door.get(&format!("/topic?token={token}&name=a+b"), &[("cookie", &cookie)]);
        let led = (opened.status, opened.header("location"));
        assert_eq!(led, (StatusCode::SEE_OTHER, "./topic?name=a+b"));
        assert!(opened.header("set-cookie").is_empty(), "it has a session");
    }
    assert_eq!(door.get("/topic?name=a+b", &[("cookie", &cookie)]).status, StatusCode::OK);
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line = format!("{line} {value:?}");
        });
        self.0.lock().expect("a log").push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn wrong_tries_are_logged_without_the_secret() {
    let log = Log::default();
    let began = Instant::now();
    // As long as there is one subscriber only, tracing asks the thread that comes by a place first whether to log there:
    // another test's, where nothing listens. Of two it asks both.
    let _second = tracing::Dispatch::new(Log::default());
    tracing::subscriber::with_default(log.clone(), || {
        let access = Access::password("correct horse").and_then(|access| access.or_token(TOKEN));
        let door = Door::new(access.expect("secrets").trust_proxy(true), |admin| admin);
        for _ in 0..7 {
            bearer(&door, "/", WRONG, "203.0.113.1");
            sign_in(&door, WRONG, "203.0.113.2");
        }
        bearer(&door, "/", TOKEN, "203.0.113.3");
        sign_in(&door, "correct+horse", "203.0.113.3");
    });
    let log = log.0.lock().expect("a log").clone();
    let number = |line: &str| log.iter().filter(|logged| *logged == line).count();
    // And one more for every ten seconds that a busy machine took.
    let counted = 5..=5 + usize::try_from(began.elapsed().as_secs() / 10).expect("is small");
    assert!(counted.contains(&number("WARN a wrong token was tried from 203.0.113.1")), "{log:?}");
    assert!(counted.contains(&number("WARN a wrong password was tried from 203.0.113.2")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains(WRONG) || line.contains("203.0.113.3")), "{log:?}");
}
