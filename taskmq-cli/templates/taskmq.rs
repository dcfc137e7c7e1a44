//! The queue's tables as Diesel models, for queries of this project's own.
//!
//! Only the columns that are the same on every database are here; `taskmq_core::broker::Broker` reads whole messages.
#![allow(dead_code)]

use diesel::prelude::*;

diesel::table! {
    /// Live messages: ready, scheduled, running, waiting for a retry.
    taskmq_messages (id) {
        id -> BigInt,
        topic -> Text,
        priority -> SmallInt,
        worker_id -> BigInt,
        attempts -> Integer,
        crashes -> SmallInt,
        unique_key -> Nullable<Text>,
    }
}

diesel::table! {
    /// Finished messages: done, dead or cancelled.
    taskmq_archive (id) {
        id -> BigInt,
        topic -> Text,
        state -> Text,
        priority -> SmallInt,
        worker_id -> BigInt,
        attempts -> Integer,
        crashes -> SmallInt,
        unique_key -> Nullable<Text>,
        error -> Nullable<Text>,
    }
}

/// A live message.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = taskmq_messages)]
pub struct Message {
    pub id: i64,
    pub topic: String,
    pub priority: i16,
    /// Who runs it. 0: nobody yet, or the worker that has it in a batch (`taskmq_claims`). Below 0: it waits for its turn, or
    /// was there when a worker died.
    pub worker_id: i64,
    pub attempts: i32,
    pub crashes: i16,
    pub unique_key: Option<String>,
}

/// A finished message.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = taskmq_archive)]
pub struct ArchivedMessage {
    pub id: i64,
    pub topic: String,
    /// `done`, `dead` or `cancelled`.
    pub state: String,
    pub attempts: i32,
    pub crashes: i16,
    /// Why it is dead.
    pub error: Option<String>,
}
