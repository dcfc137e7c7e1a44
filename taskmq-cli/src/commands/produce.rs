use std::collections::BTreeSet;
use std::io::{BufReader, IsTerminal};
use std::path::Path;

#[cfg(any(feature = "postgres", feature = "mysql"))]
use diesel::Connection as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, Produced, produce_many};

use crate::cli::ProduceArgs;
use crate::error::{Error, Result};
use crate::schema::Check;
use crate::{database, output, payload};

/// So many lines are one statement.
const BATCH: usize = 1000;

pub(crate) fn run(args: &ProduceArgs, url: Option<&str>) -> Result<()> {
    taskmq_core::limits::check_topic(&args.topic)?;
    if let Some(file) = &args.file {
        return produce_file(args, file, url);
    }
    let payload = payload::read(args.payload.as_deref())?;
    let mut conn = database::connect(url)?;
    Check::of(&mut conn, &args.topic, args.unchecked).payload(&payload, || "this payload".to_owned())?;
    let produced = message(args, &payload).produce(&mut conn)?;
    if args.json {
        output::json(conn.broker().message(produced.id())?.as_slice());
    } else {
        note_no_consumer(&mut conn, &args.topic)?;
        match produced {
            Produced::New(id) => say!("produced message {id} of topic {}", args.topic),
            Produced::Existing(id) => {
                say!("message {id} of topic {} has this unique key already", args.topic)
            }
        }
    }
    Ok(())
}

fn message<'a>(args: &'a ProduceArgs, payload: &RawValue) -> NewMessage<'a> {
    let mut message = NewMessage::new(&*args.topic, payload).priority(args.priority);
    if let Some(delay) = args.delay {
        message = message.delay(delay);
    }
    if let Some(key) = &args.unique {
        message = message.unique(&**key);
    }
    if let Some(key) = &args.ordering_key {
        message = message.ordering_key(&**key);
    }
    args.header.iter().fold(message, |message, (name, text)| message.header(&**name, &**text))
}

/// When workers run, yet none for this topic, it is likely a slip of the pen.
fn note_no_consumer(conn: &mut AnyConnection, topic: &str) -> Result<()> {
    let workers = database::topics_of_workers(conn)?;
    let known: BTreeSet<&str> = workers.iter().flatten().map(|known| &**known).collect();
    if !known.is_empty() && !known.contains(topic) {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        eprintln!("note: no running worker consumes {topic}; they consume {}", output::cell(&known));
    }
    Ok(())
}

fn produce_file(args: &ProduceArgs, path: &Path, url: Option<&str>) -> Result<()> {
    let file = std::fs::File::open(path).map_err(Error::file(path))?;
    let size = file.metadata().map_err(Error::file(path))?.len();
    let mut conn = database::connect(url)?;
    let mut check = Check::of(&mut conn, &args.topic, args.unchecked);
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(size) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    let count = match &mut conn {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(conn) => {
            conn.immediate_transaction(|conn| produce_lines(conn, args, path, file, &bar, &mut check))
        }
        #[cfg(feature = "postgres")]
        AnyConnection::Postgres(conn) => {
            conn.transaction(|conn| produce_lines(conn, args, path, file, &bar, &mut check))
        }
        #[cfg(feature = "mysql")]
        AnyConnection::Mysql(conn) => {
            conn.transaction(|conn| produce_lines(conn, args, path, file, &bar, &mut check))
        }
        _ => Err(Error::Failed("this database is not known".to_owned())),
    }?;
    bar.finish_and_clear();
    if args.json {
        output::json(&[serde_json::json!({"topic": args.topic, "produced": count})]);
    } else {
        note_no_consumer(&mut conn, &args.topic)?;
        say!("produced {count} messages of topic {}", args.topic);
    }
    Ok(())
}

fn produce_lines(
    conn: &mut impl BrokerConnection,
    args: &ProduceArgs,
    path: &Path,
    file: std::fs::File,
    bar: &ProgressBar,
    check: &mut Check,
) -> Result<usize> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut count = 0;
    for payload in payload::lines(BufReader::new(bar.wrap_read(file)), path) {
        let (number, payload) = payload?;
        check.payload(&payload, || format!("{} line {number}", path.display()))?;
        batch.push(message(args, &payload));
        if batch.len() == BATCH {
            count += produce_many(conn, batch.drain(..))?;
        }
    }
    Ok(count + produce_many(conn, batch)?)
}
