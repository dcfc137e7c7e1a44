//! The figures of the queue as gauges.

use std::cmp::Reverse;

use metrics::{Unit, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use taskmq_core::overview::Figures;

use crate::figures::Sample;

/// So many topics have figures of their own, those with the most messages;
const TOPICS: usize = 500;
/// all others together have this name, which no topic can have.
const OTHERS: &str = "(others)";

/// `None`: the database does not answer.
pub(super) fn render(sample: Option<&Sample>) -> String {
    // A recorder for each answer: what is not there any more is in the next one no more.
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        describe();
        gauge!("taskmq_queue_up").set(u32::from(sample.is_some()));
        if let Some(sample) = sample {
            show(sample);
        }
    });
    recorder.handle().render()
}

fn show(Sample { overview, took, .. }: &Sample) {
    gauge!("taskmq_queue_workers").set(as_f64(overview.alive().count()));
    gauge!("taskmq_queue_topics").set(as_f64(overview.topics.len()));
    gauge!("taskmq_queue_workflows")
        .set(as_f64(usize::try_from(overview.workflows.number).unwrap_or_default()));
    let oldest = overview.workflows.oldest.map(|since| (overview.now - since).to_std().unwrap_or_default());
    gauge!("taskmq_queue_oldest_workflow_seconds").set(oldest.unwrap_or_default());
    gauge!("taskmq_queue_read_seconds").set(*took);
    let mut topics: Vec<(&str, &Figures)> = overview.topics.iter().map(|(name, f)| (&**name, f)).collect();
    let mut others = Figures::default();
    if topics.len() > TOPICS {
        topics.sort_by_key(|(_, figures)| Reverse(messages(figures)));
        for (topic, figures) in topics.drain(TOPICS..) {
            others.ready += figures.ready;
            others.running += figures.running;
            others.scheduled += figures.scheduled;
            others.retrying += figures.retrying;
            others.dead += figures.dead;
            // What waits on purpose is not to be taken for what nobody comes to.
            let held_back = overview.is_paused(topic) || overview.limit_of(topic).is_some();
            let oldest = figures.oldest_due.filter(|_| !held_back);
            others.oldest_due = [others.oldest_due, oldest].into_iter().flatten().min();
        }
        topics.push((OTHERS, &others));
    }
    for (topic, figures) in topics {
        let topic = topic.to_owned();
        let states = [
            ("ready", figures.ready.number),
            ("running", figures.running.number),
            ("scheduled", figures.scheduled.number),
            ("retrying", figures.retrying.number),
            ("dead", figures.dead.number),
        ];
        for (state, number) in states {
            gauge!("taskmq_queue_messages", "topic" => topic.clone(), "state" => state)
                .set(as_f64(usize::try_from(number).unwrap_or_default()));
        }
        let oldest = figures.oldest_due.map(|due| (overview.now - due).to_std().unwrap_or_default());
        gauge!("taskmq_queue_oldest_waiting_seconds", "topic" => topic.clone())
            .set(oldest.unwrap_or_default());
        let paused = u32::from(overview.is_paused(&topic));
        gauge!("taskmq_queue_paused", "topic" => topic.clone()).set(paused);
        let limited = u32::from(overview.limit_of(&topic).is_some());
        gauge!("taskmq_queue_limited", "topic" => topic).set(limited);
    }
}

fn messages(figures: &Figures) -> i64 {
    let Figures { ready, running, scheduled, retrying, dead, .. } = figures;
    ready.number + running.number + scheduled.number + retrying.number + dead.number
}

#[expect(clippy::cast_precision_loss, reason = "no queue has so many")]
fn as_f64(number: usize) -> f64 {
    number as f64
}

fn describe() {
    describe_gauge!("taskmq_queue_up", "Whether the database of the queue answers (1 or 0).");
    describe_gauge!("taskmq_queue_workers", "Workers that are alive.");
    describe_gauge!("taskmq_queue_topics", "Topics that have messages, or are paused or limited.");
    describe_gauge!("taskmq_queue_workflows", "Workflows that are not finished, counted up to a bound.");
    describe_gauge!(
        "taskmq_queue_oldest_workflow_seconds",
        Unit::Seconds,
        "How long ago the first workflow that is not finished was produced."
    );
    describe_gauge!("taskmq_queue_read_seconds", Unit::Seconds, "How long it took to read these figures.");
    describe_gauge!("taskmq_queue_messages", "Messages by topic and state, each counted up to a bound.");
    describe_gauge!(
        "taskmq_queue_oldest_waiting_seconds",
        Unit::Seconds,
        "How long the first message that waits for a worker has been due."
    );
    describe_gauge!("taskmq_queue_paused", "Whether the topic is paused (1 or 0).");
    describe_gauge!("taskmq_queue_limited", "Whether the topic has a limit (1 or 0).");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use taskmq_core::overview::{Count, Overview};

    use super::*;

    #[test]
    fn the_largest_topics_are_shown_and_the_rest_is_summed_up() {
        let figures = |ready| Figures { ready: Count::up_to(ready, 10_000), ..Figures::default() };
        let topics: BTreeMap<String, Figures> =
            (1..=TOPICS as i64 + 3).map(|n| (format!("topic-{n}"), figures(n))).collect();
        let sample = Sample { overview: Overview { topics, ..Overview::default() }, ..Sample::default() };
        let text = render(Some(&sample));
        let ready = |topic: &str| {
            let mut lines = text.lines().filter(|line| line.starts_with("taskmq_queue_messages{"));
            let line = lines.find(|l| l.contains(&format!("topic=\"{topic}\"")) && l.contains("\"ready\""));
            line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
        };
        assert_eq!(ready("topic-4").as_deref(), Some("4"));
        assert_eq!(ready("topic-3"), None);
        assert_eq!(ready(OTHERS).as_deref(), Some("6"), "1, 2 and 3");
        assert_eq!(text.matches("taskmq_queue_paused{").count(), TOPICS + 1);
        assert!(text.contains("taskmq_queue_topics 503"), "{text}");
    }

    #[test]
    fn without_a_database_it_says_so() {
        let text = render(None);
        assert!(text.contains("taskmq_queue_up 0"), "{text}");
        assert!(!text.contains("taskmq_queue_messages"), "{text}");
    }
}
