//! Which lanes there are, and how many messages of each nobody holds. Of a thousand lanes this is asked each second, so no
//! lane costs a statement of its own, and each reads only so many entries of the index.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text};

use super::json;
use crate::Result;
use crate::broker::{Lane, LaneCount, rows};
use crate::statement::load;

/// By all columns before `run_at`, so that the server may jump from lane to lane.
macro_rules! distinct_lanes {
    ($before:literal) => {
        concat!(
            $before,
            "SELECT topic, priority FROM taskmq_messages FORCE INDEX (taskmq_messages_ready) WHERE worker_id = 0
             GROUP BY worker_id, topic, priority ORDER BY worker_id, topic, priority LIMIT ?"
        )
    };
}

/// A JSON array of lanes as a table.
macro_rules! listed {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY,
            topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin PATH '$[0]', priority SMALLINT PATH '$[1]')) l"
    };
}

/// The messages of one of them.
macro_rules! of_lane {
    () => {
        "FROM taskmq_messages m FORCE INDEX (taskmq_messages_ready)
         WHERE m.worker_id = 0 AND m.topic = l.topic AND m.priority = l.priority"
    };
}

/// Up to `limit` of them, by topic, higher priorities first; of the last topic, if there are too many, the lowest remain.
pub(super) fn all(conn: &mut MysqlConnection, limit: usize) -> Result<Vec<Lane>> {
    let mut lanes = if jumps(conn, limit)? { distinct(conn, limit)? } else { walk(conn, limit)? };
    lanes.sort_by(|a, b| (&a.topic, b.priority).cmp(&(&b.topic, a.priority)));
    Ok(lanes)
}

#[derive(QueryableByName)]
struct Plan {
    #[diesel(sql_type = Nullable<Text>, column_name = "Extra")]
    extra: Option<String>,
}

/// Whether the server would jump from lane to lane. By its statistics, which may be old, it decides, and else it reads
/// the whole index.
fn jumps(conn: &mut MysqlConnection, limit: usize) -> Result<bool> {
    let plans: Vec<Plan> =
        diesel::sql_query(distinct_lanes!("EXPLAIN ")).bind::<BigInt, _>(number(limit)).load(conn)?;
    Ok(plans.iter().any(|plan| plan.extra.as_ref().is_some_and(|extra| extra.contains("for group-by"))))
}

fn distinct(conn: &mut MysqlConnection, limit: usize) -> Result<Vec<Lane>> {
    let lanes: Vec<(String, i16)> =
        load!(conn, Mysql => (Text, SmallInt), distinct_lanes!(""), BigInt = number(limit))?;
    Ok(lanes.into_iter().map(|(topic, priority)| Lane { topic, priority }).collect())
}

/// A statement for each lane.
fn walk(conn: &mut MysqlConnection, limit: usize) -> Result<Vec<Lane>> {
    let mut lanes: Vec<Lane> = Vec::new();
    while lanes.len() < limit {
        let (topic, priority) =
            lanes.last().map_or(("", i16::MIN), |lane| (lane.topic.as_str(), lane.priority));
        let next: Vec<(String, i16)> = load!(
            conn, Mysql => (Text, SmallInt),
            "SELECT topic, priority FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
             WHERE worker_id = 0 AND (topic = ? AND priority > ? OR topic > ?) ORDER BY topic, priority LIMIT 1",
            Text = topic,
            SmallInt = priority,
            Text = topic,
        )?;
        let Some((topic, priority)) = next.into_iter().next() else { break };
        lanes.push(Lane { topic, priority });
    }
    Ok(lanes)
}

fn number(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// So many lanes have a branch in one statement. It is prepared once, so there are always as many.
const BRANCHES: usize = 10;

macro_rules! branch {
    ($place:literal, $than:literal) => {
        concat!(
            "SELECT ",
            $place,
            ", count(*), CAST(coalesce(sum(attempts > 0), 0) AS SIGNED) FROM (
            SELECT attempts FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
            WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at ",
            $than,
            " CURRENT_TIMESTAMP(6) ORDER BY run_at LIMIT ?) m"
        )
    };
}

/// The place of each of these, how many of its messages are due (`<=`) or wait for their time (`>`), and how many of them had
/// attempts.
macro_rules! branches {
    ($conn:expr, $than:literal, $some:expr, $at_most:expr, $first:literal $($place:literal)*) => {{
        let topic = |place: usize| $some.get(place).map_or("", |counted| &*counted.lane.topic);
        let priority = |place: usize| $some.get(place).map_or(0, |counted| counted.lane.priority);
        let limit = |place: usize| if place < $some.len() { $at_most } else { 0 };
        let counts: Vec<(i64, i64, i64)> = load!(
            $conn, Mysql => (BigInt, BigInt, BigInt),
            concat!(branch!($first, $than) $(, " UNION ALL ", branch!($place, $than))*),
            Text = topic($first), SmallInt = priority($first), BigInt = limit($first)
            $(, Text = topic($place), SmallInt = priority($place), BigInt = limit($place))*
        )?;
        counts
    }};
}

/// The ends of so many are looked at with one statement, which is not to take long.
const LISTED: usize = 2_000;

/// Counts those of many lanes, each kind up to `at_most`.
pub(super) fn count(conn: &mut MysqlConnection, lanes: &[Lane], at_most: i64) -> Result<Vec<LaneCount>> {
    let mut counts = Vec::with_capacity(lanes.len());
    for some in lanes.chunks(LISTED) {
        counts.append(&mut count_some(conn, some, at_most)?);
    }
    Ok(counts)
}

/// A subquery that depends on the lane can begin at either end of it only, so the ends are looked at first. They tell
/// all of a lane of which so many are due and none waits for its time, as most long ones are. A short lane is read as a
/// whole. What is not known then is counted in a branch for each lane.
fn count_some(conn: &mut MysqlConnection, lanes: &[Lane], at_most: i64) -> Result<Vec<LaneCount>> {
    let mut counted = ends(conn, lanes, at_most)?;
    count_short(conn, &mut counted.iter_mut().filter(|c| c.nth.is_none()).collect::<Vec<_>>(), at_most)?;
    let nth_is_due = |c: &&mut Counted<'_>| c.nth.is_some_and(|nth| nth <= c.now);
    counted.iter_mut().filter(nth_is_due).for_each(|counted| counted.count.due = at_most);
    let few_due = |c: &&mut Counted<'_>| c.count.oldest_due.is_some() && c.nth.is_some_and(|nth| nth > c.now);
    for some in counted.iter_mut().filter(few_due).collect::<Vec<_>>().chunks_mut(BRANCHES) {
        for (place, due, _) in branches!(conn, "<=", some, at_most, 0 1 2 3 4 5 6 7 8 9) {
            if let Some(counted) = at(some, place) {
                counted.count.due = due;
            }
        }
    }
    let some_wait = |c: &&mut Counted<'_>| c.nth.is_some() && c.last > Some(c.now);
    for some in counted.iter_mut().filter(some_wait).collect::<Vec<_>>().chunks_mut(BRANCHES) {
        for (place, later, retrying) in branches!(conn, ">", some, at_most, 0 1 2 3 4 5 6 7 8 9) {
            if let Some(counted) = at(some, place) {
                (counted.count.scheduled, counted.count.retrying) = (later - retrying, retrying);
            }
        }
    }
    Ok(counted.into_iter().map(|counted| counted.count).collect())
}

/// A lane, when the first, the last and the `at_most`th of its messages are due, and what is known of their number.
struct Counted<'a> {
    lane: &'a Lane,
    now: i64,
    nth: Option<i64>,
    last: Option<i64>,
    count: LaneCount,
}

/// Now, and when the first, the `at_most`th and the last message of a lane are due.
type EndsRow = (i64, Option<i64>, Option<i64>, Option<i64>);

fn ends<'a>(conn: &mut MysqlConnection, lanes: &'a [Lane], at_most: i64) -> Result<Vec<Counted<'a>>> {
    let ends: Vec<EndsRow> = load!(
        conn, Mysql => (BigInt, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>),
        concat!("SELECT ", micros!("CURRENT_TIMESTAMP(6)"), ",
            CAST(UNIX_TIMESTAMP((SELECT m.run_at ", of_lane!(), " ORDER BY m.run_at LIMIT 1)) * 1000000 AS SIGNED),
            CAST(UNIX_TIMESTAMP((SELECT m.run_at ", of_lane!(), " ORDER BY m.run_at LIMIT 1 OFFSET ?)) * 1000000 AS SIGNED),
            CAST(UNIX_TIMESTAMP((SELECT m.run_at ", of_lane!(), " ORDER BY m.run_at DESC LIMIT 1)) * 1000000 AS SIGNED)
         FROM ", listed!(), " ORDER BY l.place"),
        BigInt = (at_most - 1).max(0),
        Text = json_of(lanes)?,
    )?;
    let counted = lanes.iter().zip(ends).map(|(lane, (now, first, nth, last))| {
        let oldest_due = first.filter(|first| *first <= now).map(rows::time);
        Counted { lane, now, nth, last, count: LaneCount { oldest_due, ..LaneCount::default() } }
    });
    Ok(counted.collect())
}

fn count_short(conn: &mut MysqlConnection, short: &mut [&mut Counted<'_>], at_most: i64) -> Result<()> {
    if short.is_empty() {
        return Ok(());
    }
    let found: Vec<(i64, i64, i64, i64)> = load!(
        conn, Mysql => (BigInt, BigInt, BigInt, BigInt),
        concat!("SELECT l.place, CAST(sum(m.run_at <= CURRENT_TIMESTAMP(6)) AS SIGNED), CAST(sum(m.run_at > CURRENT_TIMESTAMP(6)) AS SIGNED),
            CAST(sum(m.run_at > CURRENT_TIMESTAMP(6) AND m.attempts > 0) AS SIGNED)
         FROM ", listed!(), " STRAIGHT_JOIN taskmq_messages m FORCE INDEX (taskmq_messages_ready)
         ON m.worker_id = 0 AND m.topic = l.topic AND m.priority = l.priority GROUP BY l.place"),
        Text = json_of(short.iter().map(|counted| counted.lane))?,
    )?;
    for (place, due, later, retrying) in found {
        if let Some(counted) = at(short, place - 1) {
            counted.count.due = due.min(at_most);
            (counted.count.scheduled, counted.count.retrying) = (later - retrying, retrying);
        }
    }
    Ok(())
}

fn at<'a, 'b, 'c>(counted: &'a mut [&'b mut Counted<'c>], place: i64) -> Option<&'a mut &'b mut Counted<'c>> {
    counted.get_mut(usize::try_from(place).ok()?)
}

fn json_of<'a>(lanes: impl IntoIterator<Item = &'a Lane>) -> Result<String> {
    json(&lanes.into_iter().map(|lane| (&*lane.topic, lane.priority)).collect::<Vec<_>>())
}
