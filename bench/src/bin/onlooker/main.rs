//! Somebody who looks at the admin's overview: for each line of its input it asks for the page, as a browser does of a
//! host that mounts the admin, and answers with the microseconds that it waited.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use taskmq_admin::{Access, Admin};
use tower::ServiceExt;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const LONGEST_PAGE: usize = 64 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result {
    let admin = Admin::new(std::env::var("DATABASE_URL")?).read_only(true);
    let router = admin.router(Access::host_decides())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for line in std::io::stdin().lines() {
        line?;
        let began = Instant::now();
        runtime.block_on(look(&router))?;
        println!("= {}", began.elapsed().as_micros());
    }
    Ok(())
}

async fn look(router: &Router) -> Result {
    let request = Request::get("/overview").header(header::HOST, "localhost").body(Body::empty())?;
    let response = router.clone().oneshot(request).await?;
    let status = response.status();
    let page = to_bytes(response.into_body(), LONGEST_PAGE).await?;
    // A page of the admin says itself what went wrong.
    if status != StatusCode::OK {
        return Err(format!("the overview answered {status}: {}", String::from_utf8_lossy(&page)).into());
    }
    Ok(())
}
