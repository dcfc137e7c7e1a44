use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::Mutex;

use super::{History, Sample};
use crate::database::Pool;
use crate::problem::Problem;

/// So many looks at the backlog are kept.
const LOOKS: usize = 60;
/// For so long what was read last is shown when the database does not answer, or not in time.
const OLD: Duration = Duration::from_secs(60);

/// Reads a sample when somebody looks and the last one is old. Whoever looks at the same time gets the same one.
#[derive(Default)]
pub(crate) struct Sampler(Mutex<Past>);

#[derive(Default)]
struct Past {
    last: Option<(Instant, Arc<Sample>)>,
    produced: History,
    finished: History,
    backlog: BTreeMap<Option<String>, VecDeque<i64>>,
}

impl Sampler {
    /// What is to look alive.
    pub(crate) async fn latest(&self, pool: &Pool) -> Result<Arc<Sample>, Problem> {
        match self.within(Duration::from_millis(950), pool).await {
            Err(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => self.old(problem).await,
            sample => sample,
        }
    }

    async fn old(&self, problem: Problem) -> Result<Arc<Sample>, Problem> {
        match &self.0.lock().await.last {
            Some((read, sample)) if read.elapsed() < OLD => {
                Ok(Arc::new(Sample { old: Some(problem.to_string()), ..Sample::clone(sample) }))
            }
            _ => Err(problem),
        }
    }

    /// No older than this, but where reading takes long it is done less often, so that it never is a burden.
    pub(crate) async fn within(&self, age: Duration, pool: &Pool) -> Result<Arc<Sample>, Problem> {
        let mut past = self.0.lock().await;
        if let Some((read, sample)) = &past.last
            && read.elapsed() < age.max(sample.took * 5)
        {
            return Ok(Arc::clone(sample));
        }
        let began = Instant::now();
        let mut sample = Sample::read(pool).await?;
        sample.took = began.elapsed();
        past.enter(&mut sample);
        let sample = Arc::new(sample);
        past.last = Some((Instant::now(), Arc::clone(&sample)));
        Ok(sample)
    }
}

impl Sampler {
    /// The next look reads anew: somebody has changed what it shows.
    pub(crate) async fn forget(&self) {
        self.0.lock().await.last = None;
    }
}

impl Past {
    fn enter(&mut self, sample: &mut Sample) {
        self.produced.add(&sample.produced.0, sample.produced.1, sample.now);
        self.finished.add(&sample.finished.0, sample.finished.1, sample.now);
        sample.chart = (self.produced.seconds(sample.now), self.finished.seconds(sample.now));
        self.backlog.retain(|topic, _| topic.as_ref().is_none_or(|topic| sample.topics.contains_key(topic)));
        let topics = sample.topics.iter().map(|(topic, figures)| (Some(topic.clone()), figures));
        for (topic, figures) in topics.chain([(None, &sample.total)]) {
            let looks = self.backlog.entry(topic).or_default();
            if looks.len() == LOOKS {
                looks.pop_front();
            }
            looks.push_back(figures.ready.number);
        }
        sample.backlog = self
            .backlog
            .iter()
            .map(|(topic, looks)| (topic.clone(), looks.iter().copied().collect()))
            .collect();
    }
}
