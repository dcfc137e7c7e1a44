//! What looking at the overview takes, and what the queue notices of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::contestant::{self, Contestant};
use crate::database::{Client, Database, Kind};
use crate::process::{self, Process};
use crate::workload::{Case, Measures, Rounds, Scale, TASKMQ, float, percentile, prepared, words};
use crate::{Result, backlog};

/// What was read is shown again for a second, and for five times as long as reading it took.
const READ_ANEW: Duration = Duration::from_millis(1_100);
/// Sessions of PostgreSQL tell up to ten seconds late what they did.
const TELL: Duration = Duration::from_secs(11);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn cases(scale: Scale, _database: Kind) -> Vec<Case> {
    let sizes: &[u64] = scale.pick(&[100_000], &[1_000_000, 10_000_000], &[1_000_000, 10_000_000]);
    let looks = scale.pick(5, 30, 30);
    let (drains, messages) = scale.pick((1, 40_000), (3, 400_000), (3, 400_000));
    let case = |&number: &u64| {
        Case::new(format!("{number} messages of 1,000 topics"), TASKMQ, move |server, contestant| {
            let database = prepared(server, contestant)?;
            backlog::fill(&database, number)?;
            let onlooker = contestant::onlooker()?;
            let mut onlooker = Process::start(&onlooker, &database, &[] as &[&str])?;
            let mut measures = look(&database, &mut onlooker, looks)?;
            let mut rates =
                Rates { contestant, database: &database, messages, alone: vec![], watched: vec![] };
            // A file that has never been drained is not what it is later.
            rates.drain(None)?;
            for _ in 0..drains {
                rates.measure(&mut onlooker)?;
            }
            let (alone, watched) = (median(&mut rates.alone), median(&mut rates.watched));
            measures.insert("rate".to_owned(), alone);
            measures.insert("watched_rate".to_owned(), watched);
            measures.insert("watched_percent".to_owned(), 100.0 * watched / alone);
            Ok(measures)
        })
        .own(Rounds::First)
    };
    sizes.iter().map(case).collect()
}

/// Looks one after the other, each of which reads anew.
fn look(database: &Database, onlooker: &mut Process, looks: u32) -> Result<Measures> {
    // The first one connects.
    let mut took: u64 = onlooker.ask("look")?;
    let pause = |took: u64| std::thread::sleep(READ_ANEW.max(Duration::from_micros(took) * 6));
    let mut observer = database.observer()?;
    let mut client = database.client()?;
    pause(took);
    let before = load(database, &mut observer, &mut client)?;
    let mut all = Vec::new();
    for _ in 0..looks {
        took = onlooker.ask("look")?;
        all.push(took);
        pause(took);
    }
    let after = load(database, &mut observer, &mut client)?;
    all.sort_unstable();
    let mut measures = Measures::from([
        ("p50_ms".to_owned(), percentile(&all, 0.5) / 1000.0),
        ("p99_ms".to_owned(), percentile(&all, 0.99) / 1000.0),
    ]);
    for (name, before, after) in [("asked_a_look", before.0, after.0), ("rows_a_look", before.1, after.1)] {
        if let (Some(before), Some(after)) = (before, after) {
            measures.insert(name.to_owned(), float(u64::try_from(after - before)?) / f64::from(looks));
        }
    }
    Ok(measures)
}

/// What the server was asked so far, and the rows and entries of indexes that it read for that. SQLite tells neither.
fn load(
    database: &Database,
    observer: &mut Client,
    client: &mut Client,
) -> Result<(Option<i64>, Option<i64>)> {
    match database.kind {
        Kind::Sqlite => return Ok((None, None)),
        Kind::Postgres => std::thread::sleep(TELL),
        Kind::Mariadb => {}
    }
    Ok((Some(database.activity(observer)?), Some(database.rows_read(client)?)))
}

/// Messages a second that a worker handles, with and without somebody who looks each second.
struct Rates<'a> {
    contestant: &'a Contestant,
    database: &'a Database,
    messages: u64,
    alone: Vec<f64>,
    watched: Vec<f64>,
}

impl Rates<'_> {
    /// They take turns in coming first, for the database does not stay the same.
    fn measure(&mut self, onlooker: &mut Process) -> Result {
        if self.alone.len().is_multiple_of(2) {
            self.alone.push(self.drain(None)?);
            self.watched.push(self.drain(Some(onlooker))?);
        } else {
            self.watched.push(self.drain(Some(onlooker))?);
            self.alone.push(self.drain(None)?);
        }
        Ok(())
    }

    fn drain(&self, mut onlooker: Option<&mut Process>) -> Result<f64> {
        process::seconds(self.contestant, self.database, &words(&format!("produce {}", self.messages)))?;
        let mut worker = Process::start(self.contestant, self.database, &["work"])?;
        let deadline = Instant::now() + PATIENCE;
        let (mut looks, mut next) = (0, Instant::now());
        let rate = loop {
            let count = worker.count()?;
            if count.handled >= self.messages {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                let micros = u64::try_from(now.as_micros())?.saturating_sub(count.first);
                break float(count.handled) * 1e6 / float(micros.max(1));
            }
            let now = Instant::now();
            if now > deadline {
                return Err(format!("{} of {} handled", count.handled, self.messages).into());
            }
            if let Some(onlooker) = onlooker.as_mut().filter(|_| now >= next) {
                onlooker.say("look")?;
                (looks, next) = (looks + 1, next + LOOK_EVERY);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        if let Some(onlooker) = onlooker {
            for _ in 0..looks {
                let _: u64 = onlooker.answer()?;
            }
        }
        Ok(rate)
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
