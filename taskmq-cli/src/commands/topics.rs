use taskmq_core::BrokerConnection;

use crate::cli::ListArgs;
use crate::error::Result;
use crate::{database, output};

pub(crate) fn run(args: &ListArgs, url: Option<&str>) -> Result<()> {
    let topics = database::connect(url)?.broker().topics()?;
    if args.json {
        output::json(&topics.iter().map(output::value).collect::<Vec<_>>());
    } else if topics.is_empty() {
        println!("no messages yet");
    } else {
        let rows: Vec<Vec<String>> = topics
            .iter()
            .map(|t| {
                let figures = [t.ready, t.scheduled, t.running, t.retrying, t.done, t.dead, t.cancelled];
                std::iter::once(output::cell(&t.topic, 40)).chain(figures.map(|n| n.to_string())).collect()
            })
            .collect();
        output::table(
            &["TOPIC", "READY", "SCHEDULED", "RUNNING", "RETRYING", "DONE", "DEAD", "CANCELLED"],
            &rows,
        );
    }
    Ok(())
}
