//! What each target looks at, and what must be true of it. The files that crates keep to themselves are compiled in.
#![allow(dead_code, unused_imports, reason = "each file is whole, and the targets call a part of it")]

mod cron;
mod edits;
mod error;
mod init;
mod texts;
mod urls;

pub use cron::cron;
pub use edits::{manifest, source};
pub use texts::{duration, line, payload, query};
pub use urls::url;

use backend::Backend;
use taskmq_core::{Error, Result};

#[path = "../../taskmq-core/src/backend.rs"]
mod backend;
#[path = "../../taskmq-core/src/database_url.rs"]
mod database_url;
#[path = "../../taskmq-cli/src/payload.rs"]
mod payloads;
#[path = "../../taskmq-cli/src/when.rs"]
mod when;
