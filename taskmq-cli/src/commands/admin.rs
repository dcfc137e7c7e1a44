use taskmq_admin::serve::Server;

use crate::cli::AdminArgs;
use crate::database;
use crate::error::{Error, Result};

pub(crate) fn run(args: &AdminArgs, url: Option<&str>) -> Result<()> {
    if args.hash_password {
        let mut password = String::new();
        std::io::stdin().read_line(&mut password).map_err(Error::file("standard input"))?;
        say!("{}", taskmq_admin::hash_password(password.trim_end_matches(['\r', '\n']))?);
        return Ok(());
    }
    // Rather here than on the first page.
    database::connect(url)?;
    let server = Server::bind(url.unwrap_or_default(), &args.serve)?;
    say!("the admin is at {}", server.url());
    say!("Ctrl-C ends it");
    Ok(server.run_until(asked_to_end())?)
}

async fn asked_to_end() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    if let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        }
        return;
    }
    let _ = interrupted.await;
}
