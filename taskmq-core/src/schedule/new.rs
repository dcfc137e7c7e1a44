use std::borrow::Cow;

use crate::broker::{Broker, Note, ScheduleRecord};
use crate::limits::check_topic;
use crate::{BrokerConnection, Error, NewMessage, Result};

use super::Cron;
use crate::broker::atomically;

impl<'a> NewMessage<'a> {
    /// A message like this one at every tick of a schedule of this name; see [`schedule`](crate::schedule).
    pub fn schedule(self, name: impl Into<Cow<'a, str>>, cron: impl Into<Cow<'a, str>>) -> NewSchedule<'a> {
        NewSchedule { name: name.into(), cron: cron.into(), time_zone: "UTC".into(), message: self }
    }
}

/// A schedule that is about to be stored.
#[derive(Debug)]
#[must_use = "a schedule is stored only when `store` is called"]
pub struct NewSchedule<'a> {
    name: Cow<'a, str>,
    cron: Cow<'a, str>,
    time_zone: Cow<'a, str>,
    message: NewMessage<'a>,
}

impl<'a> NewSchedule<'a> {
    /// The time zone in which its cron text is meant, as the IANA database names it. Default: `UTC`.
    pub fn time_zone(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.time_zone = name.into();
        self
    }

    /// Stores it, or changes the one of its name, as part of the transaction that is open on `conn`, or at once if none
    /// is. A schedule that was paused stays so.
    ///
    /// # Errors
    /// Before anything is written [`Error::Cron`], [`Error::TimeZone`], [`Error::Schedule`] for a name that cannot be
    /// used or that a consumer has declared, and what [`NewMessage::produce`] reports of the message; and what the
    /// database reports.
    pub fn store(self, conn: &mut impl BrokerConnection) -> Result<()> {
        store(conn.broker(), &self.into_record()?)
    }

    /// As [`store`](Self::store), and notes who did it in `taskmq_audit`.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub fn store_noted(self, conn: &mut impl BrokerConnection, actor: &str) -> Result<()> {
        let record = self.into_record()?;
        atomically(conn.broker(), |broker| {
            store(broker, &record)?;
            broker.note(&Note {
                actor,
                action: "add schedule",
                topic: Some(&record.message.topic),
                message_id: None,
                details: &format!("{}: {} {}", record.name, record.cron, record.time_zone),
                messages: 0,
            })?;
            Ok(())
        })
    }

    /// Checks everything, and gives it in the form that the databases take.
    ///
    /// # Errors
    /// As [`store`](Self::store), before it writes.
    pub fn into_record(self) -> Result<ScheduleRecord> {
        let name = self.name.into_owned();
        let wrong = |problem: String| Error::Schedule { name: name.chars().take(100).collect(), problem };
        if let Err(Error::Topic { problem, .. }) = check_topic(&name) {
            return Err(wrong(problem.to_owned()));
        }
        let cron = Cron::parse(&self.cron, &self.time_zone)?;
        let message = self.message.into_record()?;
        if message.delay_micros > 0 {
            return Err(wrong("its message has a delay: let it tick later instead".to_owned()));
        }
        if message.ordering_key.is_some() {
            return Err(wrong(
                "its message has an ordering key, which those of schedules cannot have".to_owned(),
            ));
        }
        let (cron, time_zone) = (cron.as_str().to_owned(), cron.time_zone().to_owned());
        Ok(ScheduleRecord { name, cron, time_zone, message })
    }
}

fn store(broker: &mut dyn Broker, record: &ScheduleRecord) -> Result<()> {
    let there = broker.schedules(Some(&record.name))?;
    if there.iter().any(|schedule| schedule.declared_by.is_some()) {
        let problem = "its consumer declares it: change it there, or choose another name".to_owned();
        return Err(Error::Schedule { name: record.name.clone(), problem });
    }
    broker.store_schedule(record, None)
}

#[cfg(test)]
mod tests {
    use crate::NewMessage;

    #[test]
    fn what_its_messages_cannot_have_is_refused() {
        let refused = |message: NewMessage<'static>| {
            message.schedule("nightly", "@daily").into_record().expect_err("is refused").to_string()
        };
        let message = || NewMessage::new("mail", &1);
        let delayed = refused(message().delay(std::time::Duration::from_secs(1)));
        assert!(delayed.contains("nightly") && delayed.contains("delay"), "{delayed}");
        let in_line = refused(message().ordering_key("account 7"));
        assert!(in_line.contains("nightly") && in_line.contains("ordering key"), "{in_line}");
    }
}
