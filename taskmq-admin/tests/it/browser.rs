//! A real browser opens each page, and keeps a picture of it in `target/screenshots`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use taskmq_core::Backend;
use taskmq_tests::databases::fresh;

use crate::site::{MOUNT, Site, seed};

/// Wide or as a phone, in which colours and which language.
const LOOKS: [(&str, &str, &[&str]); 4] = [
    ("light", "1360,1000", &["--accept-lang=en"]),
    ("dark", "1360,1000", &["--accept-lang=en", "--blink-settings=preferredColorScheme=0"]),
    ("phone", "390,1200", &["--accept-lang=en"]),
    ("chinese", "1360,1000", &["--accept-lang=zh-CN"]),
];

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn browser(profile: &Path, arguments: &[String]) -> String {
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
        ])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("chromium: cargo xtask test installs it");
    let began = Instant::now();
    while child.try_wait().expect("a process").is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            _ = child.kill();
            panic!("chromium did not end: {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("its output");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_page_is_pictured() {
    let db = fresh(Backend::Sqlite);
    let seeded = seed(&db);
    let site = Site::new(db, |admin| admin);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    let served = site.router.clone();
    runtime.spawn(async move { axum::serve(listener, served).await });
    let profile = tempfile::tempdir().expect("a folder");
    let message = format!("/messages/{}", seeded.dead[0]);
    let pages = [
        ("overview", ""),
        ("topic", "/topic?name=mail"),
        ("messages", "/messages?state=dead"),
        ("message", &*message),
        ("dead", "/dead"),
        ("workers", "/workers"),
        ("audit", "/audit"),
        ("produce", "/produce"),
    ];
    // All of them in one look, and the first two in each.
    for (look, size, arguments) in LOOKS {
        let shown = if look == "light" { pages.len() } else { 2 };
        for (name, path) in &pages[..shown] {
            let picture = folder().join(format!("{name}-{look}.png"));
            _ = std::fs::remove_file(&picture);
            let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            all.push(format!("--window-size={size}"));
            all.push(format!("--screenshot={}", picture.display()));
            all.push(format!("http://{address}{MOUNT}{path}"));
            browser(profile.path(), &all);
            let bytes = std::fs::metadata(&picture).expect("a picture").len();
            assert!(bytes > 10_000, "{name} {look}: {bytes} bytes");
        }
    }
    // The script runs: it counts what is selected and shows that the figures are live.
    let dom = browser(
        profile.path(),
        &["--dump-dom".into(), format!("http://{address}{MOUNT}/messages?state=dead")],
    );
    assert!(dom.contains("<b data-count=\"id\">0</b>") && dom.contains("timeout after 14 s"), "{dom}");
    runtime.shutdown_background();
}
