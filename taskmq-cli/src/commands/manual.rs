//! What a package installs beside the program: completions and manual pages.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::error::{Error, Result};
use crate::output;

pub(crate) fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "taskmq-cli", &mut script);
    output::write(&String::from_utf8_lossy(&script));
    Ok(())
}

pub(crate) fn man(args: &ManArgs) -> Result<()> {
    std::fs::create_dir_all(&args.folder).map_err(Error::file(&args.folder))?;
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(Error::file(&args.folder))?;
    say!("wrote the manual pages to {}", output::cell(&args.folder.display().to_string()));
    Ok(())
}
