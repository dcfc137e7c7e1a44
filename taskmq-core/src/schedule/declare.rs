use crate::Result;
use crate::broker::{Broker, ScheduleRecord};

/// What a worker does for the schedules of its consumers. When it `starts` it enters them over anything else; later, now
/// and then, where whoever entered them runs no more. It removes what such a one declared for its topics, and it does not.
///
/// # Errors
/// What the database reports.
pub fn declare(
    broker: &mut dyn Broker,
    worker_id: i64,
    topics: &[&str],
    declared: &[ScheduleRecord],
    starts: bool,
) -> Result<()> {
    let stored = broker.declared_schedules(topics)?;
    for record in declared {
        let there = stored.iter().find(|schedule| schedule.name == record.name);
        if there.is_none_or(|there| there.orphaned || starts && !there.is(record)) {
            tracing::debug!("schedule {} is entered: {} {}", record.name, record.cron, record.time_zone);
            broker.store_schedule(record, Some(worker_id))?;
        }
    }
    for schedule in stored.iter().filter(|schedule| schedule.orphaned) {
        if !declared.iter().any(|record| record.name == schedule.name) {
            tracing::info!("schedule {} is removed: its consumer declares none any more", schedule.name);
            broker.remove_schedule(&schedule.name)?;
        }
    }
    Ok(())
}
