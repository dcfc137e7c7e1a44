//! `taskmq-cli init`: looks at the project, plans every change, and makes all of them or none.

mod manifest;
mod plan;
pub(crate) mod project;
mod source;

use std::path::Path;

use chrono::{NaiveDateTime, TimeDelta, Utc};
use taskmq_core::{Backend, migration};

use crate::cli::InitArgs;
use crate::error::{Error, Result};
use plan::Plan;
use project::Project;

/// What files made by `init` are known by.
const MARK: &str = "Made by `taskmq-cli init`";

pub(crate) fn run(args: &InitArgs, url: Option<&str>) -> Result<()> {
    let current = std::env::current_dir().map_err(Error::file("."))?;
    let project = Project::discover(&current, args.backend.map(Backend::from), url)?;
    let plan = plan(&project, args.path.as_deref())?;
    if args.dry_run {
        print!("{}", plan.diff(&project.root));
        return Ok(());
    }
    if plan.is_empty() {
        println!("nothing to do: {} has taskmq already", project.name);
        plan.print(&project.root);
        return Ok(());
    }
    plan.protect(&project.root, args.allow_dirty)?;
    plan.apply(&project.root)?;
    println!("{} has a message queue in {} now:", project.name, project.backend);
    plan.print(&project.root);
    println!("\nnext:");
    if url.is_none() {
        println!("  echo DATABASE_URL={} >> .env", manifest::example_url(project.backend));
    }
    println!("  diesel migration run              # or: taskmq-cli migrate");
    println!("  cargo run --bin worker            # as many as you like");
    println!("  taskmq-cli produce hello '{{\"name\": \"world\"}}'");
    Ok(())
}

fn plan(project: &Project, checkout: Option<&Path>) -> Result<Plan> {
    let mut plan = Plan::default();
    let checkout = checkout.map(manifest::checkout).transpose()?;
    let manifest = manifest::edited(project, checkout.as_deref())?;
    plan.edit(project.root.join("Cargo.toml"), project.manifest_text.clone(), manifest);
    plan_migration(&mut plan, project)?;
    let src = project.root.join("src");
    plan.create(src.join("taskmq.rs"), &with_mark(include_str!("../../templates/taskmq.rs")), MARK)?;
    plan.create(src.join("consumers.rs"), &with_mark(include_str!("../../templates/consumers.rs")), MARK)?;
    let (worker, file, declaration) = match (&project.lib, &project.main) {
        (Some((name, file)), _) => {
            (include_str!("../../templates/worker_of_lib.rs").replace("host_crate", name), file, "pub mod")
        }
        (None, Some(file)) => (include_str!("../../templates/worker_of_main.rs").to_owned(), file, "mod"),
        (None, None) => return Err(Error::Refused("there is neither a library nor a program".to_owned())),
    };
    plan.create(src.join("bin/worker.rs"), &with_mark(&worker), MARK)?;
    let text = std::fs::read_to_string(file).map_err(Error::file(file))?;
    let edited = source::with_modules(file, &text, &["consumers", "taskmq"], declaration)?;
    plan.edit(file.clone(), text, edited);
    Ok(plan)
}

fn with_mark(template: &str) -> String {
    format!("// {MARK}; it is yours now.\n{template}")
}

fn plan_migration(plan: &mut Plan, project: &Project) -> Result<()> {
    let mut newest = NaiveDateTime::MIN;
    let folders = std::fs::read_dir(&project.migrations).into_iter().flatten().flatten();
    for folder in folders {
        let name = folder.file_name().to_string_lossy().into_owned();
        if name.ends_with("_taskmq") {
            plan.keep(folder.path(), "is there already");
            return Ok(());
        }
        let version = name.split('_').next().unwrap_or_default();
        if let Ok(time) = NaiveDateTime::parse_from_str(version, "%Y-%m-%d-%H%M%S") {
            newest = newest.max(time);
        }
    }
    // After what is there, be it that a colleague's clock is ahead.
    let now = Utc::now().naive_utc();
    let version = if newest >= now { newest + TimeDelta::seconds(1) } else { now };
    let folder = project.migrations.join(version.format("%Y-%m-%d-%H%M%S_taskmq").to_string());
    plan.create(folder.join("up.sql"), migration::up(project.backend), "taskmq")?;
    plan.create(folder.join("down.sql"), migration::down(project.backend), "taskmq")
}
