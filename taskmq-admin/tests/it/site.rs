//! A queue with something of everything, and its admin mounted below a path of a host.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use taskmq_admin::{Access, Actor, Admin};
use taskmq_core::broker::{Claim, Logged, Outcome, Settlement, Share, WorkerIdentity};
use taskmq_core::{AnyConnection, BrokerConnection, LogLevel, MessageId, NewMessage, Retention, State};
use taskmq_tests::databases::TestDatabase;
use tokio::runtime::Runtime;
use tower::ServiceExt;

pub(crate) const HOST: &str = "queue.example.org";
pub(crate) const MOUNT: &str = "/deep/admin";

pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) db: TestDatabase,
    /// Of one thread, so that nothing goes on between two requests.
    pub(crate) runtime: Runtime,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) location: String,
    pub(crate) body: String,
}

impl Answer {
    /// Where the change of many messages is that has begun.
    pub(crate) fn change(&self) -> &str {
        assert!(self.location.starts_with("./changes/"), "{} {}", self.location, self.body);
        &self.location[1..]
    }
}

impl Site {
    pub(crate) fn new(db: TestDatabase, build: impl FnOnce(Admin) -> Admin) -> Self {
        let admin = build(Admin::new(db.url())).router(Access::host_decides()).expect("an admin");
        let router = Router::new().nest(MOUNT, admin).layer(axum::Extension(Actor("kim".to_owned())));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { router, db, runtime }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_in("en", path)
    }

    pub(crate) fn get_in(&self, language: &str, path: &str) -> Answer {
        let request = Request::get(format!("{MOUNT}{path}"))
            .header(header::HOST, HOST)
            .header(header::ACCEPT_LANGUAGE, language);
        self.ask(request.body(Body::empty()).expect("a request"))
    }

    /// What it must be able to show.
    pub(crate) fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }

    pub(crate) fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_in("en", path, fields)
    }

    pub(crate) fn post_in(&self, language: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(format!("{MOUNT}{path}"))
            .header(header::HOST, HOST)
            .header("sec-fetch-site", "same-origin")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT_LANGUAGE, language);
        self.ask(request.body(Body::from(form)).expect("a request"))
    }

    fn ask(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("an answer");
            let status = response.status();
            let location = response.headers().get(header::LOCATION);
            let location = location.map(|to| to.to_str().expect("a text").to_owned()).unwrap_or_default();
            let body = to_bytes(response.into_body(), 64 << 20).await.expect("a body");
            Answer { status, location, body: String::from_utf8(body.to_vec()).expect("UTF-8") }
        })
    }

    /// What was posted led to this page, which says so once.
    pub(crate) fn told(&self, posted: &Answer, path: &str, words: &str) {
        assert_eq!(posted.status, StatusCode::SEE_OTHER, "{}", posted.body);
        let location = posted.location.trim_start_matches('.');
        let told = location.find("told=").expect("tells");
        assert_eq!(&location[..told - 1], path);
        assert!(self.page(location).contains(&format!("role=\"status\">{words}</p>")), "{location}");
        assert!(!self.page(path).contains(words), "{path}");
    }

    /// Asks again until it says this.
    pub(crate) fn wait(&self, path: &str, text: &str) -> String {
        let began = std::time::Instant::now();
        loop {
            let body = self.page(path);
            if body.contains(text) {
                return body;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{path} never said {text:?}: {body}");
            self.pass(Duration::from_millis(10));
        }
    }

    /// So long what goes on in the background goes on.
    pub(crate) fn pass(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    pub(crate) fn state(&self, id: MessageId) -> Option<State> {
        self.db.connect().broker().message(id).expect("reads").map(|message| message.state)
    }
}

/// Messages of each state.
#[derive(Debug)]
pub(crate) struct Seeded {
    pub(crate) ready: MessageId,
    pub(crate) scheduled: MessageId,
    pub(crate) running: MessageId,
    pub(crate) done: MessageId,
    pub(crate) dead: Vec<MessageId>,
}

pub(crate) fn identity() -> WorkerIdentity {
    WorkerIdentity {
        id: 7,
        host: "web-1".to_owned(),
        pid: 42,
        topics: "mail,bill".to_owned(),
        concurrency: 4,
    }
}

pub(crate) fn worker(conn: &mut AnyConnection) -> WorkerIdentity {
    let worker = identity();
    conn.broker().register(&worker).expect("registers");
    worker
}

pub(crate) fn produce(conn: &mut AnyConnection, topic: &str, payload: &str) -> MessageId {
    NewMessage::new(topic.to_owned(), payload).header("tenant", "acme").produce(conn).expect("produces").id()
}

/// Claims one message of the topic and ends its attempt so, or not at all.
pub(crate) fn run(
    conn: &mut AnyConnection,
    worker: &WorkerIdentity,
    topic: &str,
    outcome: Option<Outcome>,
) -> MessageId {
    let topics = [Share { topic, limit: 1, ageing: None }];
    let claim = Claim { worker_id: worker.id, topics: &topics, limit: 1, as_batch: false, after: &[] };
    let claimed = conn.broker().claim(&claim).expect("claims").remove(0);
    if let Some(outcome) = outcome {
        // A handler that gives up has told why.
        let log = match &outcome {
            Outcome::Dead { error, .. } => {
                vec![Logged { at: Instant::now(), level: LogLevel::Warn, line: format!("{error} (logged)") }]
            }
            _ => Vec::new(),
        };
        let (id, attempt) = (claimed.id, claimed.attempt);
        let settlement = Settlement { id, attempt, batch: None, tied: claimed.tied(), outcome, log };
        assert!(conn.broker().settle(worker, &[settlement]).expect("settles").is_empty());
    }
    claimed.id
}

pub(crate) fn dead(error: &str) -> Option<Outcome> {
    Some(Outcome::Dead { kind: Some("error"), error: error.to_owned() })
}

pub(crate) fn seed(db: &TestDatabase) -> Seeded {
    let mut conn = db.connect();
    let worker = worker(&mut conn);
    produce(&mut conn, "mail", "done one");
    let outcome = Outcome::Done { result: Some("{\"sent\":true}".to_owned()), retention: Retention::Forever };
    let done = run(&mut conn, &worker, "mail", Some(outcome));
    let dead = ["timeout after 3 s", "timeout after 14 s", "no such user"].map(|error| {
        produce(&mut conn, "mail", "perished one");
        run(&mut conn, &worker, "mail", self::dead(error))
    });
    produce(&mut conn, "mail", "running one");
    let running = run(&mut conn, &worker, "mail", None);
    let scheduled = NewMessage::new("bill", "later").delay(Duration::from_secs(3600));
    let scheduled = scheduled.produce(&mut conn).expect("produces").id();
    let ready = produce(&mut conn, "bill/now", "ready one");
    Seeded { ready, scheduled, running, done, dead: dead.to_vec() }
}

/// The same as a server that a browser can reach.
pub(crate) struct Served {
    pub(crate) site: Site,
    address: std::net::SocketAddr,
    runtime: Option<Runtime>,
}

impl Served {
    pub(crate) fn new(site: Site) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = site.router.clone();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { site, address, runtime: Some(runtime) }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://{}{MOUNT}{path}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
