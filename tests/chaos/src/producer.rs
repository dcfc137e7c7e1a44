//! A producer process: single messages, many at once, and host transactions of which some are rolled back, by the typed
//! API. What became of each is in the journal.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::SimpleConnection;
use fastrand::Rng;
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, produce_many};

use crate::journal::{Event, Journal, Outcome};
use crate::work::{Mix, Topic, Work};

/// How a producer is to work.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Its database.
    pub url: String,
    /// Begins the keys of its messages; no other producer's keys begin so.
    pub name: String,
    /// Of its choices.
    pub seed: u64,
    /// Messages in a second.
    pub rate: f64,
    /// How long handlers are to take.
    pub mix: Mix,
}

const WORDS: &str =
    "nine arguments: the journal, the URL, a name, a seed, four times in milliseconds, and a rate";

impl Orders {
    /// What starts a process that follows them.
    pub fn command(&self, program: &Path, journal: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg(journal).args([&self.url, &self.name]);
        let Mix { effect, short, slow, slowest } = self.mix;
        command.args([self.seed, effect, short, slow, slowest].map(|number| number.to_string()));
        command.arg(self.rate.to_string());
        command
    }
}

/// The whole producer.
///
/// # Panics
/// When its arguments are not those that [`Orders::command`] gives, or the journal cannot be written.
pub fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, journal, url, name, seed, effect, short, slow, slowest, rate] = &arguments[..] else {
        panic!("{WORDS}")
    };
    let number = |text: &String| text.parse::<u64>().expect(WORDS);
    let mix =
        Mix { effect: number(effect), short: number(short), slow: number(slow), slowest: number(slowest) };
    let journal = Journal::open(Path::new(journal)).expect("the journal opens");
    let mut producer = Producer {
        journal,
        url: url.clone(),
        name: name.clone(),
        rng: Rng::with_seed(number(seed)),
        mix,
        sequence: 0,
    };
    let rate: f64 = rate.parse().expect(WORDS);
    loop {
        let Ok(mut conn) = AnyConnection::establish(&producer.url) else {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let mut next = Instant::now();
        // After an error, a new connection.
        while let Ok(number) = producer.produce(&mut conn) {
            next += Duration::from_secs_f64(f64::from(number) / rate);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

struct Producer {
    journal: Journal,
    url: String,
    name: String,
    rng: Rng,
    mix: Mix,
    sequence: u64,
}

/// Why a connection is given up; the journal has what became of the messages.
struct Broken;

impl Producer {
    fn key(&mut self) -> String {
        self.sequence += 1;
        format!("{}-{}", self.name, self.sequence)
    }

    /// Some messages in one of the ways there are, and how many.
    fn produce(&mut self, conn: &mut AnyConnection) -> Result<u32, Broken> {
        match self.rng.u32(0..100) {
            0..68 => self.one(conn),
            68..70 => self.many(conn),
            _ => self.in_a_transaction(conn),
        }
    }

    fn one(&mut self, conn: &mut AnyConnection) -> Result<u32, Broken> {
        let key = self.key();
        let (topic, work) = self.mix.work(key, &mut self.rng);
        let backend = conn.backend();
        let ordering = self.ordering(topic, backend);
        let attempt = Event::Attempt {
            key: work.key.clone(),
            topic: topic.name(backend).to_owned(),
            ordering: ordering.clone(),
        };
        self.journal.write(attempt).expect("the journal is written");
        let message = topic.message(backend, &work);
        let message = match ordering {
            Some(key) => message.ordering_key(key),
            None => message,
        };
        let produced = message.produce(conn).map(drop);
        self.became([&work], produced.as_ref().map_or(Outcome::Unknown, |()| Outcome::Ok));
        produced.map_or(Err(Broken), |()| Ok(1))
    }

    /// A few lines of its own in each topic, for what one process commits one after the other has an order. None where
    /// handlers are slow: who stands behind them would not be done in time.
    fn ordering(&mut self, topic: Topic, backend: Backend) -> Option<String> {
        let ordered = topic != Topic::Slow && self.rng.u32(0..3) == 0;
        ordered.then(|| format!("{}.{}.{}", self.name, topic.name(backend), self.rng.u32(0..3)))
    }

    fn many(&mut self, conn: &mut AnyConnection) -> Result<u32, Broken> {
        let number = self.rng.u32(2..=100);
        let works: Vec<Work> = (0..number)
            .map(|_| {
                let key = self.key();
                Mix::quick(key, &mut self.rng)
            })
            .collect();
        self.attempt(conn, &works.iter().map(|work| (Topic::Quick, work)).collect::<Vec<_>>());
        let backend = conn.backend();
        let produced = produce_many(conn, works.iter().map(|work| Topic::Quick.message(backend, work)));
        self.became(&works, produced.as_ref().map_or(Outcome::Unknown, |_| Outcome::Ok));
        produced.map_or(Err(Broken), |_| Ok(number))
    }

    fn in_a_transaction(&mut self, conn: &mut AnyConnection) -> Result<u32, Broken> {
        let number = self.rng.u32(1..=5);
        let rolls_back = self.rng.u32(0..4) == 0;
        let works: Vec<(Topic, Work)> = (0..number)
            .map(|_| {
                let key = self.key();
                self.mix.work(key, &mut self.rng)
            })
            .collect();
        self.attempt(conn, &works.iter().map(|(topic, work)| (*topic, work)).collect::<Vec<_>>());
        let backend = conn.backend();
        let messages = works.iter().map(|(topic, work)| topic.message(backend, work)).collect();
        let mut stage = Stage::Open;
        let done = match conn {
            AnyConnection::Sqlite(conn) => {
                conn.immediate_transaction(|conn| body(conn, messages, rolls_back, &mut stage))
            }
            AnyConnection::Postgres(conn) => {
                conn.transaction(|conn| body(conn, messages, rolls_back, &mut stage))
            }
            AnyConnection::Mysql(conn) => {
                conn.transaction(|conn| body(conn, messages, rolls_back, &mut stage))
            }
            _ => unreachable!("taskmq knows three databases"),
        };
        let outcome = match (&done, stage) {
            (Ok(()), _) => Outcome::Ok,
            (Err(_), Stage::Committing) => Outcome::Unknown,
            (Err(_), Stage::Open | Stage::RollingBack) => Outcome::Failed,
        };
        self.became(works.iter().map(|(_, work)| work), outcome);
        match (done, stage) {
            (Ok(()), _) | (Err(diesel::result::Error::RollbackTransaction), Stage::RollingBack) => Ok(number),
            (Err(_), _) => Err(Broken),
        }
    }

    fn attempt(&self, conn: &mut AnyConnection, works: &[(Topic, &Work)]) {
        let backend = conn.backend();
        let attempt = |(topic, work): &(Topic, &Work)| Event::Attempt {
            key: work.key.clone(),
            topic: topic.name(backend).to_owned(),
            ordering: None,
        };
        self.journal.write_all(works.iter().map(attempt)).expect("the journal is written");
    }

    fn became<'a>(&self, works: impl IntoIterator<Item = &'a Work>, outcome: Outcome) {
        let became = |work: &Work| Event::Produced { key: work.key.clone(), outcome };
        self.journal.write_all(works.into_iter().map(became)).expect("the journal is written");
    }
}

/// How far a transaction came: once it commits, an error leaves open what became of it.
#[derive(Clone, Copy)]
enum Stage {
    Open,
    RollingBack,
    Committing,
}

fn body<C: BrokerConnection + SimpleConnection>(
    conn: &mut C,
    messages: Vec<NewMessage<'static>>,
    rolls_back: bool,
    stage: &mut Stage,
) -> Result<(), diesel::result::Error> {
    for message in messages {
        message.produce(conn).map_err(|_| diesel::result::Error::BrokenTransactionManager)?;
    }
    if rolls_back {
        *stage = Stage::RollingBack;
        return Err(diesel::result::Error::RollbackTransaction);
    }
    *stage = Stage::Committing;
    Ok(())
}
