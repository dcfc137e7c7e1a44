//! Mistakes to make on purpose, so that it is seen that the checker finds them.

/// A way in which the protocol is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// An outcome is written without a look at its lease.
    SettleUnchecked,
    /// A message is handed back without a look at its lease.
    HandBackUnchecked,
    /// When one message of a batch is done, all of it is acknowledged.
    WholeBatchAcked,
    /// Claims do not exclude each other, so one does not see what another is about to commit.
    ClaimsOverlap,
    /// One look at a free lock is enough to take a worker for dead.
    OneLook,
    /// A rescuer that had to connect anew gives the others no time to do so too.
    NoGraceAfterConnect,
    /// A rescue does not ask whether the worker's counter has moved since the look.
    BeatUnchecked,
    /// A rescuer removes the worker's row, gives its messages back later, and nobody looks for messages whose worker
    /// has no row.
    WorkerPrunedFirst,
    /// Everything that a dead worker held is charged with its death.
    WholeBatchBlamed,
    /// A message is buried one attempt too early.
    BuriedEarly,
    /// Messages are deleted and archived in two transactions.
    ArchivedLater,

    // This model found the following ones in taskmq itself.
    /// A worker whose promotion of a batch was committed without its knowing has the outcomes refused, and forgets
    /// messages that it still has the leases of.
    PromotionForgotten,
    /// A failure that is reported twice, for the reply got lost, leases the message anew: what shared a batch once is
    /// taken back although the batch let go of it.
    LeftBatchTakenBack,
    /// The same, and the outcome is then written without a look at the message's own lease.
    LeftBatchSettled,
    /// A worker that connects anew says which messages it knows of, but not of which attempts.
    KnownByIdAlone,
    /// A worker that does not know of the message it was to run alone gives it back as any other, and keeps being
    /// taken for one that runs nothing else.
    AloneForgotten,
    /// The id of a batch that a crash of the server undid is given to another one.
    BatchIdReused,
    /// A worker that connects anew does not wait for what its former connection has still to commit.
    CommitOvertaken,
    /// When writing outcomes fails twice, a success is reported as a failure.
    SuccessReportedAsFailure,
    /// A message whose worker has no row any more is charged with its death.
    OrphanBlamed,
    /// A session that is stopped in the middle of a claim keeps its locks for as long as it likes.
    NoTransactionTimeout,
    /// A process whose worker was given up begins anew while handlers of before still run, and does not note that its
    /// death proves nothing meanwhile.
    HandlersOutliveWorker,
}
