//! What `init` does with the files of a project.

#[path = "../../taskmq-cli/src/init/manifest.rs"]
pub(crate) mod manifest;
#[path = "../../taskmq-cli/src/init/project.rs"]
pub(crate) mod project;
#[path = "../../taskmq-cli/src/init/source.rs"]
pub(crate) mod source;
