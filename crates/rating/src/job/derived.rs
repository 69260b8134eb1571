//! Items that are worked out from other items: percentages, the power factor, minimum charges.
//!
//! In: the lines of items further up. Out: charge lines.
//! Never here: prices per unit.

use super::Job;
use crate::{
    ChargeLine, Clause, RatingError, power_factor,
    rate::overflow,
    rules::{Item, Per, PercentageRule, PowerFactorRule},
};
use model::{DeterminantKind, Money, MoneyError, Quantity, Unit};
use rust_decimal::Decimal;

/// What a line is billed at; the amount derived items are taken of.
fn billed(line: &ChargeLine) -> Option<Money> {
    Some(line.amount)
}

impl Job<'_> {
    pub(super) fn percentage(
        &mut self,
        item: &Item,
        rule: &PercentageRule,
    ) -> Result<(), RatingError> {
        let base = self.sum_of(item, &rule.of, |line| {
            let counts = rule.of_block.is_none() || line.tier == rule.of_block;
            counts.then_some(if rule.of_exact { line.exact } else { line.amount })
        })?;
        self.percent_of(item, Clause::Percentage, rule.percent, base)
    }

    /// The sum of what `amount` picks of the lines of earlier items.
    fn sum_of(
        &self,
        item: &Item,
        of: &[usize],
        amount: impl Fn(&ChargeLine) -> Option<Money>,
    ) -> Result<Decimal, RatingError> {
        let meant = of.iter().filter_map(|place| self.version.items.get(*place));
        let lines = meant.flat_map(|meant| {
            self.lines.iter().filter(|line| std::sync::Arc::ptr_eq(&line.item, &meant.facts))
        });
        Money::checked_sum(lines.filter_map(amount))
            .map(Money::as_decimal)
            .map_err(|source| overflow(&item.facts.id, source))
    }

    fn percent_of(
        &mut self,
        item: &Item,
        clause: Clause,
        percent: Decimal,
        base: Decimal,
    ) -> Result<(), RatingError> {
        let of_one = self.fits(item, base.checked_mul(Decimal::new(1, 2)))?;
        let line = self.plain(clause, Quantity::new(percent, Unit::Percent), of_one);
        self.push(item, line)
    }

    pub(super) fn power_factor(
        &mut self,
        item: &Item,
        rule: &PowerFactorRule,
    ) -> Result<(), RatingError> {
        let active = self.need(item, DeterminantKind::Usage)?;
        let forward = self.need(item, DeterminantKind::ReactiveUsage)?;
        let reverse = self.find(item, DeterminantKind::ReactiveReverse)?.unwrap_or_default();
        // 反向无功 adds by its absolute value.
        let reactive = self.fits(item, forward.abs().checked_add(reverse.abs()))?;
        if active.is_zero() && reactive.is_zero() {
            return Ok(());
        }
        if active.is_sign_negative() {
            return Err(RatingError::NoPowerFactor { item: item.facts.id.clone() });
        }
        let hundredths = power_factor::hundredths(active, reactive)
            .ok_or_else(|| overflow(&item.facts.id, MoneyError::Overflow))?;
        let percent = power_factor::percent(&rule.rows, hundredths).ok_or_else(|| {
            RatingError::NoPowerFactorRow { item: item.facts.id.clone(), hundredths }
        })?;
        let less = self.fits(item, active.checked_mul(rule.less_per_unit))?;
        let base = self.fits(item, self.sum_of(item, &rule.of, billed)?.checked_sub(less))?;
        self.percent_of(item, Clause::PowerFactor { hundredths }, percent, base)
    }

    pub(super) fn minimum(
        &mut self,
        item: &Item,
        amount: Decimal,
        of: &[usize],
        per: Per,
    ) -> Result<(), RatingError> {
        let periods = self.periods(item, per)?;
        let product = amount.checked_mul(Decimal::from(periods.numerator));
        let due = product.and_then(|all| all.checked_div(Decimal::from(periods.denominator.get())));
        let due = item.rounding.apply_decimal(self.fits(item, due)?);
        let short = self.fits(item, due.checked_sub(self.sum_of(item, of, billed)?))?;
        if short <= Decimal::ZERO {
            return Ok(());
        }
        let line = self.plain(Clause::Minimum, Quantity::new(Decimal::ONE, Unit::One), short);
        self.push(item, line)
    }
}
