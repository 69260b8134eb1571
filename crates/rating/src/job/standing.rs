//! Standing and capacity parts: due whether or not anything is used (R016).
//!
//! In: calibre, capacity, persons, the days of service. Out: charge lines with the share of
//! pricing periods they are for.
//! Never here: usage.

use super::Job;
use crate::{
    Clause, Proration, RatingError,
    rules::{Item, PartPeriod, Per, StandingPrice, StandingRule},
};
use chrono::Months;
use model::{DeterminantKind, Period, Quantity};
use rust_decimal::Decimal;
use std::num::NonZeroU32;

impl Job<'_> {
    pub(super) fn standing(&mut self, item: &Item, rule: &StandingRule) -> Result<(), RatingError> {
        let mut quantity = Decimal::ONE;
        for (kind, _) in &rule.of {
            let value = self.need(item, *kind)?;
            quantity = self.fits(item, quantity.checked_mul(value))?;
        }
        let mut fitting = None;
        for (when, price) in &rule.cases {
            if self.holds(item, when)? {
                fitting = Some(price);
                break;
            }
        }
        let price = match fitting {
            Some(StandingPrice::One(price)) => *price,
            Some(StandingPrice::ByCalibre(prices)) => {
                let calibre = self.need(item, DeterminantKind::MeterCalibre)?;
                let found = prices.iter().find(|(mm, _)| *mm == calibre).map(|(_, price)| *price);
                found.ok_or_else(|| RatingError::NoCalibre {
                    item: item.facts.id.clone(),
                    calibre,
                })?
            }
            None => return Err(RatingError::NoCase { item: item.facts.id.clone() }),
        };
        let mut line = self.plain(Clause::Standing, Quantity::new(quantity, rule.unit), price);
        line.proration = self.periods(item, rule.per)?;
        self.push(item, line)
    }

    /// How many pricing periods the service is, as an exact fraction.
    pub(super) fn periods(&self, item: &Item, per: Per) -> Result<Proration, RatingError> {
        let service = self.input.service;
        let (months, part) = match per {
            Per::Bill => return Ok(self.bill_share),
            Per::Day => {
                let (numerator, denominator) = (service.days(), NonZeroU32::MIN);
                return Ok(Proration { numerator, denominator });
            }
            Per::Months { months, part } => (months.get(), part),
        };
        let calendar = || RatingError::Calendar { item: item.facts.id.clone(), service };
        let after = |turns: u32| {
            let count = turns.checked_mul(months).ok_or_else(calendar)?;
            service.from().checked_add_months(Months::new(count)).ok_or_else(calendar)
        };
        let mut whole = 0u32;
        let mut begins = service.from();
        let mut ends = after(1)?;
        while ends <= service.until() {
            whole += 1;
            begins = ends;
            ends = after(whole + 1)?;
        }
        let Ok(rest) = Period::new(begins, service.until()) else {
            return Ok(Proration { numerator: whole, denominator: NonZeroU32::MIN });
        };
        let denominator = match part {
            PartPeriod::Whole => {
                return Ok(Proration { numerator: whole + 1, denominator: NonZeroU32::MIN });
            }
            PartPeriod::Days(days) => days,
            PartPeriod::Calendar => Period::new(begins, ends)
                .ok()
                .and_then(|turn| NonZeroU32::new(turn.days()))
                .ok_or_else(calendar)?,
        };
        let rest_days = rest.days().min(denominator.get());
        let numerator =
            whole.checked_mul(denominator.get()).and_then(|all| all.checked_add(rest_days));
        Ok(Proration { numerator: numerator.ok_or_else(calendar)?, denominator })
    }
}
