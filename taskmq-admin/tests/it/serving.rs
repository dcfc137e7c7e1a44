//! The real server, asked by raw sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use taskmq_admin::Error;
use taskmq_admin::serve::{ServeArgs, Server};
use taskmq_core::Backend;
use taskmq_tests::databases::{TestDatabase, fresh};

pub(crate) fn args(listen: &str) -> ServeArgs {
    ServeArgs {
        listen: listen.parse().expect("an address"),
        read_only: false,
        hide_payloads: false,
        allowed_host: Vec::new(),
        password_file: None,
        token: None,
        metrics_token: None,
        trust_proxy: false,
    }
}

pub(crate) struct Serving {
    at: SocketAddr,
    token: String,
    pub(crate) db: TestDatabase,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<taskmq_admin::Result<()>>>,
}

impl Serving {
    fn start() -> Self {
        let serving = Self::with(&args("127.0.0.1:0"));
        assert!(!serving.token.is_empty(), "one was made");
        serving
    }

    pub(crate) fn with(args: &ServeArgs) -> Self {
        let db = fresh(Backend::Sqlite);
        let server = Server::bind(db.url(), args).expect("listens");
        let url = server.url();
        let (at, token) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("a URL");
        let token = token.strip_prefix("?token=").unwrap_or_default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (at, token) = (at.parse().expect("an address"), token.to_owned());
        let thread = std::thread::spawn(move || {
            server.run_until(async {
                let _ = stopped.await;
            })
        });
        Self { at, token, db, stop: Some(stop), thread: Some(thread) }
    }

    /// What it answers to these bytes.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.at).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        // It may have refused before all was sent.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn status(&self, line: &str, headers: &str) -> String {
        let answer = self.raw(&format!("{line}\r\n{headers}Connection: close\r\n\r\n"));
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic").expect("it served");
        }
    }
}

#[test]
fn names_that_another_site_may_have_are_refused() {
    let serving = Serving::start();
    let (port, token) = (serving.at.port(), &serving.token);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for path in ["/", "/assets/admin.css", "/health"] {
        let line = format!("GET {path} HTTP/1.1");
        for host in ["evil.test", "127.0.0.1.evil.test", "localhost:1", "localhost", ""] {
            assert_eq!(serving.status(&line, &format!("Host: {host}\r\n{bearer}")), "421", "{path} {host}");
        }
        assert_eq!(
            serving.status(&line, &format!("Host: localhost:{port}\r\nHost: evil.test\r\n{bearer}")),
            "421"
        );
        assert_eq!(serving.status(&format!("GET {path} HTTP/1.0"), &bearer), "421", "no host at all");
        let absolute = format!("GET http://evil.test{path} HTTP/1.1");
        assert_eq!(serving.status(&absolute, &format!("Host: localhost:{port}\r\n{bearer}")), "421");
        for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            assert_eq!(serving.status(&line, &format!("Host: {host}\r\n{bearer}")), "200", "{path} {host}");
        }
    }
}

#[test]
fn slow_clients_do_not_keep_others_out_and_are_cut_off() {
    let serving = Serving::start();
    let slow: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(serving.at).expect("connects");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").expect("sends");
            stream
        })
        .collect();
    let began = Instant::now();
    let host = format!("Host: localhost:{}\r\n", serving.at.port());
    assert_eq!(serving.status("GET /health HTTP/1.1", &host), "200");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let mut rest = Vec::new();
        stream
            .read_to_end(&mut rest)
            .or_else(|e| match e.kind() {
                std::io::ErrorKind::ConnectionReset => Ok(0),
                _ => Err(e),
            })
            .expect("it is cut off");
    }
    let large = format!("{host}X: {}\r\n", "x".repeat(1 << 20));
    let status = serving.status("GET /health HTTP/1.1", &large);
    assert!(matches!(&*status, "431" | ""), "refused, or cut off in the middle: {status}");
}

#[test]
fn it_does_not_show_itself_to_others_without_protection() {
    let db = fresh(Backend::Sqlite);
    let bind = |args: &ServeArgs| Server::bind(db.url(), args);
    assert!(matches!(bind(&args("0.0.0.0:0")), Err(Error::Unprotected { .. })));
    assert!(bind(&ServeArgs { token: Some("x".repeat(24)), ..args("0.0.0.0:0") }).is_ok());
    assert!(bind(&ServeArgs { trust_proxy: true, ..args("0.0.0.0:0") }).is_ok());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "correct horse\n").expect("a file");
    let server = bind(&ServeArgs { password_file: Some(file), ..args("0.0.0.0:0") }).expect("listens");
    assert!(!server.url().contains("token"), "none was made");
}

#[test]
fn a_database_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("later.db");
    assert!(Server::bind(missing.to_str().expect("a path"), &args("127.0.0.1:0")).is_ok());
    let empty = taskmq_tests::databases::empty(Backend::Postgres);
    assert!(Server::bind(empty.url(), &args("127.0.0.1:0")).is_ok());
    let nowhere = "postgres://nobody@127.0.0.1:1/app";
    assert!(Server::bind(nowhere, &args("127.0.0.1:0")).is_ok());
    assert!(matches!(Server::bind("oracle://u@h/db", &args("127.0.0.1:0")), Err(Error::Queue(_))));
}
