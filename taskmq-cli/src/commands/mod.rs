//! What the commands do, one module for each or for a few that are alike.

pub(crate) mod admin;
pub(crate) mod change;
pub(crate) mod dead;
pub(crate) mod limits;
pub(crate) mod manual;
pub(crate) mod messages;
pub(crate) mod migrate;
pub(crate) mod pause;
pub(crate) mod produce;
pub(crate) mod purge;
pub(crate) mod schedules;
pub(crate) mod search;
pub(crate) mod show;
pub(crate) mod topics;
pub(crate) mod workers;
pub(crate) mod workflows;

use std::sync::LazyLock;

/// Who did it, in the notes of what people did, as the environment names them.
static ACTOR: LazyLock<String> = LazyLock::new(|| actor("taskmq-cli"));

pub(crate) fn actor(program: &str) -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("USERNAME"));
    let user = user.map(|user| user.chars().take(64).collect::<String>());
    user.map_or_else(|_| program.to_owned(), |user| format!("{program} ({user})"))
}
