use std::time::{Duration, Instant};

use crate::Result;
use crate::contestant::{Contestant, Role};
use crate::database::{Kind, Server};
use crate::process::Process;
use crate::workload::{Case, LIBRARIES, Measures, Rounds, Scale, TASKMQ, float, prepared};

const BATCH: u64 = 500;
const WAITING: u64 = 10_000;
const OF_PEERS: Duration = Duration::from_secs(10);

pub(super) fn cases(scale: Scale, database: Kind) -> Vec<Case> {
    let steady = Duration::from_secs(scale.pick(5, 60, 60));
    let open = Duration::from_secs(scale.pick(10, 60, 600));
    let mut cases = vec![
        Case::new("produce and consume", LIBRARIES, move |server, contestant| {
            let during = if contestant.role == Role::Peer { OF_PEERS } else { steady };
            measure(server, contestant, during, false)
        })
        .own(Rounds::First)
        .peers(scale.pick(Rounds::Never, Rounds::First, Rounds::First)),
    ];
    if database == Kind::Postgres {
        cases.push(
            Case::new("beside an open snapshot", TASKMQ, move |server, contestant| {
                measure(server, contestant, open, true)
            })
            .own(Rounds::First),
        );
    }
    cases
}

/// The rate over all, and of the first and the last tenth, which tell whether it holds.
fn measure(server: &Server, contestant: &Contestant, during: Duration, snapshot: bool) -> Result<Measures> {
    let database = prepared(server, contestant)?;
    let mut client = database.client()?;
    if snapshot {
        client.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
        client.number(&contestant.left)?;
    }
    let mut producer = Process::start(contestant, &database, &["feed"])?;
    let mut worker = Process::start(contestant, &database, &["work"])?;
    let mut produced = 0;
    let mut begin = None;
    let mut marks: Vec<(Duration, u64)> = Vec::new();
    loop {
        let handled = worker.count()?.handled;
        // The time runs from the first message, so that nobody's start-up counts.
        let begin = if handled > 0 { Some(*begin.get_or_insert_with(Instant::now)) } else { None };
        if let Some(begin) = begin {
            let now: Duration = begin.elapsed();
            if marks.last().is_none_or(|(at, _)| now - *at >= during / 10) {
                marks.push((now, handled));
            }
            if now >= during {
                break;
            }
        }
        if produced - handled.min(produced) < WAITING {
            let _: u64 = producer.ask(&BATCH.to_string())?;
            produced += BATCH;
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let rate = |from: usize, to: usize| -> Result<f64> {
        let (from, to) = (marks.get(from).ok_or("no marks")?, marks.get(to).ok_or("no marks")?);
        Ok(float(to.1 - from.1) / (to.0 - from.0).as_secs_f64())
    };
    let last = marks.len() - 1;
    Ok(Measures::from([
        ("rate".to_owned(), rate(0, last)?),
        ("first_tenth".to_owned(), rate(0, 1)?),
        ("last_tenth".to_owned(), rate(last.saturating_sub(1), last)?),
        ("rss_mib".to_owned(), worker.peak_mib()?),
    ]))
}
