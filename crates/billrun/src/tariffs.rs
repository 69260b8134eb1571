//! The rate versions of a run, read once.
//!
//! In: texts of rate versions. Out: parsed schedules with the references bills keep.
//! Never here: prices, SQL.

use billing::{TariffVersion, VersionRef};
use chrono::NaiveDate;
use model::ScheduleId;
use rating::Schedule;
use std::collections::HashMap;
use store_postgres::RateVersion;
use tracing::error;

struct Text {
    reference: VersionRef,
    from: NaiveDate,
    until: Option<NaiveDate>,
    schedule: Schedule,
}

/// Parsed schedules by id.
#[derive(Default)]
pub(crate) struct Tariffs {
    texts: HashMap<ScheduleId, Vec<Text>>,
}

impl Tariffs {
    /// Parses the texts. One that does not parse is logged and left out: its accounts wait with a
    /// missing tariff, everybody else is billed.
    pub(crate) fn parse(versions: &[RateVersion]) -> Self {
        let mut texts: HashMap<ScheduleId, Vec<Text>> = HashMap::new();
        for row in versions {
            match Schedule::parse(&row.text) {
                Ok(schedule) => texts.entry(row.schedule).or_default().push(Text {
                    reference: VersionRef { version: row.version, hash: row.hash },
                    from: row.from,
                    until: row.until,
                    schedule,
                }),
                Err(problem) => error!(
                    schedule = row.schedule_code,
                    version = %row.version,
                    %problem,
                    "rate version cannot be used, its accounts will wait"
                ),
            }
        }
        Self { texts }
    }

    /// The versions of a schedule.
    pub(crate) fn versions(&self, schedule: ScheduleId) -> Vec<TariffVersion<'_>> {
        self.texts
            .get(&schedule)
            .into_iter()
            .flatten()
            .map(|text| TariffVersion {
                reference: text.reference,
                from: text.from,
                until: text.until,
                schedule: &text.schedule,
            })
            .collect()
    }
}
