//! `taskmq-cli init`: looks at the project, plans every change, and makes all of them or none.

mod apply;
mod disk;
mod manifest;
mod plan;
pub(crate) mod project;
mod protect;
mod source;

use std::path::Path;

use chrono::{NaiveDateTime, TimeDelta, Utc};
use taskmq_core::{Backend, migration};

use apply::Recovery;
use disk::RealDisk;

use crate::cli::InitArgs;
use crate::error::{Error, Result};
use crate::output;
use plan::Plan;
use project::Project;

/// What files made by `init` are known by.
const MARK: &str = "Made by `taskmq-cli init`";

pub(crate) fn run(args: &InitArgs, url: Option<&str>) -> Result<()> {
    let current = std::env::current_dir().map_err(Error::file("."))?;
    let root = project::root(&current)?;
    if args.dry_run && apply::is_interrupted(&root) {
        return Err(Error::Refused(
            "an earlier `taskmq-cli init` was interrupted here: run it without --dry-run, and it puts that right first"
                .to_owned(),
        ));
    }
    if !args.dry_run {
        say_recovered(&root, &apply::recover(&mut RealDisk, &root)?);
    }
    let project = Project::discover(root, args.backend.map(Backend::from), url)?;
    let plan = plan(&project, args.path.as_deref())?;
    let mut journal = plan.journal(&project.root)?;
    if args.dry_run {
        output::write(&plan.diff(&project.root));
        return Ok(());
    }
    if plan.is_empty() {
        say!("nothing to do: {} has taskmq already", project.name);
        plan.print(&project.root);
        return Ok(());
    }
    let copies = protect::copies(&plan, &project.root, args.allow_dirty)?;
    let copied: Vec<String> = copies.iter().map(|copy| plan::relative(&project.root, &copy.path)).collect();
    journal.add_first(copies);
    apply::apply(&mut RealDisk, &project.root, &journal)?;
    say!("{} has a message queue in {} now:", project.name, project.backend);
    plan.print(&project.root);
    for copy in copied {
        say!("  copied   what was there to {copy} (git does not have it)");
    }
    say!("\nnext:");
    if url.is_none() {
        say!("  echo DATABASE_URL={} >> .env", manifest::example_url(project.backend));
    }
    say!("  diesel migration run              # or: taskmq-cli migrate");
    say!("  cargo run --bin worker            # as many as you like");
    say!("  taskmq-cli produce hello '{{\"name\": \"world\"}}'");
    Ok(())
}

fn say_recovered(root: &Path, recovery: &Recovery) {
    match recovery {
        Recovery::Nothing => {}
        Recovery::Finished => say!("an earlier `taskmq-cli init` was interrupted when all was done"),
        Recovery::Undone(changed_since) => {
            say!("an earlier `taskmq-cli init` was interrupted; what it had begun is undone");
            for path in changed_since {
                say!("  left     {} (was changed since: look at it)", plan::relative(root, path));
            }
        }
    }
}

fn plan(project: &Project, checkout: Option<&Path>) -> Result<Plan> {
    let mut plan = Plan::default();
    let checkout = checkout.map(manifest::checkout).transpose()?;
    let manifest = manifest::edited(project, checkout.as_deref())?;
    plan.edit(project.root.join("Cargo.toml"), project.manifest_text.clone(), manifest);
    plan_migration(&mut plan, project);
    // Modules are beside the file that declares them.
    let (file, declaration, worker) = match (&project.lib, &project.main) {
        (Some(lib), _) => {
            let worker = include_str!("../../templates/worker_of_lib.rs");
            (&lib.file, "pub mod", worker.replace("host_crate", &lib.name))
        }
        (None, Some(main)) => {
            let worker = include_str!("../../templates/worker_of_main.rs");
            (&main.file, "mod", worker.replace("../consumers.rs", &project.seen_from_worker(&main.file)))
        }
        (None, None) => return Err(Error::Refused("there is neither a library nor a program".to_owned())),
    };
    let text = std::fs::read_to_string(file).map_err(Error::file(file))?;
    let modules = file.parent().unwrap_or(&project.root);
    for (name, template) in [
        ("taskmq", include_str!("../../templates/taskmq.rs")),
        ("consumers", include_str!("../../templates/consumers.rs")),
    ] {
        let module = modules.join(format!("{name}.rs"));
        if module.exists() || !source::declares(file, &text, name)? {
            plan.create(module, &with_mark(template), MARK)?;
        } else if project.has_taskmq() {
            plan.keep(file.clone(), "has its modules elsewhere, and they stay there");
        } else {
            return Err(Error::Refused(format!(
                "{} declares `mod {name}` already, which is not taskmq's: give that module another name",
                file.display()
            )));
        }
    }
    plan.create(project.root.join("src/bin/worker.rs"), &with_mark(&worker), MARK)?;
    let edited = source::with_modules(file, &text, &["consumers", "taskmq"], declaration)?;
    plan.edit(file.clone(), text, edited);
    Ok(plan)
}

fn with_mark(template: &str) -> String {
    format!("// {MARK}; it is yours now.\n{template}")
}

fn plan_migration(plan: &mut Plan, project: &Project) {
    let mut newest = NaiveDateTime::MIN;
    let folders = std::fs::read_dir(&project.migrations).into_iter().flatten().flatten();
    for folder in folders {
        let name = folder.file_name().to_string_lossy().into_owned();
        let up = std::fs::read_to_string(folder.path().join("up.sql")).unwrap_or_default();
        if name.ends_with("_taskmq") || up.contains("taskmq_messages") {
            plan.keep(folder.path(), "is there already");
            return;
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
    let files = [("up.sql", migration::up(project.backend)), ("down.sql", migration::down(project.backend))];
    plan.create_migration(folder, files);
}
