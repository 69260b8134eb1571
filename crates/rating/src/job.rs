//! One rating: rules times determinants.
//!
//! In: a rate version, a rating input that lies inside it. Out: charge lines, each rounded once by
//! the schedule's rule, their sum, the use to append to the tier ledger.
//! Never here: the choice of a version, the words of the file, text (workings render later).

use crate::{
    ChargeLine, Clause, Proration, Rated, RatingError, RatingInput, Version, WindowUse, blocks,
    power_factor,
    rate::{PARTED, adds_up_over_time, overflow, schedule_item, window_error},
    rules::{
        Block, Bound, Item, MixedUseRule, PartPeriod, Per, PowerFactorRule, Rule, Scale,
        StandingPrice, StandingRule, TimeOfUseRule, UsageRule, When,
    },
    window::{Part, Window, WindowProblem},
};
use chrono::{Datelike, Months, NaiveDate};
use model::{DeterminantKind, Money, MoneyError, Period, Price, Quantity, Rounding, Unit};
use rust_decimal::Decimal;
use std::num::NonZeroU32;

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

const TIMES_OF_USE: [DeterminantKind; 5] = [
    DeterminantKind::UsageSharp,
    DeterminantKind::UsagePeak,
    DeterminantKind::UsageFlat,
    DeterminantKind::UsageValley,
    DeterminantKind::UsageDeepValley,
];

/// One rating under way.
pub(crate) struct Job<'a> {
    version: &'a Version,
    input: &'a RatingInput,
    /// The share of the bill this is, where a price change parts it.
    bill_share: Proration,
    lines: Vec<ChargeLine>,
    tier_usage: Vec<WindowUse>,
}

/// What a line is made of, before rounding.
struct Priced {
    clause: Clause,
    tier: Option<u8>,
    quantity: Quantity,
    price: Decimal,
    proration: Proration,
    service: Period,
}

impl<'a> Job<'a> {
    pub(crate) fn new(version: &'a Version, input: &'a RatingInput, bill_share: Proration) -> Self {
        let lines = Vec::with_capacity(version.items.len() * 2);
        Self { version, input, bill_share, lines, tier_usage: Vec::new() }
    }

    pub(crate) fn run(mut self) -> Result<Rated, RatingError> {
        let version = self.version;
        for item in &version.items {
            if !self.holds(item, &item.when)? {
                continue;
            }
            let first_line = self.lines.len();
            match &item.rule {
                Rule::Usage(rule) => self.usage(item, rule)?,
                Rule::TimeOfUse(rule) => self.time_of_use(item, rule)?,
                Rule::Standing(rule) => self.standing(item, rule)?,
                Rule::MixedUse(rule) => self.mixed_use(item, rule)?,
                Rule::Percentage { percent, of } => {
                    let base = self.sum_of(item, of)?;
                    self.percent_of(item, Clause::Percentage, *percent, base)?;
                }
                Rule::PowerFactor(rule) => self.power_factor(item, rule)?,
                Rule::Minimum { amount, of, per } => self.minimum(item, *amount, of, *per)?,
            }
            if item.rounded_once {
                self.round_once(item, item.rounding, first_line)?;
            }
        }
        if let Some(rounding) = version.total_rounding {
            // Agency money is somebody else's: the difference is the utility's own.
            let own = version.items.iter().find(|item| !item.facts.agency);
            if let Some(item) = own.or(version.items.first()) {
                self.round_once(item, rounding, 0)?;
            }
        }
        let total = Money::checked_sum(self.lines.iter().map(|line| line.amount))
            .map_err(|source| overflow(&schedule_item(version), source))?;
        Ok(Rated { lines: self.lines, total, tier_usage: self.tier_usage })
    }

    /// The determinant, in the schedule's unit.
    fn find(&self, item: &Item, kind: DeterminantKind) -> Result<Option<Decimal>, RatingError> {
        let given = self.input.determinants.get(kind).or_else(|| self.version.assume.get(kind));
        let Some(quantity) = given else { return Ok(None) };
        let expected = self.version.unit_of(kind);
        let named = || item.facts.id.clone();
        if quantity.unit != expected {
            let found = quantity.unit;
            return Err(RatingError::UnitMismatch { item: named(), kind, expected, found });
        }
        if quantity.value.is_sign_negative()
            && !adds_up_over_time(kind)
            && !quantity.value.is_zero()
        {
            let found = quantity.value;
            return Err(RatingError::AbsurdDeterminant { item: named(), kind, found });
        }
        Ok(Some(quantity.value))
    }

    fn need(&self, item: &Item, kind: DeterminantKind) -> Result<Decimal, RatingError> {
        if let Some(value) = self.find(item, kind)? {
            return Ok(value);
        }
        let derived = match kind {
            DeterminantKind::Usage => self.sum_of_times(item, None)?,
            DeterminantKind::UsageFlat => {
                // 平 is what the total leaves when the other times have their own registers.
                match self.find(item, DeterminantKind::Usage)? {
                    Some(total) => {
                        let others = self.sum_of_times(item, None)?.unwrap_or_default();
                        Some(self.fits(item, total.checked_sub(others))?)
                    }
                    None => None,
                }
            }
            DeterminantKind::UsageSharp
            | DeterminantKind::UsagePeak
            | DeterminantKind::UsageValley
            | DeterminantKind::UsageDeepValley
            | DeterminantKind::ReactiveUsage
            | DeterminantKind::ReactiveReverse
            | DeterminantKind::MaximumDemand
            | DeterminantKind::ContractedCapacity
            | DeterminantKind::MeterCalibre
            | DeterminantKind::Persons
            | DeterminantKind::PlannedPerPerson
            | DeterminantKind::PreviousAverage
            | DeterminantKind::Quota
            | DeterminantKind::Dwellings
            | DeterminantKind::Meters
            | DeterminantKind::UsageOutsideTiers => None,
        };
        derived.ok_or_else(|| RatingError::MissingDeterminant { item: item.facts.id.clone(), kind })
    }

    /// The sum of the times of use that are given; `None` when none is.
    fn sum_of_times(
        &self,
        item: &Item,
        start: Option<Decimal>,
    ) -> Result<Option<Decimal>, RatingError> {
        TIMES_OF_USE.iter().try_fold(start, |sum, kind| {
            Ok(match (sum, self.find(item, *kind)?) {
                (sum, None) => sum,
                (None, Some(value)) => Some(value),
                (Some(sum), Some(value)) => Some(self.fits(item, sum.checked_add(value))?),
            })
        })
    }

    fn fits(&self, item: &Item, number: Option<Decimal>) -> Result<Decimal, RatingError> {
        number.ok_or_else(|| overflow(&item.facts.id, MoneyError::Overflow))
    }

    /// `number × share of the bill`.
    fn of_bill(&self, item: &Item, number: Decimal) -> Result<Decimal, RatingError> {
        if self.bill_share.is_whole() {
            return Ok(number);
        }
        let (numerator, denominator) = (self.bill_share.numerator, self.bill_share.denominator);
        let product = number.checked_mul(Decimal::from(numerator));
        let share = product.and_then(|all| all.checked_div(Decimal::from(denominator.get())));
        Ok(PARTED.apply_decimal(self.fits(item, share)?))
    }

    fn holds(&self, item: &Item, when: &When) -> Result<bool, RatingError> {
        if when.is_always() {
            return Ok(true);
        }
        let has = |class: &String| self.input.classes.contains(class);
        if !when.class.is_empty() && !when.class.iter().any(has) {
            return Ok(false);
        }
        if when.unless_class.iter().any(has) {
            return Ok(false);
        }
        if when.persons_from.is_some() || when.persons_until.is_some() {
            let persons = self.need(item, DeterminantKind::Persons)?;
            if when.persons_from.is_some_and(|from| persons < from)
                || when.persons_until.is_some_and(|until| persons >= until)
            {
                return Ok(false);
            }
        }
        if !when.calibre.is_empty()
            && !when.calibre.contains(&self.need(item, DeterminantKind::MeterCalibre)?)
        {
            return Ok(false);
        }
        self.in_season(item, &when.months)
    }

    /// Whether all days are in these months; a period partly in the season is refused.
    fn in_season(&self, item: &Item, months: &[u32]) -> Result<bool, RatingError> {
        if months.is_empty() {
            return Ok(true);
        }
        let service = self.input.service;
        let inside = |day: NaiveDate| months.contains(&day.month());
        let first = inside(service.from());
        let mut day = service.from();
        // At most twelve first days of months tell all there is to tell.
        for _ in 0..12 {
            let next = day.with_day(1).and_then(|day| day.checked_add_months(Months::new(1)));
            let Some(next) = next.filter(|next| *next < service.until()) else { break };
            if inside(next) != first {
                let item = item.facts.id.clone();
                return Err(RatingError::SeasonInside { item, service });
            }
            day = next;
        }
        Ok(first)
    }

    /// Prices, rounds and appends one line.
    fn push(&mut self, item: &Item, priced: Priced) -> Result<(), RatingError> {
        let Priced { clause, tier, quantity, price, proration, service } = priced;
        let mut exact = self.fits(item, quantity.value.checked_mul(price))?;
        if !proration.is_whole() {
            let periods = exact.checked_mul(Decimal::from(proration.numerator));
            let share =
                periods.and_then(|all| all.checked_div(Decimal::from(proration.denominator.get())));
            exact = self.fits(item, share)?;
        }
        let exact = Money::yuan(exact);
        self.lines.push(ChargeLine {
            item: item.facts.clone(),
            clause,
            quantity,
            price: Price::new(price, quantity.unit),
            proration,
            exact,
            amount: item.rounding.apply(exact),
            tier,
            service,
            version_from: self.version.valid_from,
        });
        Ok(())
    }

    fn plain(&self, clause: Clause, quantity: Quantity, price: Decimal) -> Priced {
        let service = self.input.service;
        Priced { clause, tier: None, quantity, price, proration: Proration::WHOLE, service }
    }

    fn usage(&mut self, item: &Item, rule: &UsageRule) -> Result<(), RatingError> {
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

    fn time_of_use(&mut self, item: &Item, rule: &TimeOfUseRule) -> Result<(), RatingError> {
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

    fn standing(&mut self, item: &Item, rule: &StandingRule) -> Result<(), RatingError> {
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
    fn periods(&self, item: &Item, per: Per) -> Result<Proration, RatingError> {
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

    fn mixed_use(&mut self, item: &Item, rule: &MixedUseRule) -> Result<(), RatingError> {
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

    /// The sum of the rounded lines of earlier items.
    fn sum_of(&self, item: &Item, of: &[usize]) -> Result<Decimal, RatingError> {
        let mut sum = Money::ZERO;
        for place in of {
            let Some(meant) = self.version.items.get(*place) else { continue };
            for line in &self.lines {
                if std::sync::Arc::ptr_eq(&line.item, &meant.facts) {
                    sum = sum
                        .checked_add(line.amount)
                        .map_err(|source| overflow(&item.facts.id, source))?;
                }
            }
        }
        Ok(sum.as_decimal())
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

    fn power_factor(&mut self, item: &Item, rule: &PowerFactorRule) -> Result<(), RatingError> {
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
        let base = self.fits(item, self.sum_of(item, &rule.of)?.checked_sub(less))?;
        self.percent_of(item, Clause::PowerFactor { hundredths }, percent, base)
    }

    fn minimum(
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
        let short = self.fits(item, due.checked_sub(self.sum_of(item, of)?))?;
        if short <= Decimal::ZERO {
            return Ok(());
        }
        let line = self.plain(Clause::Minimum, Quantity::new(Decimal::ONE, Unit::One), short);
        self.push(item, line)
    }

    /// Adds the line that makes rounded lines add up to their exact sum rounded once.
    fn round_once(
        &mut self,
        item: &Item,
        rounding: Rounding,
        first_line: usize,
    ) -> Result<(), RatingError> {
        let named = |source| overflow(&item.facts.id, source);
        let lines = self.lines.get(first_line..).unwrap_or_default();
        let exact = Money::checked_sum(lines.iter().map(|line| line.exact)).map_err(named)?;
        let rounded = Money::checked_sum(lines.iter().map(|line| line.amount)).map_err(named)?;
        let difference = rounding.apply(exact).checked_sub(rounded).map_err(named)?.as_decimal();
        if difference.is_zero() {
            return Ok(());
        }
        let one = Quantity::new(Decimal::ONE, Unit::One);
        let line = self.plain(Clause::RoundingDifference, one, difference);
        self.push(item, line)
    }
}
