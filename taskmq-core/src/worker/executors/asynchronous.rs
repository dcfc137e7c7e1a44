//! `async` consumers: one thread hands their messages to a runtime as places become free.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, unbounded};

use super::{Assignment, Shared, Slot, came_late};
use crate::consumer::Handler;
use crate::consumer::call::Call;
use crate::consumer::failure::{FailureKind, Verdict};
use crate::trace::Handling;
use crate::worker::execute::{self, Ran};
use crate::{Error, Failure, Result};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) assignments: Sender<Assignment>,
    pub(super) unbegun: Receiver<Assignment>,
    running: Arc<Mutex<Vec<Slot>>>,
}

impl Lane {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::Configuration(format!("cannot start the runtime of async consumers: {e}"))
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name(format!("{}-async", execute::THREAD_PREFIX))
            .enable_all()
            .build()
            .map_err(failed)?;
        let (assignments, queue) = unbounded::<Assignment>();
        let running: Arc<Mutex<Vec<Slot>>> = Arc::default();
        let (lane_queue, lane_running, shared) = (queue.clone(), Arc::clone(&running), Arc::clone(shared));
        thread::Builder::new()
            .name("taskmq-async".to_owned())
            .spawn(move || {
                loop {
                    // Until there is a message, its place is free for others; until there is a place, the message
                    // can be taken back.
                    let mut waiting = Select::new();
                    waiting.recv(&lane_queue);
                    waiting.ready();
                    shared.places.wait();
                    let assignment = match lane_queue.try_recv() {
                        Ok(assignment) => assignment,
                        Err(TryRecvError::Empty) => {
                            shared.places.give_back();
                            continue;
                        }
                        Err(TryRecvError::Disconnected) => break,
                    };
                    shared.wait_to_be_sure();
                    let slot = Slot::default();
                    lane_running.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&slot));
                    runtime.spawn(attempt(Arc::clone(&shared), assignment, slot, Arc::clone(&lane_running)));
                }
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self { assignments, unbegun: queue, running })
    }

    pub(super) fn assign(&self, assignment: Assignment) {
        let _ = self.assignments.send(assignment);
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn attempt(shared: Arc<Shared>, assignment: Assignment, slot: Slot, running: Arc<Mutex<Vec<Slot>>>) {
    let leave =
        || running.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, &slot));
    let Some(run) = shared.begin(&slot, &assignment) else {
        leave();
        return shared.places.give_back();
    };
    let Assignment { claimed, metered, context, .. } = assignment;
    let consumer = &metered.consumer;
    let (states, handler_context, timeout) =
        (Arc::clone(&shared.setup.states), context.clone(), consumer.timeout);
    let Handler::Async(handler) = consumer.handler else { return };
    let handling = Handling::of(&context);
    // A task of its own can be aborted.
    let mut task = tokio::spawn(handling.within(execute::guarded_task(async move {
        let _run = run;
        handler(&Call { payload: &claimed.payload, context: &handler_context, states: &states }).await
    })));
    if let Some(running) = slot.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        if context.shared.is_asked_to_end() {
            task.abort();
        }
        running.task = Some(task.abort_handle());
    }
    let ended = match timeout {
        Some(limit) => tokio::time::timeout(limit, &mut task).await,
        None => Ok((&mut task).await),
    };
    let begun = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    leave();
    let Some(begun) = begun else {
        task.abort();
        return came_late(&context); // its place was given back when it was given up
    };
    let outcome = match ended {
        Err(_) => {
            task.abort(); // at its next `await`, if it comes to one
            begun.give_up();
            execute::timed_out(consumer, &context)
        }
        Ok(Ok(result)) => execute::outcome(consumer, &context, result),
        Ok(Err(join)) => {
            let failure = match join.try_into_panic() {
                // What the handler had was dropped, and panicked.
                Ok(payload) => execute::panicked_elsewhere(payload),
                Err(_) => {
                    Failure::of_kind(FailureKind::Cancelled, "it was cancelled while it ran", Verdict::Retry)
                }
            };
            execute::outcome(consumer, &context, Err(failure))
        }
    };
    handling.ended(&outcome);
    shared.places.give_back();
    shared.finish(begun, Ran::Outcome(outcome));
}
