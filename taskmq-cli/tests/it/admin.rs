//! `taskmq-cli admin`: where it listens, and who comes in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::database::migrated;
use crate::host::Host;

fn command(host: &Host, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskmq-cli"));
    command
        .arg("admin")
        .args(args)
        .current_dir(host.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The program, and the address that it printed.
struct Serving(Child, String);

impl Serving {
    fn start(host: &Host, args: &[&str]) -> Self {
        let mut child = command(host, &[&["--listen", "127.0.0.1:0"], args].concat()).spawn().expect("runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        let url = line.trim_end().strip_prefix("the admin is at http://").expect("an address").to_owned();
        Self(child, url)
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let at = self.1.split('/').next().unwrap_or_default();
        let mut stream = TcpStream::connect(at).expect("connects");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// With the session that this answer began.
    fn ask_again(&self, began: &str, method: &str, path: &str) -> String {
        assert!(began.starts_with("HTTP/1.1 303"), "{began}");
        let cookie = began.split_once("set-cookie: ").expect("a cookie").1;
        assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap_or_default();
        self.ask(method, path, &format!("Cookie: {cookie}\r\n"), "")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_printed_address_lets_in_until_one_signs_out() {
    let host = migrated();
    let serving = Serving::start(&host, &[]);
    assert!(serving.ask("GET", "/", "", "").starts_with("HTTP/1.1 401"));
    let path = serving.1.split_once('/').expect("a path").1;
    let began = serving.ask("GET", &format!("/{path}"), "", "");
    let page = serving.ask_again(&began, "GET", "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("sign-out"), "{page}");
    assert!(serving.ask_again(&began, "POST", "/sign-out").starts_with("HTTP/1.1 303"));
    assert!(serving.ask_again(&began, "GET", "/").starts_with("HTTP/1.1 401"), "the session is over");
}

#[test]
fn a_password_is_kept_as_its_hash() {
    let host = migrated();
    let mut hashing = command(&host, &["--hash-password"]).spawn().expect("runs");
    hashing.stdin.take().expect("piped").write_all(b"correct horse\n").expect("writes");
    let hash = hashing.wait_with_output().expect("ends").stdout;
    assert!(hash.starts_with(b"$argon2id$"), "{}", String::from_utf8_lossy(&hash));
    std::fs::write(host.path("password"), hash).expect("a file");
    let serving = Serving::start(&host, &["--password-file", "password"]);
    assert!(!serving.1.contains("token"), "{}", serving.1);
    let sign_in = |secret: &str| serving.ask("POST", "/sign-in", "", &format!("secret={secret}&next=dead"));
    assert!(sign_in("wrong+horse").starts_with("HTTP/1.1 401"));
    let began = sign_in("correct+horse");
    assert!(began.contains("location: ./dead"), "{began}");
    assert!(serving.ask_again(&began, "GET", "/dead").starts_with("HTTP/1.1 200"));
}

#[test]
fn it_is_not_shown_to_others_without_protection() {
    let host = migrated();
    let out = host.run(&["admin", "--listen", "0.0.0.0:0"]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.contains("--password-file") && text.contains("--trust-proxy"), "{text}");
    let out = host.run(&["admin", "--password-file", "nowhere"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("nowhere"));
}
