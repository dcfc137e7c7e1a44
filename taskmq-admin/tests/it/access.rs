//! Who gets in, and what every answer carries.

use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use taskmq_admin::{Access, Admin};
use taskmq_core::{Backend, BrokerConnection, NewMessage};
use taskmq_tests::databases::{TestDatabase, fresh};
use tower::ServiceExt;

pub(crate) const HOST: &str = "queue.example.org";
pub(crate) const TOKEN: &str = "0123456789abcdefghijklmn";

pub(crate) struct Door {
    pub(crate) router: Router,
    db: TestDatabase,
    runtime: tokio::runtime::Runtime,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The session's cookie, as a browser sends it back.
    pub(crate) fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap_or_default().to_owned()
    }
}

impl Door {
    pub(crate) fn new(access: Access, build: impl FnOnce(Admin) -> Admin) -> Self {
        let db = fresh(Backend::Sqlite);
        let access = access.allowed_hosts(&[HOST.to_owned()]).expect("a name");
        let router = build(Admin::new(db.url())).router(access).expect("an admin");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { router, db, runtime }
    }

    pub(crate) fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header(header::HOST, HOST);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("an answer");
            let (status, headers) = (response.status(), response.headers().clone());
            let body = to_bytes(response.into_body(), 16 << 20).await.expect("a body");
            Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
        })
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, path, headers, "")
    }

    fn messages(&self) -> usize {
        let filter = taskmq_core::broker::MessageFilter { topic: None, state: None, limit: 100 };
        self.db.connect().broker().messages(&filter).expect("reads").len()
    }
}

pub(crate) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
pub(crate) const OWN: (&str, &str) = ("sec-fetch-site", "same-origin");
const PRODUCE: &str = "topic=mail&payload=%7B%7D&priority=0&delay=&unique_key=&key=&headers=";

#[test]
fn other_hosts_get_nothing_of_any_route() {
    let door = Door::new(Access::host_decides(), |admin| admin);
    for path in [
        "/",
        "/messages",
        "/schedules",
        "/live",
        "/assets/admin.css",
        "/health",
        "/ready",
        "/metrics",
        "/sign-in",
        "/no-such",
    ] {
        for host in ["evil.test", "queue.example.org.evil.test", "queue.example.org:81", ""] {
            let answer = door.get(path, &[("host", host), ("x-forwarded-host", HOST)]);
            assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{path} {host}");
        }
        let twice = door.get(path, &[("host", HOST), ("host", "evil.test")]);
        assert_eq!(twice.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        let absolute = door.get(&format!("http://evil.test{path}"), &[]);
        assert_eq!(absolute.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    assert_eq!(door.get("/", &[]).status, StatusCode::OK);
}

#[test]
fn changes_come_from_its_own_pages_only() {
    let door = Door::new(Access::host_decides(), |admin| admin);
    let foreign: [&[(&str, &str)]; 6] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://sub.queue.example.org")],
        &[("sec-fetch-site", "none")],
        &[("origin", "null")],
        &[("origin", "http://evil.test"), ("x-http-method-override", "POST")],
    ];
    for headers in foreign {
        for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"] {
            let headers = [headers, &[("content-type", kind)]].concat();
            for path in [
                "/produce",
                "/change",
                "/changes/1/stop",
                "/topic",
                "/schedules",
                "/workers",
                "/preferences",
                "/sign-out",
            ] {
                let answer = door.ask(Method::POST, path, &headers, PRODUCE);
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
            }
        }
    }
    door.get(&format!("/produce?{PRODUCE}&_method=POST"), &[OWN]);
    assert_eq!(door.messages(), 0);
    // So the refusals above were no broken form.
    let own = door.ask(Method::POST, "/produce", &[FORM, OWN], PRODUCE);
    assert!(own.status.is_redirection() || own.status.is_success(), "{} {}", own.status, own.body);
    assert_eq!(door.messages(), 1);
}

#[test]
fn every_answer_has_the_headers_errors_too() {
    let door = Door::new(Access::token(TOKEN).expect("a token"), |admin| admin);
    let bearer = format!("Bearer {TOKEN}");
    let answers = [
        door.get("/", &[("authorization", &bearer)]),
        door.get("/", &[]),
        door.get("/no-such", &[("authorization", &bearer)]),
        door.get("/assets/admin.css", &[]),
        door.get("/", &[("host", "evil.test")]),
        door.ask(Method::POST, "/change", &[], ""),
        door.ask(Method::DELETE, "/", &[("authorization", &bearer)], ""),
    ];
    for answer in answers {
        let csp = answer.header("content-security-policy");
        assert!(csp.starts_with("default-src 'none'; script-src 'self';"), "{}: {csp}", answer.status);
        assert!(csp.contains("frame-ancestors 'none'") && !csp.contains("unsafe"), "{csp}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        // With `no-referrer` its own forms would come from `Origin: null`.
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert!(
            answer.header("cache-control").contains("no-store") || answer.body.contains("--"),
            "{}",
            answer.status
        );
    }
}

#[test]
fn the_token_opens_and_a_near_miss_does_not() {
    let door = Door::new(Access::token(TOKEN).expect("a token"), |admin| admin);
    assert_eq!(door.get("/", &[]).status, StatusCode::UNAUTHORIZED);
    for at in 0..TOKEN.len() {
        let near = format!("{}X{}", &TOKEN[..at], &TOKEN[at + 1..]);
        assert_eq!(
            door.get("/", &[("authorization", &format!("Bearer {near}"))]).status,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(door.get(&format!("/?token={near}"), &[]).status, StatusCode::UNAUTHORIZED);
    }
    let opened = door.get(&format!("/messages?token={TOKEN}&topic=mail"), &[]);
    assert_eq!((opened.status, opened.header("location")), (StatusCode::SEE_OTHER, "./messages?topic=mail"));
    let cookie = opened.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(TOKEN) && !cookie.contains("Secure"), "{cookie}");
    let session = opened.cookie();
    let page = door.get("/messages", &[("cookie", &session)]);
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("sign-out") && !page.body.contains(TOKEN));
    let out = door.ask(Method::POST, "/sign-out", &[("cookie", &session), OWN], "");
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    assert_eq!(
        door.get("/messages", &[("cookie", &session)]).status,
        StatusCode::UNAUTHORIZED,
        "it is ended"
    );
}

#[test]
fn a_token_of_the_metrics_opens_them_and_nothing_else() {
    const SCRAPER: &str = "scraper-0123456789-abcdef";
    let bearer = |token: &str| format!("Bearer {token}");
    let access = || Access::token(TOKEN).and_then(|access| access.metrics_token(SCRAPER)).expect("tokens");
    let door = Door::new(access(), |admin| admin);
    let status = |path: &str, token: &str| door.get(path, &[("authorization", &bearer(token))]).status;
    assert_eq!(status("/metrics", SCRAPER), StatusCode::OK);
    assert_eq!(status("/metrics", TOKEN), StatusCode::OK);
    assert_eq!(status("/metrics", &SCRAPER[1..]), StatusCode::UNAUTHORIZED);
    assert_eq!(door.get("/metrics", &[]).header("www-authenticate"), "Bearer");
    for path in ["/", "/messages", "/live", "/metrics/", "/dead", &format!("/?token={SCRAPER}")] {
        assert_eq!(status(path, SCRAPER), StatusCode::UNAUTHORIZED, "{path}");
    }
    let headers = [FORM, OWN, ("authorization", &*bearer(SCRAPER))];
    for path in ["/produce", "/change", "/metrics"] {
        assert_eq!(
            door.ask(Method::POST, path, &headers, PRODUCE).status,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    assert_eq!(door.messages(), 0);
    assert!(!format!("{:?}", access()).contains(SCRAPER));

    let host = Access::host_decides().metrics_token(SCRAPER).expect("a token");
    let door = Door::new(host, |admin| admin);
    assert_eq!(door.get("/", &[]).status, StatusCode::OK);
    assert_eq!(
        door.get("/metrics", &[]).status,
        StatusCode::UNAUTHORIZED,
        "where there is a token it is asked for"
    );
    let answer = door.get("/metrics", &[("authorization", &bearer(SCRAPER))]);
    assert!(answer.body.contains("taskmq_queue_up 1"), "{}", answer.body);
    let open = Door::new(Access::host_decides(), |admin| admin);
    assert_eq!(open.get("/metrics", &[]).status, StatusCode::OK);
}

#[test]
fn many_who_scrape_ask_the_database_once() {
    let door = Door::new(Access::host_decides(), |admin| admin);
    let produce = || NewMessage::new("mail", &1).produce(&mut door.db.connect()).expect("produces");
    let ready = || {
        let body = door.get("/metrics", &[]).body;
        body.contains("taskmq_queue_messages{topic=\"mail\",state=\"ready\"} 1\n")
    };
    produce();
    let began = std::time::Instant::now();
    assert!(ready());
    produce();
    while began.elapsed() < std::time::Duration::from_secs(1) {
        assert!(ready(), "what was read holds for seconds");
    }
}

#[test]
fn a_password_opens_and_cannot_be_tried_for_long() {
    let hash = taskmq_admin::hash_password("correct horse").expect("a hash");
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let door = Door::new(Access::password(&hash).expect("a password").trust_proxy(true), |admin| admin);
    let html = ("accept", "text/html");
    let asked = door.get("/messages", &[html]);
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert!(
        asked.body.contains("type=\"password\"") && asked.body.contains("value=\"messages\""),
        "{}",
        asked.body
    );
    let asked = door.get("/topic?name=a+b&token=of-another-run&x=%26", &[html]);
    assert!(asked.body.contains("name=\"next\" value=\"topic?name=a+b&amp;x=%26\""), "{}", asked.body);
    let sign_in = |secret: &str, headers: &[(&str, &str)]| {
        let form = format!("secret={secret}&next=%2F%2Fevil.test");
        door.ask(Method::POST, "/sign-in", &[&[FORM, OWN], headers].concat(), &form)
    };
    let right = sign_in("correct+horse", &[("x-forwarded-proto", "https")]);
    assert_eq!((right.status, right.header("location")), (StatusCode::SEE_OTHER, "./evil.test"));
    assert!(right.header("set-cookie").contains("; Secure"));
    assert_eq!(door.get("/", &[("cookie", &right.cookie())]).status, StatusCode::OK);
    let from = [("x-forwarded-for", "203.0.113.9")];
    let began = Instant::now();
    let wrong = (0..60).map(|_| sign_in("wrong", &from).status);
    let tried = wrong.take_while(|status| *status == StatusCode::UNAUTHORIZED).count();
    let last = sign_in("correct+horse", &from).status;
    // A busy machine takes its time for each, and there is one more try in every ten seconds.
    let further = usize::try_from(began.elapsed().as_secs() / 10).expect("is small");
    assert!((5..=5 + further).contains(&tried), "{tried} in {:?}", began.elapsed());
    assert!(last == StatusCode::TOO_MANY_REQUESTS || further > 0, "not even the right one");
    assert_eq!(
        sign_in("correct+horse", &[("x-forwarded-for", "203.0.113.10")]).status,
        StatusCode::SEE_OTHER
    );
}

#[test]
fn whoever_only_looks_cannot_write_by_a_crafted_request() {
    let door = Door::new(Access::host_decides(), |admin| admin.read_only(true));
    NewMessage::new("mail", &1).produce(&mut door.db.connect()).expect("produces");
    for path in ["/produce", "/change", "/changes/1/stop", "/topic", "/schedules", "/workers", "/workflows/1"]
    {
        let answer = door.ask(Method::POST, path, &[FORM, OWN], PRODUCE);
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
    }
    assert_eq!(door.messages(), 1);
}

#[test]
fn what_is_larger_than_any_message_is_not_read() {
    let door = Door::new(Access::host_decides(), |admin| admin);
    let announced = door.ask(Method::POST, "/produce", &[FORM, OWN, ("content-length", "1073741824")], "x");
    assert_eq!(announced.status, StatusCode::PAYLOAD_TOO_LARGE);
    let sent = door.ask(Method::POST, "/produce", &[FORM, OWN], &"x".repeat(22 << 20));
    assert_eq!(sent.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[test]
fn what_anybody_may_send_is_small() {
    let door = Door::new(Access::token(TOKEN).expect("a token"), |admin| admin);
    let sign_in = |secret: &str, headers: &[(&str, &str)]| {
        door.ask(Method::POST, "/sign-in", &[&[FORM, OWN], headers].concat(), &format!("secret={secret}"))
    };
    assert_eq!(sign_in(&"x".repeat(15 << 10), &[]).status, StatusCode::UNAUTHORIZED);
    assert_eq!(sign_in(&"x".repeat(17 << 10), &[]).status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(sign_in(TOKEN, &[("content-length", "20000")]).status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(sign_in(TOKEN, &[]).status, StatusCode::SEE_OTHER);
}

#[test]
fn off_loopback_the_origin_is_all_that_a_browser_says() {
    let door = Door::new(Access::token(TOKEN).expect("a token"), |admin| admin);
    let post = |path: &str, origin: &str, cookie: &str, body: &str| {
        door.ask(Method::POST, path, &[FORM, ("origin", origin), ("cookie", cookie)], body)
    };
    let secret = format!("secret={TOKEN}");
    let own = format!("http://{HOST}");
    let signed_in = post("/sign-in", &own, "", &secret);
    assert_eq!(signed_in.status, StatusCode::SEE_OTHER, "{}", signed_in.body);
    assert_eq!(post("/produce", &own, &signed_in.cookie(), PRODUCE).status, StatusCode::SEE_OTHER);
    for foreign in ["null", "http://evil.test"] {
        assert_eq!(post("/sign-in", foreign, "", &secret).status, StatusCode::FORBIDDEN);
        let produced = post("/produce", foreign, &signed_in.cookie(), PRODUCE);
        assert_eq!(produced.status, StatusCode::FORBIDDEN, "{foreign}");
    }
}

#[test]
fn weak_secrets_are_refused() {
    assert!(Access::token("short").is_err() && Access::token(&"ä".repeat(30)).is_err());
    assert!(Access::password("").is_err() && Access::password("$argon2id$nonsense").is_err());
    let shown = format!("{:?}", Access::token(TOKEN).expect("a token"));
    assert!(!shown.contains(TOKEN), "{shown}");
}
