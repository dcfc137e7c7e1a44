//! `pause` and `resume`.

use taskmq_core::BrokerConnection;

use super::ACTOR;
use crate::cli::PauseArgs;
use crate::error::Result;
use crate::{database, output};

pub(crate) fn pause(args: &PauseArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let changed = conn.broker().pause(&args.topic, &ACTOR)?;
    let workers = database::topics_of_workers(&mut conn)?;
    let consumed = workers.iter().any(|topics| topics.contains(&args.topic));
    if !consumed && !conn.broker().topics()?.iter().any(|known| known.topic == args.topic) {
        eprintln!("note: {} has no messages and no worker", output::cell(&args.topic));
    }
    tell(args, true, changed, "paused: what runs is finished, nothing more is begun", "was paused already");
    Ok(())
}

pub(crate) fn resume(args: &PauseArgs, url: Option<&str>) -> Result<()> {
    let changed = database::connect(url)?.broker().resume(&args.topic, &ACTOR)?;
    tell(args, false, changed, "resumed", "was not paused");
    Ok(())
}

fn tell(args: &PauseArgs, paused: bool, changed: bool, done: &str, nothing: &str) {
    if args.json {
        output::json(&[serde_json::json!({ "topic": args.topic, "paused": paused, "changed": changed })]);
    } else {
        say!("{} {}", output::cell(&args.topic), if changed { done } else { nothing });
    }
}
