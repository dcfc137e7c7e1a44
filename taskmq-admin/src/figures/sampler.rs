use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use taskmq_core::overview::{History, Throughput};
use tokio::sync::Mutex;

use super::Sample;
use super::sample::read;
use crate::database::Pool;
use crate::problem::Problem;

/// So many looks at the backlog are kept.
const LOOKS: usize = 60;
/// So many seconds a chart shows.
const SECONDS: usize = 120;
/// For so long what was read last is shown when the database does not answer, or not in time.
const OLD: Duration = Duration::from_secs(60);
/// So long a failure is everybody's: who waited for the one that read does not wait for one of their own.
const FAILED: Duration = Duration::from_secs(1);

/// Reads a sample when somebody looks and the last one is old. Whoever looks at the same time gets the same one, or the
/// same failure.
#[derive(Default)]
pub(crate) struct Sampler(Mutex<Past>);

#[derive(Default)]
struct Past {
    last: Option<(Instant, Arc<Sample>)>,
    failed: Option<(Instant, Arc<Problem>)>,
    throughput: Throughput,
    backlog: BTreeMap<Option<String>, VecDeque<i64>>,
}

impl Sampler {
    /// What is to look alive.
    pub(crate) async fn latest(&self, pool: &Pool) -> Result<Arc<Sample>, Problem> {
        let mut past = self.0.lock().await;
        let problem = match past.within(Duration::from_millis(950), pool).await {
            Err(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => problem,
            sample => return sample.map_err(Problem::Shared),
        };
        match &past.last {
            Some((read, sample)) if read.elapsed() < OLD => {
                Ok(Arc::new(Sample { old: Some(problem), ..Sample::clone(sample) }))
            }
            _ => Err(Problem::Shared(problem)),
        }
    }

    /// No older than this, but where reading takes long it is done less often, so that it never is a burden.
    #[cfg(feature = "metrics")]
    pub(crate) async fn within(&self, age: Duration, pool: &Pool) -> Result<Arc<Sample>, Problem> {
        self.0.lock().await.within(age, pool).await.map_err(Problem::Shared)
    }

    /// The next look reads anew: somebody has changed what it shows.
    pub(crate) async fn forget(&self) {
        self.0.lock().await.last = None;
    }
}

impl Past {
    async fn within(&mut self, age: Duration, pool: &Pool) -> Result<Arc<Sample>, Arc<Problem>> {
        if let Some((read, sample)) = &self.last
            && read.elapsed() < age.max(sample.took * 5)
        {
            return Ok(Arc::clone(sample));
        }
        if let Some((at, problem)) = &self.failed
            && at.elapsed() < FAILED
        {
            return Err(Arc::clone(problem));
        }
        let began = Instant::now();
        let overview = match read(pool).await {
            Ok(overview) => overview,
            Err(problem) => {
                let problem = Arc::new(problem);
                self.failed = Some((Instant::now(), Arc::clone(&problem)));
                return Err(problem);
            }
        };
        let mut sample = Sample { overview, took: began.elapsed(), ..Sample::default() };
        self.enter(&mut sample);
        let sample = Arc::new(sample);
        self.last = Some((Instant::now(), Arc::clone(&sample)));
        Ok(sample)
    }

    fn enter(&mut self, sample: &mut Sample) {
        let overview = &sample.overview;
        self.throughput.add(overview);
        let seconds = |history: &History| history.seconds(SECONDS, overview.now);
        sample.chart = (seconds(&self.throughput.produced), seconds(&self.throughput.finished));
        let has =
            |topic: &Option<String>| topic.as_ref().is_none_or(|topic| overview.topics.contains_key(topic));
        self.backlog.retain(|topic, _| has(topic));
        let topics = overview.topics.iter().map(|(topic, figures)| (Some(topic.clone()), figures));
        for (topic, figures) in topics.chain([(None, &overview.total)]) {
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

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use taskmq_core::Backend;
    use taskmq_tests::databases::fresh;

    use super::*;

    #[test]
    fn a_failure_is_everybodys_for_a_second() {
        let db = fresh(Backend::Sqlite);
        let (pool, sampler) = (Pool::new(db.url(), true, 1), Sampler::default());
        let why = async || sampler.latest(&pool).await.expect("a sample").old.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            assert!(why().await.is_none());
            db.execute("ALTER TABLE taskmq_messages RENAME TO elsewhere");
            tokio::time::sleep(FAILED).await;
            let first = why().await.expect("it fails");
            assert!(first.to_string().contains("no taskmq tables"), "{first}");
            assert!(Arc::ptr_eq(&first, &why().await.expect("it failed")), "nobody has asked again");
            tokio::time::sleep(FAILED).await;
            assert!(!Arc::ptr_eq(&first, &why().await.expect("it fails")), "somebody has asked again");
            db.execute("ALTER TABLE elsewhere RENAME TO taskmq_messages");
            tokio::time::sleep(FAILED).await;
            assert!(why().await.is_none());
        });
    }
}
