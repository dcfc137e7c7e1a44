//! Schedules: cron entries that enqueue messages.
//!
//! A schedule is a row of `taskmq_schedules`: a name, when it ticks ([`Cron`]), and the message that each tick enqueues.
//! Every worker looks for due schedules, and whoever finds one enqueues its message and moves the schedule on in one
//! transaction: each tick is one message, however many workers run, and nobody is a leader. All times are the database's.
//!
//! # On a consumer
//! ```
//! use serde::{Deserialize, Serialize};
//! use taskmq_core::task_consumer;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Report { days: u32 }
//!
//! #[task_consumer(
//!     topic = "report",
//!     schedule = "0 7 * * mon-fri",
//!     time_zone = "Europe/Berlin",
//!     payload = Report { days: 1 }
//! )]
//! fn report(report: Report) { println!("the last {} days", report.days) }
//! ```
//! A worker enters it when it starts, under the topic as its name. [Below](#who-declares-it) is what becomes of it
//! when the program changes.
//!
//! # At run time
//! ```no_run
//! # #[cfg(feature = "sqlite")] {
//! # use diesel::prelude::*;
//! # #[taskmq_core::task_consumer(topic = "report")] fn report(_days: u32) {}
//! # let mut conn = SqliteConnection::establish("app.db").unwrap();
//! report::message(&30).schedule("monthly", "0 6 1 * *").time_zone("Asia/Shanghai").store(&mut conn)?;
//! taskmq_core::schedule::remove(&mut conn, "monthly", "the settings page")?;
//! # }
//! # Ok::<(), taskmq_core::Error>(())
//! ```
//! `conn` is the host's own, inside its transaction if it has one open: the schedule is there if that commits. Storing
//! one of the same name again changes it; a pause stays, and what has ticked is not ticked again. Any other language
//! does with `INSERT INTO taskmq_schedules (name, topic, payload, cron) VALUES (...)`.
//!
//! # The messages
//! They are as if produced with [`NewMessage`], and the headers say where they come from: [`NAME_HEADER`],
//! [`TICK_HEADER`] and [`MISSED_HEADER`]. With [`unique`](NewMessage::unique) a tick enqueues nothing while the message
//! of an earlier one is live.
//!
//! # Late ticks
//! A tick that is found up to ten seconds late is enqueued all the same, each of them. When no worker ran for longer, one
//! message makes up for all that were missed, and its header tells how many more those were. What was due while a
//! schedule was paused is not made up for.
//!
//! # Who declares it
//! A schedule that a consumer declares ticks while a worker runs that consumer. Of workers that declare it differently,
//! as in a rolling deploy, the last one to start wins, for as long as it runs; then one of those that still run enters
//! its own. It is removed once no worker that declared it runs any more but one that has the consumer without a
//! schedule. It can be paused, but not be removed or changed from outside.

mod cron;
#[cfg(feature = "worker")]
mod declare;
mod manage;
mod new;
mod stored;
#[cfg(feature = "worker")]
mod tick;

pub use cron::Cron;
#[cfg(feature = "worker")]
pub use declare::declare;
pub use manage::{list, pause, remove, resume, run_now};
pub use new::NewSchedule;
#[cfg(feature = "worker")]
pub use tick::{Ticked, tick};

#[cfg(doc)]
use crate::NewMessage;
pub use crate::broker::Schedule;

/// The header of a message that has the name of its schedule.
pub const NAME_HEADER: &str = "taskmq-schedule";
/// The header that has the time of its tick, as in `2026-11-30T06:00:00Z`. A handler that works on "the last day" should
/// count from this, and not from the time at which it runs.
pub const TICK_HEADER: &str = "taskmq-tick";
/// The header that has how many more ticks were missed and are not enqueued, up to 1000; not there when none was.
pub const MISSED_HEADER: &str = "taskmq-missed";
