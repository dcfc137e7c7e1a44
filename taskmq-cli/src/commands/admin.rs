use std::io::IsTerminal;

use console::Term;
use taskmq_admin::serve::Server;

use crate::cli::AdminArgs;
use crate::database;
use crate::error::{Error, Result};

pub(crate) fn run(args: &AdminArgs, url: Option<&str>) -> Result<()> {
    if args.hash_password {
        say!("{}", taskmq_admin::hash_password(&password()?)?);
        return Ok(());
    }
    // Rather here than on the first page.
    database::connect(url)?;
    let server = Server::bind(url.unwrap_or_default(), &args.serve)?;
    say!("the admin is at {}", server.url());
    say!("Ctrl-C ends it");
    Ok(server.run_until(asked_to_end())?)
}

/// A person is asked for it, and types it unseen.
fn password() -> Result<String> {
    let terminal = Term::stderr();
    if std::io::stdin().is_terminal() && terminal.is_term() {
        return terminal
            .write_str("password: ")
            .and_then(|()| terminal.read_secure_line())
            .map_err(Error::file("the terminal"));
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(Error::file("standard input"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
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
