use std::time::{Duration, Instant};

use crate::database::Kind;
use crate::process::Process;
use crate::workload::{Case, LIBRARIES, Measures, Rounds, Scale, prepared};

/// A worker that has just started is not idle yet, and sessions of PostgreSQL tell up to ten seconds late what they did.
const CALM_DOWN: Duration = Duration::from_secs(15);

pub(super) fn cases(scale: Scale, _database: Kind) -> Vec<Case> {
    let during = Duration::from_secs(scale.pick(10, 20, 60));
    vec![
        Case::new("one worker", LIBRARIES, move |server, contestant| {
            let database = prepared(server, contestant)?;
            let worker = Process::start(contestant, &database, &["work"])?;
            std::thread::sleep(CALM_DOWN);
            let mut observer = database.observer()?;
            let (activity, cpu, begin) = (database.activity(&mut observer)?, worker.cpu()?, Instant::now());
            std::thread::sleep(during);
            let (activity, cpu) = (database.activity(&mut observer)? - activity, worker.cpu()? - cpu);
            // MariaDB counts the second look itself.
            let own = i32::from(database.kind == Kind::Mariadb);
            let asked = f64::from(i32::try_from(activity)? - own);
            let seconds = begin.elapsed().as_secs_f64();
            Ok(Measures::from([
                ("asked_a_second".to_owned(), asked / seconds),
                ("cpu_percent".to_owned(), 100.0 * cpu.as_secs_f64() / seconds),
                ("rss_mib".to_owned(), worker.peak_mib()?),
            ]))
        })
        .own(Rounds::First)
        .peers(scale.pick(Rounds::Never, Rounds::First, Rounds::First)),
    ]
}
