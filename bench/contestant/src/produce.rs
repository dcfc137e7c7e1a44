use std::io::BufRead;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::answers::answer;
use crate::message::now;
use crate::{Contestant, Message, Payload, Producer, Result, Shape, TOPICS};

pub(crate) fn many(contestant: &impl Contestant, url: &str, shape: &Shape) -> Result {
    let mut producer = contestant.producer(url)?;
    let pad = "x".repeat(shape.bytes);
    let mut seconds = 0.0;
    let mut first = 0;
    while first < shape.number {
        let last = shape.number.min(first + shape.batch);
        let batch = (first..last)
            .map(|n| Message {
                topic: TOPICS[usize::try_from(n).unwrap_or_default() % shape.topics.clamp(1, TOPICS.len())],
                ordering_key: (shape.keys > 0).then(|| format!("key {}", n % shape.keys)),
                payload: Payload { n, ms: shape.ms, pad: pad.clone(), ..Payload::default() },
            })
            .collect();
        let begin = Instant::now();
        producer.many(batch)?;
        seconds += begin.elapsed().as_secs_f64();
        first = last;
    }
    answer(&json!({"seconds": seconds}))
}

pub(crate) fn single(contestant: &impl Contestant, url: &str, number: u64, connections: u64) -> Result {
    let mut producers = (0..connections).map(|_| contestant.producer(url)).collect::<Result<Vec<_>>>()?;
    let ready = Barrier::new(producers.len() + 1);
    let seconds = std::thread::scope(|scope| {
        let threads: Vec<_> = producers
            .iter_mut()
            .map(|producer| {
                scope.spawn(|| {
                    ready.wait();
                    (0..number / connections).try_for_each(|n| producer.one(message(n, 0)))
                })
            })
            .collect();
        ready.wait();
        let begin = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a producer panicked")??;
        }
        Result::Ok(begin.elapsed().as_secs_f64())
    })?;
    answer(&json!({"seconds": seconds}))
}

/// The producing calls begin at fixed times; one that comes late because the last took long is not made up for.
pub(crate) fn paced(contestant: &impl Contestant, url: &str, rate: u64, seconds: u64) -> Result {
    let mut producer = contestant.producer(url)?;
    // The first call on a connection prepares its statement.
    producer.one(message(0, 0))?;
    let pause = Duration::from_secs(1) / u32::try_from(rate)?;
    let mut micros = Vec::new();
    for n in 0..rate * seconds {
        std::thread::sleep(pause.saturating_sub(Duration::from_micros(micros.last().copied().unwrap_or(0))));
        let begin = Instant::now();
        producer.one(message(n, now()))?;
        micros.push(u64::try_from(begin.elapsed().as_micros())?);
    }
    answer(&micros)
}

pub(crate) fn feed(contestant: &impl Contestant, url: &str) -> Result {
    let mut producer = contestant.producer(url)?;
    for number in std::io::stdin().lock().lines() {
        let number: u64 = number?.trim().parse()?;
        producer.many((0..number).map(|n| message(n, 0)).collect())?;
        answer(&number)?;
    }
    Ok(())
}

fn message(n: u64, at: u64) -> Message {
    Message { topic: TOPICS[0], ordering_key: None, payload: Payload { n, at, ..Payload::default() } }
}
