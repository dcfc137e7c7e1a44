//! Each bug is found, by the property that it should offend.

use taskmq_model::properties::always;
use taskmq_model::{Bug, Fault, Protocol};

use super::finds;

macro_rules! bugs {
    ($($name:ident: $bug:ident, $budget:literal of $faults:expr, $property:ident, $protocol:expr;)+) => {
        $(
            #[test]
            fn $name() {
                let (faults, bug) = ($faults.to_vec(), Some(Bug::$bug));
                finds(Protocol { faults, budget: $budget, bug, ..$protocol }, always::$property);
            }
        )+
    };
}

const NONE: [Fault; 0] = [];
const NO_REPLY: [Fault; 1] = [Fault::NoReply];

fn plain() -> Protocol {
    Protocol { errors: false, ..Protocol::default() }
}

fn failing() -> Protocol {
    Protocol::default()
}

fn poisoned() -> Protocol {
    Protocol { poison: Some(0), lazy_claims: false, ..plain() }
}

bugs! {
    settle_unchecked: SettleUnchecked, 1 of [Fault::Pause], FENCED, plain();
    hand_back_unchecked: HandBackUnchecked, 2 of [Fault::Pause, Fault::Stop], FENCED, plain();
    whole_batch_acked: WholeBatchAcked, 0 of NONE, DONE, plain();
    claims_overlap: ClaimsOverlap, 1 of NO_REPLY, ONE_LEASE, plain();
    one_look: OneLook, 1 of [Fault::Cut], CONDEMNED, plain();
    one_look_after_restart: OneLook, 1 of [Fault::Restart], CONDEMNED, plain();
    no_grace_after_connect: NoGraceAfterConnect, 2 of [Fault::Cut, Fault::Restart], CONDEMNED, plain();
    beat_unchecked: BeatUnchecked, 1 of [Fault::Pause], CONDEMNED, plain();
    worker_pruned_first: WorkerPrunedFirst, 2 of [Fault::Crash], ENDED, plain();
    whole_batch_blamed: WholeBatchBlamed, 0 of NONE, BLAMED, poisoned();
    buried_early: BuriedEarly, 0 of NONE, BURIED, failing();
    archived_later: ArchivedLater, 1 of NO_REPLY, KEPT, plain();

    promotion_forgotten: PromotionForgotten, 1 of NO_REPLY, ENDED, plain();
    left_batch_taken_back: LeftBatchTakenBack, 1 of NO_REPLY, FENCED, failing();
    left_batch_taken_back_and_forgotten: LeftBatchTakenBack, 1 of NO_REPLY, ENDED, failing();
    left_batch_taken_from_another: LeftBatchTakenBack, 1 of NO_REPLY, ONE_LEASE, failing();
    left_batch_settled: LeftBatchSettled, 1 of NO_REPLY, CHARGED, failing();
    known_by_id_alone: KnownByIdAlone, 2 of NO_REPLY, ENDED, failing();
    alone_forgotten: AloneForgotten, 2 of NO_REPLY, BLAMED, poisoned();
    batch_id_reused: BatchIdReused, 2 of [Fault::Restart, Fault::NoReply], FENCED, plain();
    commit_overtaken: CommitOvertaken, 1 of NO_REPLY, ENDED, plain();
    success_reported_as_failure: SuccessReportedAsFailure, 2 of NO_REPLY, CHARGED, plain();
    orphan_blamed: OrphanBlamed, 2 of [Fault::Stop, Fault::NoReply], BLAMED, plain();
    no_transaction_timeout: NoTransactionTimeout, 1 of [Fault::Pause], ENDED, plain();
    handlers_outlive_worker: HandlersOutliveWorker, 1 of [Fault::Pause], BLAMED, poisoned();
}
