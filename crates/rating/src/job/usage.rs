//! Usage times prices: flat, through blocks, by time of use, by mixed use.
//!
//! In: the usage of the period, what its windows already hold. Out: charge lines, rows for the
//! tier ledger.
//! Never here: parts that are due without usage (see `standing`), other items (see `derived`).

use super::{Job, TIMES_OF_USE};
use crate::{
    Clause, Proration, RatingError, WindowUse, blocks,
    job::Priced,
    rate::{PARTED, window_error},
    rules::{Block, Bound, Item, MixedUseRule, Scale, TimeOfUseRule, UsageRule},
    window::{Part, Window, WindowProblem},
};
use model::{DeterminantKind, Quantity};
use rust_decimal::Decimal;

/// What stops the parts of a window.
enum Stop {
    Window(WindowProblem),
    Rating(RatingError),
}

impl From<WindowProblem> for Stop {
    fn from(problem: WindowProblem) -> Self {
        Stop::Window(problem)
    }
}

impl From<RatingError> for Stop {
    fn from(error: RatingError) -> Self {
        Stop::Rating(error)
    }
}

impl Job<'_> {
    pub(super) fn usage(&mut self, item: &Item, rule: &UsageRule) -> Result<(), RatingError> {
        let mut usage = self.need(item, rule.of)?;
        let mut outside = Decimal::ZERO;
        if rule.of == DeterminantKind::Usage
            && let Some(given) = self.find(item, DeterminantKind::UsageOutsideTiers)?
        {
            let (least, most) = (usage.min(Decimal::ZERO), usage.max(Decimal::ZERO));
            if given < least || given > most {
                return Err(RatingError::AbsurdDeterminant {
                    item: item.facts.id.clone(),
                    kind: DeterminantKind::UsageOutsideTiers,
                    found: given,
                });
            }
            outside = given;
        }
        if let Some(share) = rule.share {
            usage = self.fits(item, usage.checked_mul(share))?;
            outside = self.fits(item, outside.checked_mul(share))?;
        }
        if let Some(at_least) = rule.at_least
            && !usage.is_sign_negative()
        {
            usage = usage.max(self.of_bill(item, at_least)?);
        }
        if let Some(at_most) = rule.at_most {
            usage = usage.min(self.of_bill(item, at_most)?);
            outside = outside.min(usage);
        }
        let mut fitting = None;
        for case in &rule.cases {
            if self.holds(item, &case.when)? {
                fitting = Some(&case.scale);
                break;
            }
        }
        let scale = fitting.ok_or_else(|| RatingError::NoCase { item: item.facts.id.clone() })?;
        match scale {
            Scale::Flat(price) => {
                let line = self.plain(Clause::Flat, Quantity::new(usage, rule.unit), *price);
                self.push(item, line)?;
                // A customer outside the blocks today may be inside them tomorrow.
                let inside = self.fits(item, usage.checked_sub(outside))?;
                self.windows(item, rule, None, inside)
            }
            Scale::Blocks(blocks) => {
                if !outside.is_zero()
                    && let Some(first) = blocks.first()
                {
                    let quantity = Quantity::new(outside, rule.unit);
                    let line = self.plain(Clause::OutsideBlocks, quantity, first.price);
                    self.push(item, line)?;
                }
                let inside = self.fits(item, usage.checked_sub(outside))?;
                if inside.is_zero() && !outside.is_zero() {
                    return Ok(());
                }
                self.windows(item, rule, Some(blocks), inside)
            }
        }
    }

    /// Parts the usage into windows, climbs the blocks of each, notes what to append to the
    /// tier ledger.
    fn windows(
        &mut self,
        item: &Item,
        rule: &UsageRule,
        blocks: Option<&[Block]>,
        usage: Decimal,
    ) -> Result<(), RatingError> {
        let service = self.input.service;
        // Only items without blocks have no window.
        let Some(window) = &rule.window else { return Ok(()) };
        let carries = window.carries();
        let start = self.input.window_start;
        window
            .part(service, usage, start, |mut part| {
                if carries && !part.quantity.is_zero() {
                    self.tier_usage.push(WindowUse {
                        item: item.facts.id.clone(),
                        window: part.window,
                        quantity: Quantity::new(part.quantity, rule.unit),
                    });
                }
                if *window == (Window::Bill { bounds_for_days: None }) {
                    part.stretch = (self.bill_share.numerator, self.bill_share.denominator.get());
                }
                blocks.map_or(Ok(()), |blocks| {
                    self.climb(item, rule, blocks, carries, part).map_err(Stop::from)
                })
            })
            .map_err(|stop| match stop {
                Stop::Window(problem) => window_error(&item.facts.id, service, problem),
                Stop::Rating(error) => error,
            })
    }

    fn climb(
        &mut self,
        item: &Item,
        rule: &UsageRule,
        blocks: &[Block],
        carries: bool,
        part: Part,
    ) -> Result<(), RatingError> {
        let mut before = Decimal::ZERO;
        if carries {
            for used in &self.input.window_used {
                if used.window.from() == part.window.from() && used.item == item.facts.id {
                    if used.quantity.unit != rule.unit {
                        return Err(RatingError::UnitMismatch {
                            item: item.facts.id.clone(),
                            kind: rule.of,
                            expected: rule.unit,
                            found: used.quantity.unit,
                        });
                    }
                    before = self.fits(item, before.checked_add(used.quantity.value))?;
                }
            }
        }
        let after = self.fits(item, before.checked_add(part.quantity))?;
        if before.is_sign_negative() || after.is_sign_negative() {
            return Err(RatingError::NegativeUse {
                item: item.facts.id.clone(),
                before,
                usage: part.quantity,
            });
        }
        let of = u8::try_from(blocks.len()).unwrap_or(u8::MAX);
        let mut from = Decimal::ZERO;
        let mut number = 0u8;
        for block in blocks {
            number = number.saturating_add(1);
            let until = match &block.until {
                Some(bound) => Some(self.bound(item, bound, part.stretch)?),
                None => None,
            };
            if let Some(until) = until
                && until < from
            {
                let item = item.facts.id.clone();
                return Err(RatingError::BlocksOutOfOrder { item, block: number, from, until });
            }
            if let Some(quantity) = blocks::touched(before, after, from, until) {
                self.push(
                    item,
                    Priced {
                        clause: Clause::Block { number, of },
                        tier: Some(number),
                        quantity: Quantity::new(quantity, rule.unit),
                        price: block.price,
                        proration: Proration::WHOLE,
                        service: part.service,
                    },
                )?;
            }
            match until {
                Some(until) if before >= until || after > until => from = until,
                Some(_) | None => break,
            }
        }
        Ok(())
    }

    /// Where a block ends for this customer.
    fn bound(
        &self,
        item: &Item,
        bound: &Bound,
        (times, parts): (u32, u32),
    ) -> Result<Decimal, RatingError> {
        let mut end = bound.fixed;
        for term in &bound.terms {
            let value = self.need(item, term.kind)?;
            let counted = if value > term.over { value - term.over } else { Decimal::ZERO };
            end = self.fits(
                item,
                counted.checked_mul(term.factor).and_then(|add| end.checked_add(add)),
            )?;
        }
        if times != parts {
            end = self.fits(item, end.checked_mul(Decimal::from(times)))?;
            if parts != 1 {
                let share = end.checked_div(Decimal::from(parts));
                end = PARTED.apply_decimal(self.fits(item, share)?);
            }
        }
        Ok(end)
    }

    pub(super) fn time_of_use(
        &mut self,
        item: &Item,
        rule: &TimeOfUseRule,
    ) -> Result<(), RatingError> {
        let mut sum = Decimal::ZERO;
        for (kind, price) in &rule.prices {
            let value = match self.find(item, *kind)? {
                Some(value) => value,
                None if *kind == DeterminantKind::UsageFlat => self.need(item, *kind)?,
                None => {
                    let kind = *kind;
                    return Err(RatingError::MissingDeterminant {
                        item: item.facts.id.clone(),
                        kind,
                    });
                }
            };
            sum = self.fits(item, sum.checked_add(value))?;
            let line =
                self.plain(Clause::TimeOfUse(*kind), Quantity::new(value, rule.unit), *price);
            self.push(item, line)?;
        }
        for kind in TIMES_OF_USE {
            let priced = rule.prices.iter().any(|(priced, _)| *priced == kind);
            if !priced && self.find(item, kind)?.is_some_and(|value| !value.is_zero()) {
                return Err(RatingError::NoTimeOfUsePrice { item: item.facts.id.clone(), kind });
            }
        }
        // Registers of several tariffs drop their own last digits: less than one unit each.
        if let Some(usage) = self.find(item, DeterminantKind::Usage)?
            && self.fits(item, sum.checked_sub(usage))?.abs() >= Decimal::from(TIMES_OF_USE.len())
        {
            let item = item.facts.id.clone();
            return Err(RatingError::TimesOfUseDoNotAddUp { item, sum, usage });
        }
        Ok(())
    }

    pub(super) fn mixed_use(
        &mut self,
        item: &Item,
        rule: &MixedUseRule,
    ) -> Result<(), RatingError> {
        // 先定量再定比: fixed quantities first, then shares of the rest.
        let mut rest = self.need(item, rule.of)?;
        for part in &rule.fixed {
            let most = self.of_bill(item, part.amount)?;
            let quantity = if rest.is_sign_negative() { Decimal::ZERO } else { rest.min(most) };
            rest = self.fits(item, rest.checked_sub(quantity))?;
            let clause = Clause::MixedFixed { number: part.number };
            let line = self.plain(clause, Quantity::new(quantity, rule.unit), part.price);
            self.push(item, line)?;
        }
        let all = rest;
        let mut percent_so_far = Decimal::ZERO;
        let mut given = Decimal::ZERO;
        for part in &rule.shares {
            percent_so_far = self.fits(item, percent_so_far.checked_add(part.amount))?;
            let up_to_here = if percent_so_far == Decimal::ONE_HUNDRED {
                all
            } else {
                let product = all.checked_mul(percent_so_far);
                let share = product.and_then(|all| all.checked_div(Decimal::ONE_HUNDRED));
                rule.places.apply_decimal(self.fits(item, share)?)
            };
            let quantity = self.fits(item, up_to_here.checked_sub(given))?;
            given = up_to_here;
            let clause = Clause::MixedShare { number: part.number };
            let line = self.plain(clause, Quantity::new(quantity, rule.unit), part.price);
            self.push(item, line)?;
        }
        Ok(())
    }
}
