use std::time::{Duration, Instant};

use crate::Result;
use crate::contestant::Contestant;
use crate::contestant::Role;
use crate::database::{Database, Kind, Server};
use crate::process::{self, Process};
use crate::workload::{Case, LIBRARIES, Measures, Rounds, Scale, percentile, prepared, words};

const RATE: u64 = 200;
/// Long enough for every worker to be up and to have become idle.
const WARM_UP: Duration = Duration::from_secs(2);

pub(super) fn cases(scale: Scale, _database: Kind) -> Vec<Case> {
    let seconds = scale.pick(4, 10, 60);
    let paced = format!("paced {RATE} {seconds}");
    let same = paced.clone();
    let bare = paced.clone();
    vec![
        Case::new("producer in another process", LIBRARIES, move |server, contestant| {
            measure(server, contestant, |database, _| process::micros(contestant, database, &words(&paced)))
        }),
        Case::new("producer in the worker's process", LIBRARIES, move |server, contestant| {
            measure(server, contestant, |_, worker| worker.ask(&same))
        })
        .own(scale.pick(Rounds::Never, Rounds::First, Rounds::Every))
        .peers(scale.pick(Rounds::Never, Rounds::First, Rounds::First)),
        // No handler at all: what the database needs for the insert alone.
        Case::new("the insert alone", &[Role::Raw, Role::Taskmq], move |server, contestant| {
            let database = prepared(server, contestant)?;
            Ok(figures(process::micros(contestant, &database, &words(&bare))?))
        }),
    ]
}

fn measure(
    server: &Server,
    contestant: &Contestant,
    produce: impl Fn(&Database, &mut Process) -> Result<Vec<u64>>,
) -> Result<Measures> {
    let database = prepared(server, contestant)?;
    let mut worker = Process::start(contestant, &database, &["work", "--prompt"])?;
    std::thread::sleep(WARM_UP);
    let calls = produce(&database, &mut worker)?;
    let expected = calls.len() as u64;
    let deadline = Instant::now() + Duration::from_secs(30);
    // The producer's first message, which prepares its statement, counts as handled but has no latency.
    while worker.count()?.handled <= expected {
        if Instant::now() > deadline {
            return Err(format!("{} of {expected} handled", worker.count()?.handled).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut measures = figures(worker.ask("latencies")?);
    measures.insert("call_p50_ms".to_owned(), figures(calls)["p50_ms"]);
    Ok(measures)
}

fn figures(mut micros: Vec<u64>) -> Measures {
    micros.sort_unstable();
    [("p50_ms", 0.5), ("p99_ms", 0.99), ("p99.9_ms", 0.999)]
        .map(|(name, share)| (name.to_owned(), percentile(&micros, share) / 1000.0))
        .into()
}
